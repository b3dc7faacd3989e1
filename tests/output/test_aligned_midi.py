"""`aligned_midi`: a score's notes moved to the time of the recording they were found in."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import pytest

from mmid.errors import MmidError
from mmid.identify.alignment import Alignment
from mmid.identify.batch import Answered, answer_files
from mmid.identify.identifier import Identifier
from mmid.identify.search_options import SearchOptions
from mmid.index.build import build_index
from mmid.index.folder import LibraryIndex
from mmid.model.loading import load_model
from mmid.music.grid import DEFAULT
from mmid.music.library import read_library, scan_library
from mmid.music.midi import read_midi, write_midi
from mmid.music.notes import NOTE_DTYPE
from mmid.output.aligned_midi import AlignedMidi, warp_notes

FRAME = 1 / DEFAULT.frame_rate
HEARD = 0.1
"""Seconds that the notes written may lie off those of the recording."""


def path_of(score: np.ndarray, ratio: float = 1.0) -> Alignment:
    return Alignment(1.0, np.arange(len(score)) * FRAME, score, ratio)


def notes_at(*onsets: float) -> np.ndarray:
    notes = np.zeros(len(onsets), NOTE_DTYPE)
    notes["onset"], notes["pitch"] = onsets, 60 + np.arange(len(onsets))
    notes["offset"] = notes["onset"] + 0.5
    return notes


# ---- along a path


@pytest.mark.parametrize("ratio", [0.5, 1.0, 2.0])
def test_notes_follow_a_steady_tempo(ratio):
    path = path_of(3 + ratio * FRAME * np.arange(200), ratio)
    moved = warp_notes(notes_at(2.9, 3.0, 4.0, 30.0), path)
    np.testing.assert_allclose(moved["onset"], [0, 1 / ratio], atol=1e-5)
    np.testing.assert_allclose(moved["offset"], [0.5 / ratio, 1.5 / ratio], atol=1e-5)
    assert moved["pitch"].tolist() == [61, 62]


def test_a_rest_of_the_score_delays_what_follows():
    still = np.concatenate([np.arange(50), np.full(40, 49), np.arange(50, 100)]) * FRAME
    moved = warp_notes(notes_at(40 * FRAME, 60 * FRAME), path_of(still))
    np.testing.assert_allclose(moved["onset"], [40 * FRAME, 100 * FRAME], atol=FRAME)


def test_a_repeat_is_written_twice_and_what_is_left_out_never():
    score = np.concatenate([np.arange(100), np.arange(100), np.arange(300, 400)]) * FRAME
    moved = warp_notes(notes_at(50 * FRAME, 200 * FRAME, 350 * FRAME), path_of(score))
    np.testing.assert_allclose(moved["onset"] / FRAME, [50, 150, 250], atol=1e-3)


def test_notes_end_where_the_path_does():
    (note,) = warp_notes(notes_at(1.0), path_of(np.arange(0.0, 1.2, FRAME)))
    assert note["offset"] == pytest.approx(1.2, abs=2 * FRAME)


@pytest.mark.parametrize("frames", [1, 2])
def test_a_path_of_a_moment_is_followed(frames):
    moved = warp_notes(notes_at(1.0), path_of(np.full(frames, 1.0)))
    assert len(moved) <= 1 and np.isfinite(moved["onset"]).all()


# ---- out of an answer


@pytest.fixture
def make_identifier(tmp_path, pieces, tiny_model) -> Callable[..., Identifier]:
    def make(items=pieces, model=tiny_model, **options) -> Identifier:
        folder = tmp_path / "index"
        build_index(folder, items, model)
        return Identifier(model, LibraryIndex(folder, model), SearchOptions(**options))

    return make


def played(notes: np.ndarray, slower: float, semitones: int = 0) -> np.ndarray:
    notes = notes.copy()
    notes["pitch"] += np.int8(semitones).astype(np.uint8)
    for side in ("onset", "offset"):
        notes[side] *= slower
    return notes


def off(written: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return how far each note written is from the nearest of its pitch that was played."""
    same = written["pitch"][:, None] == truth["pitch"]
    distance = np.abs(written["onset"][:, None] - truth["onset"])
    return np.where(same, distance, np.inf).min(1)


def export(identifier, path, target, start=0.0, duration=None) -> None:
    (answered,) = answer_files(identifier, [path], start, duration)
    sink = AlignedMidi(identifier, target, [path], start)
    sink.take(answered)
    sink.close()


