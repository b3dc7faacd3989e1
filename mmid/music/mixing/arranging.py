"""What players make of written notes: strummed chords, grace notes, a bass, a loose beat.

Conventions: notes are of `mmid.music.mixing.scores.SCORE_DTYPE`, times in seconds; every draw comes
from the generator given; every function returns another array.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from mmid.music.mixing.scores import SCORE_DTYPE
from mmid.music.notes import sounding

LOOSENESS = 0.02
"""Standard deviation of an onset at most, seconds."""

DETACHED, SHORTEST = 0.2, 0.06
"""Share of players who cut notes short, and what is left of each at least, seconds."""

GRACE, GRACED = 0.06, 0.2
"""How long before a note its grace note begins, seconds, and the share of notes that have one."""

SAME_NOTE = 0.05
"""Onsets of a pitch within so many seconds are one note's."""

LOWEST_BASS = 28


def loosened(notes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return notes a little off the beat, of other velocities, and maybe detached."""
    loose = notes.copy()
    late = rng.normal(0, rng.uniform(0, LOOSENESS), len(notes))
    loose["onset"] = (notes["onset"] + late).clip(0)
    lasting = np.maximum(notes["offset"] - notes["onset"], 0.04)
    if rng.random() < DETACHED:
        lasting = np.maximum(lasting * rng.uniform(0.3, 0.8), SHORTEST)
    loose["offset"] = loose["onset"] + lasting
    loose["velocity"] = (notes["velocity"] + rng.normal(0, 12, len(notes))).clip(25, 127)
    return loose


def strummed(notes: np.ndarray, beats: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Strike long notes again on beats, or halves of them."""
    if len(beats) < 3:
        return notes
    step = float(np.median(np.diff(beats)))
    halves = rng.random() < 0.4
    grid = np.sort(np.concatenate([beats, (beats[:-1] + beats[1:]) / 2])) if halves else beats
    struck = []
    for note in notes:
        onset, offset = note["onset"], note["offset"]
        inside = (grid > onset + 0.1) & (grid < offset - 0.1) & (offset - onset > 1.4 * step)
        edges = [onset, *grid[inside], offset]
        for begin, end in pairwise(edges):
            again = note.copy()
            again["onset"], again["offset"] = begin, max(end - 0.02, begin + 0.04)
            struck.append(again)
    return np.array(struck, SCORE_DTYPE)


def adorned(notes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add grace notes, one or two semitones higher, before some notes."""
    chosen = notes[(rng.random(len(notes)) < GRACED) & (notes["onset"] > GRACE)]
    graces = chosen[chosen["pitch"] < 100]
    graces["offset"] = graces["onset"]
    graces["onset"] -= GRACE
    graces["pitch"] += rng.integers(1, 3, len(graces)).astype(np.uint8)
    return np.concatenate([notes, graces])


def octave_higher(notes: np.ndarray) -> np.ndarray:
    """Return notes an octave higher, unless one would lie too high."""
    if notes["pitch"].max(initial=0) > 95:
        return notes
    higher = notes.copy()
    higher["pitch"] += 12
    return higher


def bass_line(notes: np.ndarray, beats: np.ndarray) -> np.ndarray:
    """Make up a bass: on each beat the lowest note that sounds, between E1 and B2."""
    rows = []
    for beat, following in pairwise(beats):
        sounds = sounding(notes, beat + 0.05, beat + 0.06)
        if len(sounds) and beat >= 0:
            pitch = LOWEST_BASS + (int(sounds["pitch"].min()) - LOWEST_BASS) % 12
            pitch += 12 * (pitch < 36)
            rows.append((beat, following - 0.03, pitch, 90, 0, 0, False))
    return np.array(rows, SCORE_DTYPE)


def merged(notes: np.ndarray) -> np.ndarray:
    """Make one note of those of a pitch whose onsets are within 50 ms; end others at the next.

    What one player plays as melody is melody.
    """
    kept: list[np.void] = []
    for note in np.sort(notes, order=["pitch", "onset"]):
        last = kept[-1] if kept and kept[-1]["pitch"] == note["pitch"] else None
        if last is not None and note["onset"] - last["onset"] < SAME_NOTE:
            last["offset"] = max(last["offset"], note["offset"])
            last["melody"] |= note["melody"]
            continue
        if last is not None:
            last["offset"] = min(last["offset"], note["onset"])
        kept.append(note.copy())
    return np.sort(np.array(kept, SCORE_DTYPE), order=["onset", "pitch"])
