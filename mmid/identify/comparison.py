"""What the notes of a query and of a candidate's score say of each other, note by note.

Conventions: a query's notes are `Gains`, of all its notes and of its melody's, on the same frames.
A candidate's score is aligned with them by notes and by pitch classes, so that what is played in
another octave or voicing is followed, too; what they say of each other is read along that path.
Rolls are ``[candidates, 2 * PITCHES, frames]``: notes sounding, then beginning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mmid.identify.alignment import (
    HOLD,
    LEAST_SHARE,
    RARITY,
    TOGETHER,
    Climb,
    Gains,
    draw_around,
    explained,
)
from mmid.identify.melody import notes_of_melody, notes_read
from mmid.identify.rolls import Rolls, read_along
from mmid.identify.voting import Candidate
from mmid.index.protocol import Library
from mmid.model.transcriber import LOWEST, PITCHES
from mmid.music.grid import FeatureParams

CLASSES = 12
"""Pitches an octave."""

NEAR = 3
"""A note counts as transcribed in any of so many neighbouring frames."""

CHORD_FRAMES, CHORD_STEP = 9, 4
"""Harmonies are those of so many frames, taken every few."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """What speaks for candidates where they are aligned, as `mmid.model.evidence` names it.

    Parameters
    ----------
    claimed, melody_claimed : np.ndarray [candidates] float64
        Share of what the score, or its melody, holds there that was transcribed, 0 to 1.
    melody : np.ndarray [candidates] float64
        Share of the evidence for the query's melody that the score's melody explains; at most 1,
        below 0 where most of what it holds is not in the query's, `LEAST_SHARE` at least.
    harmony : np.ndarray [candidates] float64
        Cosine of their harmonies, octaves folded together, 0 to 1.
    """

    claimed: np.ndarray
    melody: np.ndarray
    melody_claimed: np.ndarray
    harmony: np.ndarray

    def of(self, number: int) -> dict[str, float]:
        """Return what speaks for one of the candidates, by name."""
        return {name: float(values[number]) for name, values in vars(self).items()}


def explained_as_read(
    evidence: Gains, candidates: Sequence[Candidate], index: Library, params: FeatureParams
) -> np.ndarray:
    """Return the share of the evidence that each candidate explains, or its melody alone.

    Parameters
    ----------
    evidence : Gains
    candidates : sequence of Candidate
        With a start.
    index : Library
    params : FeatureParams

    Returns
    -------
    np.ndarray [candidates] float64
        As `mmid.identify.alignment.explained` gives it.
    """
    return explained(evidence, candidates, notes_read(index), params)


def compare_notes(
    evidence: Gains,
    melody: Gains,
    candidates: Sequence[Candidate],
    index: Library,
    params: FeatureParams,
) -> Comparison:
    """Compare a query with candidates where they are said to lie.

    Parameters
    ----------
    evidence, melody : Gains
        Of the query's notes, and of its melody's.
    candidates : sequence of Candidate
        With a start.
    index : Library
    params : FeatureParams
    """
    parts = [
        _compared(evidence, melody, candidates[first : first + TOGETHER], index, params)
        for first in range(0, len(candidates), TOGETHER)
    ]
    figures = torch.cat(parts, 1) if parts else torch.zeros(4, 0)
    return Comparison(*figures.double().numpy())


def _compared(
    evidence: Gains,
    melody: Gains,
    candidates: Sequence[Candidate],
    index: Library,
    params: FeatureParams,
) -> Tensor:
    """Return the figures of a `Comparison`, one row each."""
    tunes = draw_around(candidates, evidence, notes_of_melody(index), params)
    rolls = draw_around(candidates, evidence, notes_read(index), params)
    classes, folded = Gains(fold(evidence.values), evidence.step), fold(rolls.whole())
    gains = rolls.gains(evidence.values).add_(classes.values.T @ folded)
    path = best_paths(gains, HOLD * (evidence.mean_gain + classes.mean_gain))
    whole, tune = rolls.along(path), tunes.along(path)
    certain = _probabilities(evidence)
    transcribed = torch.nn.functional.max_pool1d(certain[None], NEAR, 1, NEAR // 2)[0]
    of_melody = (tune.values * tune.of_query(melody.values)).sum((1, 2))
    return torch.stack(
        [
            _claimed(whole, transcribed),
            (of_melody / melody.total).clamp_min(LEAST_SHARE),
            _claimed(tune, transcribed),
            torch.cosine_similarity(
                _harmony(fold(certain[None])), _harmony(read_along(folded[:, :CLASSES], path)), 1
            ),
        ]
    )


def best_paths(gains: Tensor, hold: float) -> Tensor:
    """Find the best path through each score.

    Parameters
    ----------
    gains : Tensor [candidates, frames, positions]
        What each frame of the query gains at each position of the score.
    hold : float
        Cost of a frame for which the score rests or hurries.

    Returns
    -------
    Tensor [candidates, frames] int64
        Positions.
    """
    values, steps = gains.numpy().swapaxes(0, 1), Climb(hold)
    best = np.empty(values.shape, np.float32)
    best[0], reached = values[0], np.empty(values[0].shape, np.float32)
    for frame in range(1, len(values)):
        steps.take(best[frame - 1], reached)
        np.add(reached, values[frame], out=best[frame])
    path = np.empty((len(values), len(gains)), np.int64)
    path[-1] = best[-1].argmax(1)
    climbs, cost = np.arange(3), np.array([hold, 0.0, hold], np.float32)
    for frame in range(len(values) - 1, 0, -1):
        source = path[frame, :, None] - climbs
        value = np.take_along_axis(best[frame - 1], np.maximum(source, 0), 1) - cost
        value[source < 0] = -np.inf
        path[frame - 1] = path[frame] - value.argmax(1)
    return torch.from_numpy(path.T.copy())


def _probabilities(evidence: Gains) -> Tensor:
    """Return the probabilities of notes that gains were made of, ``[2 * PITCHES, frames]``."""
    common = torch.tensor(RARITY).repeat_interleave(PITCHES)[:, None]
    return (evidence.values - common).sigmoid()


def _claimed(held: Rolls, transcribed: Tensor) -> Tensor:
    """Return the share of the notes sounding that was transcribed; 0 where there is none."""
    rows = held.pitch.shape[1]
    sounding, claimed = held.values[:, :rows], held.of_query(transcribed)[:, :rows]
    return (sounding * claimed).sum((1, 2)) / sounding.sum((1, 2)).clamp_min(1e-6)


def fold(rolls: Tensor) -> Tensor:
    """Return the most of any octave: ``[..., 2 * CLASSES, frames]``."""
    below, above = LOWEST % CLASSES, -(LOWEST + PITCHES) % CLASSES
    *beside, rows, frames = rolls.shape
    apart = rolls.reshape(*beside, rows // PITCHES, PITCHES, frames)
    padded = torch.nn.functional.pad(apart, (0, 0, below, above), value=-torch.inf)
    octaves = padded.reshape(*beside, rows // PITCHES, -1, CLASSES, frames)
    return octaves.amax(-3).flatten(-3, -2)


def _harmony(classes: Tensor) -> Tensor:
    """Return how much each pitch class, ``[stretches, rows, frames]``, sounds in each stretch."""
    return torch.nn.functional.avg_pool1d(
        classes[:, :CLASSES], CHORD_FRAMES, CHORD_STEP, CHORD_FRAMES // 2
    ).flatten(1)