@pytest.mark.parametrize("slower", [0.7, 1.0, 1.4])
def test_a_score_at_another_tempo_is_followed(make_identifier, pieces, tmp_path, slower):
    truth = played(pieces[1].midi.notes, slower, 2)
    write_midi(truth, tmp_path / "asked.mid")
    export(make_identifier(keys=(0, 2)), tmp_path / "asked.mid", tmp_path / "out.mid")
    written = read_midi(tmp_path / "out.mid").notes
    assert len(written) >= len(truth) - 2
    assert (off(written, truth) < HEARD).all()
    pitches = pieces[1].midi.notes["pitch"] + 2
    same = pieces[1].midi.notes[np.isin(pitches, written["pitch"])]
    assert set(written["program"]) <= set(same["program"])
    assert set(written["velocity"]) <= set(same["velocity"])


def test_a_long_query_is_followed_frame_by_frame(make_identifier, tmp_path, draw_notes):
    folder = tmp_path / "long"
    folder.mkdir()
    for seed in (7, 8):
        write_midi(draw_notes(seed, 400, 100.0), folder / f"{seed}.mid")
    pieces = read_library([folder], jobs=1)[0]
    truth = played(pieces[1].midi.notes, 1.2)
    write_midi(truth, tmp_path / "asked.mid")
    export(make_identifier(pieces), tmp_path / "asked.mid", tmp_path / "out.mid")
    written = read_midi(tmp_path / "out.mid").notes
    assert len(written) >= 395
    assert np.quantile(off(written, truth), 0.95) < HEARD


def test_a_recording_is_followed_by_what_the_packaged_model_hears(
    make_identifier, pieces, play, write_wav, tmp_path
):
    truth = played(pieces[2].midi.notes, 1.15)
    path = write_wav(tmp_path / "slow.wav", play(truth))
    identifier = make_identifier(model=load_model())
    export(identifier, path, tmp_path / "whole.mid")
    export(identifier, path, tmp_path / "span.mid", 6.0, 10.0)
    whole, span = (read_midi(tmp_path / f"{name}.mid").notes for name in ("whole", "span"))
    assert len(whole) >= 0.9 * len(truth) and np.quantile(off(whole, truth), 0.95) < HEARD
    within = (truth["onset"] > 6.2) & (truth["onset"] < 15.8)
    assert len(span) >= within.sum()
    assert np.quantile(off(span, truth), 0.95) < HEARD, "in the whole recording's time"
    assert span["onset"].min() >= 6 and span["offset"].max() <= 16.1


def test_votes_alone_give_a_steady_tempo(make_identifier, recording, pieces, tmp_path):
    identifier = make_identifier(min_confidence=0.0)
    (answered,) = answer_files(identifier, [recording])
    sink = AlignedMidi(identifier, tmp_path / "out.mid", [recording])
    sink.take(answered)
    assert read_midi(tmp_path / "out.mid").seconds <= answered.answer.seconds + 0.1


# ---- where it goes, and where it does not


def test_a_folder_has_a_file_for_every_match(make_identifier, midi_folder, tmp_path):
    identifier = make_identifier()
    files = [midi_folder / "piece 0.mid", tmp_path / "gone.mid", midi_folder / "piece 1.mid"]
    before = {path: path.read_bytes() for path in midi_folder.glob("*.mid")}
    sink = AlignedMidi(identifier, midi_folder, files)
    for answered in answer_files(identifier, files):
        sink.take(answered)
    made = {path.name for path in midi_folder.glob("*.mid")} - {path.name for path in before}
    assert made == {"piece 0.aligned.mid", "piece 1.aligned.mid"}
    assert all(path.read_bytes() == content for path, content in before.items())


def test_no_match_no_file(make_identifier, recording, tmp_path):
    export(make_identifier(min_confidence=1.0), recording, tmp_path / "out.mid")
    assert not (tmp_path / "out.mid").exists()


def test_a_vote_without_a_place_is_refused(make_identifier, recording, tmp_path):
    identifier = make_identifier(vote="majority", min_confidence=0.0)
    with pytest.raises(MmidError, match=r"recording\.wav: this vote gives no position to align"):
        export(identifier, recording, tmp_path / "out.mid")


def test_recordings_have_no_notes_to_align(make_identifier, recording, tmp_path):
    folder = tmp_path / "audio"
    folder.mkdir()
    os.replace(recording, folder / "played.wav")
    identifier = make_identifier(scan_library([folder], "recordings", DEFAULT, 1)[1])
    with pytest.raises(MmidError, match="an index of recordings holds no MIDI file to align"):
        AlignedMidi(identifier, tmp_path / "out.mid", [])


def test_a_failed_file_has_none(make_identifier, tmp_path):
    sink = AlignedMidi(make_identifier(), tmp_path / "out", [tmp_path / "gone.wav"])
    (answered,) = answer_files(make_identifier(), [tmp_path / "gone.wav"])
    sink.take(Answered(answered.answer))
    assert not list((tmp_path / "out").iterdir())
