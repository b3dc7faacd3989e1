"""Where in its score each moment of a performance lies, from the notes of both (benchmark B3).

Conventions: times in seconds. The whole performance is aligned with the whole score, note for
note and without any sound; positions count as known where the notes played are written nearby.
"""

from __future__ import annotations

import numpy as np
import torch

from mmid.identify.alignment import MOST_LOG_ODDS, align, align_closely, note_gains
from mmid.identify.voting import Candidate
from mmid.model.transcriber import LOWEST, PITCHES
from mmid.music.grid import FeatureParams
from mmid.music.notes import last_offset
from mmid.music.piano_roll import draw_rolls

FRAMES = 5_000
"""Frames that a performance is aligned on at first; coarser ones blur fast music."""

NEARBY = 0.2
"""A note played is written where it is looked for if it is written so near, seconds."""

WRITTEN = 0.9
"""Of a span's notes, at least so many must be written where they are looked for."""


class Reference:
    """A performance's places in its score.

    Parameters
    ----------
    played, written : np.ndarray of mmid.music.notes.NOTE_DTYPE
        The notes of the performance and of the score.
    params : FeatureParams
    transpose : int
        Semitones that take the score to the performance's key.
    """

    def __init__(
        self, played: np.ndarray, written: np.ndarray, params: FeatureParams, transpose: int = 0
    ) -> None:
        frames = int(last_offset(played) * params.frame_rate) + 2
        begin, end = (played[side] * params.frame_rate for side in ("onset", "offset"))
        pitch = torch.from_numpy(played["pitch"].astype(np.int64))
        times = torch.from_numpy(begin), torch.from_numpy(end)
        rolls = draw_rolls(torch.zeros_like(pitch), *times, pitch, 1, frames)
        log_odds = MOST_LOG_ODDS * (2 * rolls[0, :, LOWEST : LOWEST + PITCHES] - 1)
        ratio = float(written["offset"].max(initial=0) / played["offset"].max(initial=0))
        place = Candidate(0, 1.0, ratio, 0.0, transpose)
        coarse = align(note_gains(log_odds, FRAMES), place, lambda one: written, params)
        self._path = align_closely(log_odds, coarse, place, lambda one: written, params)
        self._onset, near = played["onset"], self._is_written(played, written, transpose)
        self._written = np.concatenate([[0], np.cumsum(near)])

    def _is_written(self, played: np.ndarray, written: np.ndarray, transpose: int) -> np.ndarray:
        """Mark the notes that are written where the path says."""
        places, near = self._places(played["onset"]), np.zeros(len(played), bool)
        for pitch in np.unique(played["pitch"]):
            own = played["pitch"] == pitch
            onset = np.sort(written["onset"][written["pitch"].astype(int) + transpose == pitch])
            if len(onset):
                after = np.searchsorted(onset, places[own])
                beside = onset[np.clip([after - 1, after], 0, len(onset) - 1)]
                near[own] = np.abs(beside - places[own]).min(0) <= NEARBY
        return near

    def _places(self, times: np.ndarray) -> np.ndarray:
        return np.asarray(np.interp(times, self._path.query, self._path.score))

    def span(self, start: float, end: float) -> tuple[float, float] | None:
        """Return where in the score a span of the performance begins and ends, if that is known."""
        first, last = np.searchsorted(self._onset, (start, end))
        written = self._written[last] - self._written[first]
        if last == first or written < WRITTEN * (last - first):
            return None
        begin, stop = self._places(np.array([start, end]))
        return float(begin), float(stop)
