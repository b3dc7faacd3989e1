"""Arrays of notes, and what is done to them: other times, other pitches, spans.

Conventions: ``notes`` is an array ``[n]`` of `NOTE_DTYPE`, times in seconds; every function returns
another array and leaves its argument as it is.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

NOTE_DTYPE = np.dtype(
    [("onset", "<f4"), ("offset", "<f4"), ("pitch", "u1"), ("velocity", "u1"), ("program", "u1")]
)

PITCHES = 128
"""MIDI has pitches 0 to 127."""


def last_offset(notes: np.ndarray) -> float:
    """Return when the last note ends, seconds; 0 if there is none."""
    return float(notes["offset"].max(initial=0))


def retimed(notes: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return notes whose onsets and offsets a function of times has changed."""
    moved = notes.copy()
    for side in ("onset", "offset"):
        moved[side] = change(moved[side])
    return moved


def shifted(notes: np.ndarray, seconds: float) -> np.ndarray:
    """Return notes so many seconds later."""
    return retimed(notes, lambda times: times + seconds)


def stretched(notes: np.ndarray, factor: float) -> np.ndarray:
    """Return notes with their times multiplied."""
    return retimed(notes, lambda times: times * factor)


def sped_up(notes: np.ndarray, speed: float) -> np.ndarray:
    """Return notes played at another speed: their times divided by it."""
    return retimed(notes, lambda times: times / speed)


def clipped(notes: np.ndarray, start: float, end: float = np.inf) -> np.ndarray:
    """Return notes whose times outside a span are moved to its ends."""
    return retimed(notes, lambda times: times.clip(start, end))


def sounding(notes: np.ndarray, start: float, end: float) -> np.ndarray:
    """Return the notes that sound within a span, seconds, whole."""
    return notes[(notes["offset"] > start) & (notes["onset"] < end)]


def transposed(notes: np.ndarray, semitones: int, pitches: int = PITCHES) -> np.ndarray:
    """Return notes in another key; those that leave ``0..pitches - 1`` are dropped."""
    pitch = notes["pitch"].astype(int) + semitones
    inside = (pitch >= 0) & (pitch < pitches)
    moved = notes[inside]
    moved["pitch"] = pitch[inside]
    return moved


def transposed_within(notes: np.ndarray, semitones: int) -> np.ndarray:
    """Return all notes in another key; those that leave MIDI's range end at its edge."""
    moved = notes.copy()
    moved["pitch"] = (notes["pitch"].astype(int) + semitones).clip(0, PITCHES - 1)
    return moved
