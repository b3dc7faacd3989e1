"""Music as a pathway sees it, at one tempo: frames to draw, and in another key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


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


def moved_by_semitones(rolls: Tensor, semitones: int) -> Tensor:
    """Move rolls ``[..., pitches, frames]``; what leaves the compass is dropped."""
    if not semitones:
        return rolls
    moved, rows = torch.zeros_like(rolls), rolls.shape[-2]
    low, high = max(0, semitones), rows + min(0, semitones)
    moved[..., low:high, :] = rolls[..., low - semitones : high - semitones, :]
    return moved
