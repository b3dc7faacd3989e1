"""`build`: an index follows its library, and survives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import numpy as np
import pytest
from contents import check_whole, contents, counts, saved
from filelock import FileLock
from typer.testing import CliRunner

from mmid.cli.app import app
from mmid.errors import LibraryIndexError
from mmid.index import folder_writer
from mmid.index.build import update_index
from mmid.index.folder import LibraryIndex
from mmid.index.lock import LOCK
from mmid.index.maintenance import (
    verify_index,
)
from mmid.index.pending import Pending
from mmid.index.quantization import unpack
from mmid.index.store import library_of
from mmid.index.update_plan import UpdateOptions
from mmid.model.checkpoint import load_checkpoint
from mmid.music.midi import write_midi
from mmid.system import files as whole

# ---- following the library


def test_a_first_build_adds_everything(tmp_path, library, tiny_model):
    told = []
    report = update_index(
        tmp_path / "index", [library], tiny_model, progress=lambda *now: told.append(now)
    )
    assert counts(report) == (5, 0, 0, 0, 0) and report.items == 5
    assert [now for now in told if now[0] == "Indexing"] == [
        ("Indexing", n, 5) for n in range(1, 6)
    ]
    assert told[-1] == ("Sorting", report.snippets, report.snippets)
    assert library_of(tmp_path / "index") == [library]
    assert sorted(path.name for path in (tmp_path / "index").iterdir())[1:] == [
        "manifest.json",
        LOCK,
    ]


def test_nothing_new_is_nothing_done(built, library, tiny_model, embedded):
    before = (built / "manifest.json").read_bytes()
    report = update_index(built, [library], tiny_model)
    assert counts(report) == (0, 0, 0, 5, 0) and not embedded
    assert (built / "manifest.json").read_bytes() == before


def test_only_what_is_new_or_changed_is_embedded(built, library, tiny_model, draw_notes, embedded):
    write_midi(draw_notes(10), library / "new.mid")
    write_midi(draw_notes(11), library / "2.mid")
    (library / "0.mid").rename(library / "renamed.mid")
    (library / "1.mid").unlink()
    (library / "copy.mid").write_bytes((library / "3.mid").read_bytes())
    os.utime(library / "3.mid", (1, 1))  # touched, and the same
    report = update_index(built, [library], tiny_model)
    assert sorted(embedded) == ["2.mid", "new.mid"]
    assert counts(report) == (2, 1, 1, 2, 1)
    embedded.clear()
    check_whole(built, library, tiny_model)
    assert counts(update_index(built, [library], tiny_model)) == (0, 0, 0, 6, 0)


def test_files_that_swap_names_are_told_apart(built, library, tiny_model, embedded):
    (library / "0.mid").rename(library / "x")
    (library / "1.mid").rename(library / "0.mid")
    (library / "x").rename(library / "1.mid")
    update_index(built, [library], tiny_model)
    assert not embedded
    check_whole(built, library, tiny_model)


def test_what_is_gone_can_be_kept(built, library, tiny_model):
    (library / "0.mid").unlink()
    assert counts(
        update_index(built, [library], tiny_model, options=UpdateOptions(keep_missing=True))
    ) == (0, 0, 0, 4, 0)
    assert len(LibraryIndex(built, tiny_model)) == 5
    assert counts(update_index(built, [library], tiny_model)) == (0, 0, 0, 4, 1)
    assert len(LibraryIndex(built, tiny_model)) == 4


def test_a_file_that_breaks_is_reported_and_dropped(built, library, tiny_model):
    (library / "0.mid").write_bytes(b"MThd nonsense")
    report = update_index(built, [library], tiny_model)
    assert [bad.path.name for bad in report.bad] == ["0.mid"] and report.items == 4


def test_several_folders_share_an_index(tmp_path, library, tiny_model, draw_notes):
    other = tmp_path / "other"
    other.mkdir()
    write_midi(draw_notes(20), other / "a.mid")
    update_index(tmp_path / "index", [library], tiny_model)
    report = update_index(tmp_path / "index", [library, other], tiny_model)
    assert counts(report) == (1, 0, 0, 5, 0), "names that begin higher up now are no moves"
    names = {entry.name for entry in LibraryIndex(tmp_path / "index", tiny_model).entries}
    assert {"library/0.mid", "other/a.mid"} <= names


def test_another_model_embeds_everything_again(built, library, make_model):
    other = make_model(1)
    assert counts(update_index(built, [library], other)) == (5, 0, 0, 0, 0)
    assert len(LibraryIndex(built, other)) == 5


def test_many_small_changes_end_in_the_same_index(built, library, tiny_model, draw_notes):
    rng = np.random.default_rng(0)
    for step in range(12):
        files = sorted(library.rglob("*.mid"))
        chosen = files[rng.integers(len(files))]
        if step % 3 == 0:
            write_midi(draw_notes(100 + step), library / f"s{step}.mid")
        elif step % 3 == 1:
            chosen.rename(library / f"r{step}.mid")
        else:
            chosen.unlink()
        update_index(built, [library], tiny_model)
    check_whole(built, library, tiny_model)


def test_workers_give_the_same_index(tmp_path, library, tiny_model, draw_notes):
    for seed in range(130):
        write_midi(draw_notes(200 + seed, 4, 3.0), library / f"w{seed}.mid")
    one, two = tmp_path / "one", tmp_path / "two"
    update_index(one, [library], tiny_model, jobs=1)
    update_index(two, [library], tiny_model, jobs=2)
    a, b = (LibraryIndex(folder, tiny_model) for folder in (one, two))
    assert [e.name for e in a.entries] == [e.name for e in b.entries]
    assert np.array_equal(a.positions, b.positions)
    np.testing.assert_allclose(unpack(a.vectors), unpack(b.vectors), atol=0.02)


def test_a_sparser_index_stays_sparse(tmp_path, library, tiny_model, draw_notes):
    thick = update_index(tmp_path / "thick", [library], tiny_model)
    thin = update_index(tmp_path / "thin", [library], tiny_model, options=UpdateOptions(every=4))
    assert 1.8 < thick.snippets / thin.snippets < 2.2
    assert (LibraryIndex(tmp_path / "thin", tiny_model).positions[:] % 16 == 0).all()
    write_midi(draw_notes(10), library / "new.mid")
    report = update_index(tmp_path / "thin", [library], tiny_model)
    assert counts(report) == (1, 0, 0, 5, 0)
    assert (LibraryIndex(tmp_path / "thin", tiny_model).positions[:] % 16 == 0).all()
    assert (
        counts(
            update_index(tmp_path / "thin", [library], tiny_model, options=UpdateOptions(every=2))
        )[0]
        == 6
    )


# ---- surviving


@pytest.mark.parametrize("step", ["write_pieces", "_lists", "file_digest", "flush"])
def test_a_stopped_build_goes_on(
    built, library, tiny_model, draw_notes, monkeypatch, embedded, step
):
    write_midi(draw_notes(10), library / "new.mid")
    before = contents(built, tiny_model)

    def stop(*_args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(folder_writer, step, stop)
        with pytest.raises(KeyboardInterrupt):
            update_index(built, [library], tiny_model)
    assert embedded == ["new.mid"] and contents(built, tiny_model) == before
    embedded.clear()
    report = update_index(built, [library], tiny_model)
    assert not embedded and report.added == 1, "its work is taken up"
    assert not list(built.glob("pending-*"))
    check_whole(built, library, tiny_model)


def test_stopped_just_after_it_was_put_in_place_the_new_index_stays(
    built, library, tiny_model, draw_notes, monkeypatch
):
    write_midi(draw_notes(10), library / "new.mid")
    plain = whole.flush

    def stop(path):
        if path == built:
            raise KeyboardInterrupt
        plain(path)

    with monkeypatch.context() as patch:
        patch.setattr(whole, "flush", stop)
        with pytest.raises(KeyboardInterrupt):
            update_index(built, [library], tiny_model)
    assert len(LibraryIndex(built, tiny_model)) == 6
    assert counts(update_index(built, [library], tiny_model)) == (0, 0, 0, 6, 0)
    check_whole(built, library, tiny_model)


def test_a_build_stopped_while_it_embeds_goes_on(
    tmp_path, library, tiny_model, monkeypatch, embedded
):
    def stop(_what, done, _total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        update_index(tmp_path / "index", [library], tiny_model, progress=stop)
    assert len(embedded) == 3
    update_index(tmp_path / "index", [library], tiny_model)
    assert len(embedded) == 5
    check_whole(tmp_path / "index", library, tiny_model)


def test_a_damaged_shard_is_done_again(tmp_path, library, tiny_model, embedded):
    def stop(_what, done, _total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        update_index(tmp_path / "index", [library], tiny_model, progress=stop)
    [shard] = (tmp_path / "index").glob("pending-*/*.npz")
    shard.write_bytes(shard.read_bytes()[:-100])
    update_index(tmp_path / "index", [library], tiny_model)
    assert len(embedded) == 3 + 5
    check_whole(tmp_path / "index", library, tiny_model)


def test_shards_of_another_model_are_dropped(tmp_path):
    (tmp_path / "pending-000000000000").mkdir()
    assert len(Pending(tmp_path, "111111111111")) == 0
    assert not list(tmp_path.iterdir())


def test_one_writer_at_a_time(built, library, tiny_model):
    with FileLock(built / LOCK), pytest.raises(LibraryIndexError, match="another mmid is writing"):
        update_index(built, [library], tiny_model)
    with FileLock(built / LOCK):
        assert len(LibraryIndex(built, tiny_model)) == 5, "readers are not kept out"


KILLED = """
import os, sys
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what libraries print is no answer
from contextlib import suppress
from pathlib import Path
from mmid.index.build import update_index
from mmid.model.checkpoint import load_checkpoint
import mmid.index.pending
mmid.index.pending.SHARD_SECONDS = 0.05
index, library, model = map(Path, sys.argv[1:])
for _ in sys.stdin:  # one update each, by a process that has loaded everything before
    child = os.fork()
    if not child:
        update_index(index, [library], load_checkpoint(model), jobs=1)
        os._exit(0)
    print(child, file=answers, flush=True)
    print(os.waitpid(child, 0)[1], file=answers, flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_killed_update_leaves_the_old_index_or_the_new_one(
    built, library, tiny_model, draw_notes, tmp_path
):
    path = saved(tiny_model, tmp_path / "m.safetensors")
    model = load_checkpoint(path)
    update_index(built, [library], model)
    rng = np.random.default_rng(0)
    script = [sys.executable, "-c", KILLED, str(built), str(library), str(path)]
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    usual = None
    with subprocess.Popen(script, **streams) as parent:
        for round_ in range(7):
            write_midi(draw_notes(300 + round_), library / f"k{round_}.mid")
            old = len(LibraryIndex(built, model))
            print(file=parent.stdin, flush=True)
            child, started = int(parent.stdout.readline()), time.monotonic()
            if usual is not None:
                time.sleep(usual * rng.uniform(0.1, 1.0))
                with suppress(ProcessLookupError):  # it may be done already
                    os.kill(child, signal.SIGKILL)
            status = int(parent.stdout.readline())
            usual = usual or time.monotonic() - started
            assert status in (0, signal.SIGKILL)
            assert len(LibraryIndex(built, model)) in (old, 5 + round_ + 1)
            assert not verify_index(built).faults
        parent.stdin.close()
    update_index(built, [library], model)
    check_whole(built, library, model)


def test_a_full_disk_leaves_the_old_index(built, library, tiny_model, draw_notes, monkeypatch):
    write_midi(draw_notes(10), library / "new.mid")
    before = contents(built, tiny_model)

    def full(*_args, **_more):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("mmid.system.arrays.write_array_header_1_0", full)
        result = CliRunner().invoke(app, ["build-index", "--index", str(built), str(library)])
        assert result.exit_code
    assert contents(built, tiny_model) == before
    assert len(list(built.glob("data-*"))) == 1
