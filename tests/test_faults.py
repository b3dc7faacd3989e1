"""Failing disks, dying workers, devices out of memory, clocks that jump."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import mmid.cli.shell
import mmid.index.validation
from mmid.cli.app import app
from mmid.errors import LibraryIndexError, MmidError
from mmid.identify.batch import answer_files
from mmid.identify.identifier import Identifier
from mmid.identify.search_options import SearchOptions
from mmid.index import folder_writer, lock
from mmid.index.build import update_index
from mmid.index.folder import LibraryIndex
from mmid.index.maintenance import verify_index
from mmid.index.manifest import CHECKED
from mmid.model.checkpoint import save_checkpoint
from mmid.model.embedding import embed_query, open_query
from mmid.model.encoders import embed_frames, pick_device
from mmid.music.midi import write_midi
from mmid.system.processes import parallel

runner = CliRunner()


def snapshot(folder: Path) -> dict[str, bytes]:
    """Return what an index holds, but for its note of what was checked."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != CHECKED)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


# ---- full and read-only disks


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """Let no file grow beyond a size, as a full disk does not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_at_any_place_leaves_the_old_index(built, midi_folder, tiny_model, draw_notes):
    write_midi(draw_notes(10), midi_folder / "new.mid")
    before = snapshot(built)
    sizes = sorted({len(data) for data in before.values() if data})
    failed = 0
    for size in [100, *(size - 1 for size in sizes), *(size // 2 for size in sizes)]:
        with files_up_to(size):
            try:
                update_index(built, [midi_folder], tiny_model, jobs=1)
            except (OSError, MmidError) as error:
                failed += 1
                assert "\n" not in str(error)
        shutil.rmtree(next(built.glob("pending-*"), built / "none"), ignore_errors=True)
        if len(LibraryIndex(built, tiny_model)) == 7:
            break
        assert snapshot(built) == before, size
    assert failed > 5
    update_index(built, [midi_folder], tiny_model, jobs=1)
    assert len(LibraryIndex(built, tiny_model)) == 7 and not verify_index(built).faults


def test_a_full_disk_is_one_line(built, midi_folder, options, draw_notes, monkeypatch, capfd):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/somewhere/a b")

    write_midi(draw_notes(10), midi_folder / "new.mid")
    monkeypatch.setattr(folder_writer, "write_pieces", full)
    monkeypatch.setattr(sys, "argv", ["mmid", "-q", "build-index", str(midi_folder), *options])
    with pytest.raises(SystemExit) as end:
        mmid.cli.shell.run(app)
    assert end.value.code == 1
    assert capfd.readouterr().err == "mmid: /somewhere/a b: No space left on device\n"


def test_a_checkpoint_that_does_not_fit_leaves_the_old_one(tmp_path, tiny_model):
    path = tmp_path / "m.safetensors"
    save_checkpoint(path, tiny_model.encoders, {})
    before = path.read_bytes()
    with files_up_to(len(before) // 2), pytest.raises(OSError, match=r"m\.safetensors"):
        save_checkpoint(path, tiny_model.encoders, {"more": 1})
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_a_read_only_index_answers(built, tiny_model, recording, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(mmid.index.validation, "SETTLED_NS", -(10**15))  # as if long ago
    monkeypatch.setattr(Path, "write_text", refuse)
    [answered] = answer_files(Identifier(tiny_model, LibraryIndex(built, tiny_model)), [recording])
    assert answered.answer.error is None and not (built / CHECKED).exists()


# ---- others at the same index


def test_a_second_writer_is_turned_away_and_readers_go_on(built, midi_folder, tiny_model):
    with lock.writing(built):
        with pytest.raises(LibraryIndexError, match="another mmid is writing"):
            update_index(built, [midi_folder], tiny_model, jobs=1)
        assert len(LibraryIndex(built, tiny_model)) == 6


@pytest.mark.parametrize("search", ["exact", "hnsw"])
def test_an_index_deleted_during_a_query_still_answers(built, tiny_model, recording, search):
    index = LibraryIndex(built, tiny_model)
    index.search(np.ones((1, index.vectors.shape[1]), np.float32), 3, search)
    before = Identifier(tiny_model, index, SearchOptions(search=search)).identify_file(recording)
    shutil.rmtree(built)
    after = Identifier(tiny_model, index, SearchOptions(search=search)).identify_file(recording)
    assert after == before
    with pytest.raises(LibraryIndexError, match="no index there"):
        LibraryIndex(built, tiny_model)


@pytest.mark.parametrize("years", [-30, 30])
def test_a_clock_that_jumps_hides_no_damage(built, midi_folder, tiny_model, monkeypatch, years):
    jump = years * 365 * 86_400 * 10**9
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + jump)
    LibraryIndex(built, tiny_model)
    data = next(built.glob("data-*")) / "places.npy"
    content = bytearray(data.read_bytes())
    content[-1] ^= 1
    data.write_bytes(content)
    with pytest.raises(LibraryIndexError, match="damaged"):
        LibraryIndex(built, tiny_model)
    report = update_index(built, [midi_folder], tiny_model, jobs=1)
    assert report.items == 6 and not verify_index(built).faults


# ---- workers and memory


def test_a_worker_that_dies_is_one_line_and_leaves_no_process():
    with pytest.raises(MmidError, match=r"a worker process died.*fewer --jobs"):
        list(parallel(os._exit, range(1, 9), jobs=2, batch=1, least=1))
    assert not active_children()


class Greedy:
    """Knows no file, for want of memory."""

    def open(self, path: Path, start: float, duration: float | None) -> None:
        raise MemoryError if "numpy" in path.name else torch.OutOfMemoryError("CUDA")


def test_a_file_that_takes_too_much_memory_does_not_stop_the_rest():
    answers = list(answer_files(Greedy(), [Path("numpy.wav"), Path("cuda.wav")]))
    for answered in answers:
        assert "takes more memory than there is" in answered.answer.error


@contextmanager
def small_device(most: int) -> Iterator[list[int]]:
    """Let convolutions fail on more than so many values, as a small GPU does."""
    convolve, done = torch.nn.Conv2d._conv_forward, []

    def forward(self, x, weight, bias):
        done.append(x.numel())
        if x.numel() > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return convolve(self, x, weight, bias)

    torch.nn.Conv2d._conv_forward = forward
    try:
        yield done
    finally:
        torch.nn.Conv2d._conv_forward = convolve


def test_a_device_out_of_memory_takes_smaller_batches(recording, transcribing_model, midi_folder):
    params = transcribing_model.encoders.config.features
    files = (recording, midi_folder / "piece 2.mid")
    asked = [open_query(path, params, 0.0, 8.0) for path in files]

    def embed() -> list[tuple[np.ndarray, np.ndarray]]:
        heard = [query.transcribed(transcribing_model.encoders) for query in asked]
        return [embed_query(query, transcribing_model.encoders) for query in heard]

    assert transcribing_model.encoders.precision  # compared with float32 before, in its own batches
    with small_device(10**9) as needed:
        wanted = embed()
    with small_device(int(0.6 * max(needed))) as tried:
        found = embed()
    assert len(tried) > len(needed)
    for (vectors, positions), (others, same) in zip(wanted, found, strict=True):
        np.testing.assert_array_equal(positions, same)
        np.testing.assert_allclose(vectors, others, atol=1e-5)


def test_a_library_is_embedded_in_smaller_batches(tiny_model):
    encoders, params = tiny_model.encoders, tiny_model.encoders.config.features
    whole_roll = torch.rand(params.roll_channels, 128, 800)

    def embed() -> torch.Tensor:
        draw = lambda first, count: whole_roll[..., first : first + count]  # noqa: E731
        return torch.cat(list(embed_frames(encoders.roll, encoders.config.roll, params, 800, draw)))

    wanted = embed()
    with small_device(50_000) as done:
        found = embed()
    assert max(done) > 50_000
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    with small_device(10), pytest.raises(MmidError, match="out of memory; try --device cpu"):
        embed()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_cuda_asked_for_and_absent_is_one_line(built, recording, options):
    with pytest.raises(MmidError, match="device 'cuda' is not available here; try --device auto"):
        pick_device("cuda")
    result = runner.invoke(app, ["query", str(recording), *options, "--device", "cuda"])
    assert isinstance(result.exception, MmidError) and "\n" not in str(result.exception)
