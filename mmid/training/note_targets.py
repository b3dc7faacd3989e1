"""What a transcriber of harmonics is to give: onsets, sustain, offsets and melody of written notes.

Conventions: times in half frames from the first; row 0 is MIDI pitch `LOWEST`; notes outside the
piano's compass are left out.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from mmid.model.harmonic import EDGE_REACH, EDGE_WEIGHT, OUTPUTS
from mmid.model.transcriber import LOWEST, PITCHES

OUTPUT_WEIGHTS = (1.0, 0.6, 0.25, 0.5)
"""Of each output in the loss."""

POSITIVE_WEIGHTS = (EDGE_WEIGHT, 1.0, EDGE_WEIGHT, 1.0)
"""What a half frame with a note counts against one without, for each output."""

AROUND = np.arange(-1, 3)
"""Half frames about one that an edge of a note may reach."""


def draw_targets(
    owner: np.ndarray,
    onset: np.ndarray,
    offset: np.ndarray,
    pitch: np.ndarray,
    melody: np.ndarray,
    count: int,
    frames: int,
) -> Tensor:
    """Draw the targets of a batch from notes.

    Parameters
    ----------
    owner : np.ndarray [notes] int
        The snippet each note belongs to, 0 to ``count - 1``.
    onset, offset : np.ndarray [notes] float
        Half frames; may lie outside.
    pitch : np.ndarray [notes] int
        MIDI pitch.
    melody : np.ndarray [notes] bool
    count, frames : int
        Snippets, and half frames of each.

    Returns
    -------
    Tensor [count, len(OUTPUTS), PITCHES, frames] float32
        Onsets and offsets as triangles that reach `EDGE_REACH`; 1 where a note, or the melody,
        sounds.
    """
    row = pitch.astype(int) - LOWEST
    inside = (row >= 0) & (row < PITCHES)
    place = (owner * PITCHES + row)[inside]
    onset, offset, melody = onset[inside], offset[inside], melody[inside]
    rows = count * PITCHES
    drawn = {
        "onset": _edges(place, onset, rows, frames),
        "sustain": _spans(place, onset, offset, rows, frames),
        "offset": _edges(place, offset, rows, frames),
        "melody": _spans(place[melody], onset[melody], offset[melody], rows, frames),
    }
    whole = np.stack([drawn[name].reshape(count, PITCHES, frames) for name in OUTPUTS], 1)
    return torch.from_numpy(whole)


def _edges(place: np.ndarray, times: np.ndarray, rows: int, frames: int) -> np.ndarray:
    """Draw a triangle about each time: ``[rows, frames]``."""
    target = np.zeros((rows, frames), np.float32)
    frame = np.floor(times).astype(int)[:, None] + AROUND
    height = 1 - np.abs(frame - times[:, None]) / EDGE_REACH
    shown = (height > 0) & (frame >= 0) & (frame < frames)
    where = np.broadcast_to(place[:, None], frame.shape)[shown], frame[shown]
    np.maximum.at(target, where, height[shown].astype(np.float32))
    return target


def _spans(
    place: np.ndarray, onset: np.ndarray, offset: np.ndarray, rows: int, frames: int
) -> np.ndarray:
    """Fill the half frames from each onset to its offset, at least one: ``[rows, frames]``."""
    steps = np.zeros((rows, frames + 1), np.int32)
    first = np.rint(onset).astype(int)
    last = np.maximum(np.rint(offset).astype(int), first + 1)
    np.add.at(steps, (place, first.clip(0, frames)), 1)
    np.add.at(steps, (place, last.clip(0, frames)), -1)
    return (steps.cumsum(1)[:, :frames] > 0).astype(np.float32)


def target_loss(log_odds: Tensor, targets: Tensor, melody_known: Tensor) -> Tensor:
    """Return the weighted cross-entropy of outputs, nats a pitch and half frame.

    Parameters
    ----------
    log_odds, targets : Tensor [batch, len(OUTPUTS), PITCHES, half frames]
    melody_known : Tensor [batch] bool
        Where it is not, the melody does not count.

    Returns
    -------
    Tensor []
    """
    weights = torch.tensor(POSITIVE_WEIGHTS, device=log_odds.device)[:, None, None]
    entropy = nn.functional.binary_cross_entropy_with_logits(
        log_odds, targets, pos_weight=weights, reduction="none"
    ).mean((2, 3))
    share = torch.ones_like(entropy)
    share[:, OUTPUTS.index("melody")] = melody_known.to(entropy.dtype)
    mean = (entropy * share).mean(0)
    return (mean * torch.tensor(OUTPUT_WEIGHTS, device=mean.device)).sum()
