"""`folder`: an index is checked when it is opened, and searched both ways."""

from __future__ import annotations

import json
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from contents import data_folder, flip

from mmid.errors import LibraryIndexError
from mmid.index import embedder as module
from mmid.index import hnsw as graphs
from mmid.index import validation
from mmid.index.build import build_index
from mmid.index.folder import LibraryIndex
from mmid.index.maintenance import rebuild_caches, verify_index
from mmid.index.manifest import (
    GRAPH,
    MELODIES,
    MELODY_BOUNDS,
    NOTES,
    PIECES,
    POSITIONS,
    SORTED_FILES,
    VECTORS,
)
from mmid.index.quantization import unpack
from mmid.music.grid import DEFAULT


@pytest.fixture
def built(tmp_path, pieces, tiny_model) -> Path:
    build_index(tmp_path / "index", pieces, tiny_model)
    return tmp_path / "index"


@pytest.fixture
def random_vectors(monkeypatch):
    """Embed each piece as 500 random unit vectors, far apart unlike a random network's."""
    rng = np.random.default_rng(0)

    def embed(_query, _model, _every):
        vectors = rng.normal(size=(500, 16))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors.astype(np.float32), np.arange(500, dtype=np.uint32) * 4

    monkeypatch.setattr(module, "embed_whole", embed)
    queries = rng.normal(size=(200, 16))
    return (queries / np.linalg.norm(queries, axis=1, keepdims=True)).astype(np.float32)


# ---- opening


def test_the_notes_of_every_piece_are_kept(built, pieces, tiny_model):
    index = LibraryIndex(built, tiny_model)
    for place, piece in enumerate(pieces):
        assert index.notes(place).tolist() == piece.midi.notes.tolist()


def test_a_missing_index(tmp_path, tiny_model):
    with pytest.raises(LibraryIndexError, match="no index there; make one with mmid build-index"):
        LibraryIndex(tmp_path, tiny_model)


def test_another_model_is_refused(built, make_model):
    with pytest.raises(LibraryIndexError, match="built with another model"):
        LibraryIndex(built, make_model(1))


def test_another_format_is_refused(built, tiny_model):
    manifest = json.loads((built / "manifest.json").read_text())
    (built / "manifest.json").write_text(json.dumps(manifest | {"format": "mmid-index-9"}))
    with pytest.raises(
        LibraryIndexError,
        match="'mmid-index-9', this mmid reads mmid-index-12 and mmid-index-13; run mmid build",
    ):
        LibraryIndex(built, tiny_model)


@pytest.mark.parametrize("name", [PIECES, VECTORS, POSITIONS, NOTES])
@pytest.mark.parametrize("place", [0, 200, -1])
def test_one_flipped_bit_is_refused_by_name(built, tiny_model, name, place):
    flip(data_folder(built) / name, place)
    with pytest.raises(LibraryIndexError, match=f"{name}: damaged; run mmid build-index again"):
        LibraryIndex(built, tiny_model)


def test_files_are_hashed_once_a_change(built, tiny_model, monkeypatch):
    hashed = []
    plain = validation.file_digest

    def spy(path):
        hashed.append(path.name)
        return plain(path)

    monkeypatch.setattr(validation, "file_digest", spy)
    for _ in range(2):
        LibraryIndex(built, tiny_model)
    melodies = {MELODIES, MELODY_BOUNDS}
    opened = {PIECES, VECTORS, POSITIONS, NOTES, *melodies, *chain(*SORTED_FILES)}
    assert len(hashed) == 2 * len(opened), "files so new may change unseen"
    monkeypatch.setattr(validation, "SETTLED_NS", -(10**12))
    LibraryIndex(built, tiny_model)
    hashed.clear()
    LibraryIndex(built, tiny_model)
    assert not hashed
    flip(data_folder(built) / VECTORS, 200)
    with pytest.raises(LibraryIndexError, match="damaged"):
        LibraryIndex(built, tiny_model)
    assert hashed == [VECTORS]


def test_what_its_writer_has_hashed_is_not_hashed_again(tmp_path, pieces, tiny_model, monkeypatch):
    hashed = []
    plain = validation.file_digest
    monkeypatch.setattr(validation, "SETTLED_NS", -(10**12))
    monkeypatch.setattr(validation, "file_digest", lambda path: hashed.append(path) or plain(path))
    build_index(tmp_path / "index", pieces, tiny_model)
    LibraryIndex(tmp_path / "index", tiny_model).inverted_lists()
    assert not hashed
    flip(data_folder(tmp_path / "index") / NOTES, 200)
    with pytest.raises(LibraryIndexError, match=f"{NOTES}: damaged"):
        LibraryIndex(tmp_path / "index", tiny_model)


def test_a_damaged_graph_is_never_read(built, tiny_model):
    flip(data_folder(built) / GRAPH, 500)
    index = LibraryIndex(built, tiny_model)
    queries = unpack(index.vectors[:3])
    index.search(queries, 3)
    with pytest.raises(LibraryIndexError, match=r"graph\.bin: damaged"):
        index.search(queries, 3, "hnsw")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-8])


@pytest.mark.parametrize("harm", [partial(flip, place=-8), partial(flip, place=0), cut])
@pytest.mark.parametrize("name", list(chain(*SORTED_FILES)))
def test_damaged_triples_are_told_and_mended(built, tiny_model, name, harm):
    harm(data_folder(built) / name)
    with pytest.raises(LibraryIndexError, match=rf"{name}: damaged; run mmid index rebuild"):
        LibraryIndex(built, tiny_model)
    assert any(name in fault for fault in verify_index(built).faults)
    rebuild_caches(built)
    LibraryIndex(built, tiny_model)


