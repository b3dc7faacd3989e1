"""`folder_writer`: an index of scores or recordings is built whole, or the old one stays."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from contents import data_folder, snapshot

from mmid.errors import LibraryIndexError
from mmid.index.build import build_index
from mmid.index.embedder import embed_whole
from mmid.index.folder import LibraryIndex
from mmid.index.quantization import unpack
from mmid.model.embedding import Sound, as_query
from mmid.music.folders import BadFile
from mmid.music.grid import DEFAULT
from mmid.music.library import Recording, read_recording
from mmid.music.piano_roll import piano_roll
from mmid.music.spectrogram import frame_count, spectrogram


@pytest.fixture
def built(tmp_path, pieces, tiny_model) -> Path:
    build_index(tmp_path / "index", pieces, tiny_model)
    return tmp_path / "index"


# ---- building


def test_a_piece_is_embedded_snippet_by_snippet(pieces, tiny_model):
    piece = pieces[0]
    vectors, positions = embed_whole(as_query(piece, DEFAULT), tiny_model)
    assert vectors.dtype == np.float32 and positions.dtype == np.uint32
    assert len(vectors) == len(positions) > 50 and (positions % 8 == 0).all()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)
    for number in (0, 17, len(positions) - 1):
        roll = piano_roll(piece.midi.notes, DEFAULT.snippet, first=int(positions[number]))
        with torch.inference_mode():
            alone = tiny_model.encoders.roll(roll[None])[0, 0].numpy()
        assert vectors[number] @ alone > 0.999
    assert positions[-1] + DEFAULT.snippet <= frame_count(piece.midi.seconds)


def test_snippets_without_an_onset_are_left_out(pieces, tiny_model):
    piece = pieces[0]
    notes = piece.midi.notes
    notes["onset"][20:] += 30  # thirty seconds of silence in the middle
    notes["offset"][20:] += 30
    gap = slice(notes["offset"][:20].max(), notes["onset"][20])
    object.__setattr__(piece.midi, "seconds", float(notes["offset"].max()))
    _, positions = embed_whole(as_query(piece, DEFAULT), tiny_model)
    begins, ends = positions / DEFAULT.frame_rate, (positions + 42) / DEFAULT.frame_rate
    assert not ((begins > gap.start) & (ends < gap.stop)).any()
    assert len(positions) > 50


def test_a_piece_shorter_than_a_snippet_has_one(pieces, tiny_model):
    piece = pieces[0]
    object.__setattr__(piece.midi, "notes", piece.midi.notes[:1])
    object.__setattr__(piece.midi, "seconds", 0.5)
    vectors, positions = embed_whole(as_query(piece, DEFAULT), tiny_model)
    assert len(vectors) == 1 and positions.tolist() == [0]


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
    vectors, positions = embed_whole(as_query(recorded[0], DEFAULT), tiny_model)
    assert vectors.dtype == np.float32 and positions.dtype == np.uint32
    assert positions.tolist() == list(range(0, bands.shape[1] - DEFAULT.snippet + 1, 4))
    for number in (0, 7, len(positions) - 1):
        alone = bands[None, None, :, positions[number] : positions[number] + DEFAULT.snippet]
        with torch.inference_mode():
            alone = tiny_model.encoders.audio(alone)[0, 0].numpy()
        assert vectors[number] @ alone > 0.999


def test_silent_snippets_are_left_out(tiny_model, draw_notes, play):
    samples = play(draw_notes(0), 20.0)
    samples[8 * 22_050 : 15 * 22_050] = 0
    bands = spectrogram(torch.from_numpy(samples))
    _, positions = embed_whole(Sound(bands), tiny_model)
    begins, ends = (
        positions / DEFAULT.frame_rate,
        (positions + DEFAULT.snippet) / DEFAULT.frame_rate,
    )
    assert not ((begins > 8.1) & (ends < 14.9)).any()
    assert (begins < 6).sum() > 25 and (begins > 15).sum() > 10


def test_a_recording_shorter_than_a_snippet_has_one(tiny_model, draw_notes, play):
    bands = spectrogram(torch.from_numpy(play(draw_notes(0, seconds=0.5), 0.8)))
    vectors, positions = embed_whole(Sound(bands), tiny_model)
    assert len(vectors) == 1 and positions.tolist() == [0]


def test_scores_and_recordings_do_not_share_an_index(tmp_path, pieces, recorded, tiny_model):
    with pytest.raises(LibraryIndexError, match="build an index of each"):
        build_index(tmp_path / "index", [*pieces, *recorded], tiny_model)
    assert not (tmp_path / "index").exists()


def test_an_index_of_an_older_format_is_replaced(built, pieces, tiny_model):
    path = built / "manifest.json"
    path.write_text(path.read_text().replace("mmid-index-12", "mmid-index-1"))
    shutil.rmtree(data_folder(built))
    build_index(built, pieces[:2], tiny_model)
    assert len(LibraryIndex(built, tiny_model)) == 2
