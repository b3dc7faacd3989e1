"""Tunes of the demo that tests of long music are made of."""

from __future__ import annotations

import numpy as np

A, B, C, D = "londonderry-air.mid", "fur-elise.mid", "turkish-march.mid", "ode-to-joy.mid"
KNOWN = (A, B, C, D, "minuet-in-g.mid", "canon-in-d.mid", "lullaby.mid", "korobeiniki.mid")


def moved(notes: np.ndarray, seconds: float, tempo: float = 1.0) -> np.ndarray:
    """Return notes played at a tempo, from so many seconds on."""
    other = notes.copy()
    for side in ("onset", "offset"):
        other[side] = other[side] / tempo + seconds
    return other