@pytest.mark.parametrize("name", [PIECES, VECTORS, POSITIONS, NOTES, *chain(*SORTED_FILES)])
def test_a_missing_file_is_refused_by_name(built, tiny_model, name):
    (data_folder(built) / name).unlink()
    with pytest.raises(LibraryIndexError, match=f"{name}: No such file"):
        LibraryIndex(built, tiny_model)


def test_no_damage_to_the_manifest_does_anything_but_a_clear_error(built, tiny_model):
    path = built / "manifest.json"
    whole = path.read_bytes()
    expected = np.array(LibraryIndex(built, tiny_model).vectors)
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x04]) + whole[place + 1 :])
        try:
            index = LibraryIndex(built, tiny_model)
        except LibraryIndexError:
            continue
        assert np.array_equal(index.vectors, expected) and index.kind == "midi", place


@pytest.mark.parametrize(
    "change",
    [
        {"data": "../elsewhere"},
        {"data": 3},
        {"files": []},
        {"files": None},
        {"files": {}},
        {"rows": 7},
        {"model": None},
        {"kind": "sheet music"},
        {"kind": []},
    ],
)
def test_a_manifest_of_the_wrong_kind(built, tiny_model, change):
    path = built / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(LibraryIndexError):
        LibraryIndex(built, tiny_model)


@pytest.mark.parametrize("text", ["", "[]", "7", '{"format": "mmid-index-12"}', "\x00"])
def test_a_manifest_that_is_none(built, tiny_model, text):
    (built / "manifest.json").write_text(text)
    with pytest.raises(LibraryIndexError, match=r"manifest\.json: damaged"):
        LibraryIndex(built, tiny_model)


# ---- searching


def test_exact_search_equals_brute_force(tmp_path, pieces, tiny_model, random_vectors):
    build_index(tmp_path / "index", pieces, tiny_model)
    index = LibraryIndex(tmp_path / "index", tiny_model)
    snippets, similarity = index.search(random_vectors, 25, "exact")
    scores = random_vectors @ unpack(index.vectors).T
    assert snippets.shape == similarity.shape == (200, 25)
    np.testing.assert_allclose(similarity, -np.sort(-scores, axis=1)[:, :25], atol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(scores, snippets, 1), similarity, atol=1e-5)
    assert np.array_equal(index.search(random_vectors, 25)[0], snippets), "small: auto is exact"


def test_the_graph_finds_nearly_all_of_them(tmp_path, pieces, tiny_model, random_vectors):
    build_index(tmp_path / "index", pieces, tiny_model)
    index = LibraryIndex(tmp_path / "index", tiny_model)
    exact, _ = index.search(random_vectors, 25, "exact")
    graph, similarity = index.search(random_vectors, 25, "hnsw")
    found = [len(set(a) & set(b)) / 25 for a, b in zip(exact, graph, strict=True)]
    assert np.mean(found) >= 0.95
    assert (np.diff(similarity, axis=1) <= 1e-6).all()
    scores = random_vectors @ unpack(index.vectors).T
    np.testing.assert_allclose(np.take_along_axis(scores, graph, 1), similarity, atol=1e-4)


@pytest.mark.parametrize("how", ["exact", "hnsw"])
def test_more_neighbours_than_snippets(tmp_path, pieces, tiny_model, how):
    object.__setattr__(pieces[0].midi, "seconds", 2.5)
    build_index(tmp_path / "index", pieces[:1], tiny_model)
    index = LibraryIndex(tmp_path / "index", tiny_model)
    queries = unpack(index.vectors[:1]).repeat(3, 0)
    snippets, _ = index.search(queries, 25, how)
    assert snippets.shape == (3, len(index.vectors))
    assert sorted(snippets[0]) == list(range(len(index.vectors)))


def test_snippets_are_located(built, pieces, tiny_model):
    index = LibraryIndex(built, tiny_model)
    snippets = np.arange(len(index.vectors))[:, None]
    piece, place = index.locate(snippets)
    assert piece.shape == place.shape == snippets.shape
    for number, entry in enumerate(index.entries):
        mine = place[piece == number]
        assert len(mine) == entry.count and mine[0] % 8 == 0 and (np.diff(mine) > 0).all()
        assert mine[-1] <= entry.seconds * DEFAULT.frame_rate


def test_a_score_finds_itself(built, pieces, tiny_model):
    index = LibraryIndex(built, tiny_model)
    for number, entry in enumerate(index.entries):
        own = unpack(index.vectors[entry.first : entry.first + 10])
        snippets, similarity = index.search(own, 1)
        assert similarity.min() > 0.97
        np.testing.assert_allclose(
            (own * unpack(index.vectors)[snippets[:, 0]]).sum(1), 1, atol=0.05
        )
        assert number == index.locate(np.array([entry.first]))[0][0]


def test_the_graph_has_the_links_and_breadth_it_is_meant_to_have():
    vectors = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
    graph = graphs.build_graph(vectors)
    assert (graph.M, graph.ef_construction) == (graphs.LINKS, graphs.BUILD_BREADTH)


def test_the_melody_is_kept_apart_from_the_notes(built, tiny_model, pieces):
    index = LibraryIndex(built, tiny_model)
    for piece, entry in enumerate(index.entries):
        midi = next(p for p in pieces if p.name == entry.name).midi
        assert np.array_equal(index.notes(piece), midi.notes)
        assert np.array_equal(index.melody(piece), midi.melody) and midi.melody.any()
