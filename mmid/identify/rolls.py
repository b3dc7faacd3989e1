"""Stretches of scores on a query's frames, each drawn with the pitches that it holds alone.

A score holds a quarter of all pitches: what is multiplied with rolls is as much less.

Conventions: a query's rows are ``[2 * PITCHES, frames]``: notes sounding, then beginning.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mmid.identify.voting import Candidate
from mmid.model.transcriber import LOWEST, PITCHES
from mmid.music.grid import FeatureParams
from mmid.music.piano_roll import add_split, add_steps

Notes = Callable[[Candidate], np.ndarray]
"""Gives the notes of a candidate's piece that count."""


@dataclass(frozen=True, eq=False)
class Rolls:
    """Rolls of several stretches, as many rows each.

    Parameters
    ----------
    values : Tensor [stretches, 2 * rows, frames] float32
        Notes sounding, then beginning, from 0 to 1.
    pitch : Tensor [stretches, rows] int64
        Which of `PITCHES` each row is; some of the last are of none, and hold nothing.
    """

    values: Tensor
    pitch: Tensor

    def of_query(self, rows: Tensor) -> Tensor:
        """Return the rows of a query that stand for those of each stretch."""
        return rows[torch.cat([self.pitch, self.pitch + PITCHES], 1)]

    def gains(self, values: Tensor, memory: Tensor | None = None) -> Tensor:
        """Return what each frame of a query gains at each of a stretch.

        Parameters
        ----------
        values : Tensor [2 * PITCHES, frames of the query] float32
        memory : Tensor, optional
            To write to, where it is of that shape: as much anew takes longer than to fill it.

        Returns
        -------
        Tensor [stretches, frames of the query, frames] float32
        """
        by_frames = self.of_query(values).transpose(1, 2)
        shape = (*by_frames.shape[:2], self.values.shape[2])
        out = memory if memory is not None and memory.shape == shape else torch.empty(shape)
        return torch.bmm(by_frames, self.values, out=out)

    def along(self, path: Tensor) -> Rolls:
        """Read frames along paths, ``[stretches, frames of the query]`` int64."""
        return Rolls(read_along(self.values, path), self.pitch)

    def whole(self) -> Tensor:
        """Return them with all pitches: ``[stretches, 2 * PITCHES, frames]``."""
        count, _, frames = self.values.shape
        full = torch.zeros(count, 2, PITCHES, frames)
        index = self.pitch[:, None, :, None].expand(-1, 2, -1, frames)
        full.scatter_add_(2, index, self.values.view(count, 2, -1, frames))
        return full.flatten(1, 2)


def read_along(values: Tensor, path: Tensor) -> Tensor:
    """Read the last axis along paths, ``[stretches, rows, frames of the query]``."""
    return values.gather(2, path[:, None].expand(-1, values.shape[1], -1))


def draw_spans(
    spans: Sequence[tuple[Candidate, float, float]],
    frames: int,
    notes: Notes,
    params: FeatureParams,
) -> Rolls:
    """Draw stretches of scores.

    Parameters
    ----------
    spans : sequence of (Candidate, float, float)
        Piece and key, the frame of the score to begin at, and the step from frame to frame.
    frames : int
        To draw of each.
    notes : callable
    params : FeatureParams
    """
    near = [_near(span, frames, notes, params) for span in spans]
    owner = np.repeat(np.arange(len(near)), [len(onset) for onset, _, _ in near])
    onset, offset, pitch = (np.concatenate(part) for part in zip(*near, strict=True))
    held, row = np.unique(owner * PITCHES + pitch, return_inverse=True)
    owners, pitches = np.divmod(held, PITCHES)
    place = np.arange(len(held)) - np.searchsorted(owners, owners)
    rows = int(place.max(initial=0)) + 1
    names = torch.zeros(len(spans), rows, dtype=torch.long)
    names[owners, place] = torch.from_numpy(pitches)
    flat = torch.from_numpy(owner * 2 * rows + place[row])
    begin, end = (torch.from_numpy(times).float() for times in (onset, offset))
    return Rolls(_draw(flat, begin, end, (len(spans), rows, frames)), names)


def _near(
    span: tuple[Candidate, float, float], frames: int, notes: Notes, params: FeatureParams
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the onsets and offsets, in frames of a stretch, and rows of the notes in it."""
    candidate, first, step = span
    written = notes(candidate)
    onset = (written["onset"] * params.frame_rate - first) / step
    offset = (written["offset"] * params.frame_rate - first) / step
    pitch = written["pitch"].astype(np.int64) + (candidate.transpose - LOWEST)
    near = (offset > -2) & (onset < frames + 2) & (pitch >= 0) & (pitch < PITCHES)
    return onset[near], offset[near], pitch[near]


def _draw(flat_row: Tensor, onset: Tensor, offset: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Draw as `mmid.music.piano_roll.draw_rolls` does, in one piece of memory."""
    count, rows, frames = shape
    rolls = torch.zeros(count, 2, rows, frames + 3)  # a column before the first, two behind
    flat = rolls.view(-1, frames + 3)
    add_steps(flat, flat_row, onset + 1.5, 1.0)
    add_steps(flat, flat_row, offset + 1.5, -1.0)
    rolls[:, 0] = rolls[:, 0].cumsum(-1)
    inside = (onset > -1) & (onset < frames)
    add_split(flat, flat_row[inside] + rows, onset[inside] + 1, 1.0)
    return rolls.clamp_(0, 1).flatten(1, 2)[..., 1 : frames + 1]
