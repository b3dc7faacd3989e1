from __future__ import annotations

import json
import shutil
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from mmid.cli.app import app
from mmid.errors import LibraryIndexError
from mmid.identify.identifier import Identifier
from mmid.index.build import build_index, update_index
from mmid.index.embedder import embed_item
from mmid.index.folder import LibraryIndex
from mmid.index.maintenance import (
    describe,
    left_out,
    merge_indexes,
    rebuild_caches,
    remove_pieces,
    verify_index,
)
from mmid.index.milvus import index as served
from mmid.index.milvus.client import Address, Milvus
from mmid.index.milvus.index import MilvusStore
from mmid.index.store import store_at
from mmid.index.update_plan import UpdateOptions
from mmid.music.midi import write_midi


@pytest.fixture
def place(tmp_path, monkeypatch) -> str:
    """Return the address of an index that is not there yet, in a milvus-lite file."""
    pytest.importorskip("pymilvus", reason="the extra milvus is not installed")
    pytest.importorskip("milvus_lite", reason="the extra milvus is not installed")
    monkeypatch.setenv("MMID_CACHE", str(tmp_path / "cache"))
    return f"milvus:{tmp_path}/all.db/songs"


@pytest.fixture
def store(place, midi_folder, tiny_model) -> MilvusStore:
    """Return the store of an index of six pieces."""
    made = store_at(place)
    update_index(made, [midi_folder], tiny_model, jobs=1)
    return made


def answers(index, model, recording):
    found = Identifier(model, index).identify_file(recording).matches
    return [(m.piece, round(m.votes, 4), round(m.start, 2), m.tempo_ratio) for m in found]


@pytest.mark.parametrize(
    "text",
    ["milvus:", "milvus:songs", "milvus://host/songs", "milvus:a.db/1", "milvus://h:1/a-b"],
)
def test_an_address_is_checked(text):
    with pytest.raises(LibraryIndexError, match="give milvus://HOST:PORT/NAME"):
        Address.parse(text)


@pytest.mark.parametrize("text", ["milvus://host:19530/songs", "milvus:/a/b.db/songs_2"])
def test_an_address_is_written_as_it_is_read(text):
    assert str(Address.parse(text)) == text


def test_a_server_answers_as_a_folder_does(store, midi_folder, recording, tiny_model, tmp_path):
    update_index(tmp_path / "index", [midi_folder], tiny_model, jobs=1)
    here, there = LibraryIndex(tmp_path / "index", tiny_model), store.open(tiny_model)
    assert [e.name for e in there.entries] == [e.name for e in here.entries]
    assert there.snippets == here.snippets
    queries = np.random.default_rng(0).normal(size=(9, 16)).astype(np.float32)
    for one, other in zip(here.search(queries, 5), there.search(queries, 5), strict=True):
        assert one.shape == other.shape
    assert np.allclose(here.search(queries, 5)[1], there.search(queries, 5)[1], atol=1e-5)
    assert answers(there, tiny_model, recording) == answers(here, tiny_model, recording) != []
    for number in range(len(here)):
        one, other = here.item(number), there.item(number)
        assert np.array_equal(one.vectors, other.vectors)
        assert np.array_equal(one.positions, other.positions)
        assert np.array_equal(one.notes, other.notes)


def test_a_query_is_one_search(store, recording, tiny_model, monkeypatch):
    asked = []
    search = Milvus.search

    def counted(self, table, queries, *rest):
        asked.append(len(queries))
        return search(self, table, queries, *rest)

    monkeypatch.setattr(Milvus, "search", counted)
    answers(store.open(tiny_model), tiny_model, recording)
    assert len(asked) == 1 and asked[0] > 100


def test_an_index_follows_its_library(store, midi_folder, tiny_model):
    before = store.open(None)
    (midi_folder / "piece 0.mid").unlink()
    shutil.copy(midi_folder / "piece 1.mid", midi_folder / "copy.mid")
    (midi_folder / "piece 2.mid").rename(midi_folder / "moved.mid")
    report = update_index(store, [midi_folder], tiny_model, jobs=1)
    assert (report.added, report.moved, report.gone, report.unchanged) == (1, 1, 1, 4)
    after = store.open(tiny_model)
    assert {e.name for e in after.entries} == {
        *("copy.mid", "moved.mid", "more/piece 5.mid"),
        *(f"piece {n}.mid" for n in (1, 3, 4)),
    }
    assert after.faults() == []
    firsts = {e.name: e.first for e in before.entries}
    assert {e.first for e in after.entries if e.name == "moved.mid"} == {firsts["piece 2.mid"]}
    notes = {e.name: after.stored_notes(e) for e in after.entries}
    assert np.array_equal(notes["copy.mid"], notes["piece 1.mid"])
    assert update_index(store, [midi_folder], tiny_model, jobs=1).unchanged == 6


