"""MIDI files for mixtures: notes with their tracks and melody, and excerpts of them.

Conventions: times in seconds. mmid's own reader drops tracks and beats, so `pretty_midi` reads what
that has accepted.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmid.errors import MmidError, label
from mmid.music.library import BadFile, read_piece
from mmid.music.melody import find_melody
from mmid.music.notes import NOTE_DTYPE, clipped, last_offset, shifted, sped_up

TEMPO = (0.8, 1.25)
"""Speed against the file."""

FEWEST = 6
"""Notes of an excerpt."""


@dataclass(frozen=True, eq=False)
class Score:
    """A MIDI file as a mixture needs it.

    Parameters
    ----------
    notes : np.ndarray [n] of NOTE_DTYPE
        Drums left out.
    tracks : np.ndarray [n] int
    melody : np.ndarray [n] bool
    beats : np.ndarray [beats] float
        Their times.
    """

    notes: np.ndarray
    tracks: np.ndarray
    melody: np.ndarray
    beats: np.ndarray

    def excerpt(self, start: float, seconds: float, speed: float) -> Score:
        """Return what sounds in a span, from second 0 on and at another speed."""
        inside = (self.notes["offset"] > start) & (self.notes["onset"] < start + seconds * speed)
        moved = clipped(sped_up(shifted(self.notes[inside], -start), speed), 0, seconds)
        beats = (self.beats - start) / speed
        beats = beats[(beats > -0.5) & (beats < seconds + 0.5)]
        return Score(moved, self.tracks[inside], self.melody[inside], beats)


def read_score(path: Path) -> Score:
    """Read a MIDI file with its tracks and its melody.

    Raises
    ------
    MmidError
        If it cannot be read.
    """
    import pretty_midi

    piece = read_piece(path, path.parent)  # mmid's limits first
    if isinstance(piece, BadFile):
        raise MmidError(piece.reason)
    try:
        song = pretty_midi.PrettyMIDI(str(path))
        beats = np.asarray(song.get_beats(), float)
    except Exception as error:  # whatever its parser trips over
        reason = f"{label(path.name)}: its tracks cannot be read ({type(error).__name__})"
        raise MmidError(reason) from error
    parts = [part for part in song.instruments if not part.is_drum and part.notes]
    rows = [
        (n.start, max(n.end, n.start + 0.03), n.pitch, n.velocity, part.program)
        for part in parts
        for n in part.notes
    ]
    notes = np.array(rows, NOTE_DTYPE)
    tracks = np.repeat(np.arange(len(parts)), [len(part.notes) for part in parts])
    melody = find_melody(notes, tracks, [part.name for part in parts])
    return Score(notes, tracks, melody, beats)


def draw_excerpt(score: Score, seconds: float, rng: np.random.Generator) -> Score | None:
    """Draw a span and a tempo; give up where six have fewer than `FEWEST` notes of melody."""
    for _ in range(6):
        speed = float(np.exp(rng.uniform(*np.log(TEMPO))))
        latest = max(0.0, last_offset(score.notes) - seconds * speed)
        excerpt = score.excerpt(float(rng.uniform(-0.5, latest)), seconds, speed)
        if excerpt.melody.sum() >= FEWEST:
            return excerpt
    return None
