"""Ticks of a MIDI file to seconds and back, as its changes of tempo say.

Conventions: a tempo is microseconds a beat. Seconds are rounded as `pretty_midi` rounds them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

_MICROSECONDS_A_MINUTE = 6e7


@dataclass(frozen=True, eq=False)
class TempoMap:
    """When the tempo changes.

    Parameters
    ----------
    ticks : np.ndarray [n] int64
        Of the changes, from 0 on.
    seconds : np.ndarray [n] float64
        The same as times.
    pace : np.ndarray [n] float64
        Seconds a tick, from each on.
    """

    ticks: np.ndarray
    seconds: np.ndarray
    pace: np.ndarray

    @classmethod
    def of(cls, division: int, tempo: int, changes: Iterable[tuple[int, int]]) -> TempoMap:
        """Make it of ticks a beat, the first tempo, and ticks and tempi in order."""
        tempi = dict([(0, tempo), *changes])
        pace = 60.0 / (_MICROSECONDS_A_MINUTE / np.array(list(tempi.values())) * division)
        changed = np.append(True, pace[1:] != pace[:-1])
        ticks, pace = np.array(list(tempi), np.int64)[changed], pace[changed]
        return cls(ticks, np.cumsum(np.append(0.0, np.diff(ticks) * pace[:-1])), pace)

    def seconds_at(self, ticks: np.ndarray) -> np.ndarray:
        """Return the times of ticks, float64."""
        place = np.searchsorted(self.ticks, ticks, "right") - 1
        return np.asarray(self.seconds[place] + self.pace[place] * (ticks - self.ticks[place]))

    def ticks_at(self, seconds: np.ndarray) -> np.ndarray:
        """Return the ticks of times, and parts of them, float64."""
        place = np.searchsorted(self.seconds, seconds, "right") - 1
        return np.asarray(self.ticks[place] + (seconds - self.seconds[place]) / self.pace[place])
