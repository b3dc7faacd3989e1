"""Which notes of a MIDI file are its melody."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pretty_midi
import pytest

from mmid.music.melody import find_melody, skyline
from mmid.music.midi import read_midi
from mmid.music.notes import NOTE_DTYPE


def notes(*rows: tuple[float, float, int], program: int = 0) -> np.ndarray:
    return np.array([(*row, 90, program) for row in rows], NOTE_DTYPE)


def test_the_skyline_is_the_highest_note_at_each_onset():
    rng = np.random.default_rng(0)
    onset = np.sort(rng.uniform(0, 20, 60))
    length = rng.uniform(0.1, 2, 60)
    rows = notes(*zip(onset, onset + length, rng.integers(40, 80, 60), strict=True))
    top = skyline(rows)
    onset, length = rows["onset"].astype(float), (rows["offset"] - rows["onset"]).astype(float)
    ends = onset + length - np.minimum(0.1, length / 4)
    for i, is_top in enumerate(top):
        moment = onset[i] + 0.03
        beside = (onset <= moment) & ((ends >= moment) | (onset >= onset[i]))
        assert is_top == (rows["pitch"][i] >= rows["pitch"][beside].max())
    assert 0 < top.sum() < len(top)


def test_legato_belongs_to_one_line():
    assert skyline(notes((0, 1.05, 67), (1, 2.05, 65), (2, 3, 64))).all()


def test_a_held_note_above_is_the_melody():
    assert skyline(notes((0, 4, 72), (1, 2, 60), (3, 3.5, 64))).tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("names", "melody"),
    [
        (("Chords", "Vocals"), [55]),
        (("Piano right, melody", "Strings"), [72]),
        (("Lead Vocal", "Backing Vocals"), [72]),
        (("", ""), [72]),
    ],
)
def test_the_melody_is_the_track_of_that_name_or_the_highest_line(names, melody):
    rows = notes((0, 1, 72), (0, 1, 55))
    found = find_melody(rows, np.array([0, 1]), names)
    assert rows["pitch"][found].tolist() == melody


def test_a_voice_is_known_by_its_program_and_sings_on():
    high, sung = notes((0, 1, 80), (5, 6, 81)), notes((0, 1, 60), (4, 5, 62), program=53)
    rows = np.concatenate([high, sung])
    assert find_melody(rows, np.zeros(4, int), [""]).tolist() == [False, False, True, True]
    once = np.concatenate([high, sung[1:]])
    assert find_melody(once, np.zeros(3, int), [""]).tolist() == [True, True, True]


def test_of_a_choir_the_highest_voice_is_the_melody():
    rows = notes((0, 1, 72), (0, 1, 67), (0, 1, 60), program=52)
    assert find_melody(rows, np.array([0, 1, 2]), ["", "", ""]).tolist() == [True, False, False]


def test_a_file_says_which_notes_are_the_melody(tmp_path: Path):
    song = pretty_midi.PrettyMIDI()
    for name, pitch in (("Guitar", 76), ("Voice", 64)):
        part = pretty_midi.Instrument(25, name=name)
        part.notes = [pretty_midi.Note(90, pitch + n, n, n + 1) for n in range(4)]
        song.instruments.append(part)
    song.write(str(tmp_path / "x.mid"))
    midi = read_midi(tmp_path / "x.mid")
    assert midi.notes["pitch"][midi.melody].tolist() == [64, 65, 66, 67]