def test_a_folder_is_added_and_what_is_left_out_is_listed(
    store, midi_folder, tiny_model, draw_notes, tmp_path, monkeypatch
):
    other = tmp_path / "other"
    other.mkdir()
    write_midi(draw_notes(9), other / "new.mid")
    for number in range(9):
        (other / f"bad {number}.mid").write_bytes(b"")
    before = store.manifest()
    update_index(store, [other], tiny_model, jobs=1, options=UpdateOptions(dry_run=True))
    assert store.manifest() == before
    report = update_index(store, [other], tiny_model, jobs=1)
    assert (report.unchanged, report.added, report.gone, report.items) == (6, 1, 0, 7)
    assert [item.name for item in left_out(store.open(None))] == [
        f"other/bad {number}.mid" for number in range(9)
    ]
    midi_folder.rename(tmp_path / "away")
    assert update_index(store, [], tiny_model, jobs=1).kept == 6
    monkeypatch.setattr(served, "MOST_LEFT_OUT", 100)
    (other / "bad 8.mid").unlink()
    update_index(store, [], tiny_model, jobs=1)
    listed = left_out(store.open(None))
    assert "more, which the next mmid build-index names" in listed[0].reason
    assert 1 < len(listed) < 8
    assert remove_pieces(store, [str(other)]) == ["other/new.mid"]
    assert store.open(None).faults() == [] and len(store.open(None)) == 6
    assert store.manifest()["folders"] == [str(midi_folder)]


def test_another_model_is_refused_and_replaces_all(store, midi_folder, make_model):
    other = make_model(1)
    with pytest.raises(LibraryIndexError, match="built with another model"):
        store.open(other)
    update_index(store, [midi_folder], other, jobs=1)
    assert store.open(other).faults() == []
    assert len(store._server.tables()) == 4


def test_an_answer_keeps_to_the_index_that_was_opened(store, midi_folder, tiny_model):
    opened = store.open(tiny_model)
    keys = np.array([(opened._header.next << served.POSITION_BITS) + 1])
    query = np.eye(16, dtype=np.float32)[:1]
    table = opened._header.table("songs", "snippets")
    store._server.put_vectors(table, keys, query)  # a piece that is being added
    assert store._server.search(table, query, 1)[0] == keys
    assert opened.search(query, 1)[0] < keys
    update_index(store, [midi_folder], tiny_model, jobs=1)  # which tidies up
    assert store._server.search(table, query, 1)[0] < keys


@pytest.mark.parametrize("stage", ["put_vectors", "put_texts", "delete"])
def test_a_write_that_was_stopped_is_made_good(
    store, midi_folder, tiny_model, draw_notes, monkeypatch, stage
):
    before = describe(store.open(None))
    (midi_folder / "piece 0.mid").unlink()
    write_midi(draw_notes(9), midi_folder / "new.mid")

    def stop(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Milvus, stage, stop)
        with pytest.raises(KeyboardInterrupt):
            update_index(store, [midi_folder], tiny_model, jobs=1)
    if stage != "delete":
        assert describe(store.open(None)) == before
    update_index(store, [midi_folder], tiny_model, jobs=1)
    index = store.open(None)
    assert {e.name for e in index.entries} == {
        *("new.mid", "more/piece 5.mid"),
        *(f"piece {n}.mid" for n in (1, 2, 3, 4)),
    }
    assert index.faults() == [] and index.item(0).vectors.any()


def test_looking_after_an_index(store, place, midi_folder, tiny_model, tmp_path):
    assert verify_index(place).faults == () and verify_index(place).recall is None
    assert remove_pieces(place, ["more/*"]) == ["more/piece 5.mid"]
    with pytest.raises(LibraryIndexError, match="the server builds its own graph"):
        rebuild_caches(place)
    with pytest.raises(LibraryIndexError, match="leave --search exact out"):
        store.open(None).search(np.zeros((1, 16), np.float32), 1, "exact")
    merge_indexes(tmp_path / "fetched", [place])
    fetched = LibraryIndex(tmp_path / "fetched", tiny_model)
    assert len(fetched) == 5
    merge_indexes(place.replace("songs", "sent"), [tmp_path / "fetched"])
    sent = store_at(place.replace("songs", "sent")).open(None)
    assert np.array_equal(sent.item(3).vectors, fetched.item(3).vectors)
    store._server.delete(sent._header.table("sent", "pieces"), [(0, 1)])
    assert "4 pieces on the server, 5 expected" in sent.faults()[0]


def test_copies_need_a_folder(place, pieces, tiny_model):
    def twice(item, model):
        return tuple(np.repeat(part, 2, 0) for part in embed_item(item, model))

    with pytest.raises(LibraryIndexError, match="build an index folder"):
        build_index(place, pieces, tiny_model, embed=twice)


def test_another_table_of_the_name_is_left_alone(place, midi_folder, tiny_model):
    store = store_at(place)
    store._server.make("songs", 8)
    with pytest.raises(LibraryIndexError, match="no mmid index; choose another name"):
        update_index(store, [midi_folder], tiny_model, jobs=1)


def test_the_commands_take_an_address(store, place, tiny_model, tmp_path):
    run = CliRunner().invoke
    info = run(app, ["index", "info", "--json", "--index", place])
    assert json.loads(info.stdout)["folder"] == place
    listed = run(app, ["index", "list", "--json", "--index", place])
    assert len(json.loads(listed.stdout)) == 6
    lost = run(app, ["eval", "search", "--index", place])
    assert lost.exit_code and "give the folder of an index" in str(lost.exception)


def test_without_the_extra_a_line_tells_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pymilvus", None)
    with pytest.raises(LibraryIndexError, match=r"pip install 'mmid\[milvus\]'"):
        store_at("milvus:all.db/songs")


def test_a_silent_server_is_told_in_a_line(place):
    with pytest.raises(LibraryIndexError) as failure:
        store_at("milvus://127.0.0.1:9/songs")
    assert "\n" not in str(failure.value)


def test_a_missing_folder_is_told(place):
    with pytest.raises(LibraryIndexError, match="make it first"):
        store_at("milvus:/no/such/all.db/songs")
