"""`augmented_index`: renderings beside the notes, one label a place, and their centroids."""

from __future__ import annotations

import numpy as np
import pytest
import typer
from synth import SOUNDFONT, needs_fluidsynth
from typer.testing import CliRunner

from mmid.errors import MmidError
from mmid.index.build import build_index
from mmid.index.embedder import embed_item, embed_whole
from mmid.index.folder import LibraryIndex
from mmid.index.quantization import pack, unpack
from mmid.model.embedding import as_query
from mmid.music.folders import BadFile
from mmid.music.grid import DEFAULT
from mmid.research import augmented_index as module
from mmid.research.augmented_index import (
    CopiedPiece,
    copy_library,
    copy_piece,
    embed_copies,
    main,
)


@pytest.fixture
def copied(pieces, play, monkeypatch) -> CopiedPiece:
    """Return a piece with three copies, played as sines."""

    class Sines:
        def __init__(self, *_):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def render(self, notes, **_how):
            return play(notes)

    monkeypatch.setattr(module, "Synthesizer", Sines)
    piece = copy_piece(pieces[0], [SOUNDFONT], 3, DEFAULT)
    assert isinstance(piece, CopiedPiece)
    return piece


def test_copies_differ_and_are_the_same_every_time(copied, pieces):
    assert len(copied.spectrograms) == 3 and copied.name == pieces[0].name
    assert not np.array_equal(copied.spectrograms[0], copied.spectrograms[1])
    again = copy_piece(pieces[0], [SOUNDFONT], 3, DEFAULT)
    for one, other in zip(copied.spectrograms, again.spectrograms, strict=True):
        assert np.array_equal(one, other)


def test_every_copy_adds_vectors_at_the_pieces_own_places(copied, tiny_model):
    vectors, positions = embed_copies(copied, tiny_model)
    own, where = embed_whole(as_query(copied, DEFAULT), tiny_model)
    assert np.array_equal(vectors[: len(own)], pack(own)) and set(positions) == set(where)
    _, counts = np.unique(positions, return_counts=True)
    assert counts.max() == 4 and np.mean(counts == 4) > 0.5
    assert len(vectors) == len(positions) == counts.sum()


def test_a_group_collapses_to_its_centroid(copied, tiny_model):
    vectors, positions = embed_copies(copied, tiny_model)
    centroids, labels = embed_copies(copied, tiny_model, "kmeans")
    assert np.array_equal(labels, np.unique(positions)) and centroids.dtype == np.int8
    for centroid, label in zip(centroids[:5], labels[:5], strict=True):
        mean = unpack(vectors[positions == label]).mean(0)
        np.testing.assert_allclose(unpack(centroid), mean / np.linalg.norm(mean), atol=1e-2)


def test_what_is_no_piece_stays_what_it_is(pieces, tmp_path, tiny_model):
    bad = BadFile(tmp_path / "x.mid", "x.mid: no")
    assert copy_piece(bad, [SOUNDFONT], 3, DEFAULT) is bad
    plain = embed_copies(pieces[0], tiny_model, "kmeans")
    own = embed_item(pieces[0], tiny_model)
    assert all(np.array_equal(a, b) for a, b in zip(plain, own, strict=True))


@needs_fluidsynth
def test_an_index_of_copies_is_larger_and_one_of_centroids_is_not(pieces, tiny_model, tmp_path):
    items = list(copy_library(pieces, [SOUNDFONT], 2, DEFAULT, jobs=1))
    plain = build_index(tmp_path / "a", pieces, tiny_model)
    copied = build_index(tmp_path / "b", items, tiny_model, embed=embed_copies)
    collapsed = build_index(
        tmp_path / "c", items, tiny_model, embed=lambda p, m: embed_copies(p, m, "kmeans")
    )
    assert 2 * plain.snippets < copied.snippets <= 3 * plain.snippets
    assert collapsed.snippets == plain.snippets
    index = LibraryIndex(tmp_path / "b", tiny_model)
    assert [entry.name for entry in index.entries] == [piece.name for piece in pieces]


@needs_fluidsynth
def test_the_command_makes_an_index_in_a_new_folder(midi_folder, tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "load_model", lambda *_: tiny_model)
    arguments = [midi_folder, "--index", tmp_path / "new", "--copies", 1, "--collapse", "kmeans"]
    arguments += ["--soundfont", SOUNDFONT, "--jobs", 1]
    app = typer.Typer()
    app.command()(main)
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    assert result.exit_code == 0 and result.stdout.startswith("6 pieces, "), result.output
    index = LibraryIndex(tmp_path / "new", tiny_model)
    assert len(index) == 6 and index.manifest["recipe"] == {"copies": 1, "collapse": "kmeans"}
    again = CliRunner().invoke(app, [str(one) for one in arguments])
    assert isinstance(again.exception, MmidError), "what is there is not replaced"
