"""Notes to piano rolls, on the frame grid of spectrograms.

Conventions: a roll is ``[channels, pitches, frames]`` float32; row 0 is MIDI pitch 0. Frame ``i``
is centred on second ``i / frame_rate``.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mmid.music.grid import DEFAULT, FAMILIES, FeatureParams
from mmid.music.notes import last_offset


def roll_frame_count(seconds: float, params: FeatureParams = DEFAULT) -> int:
    """Return how many frames the roll of a piece that lasts so long has."""
    return int(seconds * params.roll_frame_rate(seconds)) + 1


def draw_rolls(
    owner: Tensor,
    onset: Tensor,
    offset: Tensor,
    pitch: Tensor,
    count: int,
    frames: int,
    params: FeatureParams = DEFAULT,
    program: Tensor | None = None,
) -> Tensor:
    """Draw a batch of piano rolls from notes given in frames.

    A frame of the sounding channel holds the share of its hop that the note sounds, so onsets
    keep their place between frames; an onset falls on its two nearest frames in proportion.

    Parameters
    ----------
    owner : Tensor [notes] int64
        The roll each note belongs to, 0 to ``count - 1``.
    onset, offset : Tensor [notes] float32
        Frame coordinates from the roll's first frame centre; may lie outside the roll.
    pitch : Tensor [notes] int64
        MIDI pitch.
    count, frames : int
        Rolls, and frames of each.
    program : Tensor [notes] int64, optional
        General MIDI program; needed where instrument families have channels of their own.

    Returns
    -------
    Tensor [count, channels, pitches, frames] float32
        Values 0 to 1.
    """
    layers = params.layers
    if program is not None and layers > 1:
        owner = owner * layers + program * FAMILIES // 128
    else:
        owner = owner * layers
    row = owner * params.pitches + pitch
    rows = count * layers * params.pitches
    sounding = torch.zeros(rows, frames + 2, device=onset.device)
    add_steps(sounding, row, onset + 0.5, 1.0)
    add_steps(sounding, row, offset + 0.5, -1.0)
    channels = [sounding[:, :frames].cumsum(-1)]
    if params.onsets:
        inside = (onset > -1) & (onset < frames)
        attacks = torch.zeros(rows, frames + 2, device=onset.device)
        add_split(attacks, row[inside], onset[inside] + 1, 1.0)
        channels.append(attacks[:, 1 : frames + 1])
    rolls = torch.stack(channels).clamp(0, 1)
    rolls = rolls.view(len(channels), count, layers, params.pitches, frames).transpose(0, 1)
    return rolls.reshape(count, params.roll_channels, params.pitches, frames)


def add_steps(target: Tensor, row: Tensor, place: Tensor, height: float) -> None:
    """Add the differences of a step whose edge lies at a fractional column."""
    add_split(target, row, place.clamp(0, target.shape[1] - 2), height)


def add_split(target: Tensor, row: Tensor, place: Tensor, weight: float) -> None:
    """Add a weight to the two columns about a fractional one, in proportion."""
    column = place.floor().long()
    share = place - column
    flat = target.view(-1)
    flat.index_add_(0, row * target.shape[1] + column, weight * (1 - share))
    flat.index_add_(0, row * target.shape[1] + column + 1, weight * share)


def piano_roll(
    notes: np.ndarray,
    frames: int,
    params: FeatureParams = DEFAULT,
    *,
    first: int = 0,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Draw the roll of a note array.

    Parameters
    ----------
    notes : np.ndarray [n] of mmid.music.notes.NOTE_DTYPE
        The whole piece's, times in seconds.
    frames, first : int
        How many frames to draw, from which.

    Returns
    -------
    Tensor [channels, pitches, frames] float32
    """
    rate = params.roll_frame_rate(last_offset(notes))
    onset = torch.from_numpy(notes["onset"] * rate - first).float()
    offset = torch.from_numpy(notes["offset"] * rate - first).float()
    near = (offset > -2) & (onset < frames + 2)
    pitch, program = (
        torch.from_numpy(notes[name].astype(np.int64))[near].to(device)
        for name in ("pitch", "program")
    )
    owner = torch.zeros_like(pitch)
    sides = onset[near].to(device), offset[near].to(device)
    return draw_rolls(owner, *sides, pitch, 1, frames, params, program)[0]
