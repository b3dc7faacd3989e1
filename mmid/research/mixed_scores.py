"""MIDI files for mixtures: notes with their tracks and melody, and excerpts of them.

Conventions: times in seconds. mmid's own reader drops the tracks' names, so `pretty_midi` reads
what that has accepted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmid.errors import MmidError, label
from mmid.music.library import BadFile, read_piece
from mmid.music.notes import NOTE_DTYPE, clipped, last_offset, shifted, sped_up

MELODY = re.compile(r"melod|vo(ice|cal|x)|sopran|lead|canto|chant|gesang|singst", re.IGNORECASE)
TOGETHER = 0.03
"""Onsets so close are one chord's, seconds."""

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
    """Read a MIDI file with its tracks; the melody is the track so named, or the highest line.

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
    named = [bool(MELODY.search(p.name)) and "piano" not in p.name.lower() for p in parts]
    melody = np.array(named, bool)[tracks] if len(parts) else np.zeros(0, bool)
    return Score(notes, tracks, melody if melody.any() else skyline(notes), beats)


def skyline(notes: np.ndarray) -> np.ndarray:
    """Mark the notes that nothing higher sounds with at their onset: the highest line."""
    order = np.argsort(notes["onset"], kind="stable")
    onsets, top, held = notes["onset"][order], np.zeros(len(notes), bool), order[:0]
    for i in order:
        onset, pitch = notes["onset"][i], notes["pitch"][i]
        near = order[slice(*np.searchsorted(onsets, [onset, onset + TOGETHER]))]
        held = held[notes["offset"][held] > onset + TOGETHER]
        top[i] = pitch >= notes["pitch"][np.concatenate([held, near])].max(initial=pitch)
        held = np.append(held, i)
    return top


def draw_excerpt(score: Score, seconds: float, rng: np.random.Generator) -> Score | None:
    """Draw a span and a tempo; give up where six have fewer than `FEWEST` notes of melody."""
    for _ in range(6):
        speed = float(np.exp(rng.uniform(*np.log(TEMPO))))
        latest = max(0.0, last_offset(score.notes) - seconds * speed)
        excerpt = score.excerpt(float(rng.uniform(-0.5, latest)), seconds, speed)
        if excerpt.melody.sum() >= FEWEST:
            return excerpt
    return None
