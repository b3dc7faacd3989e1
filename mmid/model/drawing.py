"""Music as a pathway sees it, at one tempo: frames to draw, how much of them, and in which key."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

EXCERPT_SECONDS = 5.0
"""Of music too long to be embedded whole, excerpts of this length are."""

PHASES = 2
"""Query snippets for each stride of a pathway, where a query is embedded densely; else one."""


@dataclass(frozen=True)
class Effort:
    """How much of a query is embedded at each tempo and in each key.

    Parameters
    ----------
    seconds : float
        As drawn; of longer music, excerpts spread evenly over it.
    dense_seconds : float
        Music drawn no longer than this is embedded more densely than the index, so that a snippet
        falls near each of those.
    """

    seconds: float
    dense_seconds: float


ONE_KEY, MANY_KEYS = Effort(30.0, 15.0), Effort(10.0, 10.0)


@dataclass(frozen=True, eq=False)
class Drawing:
    """Music as a pathway sees it, at one tempo.

    Parameters
    ----------
    frames : int
        At least a snippet.
    rate : float
        Frames a second.
    active : np.ndarray [frames] bool
        Where there is something to recognise: sound in a recording, an onset in a score.
    draw : callable
        ``draw(first, count)`` gives frames ``first`` to ``first + count`` as ``[channels, rows,
        count]``.
    """

    frames: int
    rate: float
    active: np.ndarray
    draw: Callable[[int, int], Tensor]

    def has_content(self, positions: np.ndarray, snippet: int) -> np.ndarray:
        """Return which snippets, by their first frames, hold something to recognise."""
        held = np.lib.stride_tricks.sliding_window_view(self.active, snippet)[positions]
        return np.asarray(held.any(1))


@dataclass(frozen=True, eq=False)
class Drawn:
    """A query drawn at a tempo, and what of it is embedded.

    Parameters
    ----------
    drawing : Drawing
    tempo_ratio : float
        The query's assumed speed against the library.
    firsts : np.ndarray [excerpts] int64
        First frames of the excerpts that are embedded.
    length : int
        Frames of each.
    phases : np.ndarray [phases] int64
        Frames each is moved by, so that snippets lie closer than a pathway's stride.
    positions : np.ndarray [n] int64
        Frames at which the snippets that are kept begin, ascending.
    """

    drawing: Drawing
    tempo_ratio: float
    firsts: np.ndarray
    length: int
    phases: np.ndarray
    positions: np.ndarray

    def __len__(self) -> int:
        return len(self.positions)

    def thinned(self, share: float, snippet: int) -> Drawn:
        """Keep a share of the snippets, spread evenly; few are embedded each by itself."""
        chosen = np.linspace(0, len(self) - 1, math.ceil(share * len(self))).astype(np.int64)
        some = replace(self, positions=self.positions[chosen])
        if len(some) * snippet > self.length * len(self.firsts) * len(self.phases):
            return some
        return replace(some, firsts=some.positions, length=snippet, phases=np.zeros(1, int))


def excerpts_of(frames: int, rate: float, seconds: float) -> tuple[np.ndarray, int]:
    """Return first frames and length of excerpts spread evenly over music too long to embed."""
    if frames <= seconds * rate:
        return np.zeros(1, int), frames
    length, count = int(EXCERPT_SECONDS * rate), max(2, round(seconds / EXCERPT_SECONDS))
    return np.linspace(0, frames - length, count).astype(int), length


def moved_by_semitones(rolls: Tensor, semitones: int) -> Tensor:
    """Move rolls ``[..., pitches, frames]``; what leaves the compass is dropped."""
    if not semitones:
        return rolls
    moved, rows = torch.zeros_like(rolls), rolls.shape[-2]
    low, high = max(0, semitones), rows + min(0, semitones)
    moved[..., low:high, :] = rolls[..., low - semitones : high - semitones, :]
    return moved
