"""`maintenance` and `items`: an index is described, verified, mended, merged; its table."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from contents import check_whole, contents, saved
from typer.testing import CliRunner

from mmid.cli.app import app
from mmid.errors import LibraryIndexError
from mmid.index.build import update_index
from mmid.index.folder import LibraryIndex
from mmid.index.items import Entry, read_pieces, write_pieces
from mmid.index.maintenance import (
    describe,
    merge_indexes,
    rebuild_caches,
    remove_pieces,
    verify_index,
)
from mmid.index.manifest import GRAPH, VECTORS
from mmid.model.checkpoint import load_checkpoint
from mmid.music.midi import write_midi

# ---- the table


def test_a_table_comes_back_as_it_was(tmp_path):
    odd = "ol\udce9.mid"  # a name that is no Unicode
    entries = [
        Entry("a.mid", None, 1.5, "0" * 64, 0, 3, 0, 7, 100, 2**62),
        Entry(odd, "Título", 0.1, "f" * 64, 3, 1, 7, 0, bars="0 1 1 4 2"),
    ]
    write_pieces(tmp_path / "p.sqlite", entries)
    assert read_pieces(tmp_path / "p.sqlite") == entries


def test_a_table_written_before_bars_were_kept_is_read(tmp_path):
    path, entry = tmp_path / "p.sqlite", Entry("a.mid", None, 1.5, "0" * 64, 0, 3, 0, 7, 100, 5)
    write_pieces(path, [replace(entry, bars="0 1 1 4 2")])
    with closing(sqlite3.connect(path)) as table, table:
        table.execute("ALTER TABLE pieces DROP COLUMN bars")
    assert read_pieces(path) == [entry]
    with closing(sqlite3.connect(path)) as table, table:
        table.execute("ALTER TABLE pieces DROP COLUMN changed")
    with pytest.raises(LibraryIndexError, match="damaged"):
        read_pieces(path)


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
    assert "no damage found" in mmid("index", "verify").stdout
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
