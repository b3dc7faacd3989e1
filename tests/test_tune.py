"""Tunes as MIDI files: what is written is what stands in the tune."""

from pathlib import Path

import pretty_midi
import pytest

from mmid.abc import read_abc
from mmid.demo import read_library
from mmid.errors import MmidError
from mmid.tune import Tune, chord_pitches, write_midi

LIBRARY = read_library()


@pytest.mark.parametrize("tune", LIBRARY[::6], ids=lambda tune: tune.slug)
def test_midi_round_trip(tune: Tune, tmp_path: Path) -> None:
    write_midi(tune, tmp_path / "tune.mid")
    score = pretty_midi.PrettyMIDI(str(tmp_path / "tune.mid"))
    melody, chords = score.instruments
    assert melody.name == tune.title
    assert [note.pitch for note in melody.notes] == [note.pitch for note in tune.notes]
    quarter = 60 / tune.tempo
    onsets = [float(note.onset) * quarter for note in tune.notes]
    assert [note.start for note in melody.notes] == pytest.approx(onsets, abs=1e-3)
    ends = [float(note.onset + note.duration) * quarter for note in tune.notes]
    assert [note.end for note in melody.notes] == pytest.approx(ends, abs=1e-3)
    assert max(note.end for note in chords.notes) == pytest.approx(tune.seconds, abs=1e-3)


def test_accompaniment_is_a_bass_note_then_chords_on_the_beats(tmp_path: Path) -> None:
    text = 'X:1\nT:Test\nO:-\nM:3/4\nL:1/4\nQ:1/4=120\nK:C\nE|"C"E2 "G7"D|"C"C2|]'
    (tune,) = read_abc(text)
    write_midi(tune, tmp_path / "tune.mid")
    chords = pretty_midi.PrettyMIDI(str(tmp_path / "tune.mid")).instruments[1]
    heard = sorted((round(note.start, 3), note.pitch) for note in chords.notes)
    assert heard == [
        (0.5, 36), (1.0, 52), (1.0, 55), (1.0, 60),
        (1.5, 43), (1.5, 53), (1.5, 55), (1.5, 59), (1.5, 62),
        (2.0, 36), (2.5, 52), (2.5, 55), (2.5, 60),
    ]  # fmt: skip


def test_an_unwritable_path_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(MmidError, match="cannot write"):
        write_midi(LIBRARY[0], tmp_path / "missing" / "tune.mid")


@pytest.mark.parametrize(
    ("symbol", "bass", "tones"),
    [
        ("C", 36, [60, 52, 55]),
        ("B", 47, [59, 63, 54]),
        ("F#m", 42, [54, 57, 61]),
        ("Bb7", 46, [58, 62, 53, 56]),
        ("Em7", 40, [52, 55, 59, 62]),
        ("Ddim", 38, [62, 53, 56]),
    ],
)
def test_chord_pitches(symbol: str, bass: int, tones: list[int]) -> None:
    assert chord_pitches(symbol) == (bass, tones)


@pytest.mark.parametrize("symbol", ["", "H", "Cmaj7", "c", "C#b"])
def test_unknown_chords_are_refused(symbol: str) -> None:
    with pytest.raises(MmidError, match="unknown chord symbol"):
        chord_pitches(symbol)
