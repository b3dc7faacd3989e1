"""`build` and `maintenance`: an index follows its library, survives, is looked after."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from typer.testing import CliRunner

from mmid.cli.app import app
from mmid.errors import LibraryIndexError
from mmid.index import embedder, folder_writer
from mmid.index.build import update_index
from mmid.index.fingerprint_table import library_tokens
from mmid.index.folder import LibraryIndex
from mmid.index.items import Entry, read_pieces, write_pieces
from mmid.index.lock import LOCK
from mmid.index.maintenance import (
    describe,
    merge_indexes,
    rebuild_caches,
    remove_pieces,
    verify_index,
)
from mmid.index.manifest import GRAPH, TRIPLES, VECTORS
from mmid.index.pending import Pending
from mmid.index.quantization import unpack
from mmid.index.store import library_of
from mmid.index.update_plan import UpdateOptions
from mmid.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from mmid.music.midi import write_midi
from mmid.system import files as whole


@pytest.fixture
def library(tmp_path, draw_notes) -> Path:
    folder = tmp_path / "library"
    (folder / "more").mkdir(parents=True)
    for seed in range(4):
        write_midi(draw_notes(seed), folder / f"{seed}.mid")
    write_midi(draw_notes(4), folder / "more" / "4.mid")
    return folder


@pytest.fixture
def built(tmp_path, library, tiny_model) -> Path:
    update_index(tmp_path / "index", [library], tiny_model)
    return tmp_path / "index"


@pytest.fixture
def embedded(monkeypatch) -> list[str]:
    """List the files that are embedded."""
    names: list[str] = []
    plain = embedder.embedded

    def spy(item, *rest):
        names.append(item.name)
        return plain(item, *rest)

    monkeypatch.setattr(embedder, "embedded", spy)
    return names


def counts(report) -> tuple[int, ...]:
    return report.added, report.changed, report.moved, report.unchanged, report.gone


def contents(folder: Path, model) -> dict[str, tuple]:
    """Return what an index holds of each piece, wherever it lies."""
    index = LibraryIndex(folder, model)
    held = {}
    for number, entry in enumerate(index.entries):
        item = index.item(number)
        held[entry.name] = tuple(a.tobytes() for a in (item.vectors, item.places, item.notes))
    return held


def check_whole(folder: Path, library: Path, model) -> None:
    """Compare an index with one built from nothing, and every vector with what is found for it."""
    fresh = folder.with_name("fresh")
    update_index(fresh, [library], model)
    assert contents(folder, model) == contents(fresh, model)
    index = LibraryIndex(folder, model)
    for number, entry in enumerate(index.entries):
        own = np.arange(entry.first, entry.first + entry.count)
        for how in ("exact", "hnsw"):
            _, similarity = index.search(unpack(index.vectors[own]), 5, how)
            near = similarity[:, 0] > 0.97
            assert near.all() if how == "exact" else near.mean() > 0.95  # a random net crowds
        assert (index.locate(own)[0] == number).all()
    firsts = [entry.first_note for entry in index.entries]
    tokens = np.concatenate(list(library_tokens(index.all_notes, firsts).parts))
    data = folder / index.manifest["data"]
    assert np.array_equal(np.load(data / TRIPLES), tokens) and len(tokens) > 100


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
    assert np.array_equal(a.places, b.places)
    np.testing.assert_allclose(unpack(a.vectors), unpack(b.vectors), atol=0.02)


# ---- surviving


@pytest.mark.parametrize("step", ["write_pieces", "_cells", "file_digest", "flush"])
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
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
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


# ---- the table


def test_a_table_comes_back_as_it_was(tmp_path):
    odd = "ol\udce9.mid"  # a name that is no Unicode
    entries = [
        Entry("a.mid", None, 1.5, "0" * 64, 0, 3, 0, 7, 100, 2**62),
        Entry(odd, "Título", 0.1, "f" * 64, 3, 1, 7, 0),
    ]
    write_pieces(tmp_path / "p.sqlite", entries)
    assert read_pieces(tmp_path / "p.sqlite") == entries


# ---- looking after it


def test_an_index_says_what_it_is(built, library, tiny_model):
    found = describe(LibraryIndex(built, None))
    assert (found.items, found.kind, found.folders) == (5, "midi", (str(library),))
    assert found.model == tiny_model.fingerprint and found.bytes > 10_000
    assert found.to_dict()["snippets"] == found.rows > 100


def test_removed_pieces_are_not_found(built, library, tiny_model):
    (library / "0.mid").unlink()
    assert remove_pieces(built, ["0.mid", "more/*"]) == ["0.mid", "more/4.mid"]
    index = LibraryIndex(built, tiny_model)
    assert [entry.name for entry in index.entries] == ["1.mid", "2.mid", "3.mid"]
    with pytest.raises(LibraryIndexError, match=r"no piece '0\.mid'; see mmid index list"):
        remove_pieces(built, ["0.mid"])
    with pytest.raises(LibraryIndexError, match="nothing would be left"):
        remove_pieces(built, ["*"])
    update_index(built, [library], tiny_model)
    check_whole(built, library, tiny_model)


def test_a_sound_index_is_verified(built, library):
    found = verify_index(built)
    assert not found.faults and found.recall > 0.95 and not found.missing and not found.changed
    (library / "0.mid").unlink()
    os.utime(library / "1.mid", (1, 1))
    found = verify_index(built)
    assert found.missing == ("0.mid",) and found.changed == ("1.mid",)


def test_damage_that_leaves_no_trace_is_found_by_verify(built, tiny_model):
    [data] = built.glob("data-*")
    for name in (VECTORS, GRAPH):
        path = data / name
        whole = path.read_bytes()
        path.write_bytes(whole[:300] + bytes([whole[300] ^ 1]) + whole[301:])
        with pytest.raises(LibraryIndexError) if name == VECTORS else _nothing():
            assert any(name in fault for fault in verify_index(built).faults)
        path.write_bytes(whole)
    assert not verify_index(built).faults


class _nothing:
    def __enter__(self) -> None:
        pass

    def __exit__(self, *_exception: object) -> None:
        pass


def test_a_damaged_graph_is_rebuilt(built, library, tiny_model):
    [data] = built.glob("data-*")
    (data / GRAPH).write_bytes(b"x" * 1000)
    with pytest.raises(LibraryIndexError, match="run mmid index rebuild"):
        LibraryIndex(built, tiny_model).search(np.zeros((1, 16), np.float32), 1, "hnsw")
    rebuild_caches(built)
    check_whole(built, library, tiny_model)


def test_an_update_mends_a_damaged_graph(built, library, tiny_model, draw_notes):
    [data] = built.glob("data-*")
    (data / GRAPH).unlink()
    write_midi(draw_notes(10), library / "new.mid")
    update_index(built, [library], tiny_model)
    check_whole(built, library, tiny_model)


def test_indexes_are_merged(tmp_path, library, tiny_model, draw_notes):
    other = tmp_path / "other"
    other.mkdir()
    write_midi(draw_notes(20), other / "a.mid")
    for name, folders in (("one", [library]), ("two", [other]), ("both", [library, other])):
        update_index(tmp_path / name, folders, tiny_model)
    assert merge_indexes(tmp_path / "merged", [tmp_path / "one", tmp_path / "two"]) == []
    assert contents(tmp_path / "merged", tiny_model) == contents(tmp_path / "both", tiny_model)
    twice = merge_indexes(tmp_path / "again", [tmp_path / "one", tmp_path / "one"])
    assert len(twice) == 5 and len(LibraryIndex(tmp_path / "again", tiny_model)) == 5


def test_indexes_of_different_models_are_not_merged(tmp_path, library, tiny_model, make_model):
    update_index(tmp_path / "one", [library], tiny_model)
    update_index(tmp_path / "two", [library], make_model(1))
    with pytest.raises(LibraryIndexError, match="not of the model and kind"):
        merge_indexes(tmp_path / "merged", [tmp_path / "one", tmp_path / "two"])
    with pytest.raises(LibraryIndexError, match="holds an index"):
        merge_indexes(tmp_path / "two", [tmp_path / "one"])


# ---- on the command line


def saved(model: Checkpoint, path: Path) -> Path:
    save_checkpoint(path, model.encoders, {})
    return path


@pytest.fixture
def mmid(built, library, tmp_path, tiny_model):
    model = saved(tiny_model, tmp_path / "m.safetensors")
    update_index(built, [library], load_checkpoint(model))

    def run(*arguments: str):
        environment = {"MMID_INDEX": str(built), "MMID_MODEL": str(model)}
        return CliRunner().invoke(app, list(arguments), env=environment)

    return run


def test_the_index_commands(mmid, built, library, tmp_path):
    listed = json.loads(mmid("index", "list", "--json").stdout)
    assert [piece["name"] for piece in listed] == [*(f"{n}.mid" for n in range(4)), "more/4.mid"]
    assert "more/4.mid" in mmid("index", "list").stdout
    assert json.loads(mmid("index", "info", "--json").stdout)["items"] == 5
    assert str(library)[:40] in mmid("index", "info").stdout
    assert "sound" in mmid("index", "verify").stdout
    assert json.loads(mmid("index", "verify", "--json").stdout)["faults"] == []
    assert mmid("index", "remove", "0.mid").exit_code == 0
    assert len(json.loads(mmid("index", "list", "--json").stdout)) == 4
    assert mmid("index", "rebuild").exit_code == 0
    assert mmid("index", "merge", str(built), "--index", str(tmp_path / "new")).exit_code == 0
    assert len(LibraryIndex(tmp_path / "new", None)) == 4


def test_an_index_knows_its_library(mmid, built, library, draw_notes):
    write_midi(draw_notes(10), library / "new.mid")
    result = mmid("build-index")
    assert result.exit_code == 0 and "1 added, 5 unchanged" in result.stderr
    (library / "new.mid").write_bytes(b"")
    result = mmid("build-index")
    assert result.exit_code == 1 and "new.mid" in result.stderr


def test_another_model_from_the_files(mmid, built, make_model, tmp_path):
    other = saved(make_model(1), tmp_path / "other.safetensors")
    assert mmid("index", "rebuild", "--vectors", "--model", str(other)).exit_code == 0
    assert LibraryIndex(built, load_checkpoint(other)).snippets > 100


def test_a_damaged_index_is_one_line_and_status_1(mmid, built):
    [data] = built.glob("data-*")
    (data / VECTORS).write_bytes(b"")
    result = mmid("index", "verify")
    assert result.exit_code == 1
    assert isinstance(result.exception, (SystemExit, LibraryIndexError))


def test_a_sparser_index_stays_sparse(tmp_path, library, tiny_model, draw_notes):
    thick = update_index(tmp_path / "thick", [library], tiny_model)
    thin = update_index(tmp_path / "thin", [library], tiny_model, options=UpdateOptions(every=4))
    assert 1.8 < thick.snippets / thin.snippets < 2.2
    assert (LibraryIndex(tmp_path / "thin", tiny_model).places[:] % 16 == 0).all()
    write_midi(draw_notes(10), library / "new.mid")
    report = update_index(tmp_path / "thin", [library], tiny_model)
    assert counts(report) == (1, 0, 0, 5, 0)
    assert (LibraryIndex(tmp_path / "thin", tiny_model).places[:] % 16 == 0).all()
    assert (
        counts(
            update_index(tmp_path / "thin", [library], tiny_model, options=UpdateOptions(every=2))
        )[0]
        == 6
    )
