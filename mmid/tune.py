"""A tune as played: its notes and chords, and how they become a MIDI file.

Conventions: musical time is in quarter notes, kept exact as fractions; seconds appear only where
a tune meets MIDI. Pitches are MIDI numbers, 60 is middle C. Notes are in played order, with
repeats written out and ties joined.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pretty_midi

from mmid.errors import MmidError

MELODY_PROGRAM = 73  # General MIDI flute, counted from 0
CHORD_PROGRAM = 24  # nylon guitar
MELODY_VELOCITY, CHORD_VELOCITY = 96, 64
TICKS_PER_QUARTER = 480  # divisible by 3 and by 32, so every length of a tune is exact
LOWEST_BASS, LOWEST_TONE = 36, 52  # the accompaniment's octaves start here
STEPS = dict(zip("CDEFGAB", (0, 2, 4, 5, 7, 9, 11), strict=True))  # semitones above C

_QUALITIES = {"": (0, 4, 7), "m": (0, 3, 7), "7": (0, 4, 7, 10), "m7": (0, 3, 7, 10),
              "dim": (0, 3, 6)}  # fmt: skip
_CHORD = re.compile(r"([A-G])([#b]?)(m7|m|7|dim|)")


@dataclass(frozen=True)
class Note:
    """A note as played: onset and duration in quarter notes, pitch as a MIDI number."""

    onset: Fraction
    duration: Fraction
    pitch: int


@dataclass(frozen=True)
class Chord:
    """A chord symbol such as ``Am`` or ``D7`` and the span it holds for, in quarter notes."""

    onset: Fraction
    duration: Fraction
    symbol: str


@dataclass(frozen=True)
class Tune:
    """One tune, in played order.

    Parameters
    ----------
    number : int
        The X field.
    title, composer, origin : str
        The T, C and O fields; composer and origin may be empty, not both.
    meter : tuple[int, int]
        Beats a bar and the beat's note value, such as ``(6, 8)``.
    tempo : float
        Quarter notes a minute.
    notes : tuple[Note, ...]
        The melody.
    chords : tuple[Chord, ...]
        The accompaniment.
    bars : tuple[Fraction, ...]
        Onsets of the bars, in quarter notes, a pickup's included.
    length : Fraction
        Quarter notes from start to end.
    """

    number: int
    title: str
    composer: str
    origin: str
    meter: tuple[int, int]
    tempo: float
    notes: tuple[Note, ...]
    chords: tuple[Chord, ...]
    bars: tuple[Fraction, ...]
    length: Fraction

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return float(self.length) * 60 / self.tempo

    @property
    def slug(self) -> str:
        """The title as a file name: lower-case ASCII letters, digits and hyphens."""
        plain = unicodedata.normalize("NFKD", self.title).encode("ascii", "ignore").decode()
        return re.sub(r"[^a-z0-9]+", "-", plain.lower().replace("'", "")).strip("-")


def write_midi(tune: Tune, path: Path) -> None:
    """Write a tune to a MIDI file of two tracks: the melody, named after the tune, and chords.

    Parameters
    ----------
    tune : Tune
        The tune; its onsets and durations become seconds at its own tempo.
    path : Path
        The file to write; its folder must exist.

    Raises
    ------
    MmidError
        The file cannot be written.
    """
    score = pretty_midi.PrettyMIDI(resolution=TICKS_PER_QUARTER, initial_tempo=tune.tempo)
    score.time_signature_changes.append(pretty_midi.TimeSignature(*tune.meter, 0))
    parts = (
        (tune.title, MELODY_PROGRAM, MELODY_VELOCITY, iter(tune.notes)),
        ("Chords", CHORD_PROGRAM, CHORD_VELOCITY, _accompaniment(tune)),
    )
    for name, program, velocity, notes in parts:
        part = pretty_midi.Instrument(program=program, name=name)
        part.notes.extend(_midi_note(note, velocity, tune.tempo) for note in notes)
        score.instruments.append(part)
    try:
        score.write(str(path))
    except OSError as error:
        raise MmidError(f"cannot write {path}: {error}") from error


def _midi_note(note: Note, velocity: int, tempo: float) -> pretty_midi.Note:
    start = float(note.onset) * 60 / tempo
    end = float(note.onset + note.duration) * 60 / tempo
    return pretty_midi.Note(velocity, note.pitch, start, end)


def _accompaniment(tune: Tune) -> Iterator[Note]:
    """Yield a bass note where a chord or a bar starts, and the chord on the beats after it."""
    beats, unit = tune.meter
    compound = unit == 8 and beats % 3 == 0 and beats > 3
    beat = Fraction(3, 2) if compound else Fraction(4, unit)
    edges = [*tune.bars, tune.length]
    for chord in tune.chords:
        bass, tones = chord_pitches(chord.symbol)
        for low, high in pairwise(edges):
            start, end = max(low, chord.onset), min(high, chord.onset + chord.duration)
            count = (high - low) // beat + 1
            hits = [low + beat * i for i in range(count) if start < low + beat * i < end]
            if start < end:
                yield from _vamp([start, *hits, end], bass, tones)


def _vamp(times: list[Fraction], bass: int, tones: list[int]) -> Iterator[Note]:
    """Yield the bass at the first time, the tones at the others or, without any, with it."""
    yield Note(times[0], times[1] - times[0], bass)
    hits = list(pairwise(times))
    for start, end in hits[1:] or hits:
        yield from (Note(start, end - start, pitch) for pitch in tones)


def chord_pitches(symbol: str) -> tuple[int, list[int]]:
    """Return the bass and the tones of a chord symbol, each folded into its octave.

    Parameters
    ----------
    symbol : str
        A root and ``m``, ``7``, ``m7``, ``dim`` or nothing, such as ``F#m``.

    Returns
    -------
    tuple[int, list[int]]
        MIDI pitches of the bass and of the tones above it.

    Raises
    ------
    MmidError
        The symbol is another one.

    Examples
    --------
    >>> chord_pitches("Am")
    (45, [57, 60, 52])
    """
    match = _CHORD.fullmatch(symbol)
    if match is None:
        raise MmidError(f"unknown chord symbol {symbol!r}")
    letter, sign, quality = match.groups()
    root = STEPS[letter] + {"": 0, "#": 1, "b": -1}[sign]
    bass = LOWEST_BASS + (root - LOWEST_BASS) % 12
    return bass, [LOWEST_TONE + (root + i - LOWEST_TONE) % 12 for i in _QUALITIES[quality]]
