"""MIDI files for mixtures: notes with their tracks and melody, and excerpts of them.

Conventions: times in seconds. mmid's own reader drops tracks and beats, so `pretty_midi` reads what
that has accepted.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mmid.errors import MmidError, label
from mmid.music.folders import BadFile
from mmid.music.library import read_piece
from mmid.music.melody import names_melody, skyline
from mmid.music.notes import NOTE_DTYPE, clipped, last_offset, shifted, sped_up, transposed

if TYPE_CHECKING:
    from pretty_midi import Instrument

SCORE_DTYPE = np.dtype([*NOTE_DTYPE.descr, ("track", "<u2"), ("melody", "?")])
"""A note, the number of its track and whether it is the melody's."""

MOST_PARTS = 4
"""Where no track is named, the highest line of more tracks or above drums may not be the melody."""

LAST_PITCHED = 111
"""General MIDI programs above it are percussion and sound effects."""

TEMPO = (0.8, 1.25)
"""Speed against the file."""

FEWEST = 6
"""Notes of an excerpt."""


@dataclass(frozen=True, eq=False)
class Score:
    """A MIDI file as a mixture needs it.

    Parameters
    ----------
    notes : np.ndarray [n] of SCORE_DTYPE
        Drums left out.
    beats : np.ndarray [beats] float
        Their times.
    drums : np.ndarray [strokes] of NOTE_DTYPE
        Pitches name drums, programs kits.
    melody_known : bool
        Whether the melody is surely what is marked as such.
    """

    notes: np.ndarray
    beats: np.ndarray
    drums: np.ndarray
    melody_known: bool = True

    def excerpt(self, start: float, seconds: float, speed: float) -> Score:
        """Return what sounds in a span, from second 0 on and at another speed."""
        beats = (self.beats - start) / speed
        beats = beats[(beats > -0.5) & (beats < seconds + 0.5)]
        notes, drums = (
            _excerpt(notes, start, seconds, speed) for notes in (self.notes, self.drums)
        )
        return replace(self, notes=notes, beats=beats, drums=drums)

    def transposed(self, semitones: int) -> Score:
        """Return it in another key; the drums stay as they are."""
        return replace(self, notes=transposed(self.notes, semitones))


def _excerpt(notes: np.ndarray, start: float, seconds: float, speed: float) -> np.ndarray:
    inside = (notes["offset"] > start) & (notes["onset"] < start + seconds * speed)
    return clipped(sped_up(shifted(notes[inside], -start), speed), 0, seconds)


def read_score(path: Path) -> Score:
    """Read a MIDI file with its tracks and its melody.

    Raises
    ------
    MmidError
        If it cannot be read.
    """
    piece = read_piece(path, path.parent)  # mmid's limits first
    if isinstance(piece, BadFile):
        raise MmidError(piece.reason)
    return read_tracks(path)


def read_tracks(path: Path) -> Score:
    """Read a MIDI file that `read_piece` has accepted, as `read_score` does."""
    import pretty_midi

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tempos on other tracks, as if that were a fault
            song = pretty_midi.PrettyMIDI(str(path))
            beats = np.asarray(song.get_beats(), float)
    except Exception as error:  # whatever its parser trips over
        reason = f"{label(path.name)}: its tracks cannot be read ({type(error).__name__})"
        raise MmidError(reason) from error
    pitched = [part for part in song.instruments if not part.is_drum and part.notes]
    parts = [part for part in pitched if part.program <= LAST_PITCHED] or pitched
    notes = np.concatenate([_notes(part, number) for number, part in enumerate(parts)] or [_NONE])
    drums = [_notes(part, 0) for part in song.instruments if part.is_drum]
    strokes = np.concatenate([*drums, _NONE])[list(NOTE_DTYPE.names or ())].astype(NOTE_DTYPE)
    named = bool(notes["melody"].any())
    if not named:
        notes["melody"] = skyline(notes)
    known = named or not (len(strokes) or len(parts) > MOST_PARTS)
    return Score(notes, beats, np.sort(strokes, order="onset"), known)


_NONE = np.zeros(0, SCORE_DTYPE)


def _notes(part: Instrument, track: int) -> np.ndarray:
    """Return the notes of a track, as its melody if it is named so."""
    melody = names_melody(part.name)
    rows = [
        (n.start, max(n.end, n.start + 0.03), n.pitch, n.velocity, part.program, track, melody)
        for n in part.notes
    ]
    return np.array(rows, SCORE_DTYPE)


def draw_excerpt(score: Score, seconds: float, rng: np.random.Generator) -> Score | None:
    """Draw a span and a tempo; give up where six have fewer than `FEWEST` notes of melody."""
    for _ in range(6):
        speed = float(np.exp(rng.uniform(*np.log(TEMPO))))
        latest = max(0.0, last_offset(score.notes) - seconds * speed)
        excerpt = score.excerpt(float(rng.uniform(-0.5, latest)), seconds, speed)
        if excerpt.notes["melody"].sum() >= FEWEST:
            return excerpt
    return None
