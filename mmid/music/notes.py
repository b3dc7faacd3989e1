"""Arrays of notes: what a note is, and notes in another time."""

from __future__ import annotations

import numpy as np

NOTE_DTYPE = np.dtype(
    [("onset", "<f4"), ("offset", "<f4"), ("pitch", "u1"), ("velocity", "u1"), ("program", "u1")]
)


def retimed(notes: np.ndarray, seconds: float, stretch: float = 1.0) -> np.ndarray:
    """Return notes so many seconds later, then stretched from time 0."""
    moved = notes.copy()
    for side in ("onset", "offset"):
        moved[side] = (moved[side] + seconds) * stretch
    return moved
