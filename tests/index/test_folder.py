"""`folder`: of scores or recordings, built whole, checked when opened, searched both ways."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from mmid.errors import LibraryIndexError
from mmid.index import embedder as module
from mmid.index import hnsw as graphs
from mmid.index import validation
from mmid.index.build import build_index
from mmid.index.embedder import embed_whole
from mmid.index.folder import LibraryIndex
from mmid.index.maintenance import rebuild_caches, verify_index
from mmid.index.manifest import FENCES, GRAPH, NOTES, PIECES, PLACES, TRIPLES, VECTORS
from mmid.index.quantization import unpack
from mmid.model.embedding import Sound, as_query
from mmid.music.grid import DEFAULT
from mmid.music.library import BadFile, Recording, read_recording
from mmid.music.piano_roll import piano_roll
from mmid.music.spectrogram import frame_count, spectrogram


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


def data_folder(folder: Path) -> Path:
    (data,) = folder.glob("data-*")
    return data


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 0x04
    path.write_bytes(data)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# ---- building


def test_a_piece_is_embedded_snippet_by_snippet(pieces, tiny_model):
    piece = pieces[0]
    vectors, places = embed_whole(as_query(piece, DEFAULT), tiny_model)
    assert vectors.dtype == np.float32 and places.dtype == np.uint32
    assert len(vectors) == len(places) > 50 and (places % 8 == 0).all()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)
    for number in (0, 17, len(places) - 1):
        roll = piano_roll(piece.midi.notes, DEFAULT.snippet, first=int(places[number]))
        with torch.inference_mode():
            alone = tiny_model.encoders.roll(roll[None])[0, 0].numpy()
        assert vectors[number] @ alone > 0.999
    assert places[-1] + DEFAULT.snippet <= frame_count(piece.midi.seconds)


def test_snippets_without_an_onset_are_left_out(pieces, tiny_model):
    piece = pieces[0]
    notes = piece.midi.notes
    notes["onset"][20:] += 30  # thirty seconds of silence in the middle
    notes["offset"][20:] += 30
    gap = slice(notes["offset"][:20].max(), notes["onset"][20])
    object.__setattr__(piece.midi, "seconds", float(notes["offset"].max()))
    _, places = embed_whole(as_query(piece, DEFAULT), tiny_model)
    begins, ends = places / DEFAULT.frame_rate, (places + 42) / DEFAULT.frame_rate
    assert not ((begins > gap.start) & (ends < gap.stop)).any()
    assert len(places) > 50


def test_a_piece_shorter_than_a_snippet_has_one(pieces, tiny_model):
    piece = pieces[0]
    object.__setattr__(piece.midi, "notes", piece.midi.notes[:1])
    object.__setattr__(piece.midi, "seconds", 0.5)
    vectors, places = embed_whole(as_query(piece, DEFAULT), tiny_model)
    assert len(vectors) == 1 and places.tolist() == [0]


def test_a_build_says_what_it_did(tmp_path, pieces, tiny_model):
    told = []
    bad = BadFile(Path("broken.mid"), "broken.mid: empty file")
    mixed = [pieces[0], bad, *pieces[1:]]
    report = build_index(tmp_path / "index", mixed, tiny_model, told.append)
    assert (
        report.kind == "midi"
        and report.items == 6
        and report.bad == (bad,)
        and told == list(range(1, 8))
    )
    assert report.seconds_of_music == pytest.approx(sum(p.midi.seconds for p in pieces))
    index = LibraryIndex(tmp_path / "index", tiny_model)
    assert len(index) == 6 and index.snippets == report.snippets
    assert [entry.name for entry in index.entries] == [piece.name for piece in pieces]
    assert [entry.digest for entry in index.entries] == [piece.digest for piece in pieces]
    assert sum(entry.count for entry in index.entries) == report.snippets


def test_nothing_to_index(tmp_path, tiny_model):
    bad = BadFile(Path("a.mid"), "a.mid: empty file")
    with pytest.raises(LibraryIndexError, match=r"the first fault: a\.mid: empty file"):
        build_index(tmp_path / "index", [bad], tiny_model)
    with pytest.raises(LibraryIndexError, match=r"nothing to index$"):
        build_index(tmp_path / "index", [], tiny_model)
    assert not (tmp_path / "index").exists()


def test_a_rebuild_replaces(built, pieces, make_model):
    other = make_model(1)
    build_index(built, pieces[:2], other)
    assert len(LibraryIndex(built, other)) == 2
    assert sorted(path.name for path in built.iterdir()) == [
        data_folder(built).name,
        "manifest.json",
        "writing.lock",
    ]


def test_a_reader_keeps_its_index_while_it_is_replaced(built, pieces, tiny_model):
    index = LibraryIndex(built, tiny_model)
    before = np.array(index.vectors)
    build_index(built, pieces[:1], tiny_model)
    assert np.array_equal(index.vectors, before)
    snippets, _ = index.search(unpack(before[:5]), 3)
    assert snippets.shape == (5, 3)


@pytest.mark.parametrize(
    "step",
    [
        "mmid.index.folder_writer.write_pieces",
        "mmid.index.folder_writer.learn_centroids",
        "mmid.index.folder_writer.file_digest",
    ],
)
def test_a_failed_build_leaves_the_old_index_whole(built, pieces, tiny_model, monkeypatch, step):
    before, calls = snapshot(built), []

    def fail(*_args):
        calls.append(1)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(step, fail)
        with pytest.raises(KeyboardInterrupt):
            build_index(built, pieces[:2], tiny_model)
    assert calls and snapshot(built) == before
    assert len(list(built.iterdir())) == 3, "no stray folder or part"
    assert len(LibraryIndex(built, tiny_model)) == 6


def test_a_manifest_that_cannot_be_put_in_place_leaves_no_part(
    built, pieces, tiny_model, monkeypatch
):
    before = snapshot(built)

    def fail(*_args):
        raise OSError("no space")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail)
        with pytest.raises(OSError, match="no space"):
            build_index(built, pieces[:2], tiny_model)
    assert snapshot(built) == before and len(list(built.iterdir())) == 3


@pytest.mark.parametrize("name", ["notes.txt", "manifest.json", "data-old/x"])
def test_a_foreign_folder_is_refused_and_untouched(tmp_path, pieces, tiny_model, name):
    folder = tmp_path / "mine"
    (folder / name).parent.mkdir(parents=True)
    (folder / name).write_text('{"name": "a web app"}')
    with pytest.raises(LibraryIndexError, match="not empty and not an mmid index"):
        build_index(folder, pieces, tiny_model)
    assert snapshot(folder) == {name: b'{"name": "a web app"}'}


def test_a_file_is_no_index(tmp_path, pieces, tiny_model):
    (tmp_path / "index").write_text("x")
    with pytest.raises(LibraryIndexError, match="is a file; an index is a folder"):
        build_index(tmp_path / "index", pieces, tiny_model)


def test_what_else_lies_in_an_index_stays(built, pieces, tiny_model):
    (built / "data-mine").mkdir()
    (built / "data-mine" / "thesis.txt").write_text("x")
    build_index(built, pieces[:1], tiny_model)
    assert (built / "data-mine" / "thesis.txt").exists()


def test_a_damaged_or_interrupted_index_can_be_built_again(built, pieces, tiny_model):
    (built / "manifest.json").write_text("{")
    build_index(built, pieces, tiny_model)
    (built / "manifest.json").unlink()  # as after a first build that was killed
    build_index(built, pieces, tiny_model)
    shutil.rmtree(data_folder(built))
    build_index(built, pieces, tiny_model)
    assert len(LibraryIndex(built, tiny_model)) == 6


# ---- recordings


@pytest.fixture
def recorded(pieces, play, write_wav, tmp_path) -> list[Recording]:
    folder = tmp_path / "audio"
    folder.mkdir()
    paths = [
        write_wav(folder / f"{n}.wav", play(piece.midi.notes, 6.0 + n))
        for n, piece in enumerate(pieces[:3])
    ]
    return [read_recording(path, folder, DEFAULT) for path in paths]


def test_an_index_of_recordings(tmp_path, recorded, tiny_model):
    bad = BadFile(Path("x.wav"), "x.wav: silent")
    report = build_index(tmp_path / "index", [*recorded, bad], tiny_model)
    assert (report.kind, report.items, report.bad) == ("recordings", 3, (bad,))
    assert report.seconds_of_music == pytest.approx(21, abs=0.1)
    index = LibraryIndex(tmp_path / "index", tiny_model)
    assert index.kind == "recordings"
    assert [(e.name, e.title) for e in index.entries] == [(f"{n}.wav", None) for n in range(3)]
    assert [entry.seconds for entry in index.entries] == pytest.approx([6, 7, 8], abs=0.05)
    assert [entry.digest for entry in index.entries] == [item.digest for item in recorded]


def test_a_recording_is_embedded_snippet_by_snippet(recorded, tiny_model):
    bands = torch.from_numpy(recorded[0].spectrogram)
    vectors, places = embed_whole(as_query(recorded[0], DEFAULT), tiny_model)
    assert vectors.dtype == np.float32 and places.dtype == np.uint32
    assert places.tolist() == list(range(0, bands.shape[1] - DEFAULT.snippet + 1, 4))
    for number in (0, 7, len(places) - 1):
        alone = bands[None, None, :, places[number] : places[number] + DEFAULT.snippet]
        with torch.inference_mode():
            alone = tiny_model.encoders.audio(alone)[0, 0].numpy()
        assert vectors[number] @ alone > 0.999


def test_silent_snippets_are_left_out(tiny_model, draw_notes, play):
    samples = play(draw_notes(0), 20.0)
    samples[8 * 22_050 : 15 * 22_050] = 0
    bands = spectrogram(torch.from_numpy(samples))
    _, places = embed_whole(Sound(bands), tiny_model)
    begins, ends = places / DEFAULT.frame_rate, (places + DEFAULT.snippet) / DEFAULT.frame_rate
    assert not ((begins > 8.1) & (ends < 14.9)).any()
    assert (begins < 6).sum() > 25 and (begins > 15).sum() > 10


def test_a_recording_shorter_than_a_snippet_has_one(tiny_model, draw_notes, play):
    bands = spectrogram(torch.from_numpy(play(draw_notes(0, seconds=0.5), 0.8)))
    vectors, places = embed_whole(Sound(bands), tiny_model)
    assert len(vectors) == 1 and places.tolist() == [0]


def test_scores_and_recordings_do_not_share_an_index(tmp_path, pieces, recorded, tiny_model):
    with pytest.raises(LibraryIndexError, match="build an index of each"):
        build_index(tmp_path / "index", [*pieces, *recorded], tiny_model)
    assert not (tmp_path / "index").exists()


def test_an_index_of_an_older_format_is_replaced(built, pieces, tiny_model):
    path = built / "manifest.json"
    path.write_text(path.read_text().replace("mmid-index-7", "mmid-index-1"))
    shutil.rmtree(data_folder(built))
    build_index(built, pieces[:2], tiny_model)
    assert len(LibraryIndex(built, tiny_model)) == 2


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
        match="'mmid-index-9', this mmid reads mmid-index-7; run mmid build-index",
    ):
        LibraryIndex(built, tiny_model)


@pytest.mark.parametrize("name", [PIECES, VECTORS, PLACES, NOTES])
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
    assert len(hashed) == 2 * len({PIECES, VECTORS, PLACES, NOTES, TRIPLES, FENCES}), (
        "files so new may change unseen"
    )
    monkeypatch.setattr(validation, "SETTLED_NS", -(10**12))
    LibraryIndex(built, tiny_model)
    hashed.clear()
    LibraryIndex(built, tiny_model)
    assert not hashed
    flip(data_folder(built) / VECTORS, 200)
    with pytest.raises(LibraryIndexError, match="damaged"):
        LibraryIndex(built, tiny_model)
    assert hashed == [VECTORS]


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
@pytest.mark.parametrize("name", [TRIPLES, FENCES])
def test_damaged_triples_are_told_and_mended(built, tiny_model, name, harm):
    harm(data_folder(built) / name)
    with pytest.raises(LibraryIndexError, match=rf"{name}: damaged; run mmid index rebuild"):
        LibraryIndex(built, tiny_model)
    assert any(name in fault for fault in verify_index(built).faults)
    rebuild_caches(built)
    LibraryIndex(built, tiny_model)


@pytest.mark.parametrize("name", [PIECES, VECTORS, PLACES, NOTES, TRIPLES, FENCES])
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


@pytest.mark.parametrize("text", ["", "[]", "7", '{"format": "mmid-index-7"}', "\x00"])
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
