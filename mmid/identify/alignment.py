"""How well a stretch of a score explains the transcribed notes: dynamic time warping against rolls.

Conventions: notes are log-odds ``[2, PITCHES, frames]`` as `mmid.model.transcriber` gives
them. A score's roll is drawn in the query's frames, slowed or hastened by the tempo ratio taken for
granted, so that a right path climbs about one score frame a query frame. Gains are in nats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from mmid.identify.rolls import Notes, Rolls, draw_spans
from mmid.identify.voting import DRIFT, Candidate
from mmid.music.grid import FeatureParams

RARITY = (2.0, 3.0)
"""Added to the log-odds of a note sounding and beginning: how rare notes are, softened."""

MOST_LOG_ODDS = 6.0
"""Log-odds farther from 0 count as these: no single frame decides."""

FRAMES = 650
"""Longer queries are compared in excerpts."""

ALIGNED_FRAMES = 2 * FRAMES
"""Longer queries are aligned on coarser frames; much coarser ones hold several notes of a tune."""

COMPARED_FRAMES = 325
"""Excerpts are of this length; shorter queries are compared on frames coarse enough for it."""

EXCERPT_FRAMES = COMPARED_FRAMES // 2 + 1
"""And excerpts on frames twice as coarse."""

EXCERPTS = (0.25, 0.5, 0.75)
"""Where in a longer query the excerpts lie."""

LEAST_SHARE = -1.0
"""No share explained is less: of next to no evidence, whatever a score holds is many times that."""

HOLD = 0.3
"""Cost of a query frame for which the score rests or hurries, as a share of a mean frame's gain."""

LEAP = 40.0
"""Cost of a leap within the score, as for a repeat left out, in mean frames' gains."""

LEAST_OF_BEST = 0.5
"""Before and after the piece, less than this share of what its best stretch does is explained."""

LEAST_MISSING = LEAP / 4
"""Other music is left out there if it lacks so many mean frames' gains of that."""

MARGIN = 22
"""Frames of the score beside the position to look at, besides a quarter of the query's length."""

TOGETHER = 32
"""Candidates aligned at once; bounds memory."""


@dataclass(frozen=True, eq=False)
class Gains:
    """What speaks for notes in a query.

    Parameters
    ----------
    values : Tensor [2 * PITCHES, frames] float32
        What a score gains by a note sounding, or beginning, in a frame.
    step : int
        Frames of the grid each of these stands for.
    first : int
        Frame of the query that the first of them begins at.
    """

    values: Tensor
    step: int
    first: int = 0

    @property
    def total(self) -> float:
        """What a score gains that holds every transcribed note, and no other."""
        return max(float(self.values.clamp_min(0).sum()), 1e-6)

    @property
    def mean_gain(self) -> float:
        """The same for a frame."""
        return self.total / self.values.shape[1]


def note_gains(log_odds: Tensor, frames: int = FRAMES) -> Gains:
    """Turn log-odds of notes into what scores gain by holding them.

    A note's log-odds are set against how common notes are, which makes them a likelihood ratio.

    Parameters
    ----------
    log_odds : Tensor [2, PITCHES, frames]
    frames : int
        Frames of longer ones are averaged until no more than these are left.
    """
    common = torch.tensor(RARITY, device=log_odds.device)[:, None, None]
    gains = (log_odds.clamp(-MOST_LOG_ODDS, MOST_LOG_ODDS) + common).flatten(0, 1)
    step = -(-gains.shape[1] // frames)
    if step > 1:
        gains = torch.nn.functional.avg_pool1d(gains[None], step, ceil_mode=True)[0]
    return Gains(gains.cpu(), step)


def compared_gains(log_odds: Tensor) -> list[Gains]:
    """Return what candidates are compared with: a query's gains, or those of excerpts of it."""
    frames = log_odds.shape[-1]
    if frames <= FRAMES:
        return [note_gains(log_odds, COMPARED_FRAMES)]
    firsts = [int(share * (frames - COMPARED_FRAMES)) for share in EXCERPTS]
    parts = [(first, log_odds[..., first : first + COMPARED_FRAMES]) for first in firsts]
    return [replace(note_gains(part, EXCERPT_FRAMES), first=first) for first, part in parts]


def explained(
    evidence: Gains, candidates: Sequence[Candidate], notes: Notes, params: FeatureParams
) -> np.ndarray:
    """Return the share of the evidence that each candidate explains, where it is said to lie.

    Parameters
    ----------
    evidence : Gains
    candidates : sequence of Candidate
        With a start.
    notes : callable
        Gives the notes of a candidate's piece.
    params : FeatureParams

    Returns
    -------
    np.ndarray [candidates] float64
        At most 1; below 0 where most of what the score holds is not in the query, `LEAST_SHARE` at
        least.
    """
    shares, memory = [], torch.empty(0)
    for first in range(0, len(candidates), TOGETHER):
        rolls = draw_around(candidates[first : first + TOGETHER], evidence, notes, params)
        memory = rolls.gains(evidence.values, memory)
        shares.append(climb(evidence, memory))
    return np.concatenate(shares) if shares else np.zeros(0)


def draw_around(
    candidates: Sequence[Candidate], evidence: Gains, notes: Notes, params: FeatureParams
) -> Rolls:
    """Draw the rolls around each candidate's position."""
    length = evidence.values.shape[1]
    margin = MARGIN + length // 4 + int(DRIFT * evidence.first / evidence.step)
    spans = []
    for candidate in candidates:
        assert candidate.start is not None
        step = candidate.tempo_ratio * evidence.step
        start = candidate.start + evidence.first * candidate.tempo_ratio
        spans.append((candidate, start - margin * step, step))
    return draw_spans(spans, length + 2 * margin, notes, params)


def climb(evidence: Gains, gains: Tensor) -> np.ndarray:
    """Return the best path's share, for gains ``[candidates, frames, positions]``."""
    steps, values = Climb(HOLD * evidence.mean_gain), gains.numpy()
    best = values[:, 0].copy()
    reached = np.empty_like(best)
    for frame in range(1, values.shape[1]):
        steps.take(best, reached)
        np.add(reached, values[:, frame], out=best)
    shares = best.max(1).astype(np.float64) / evidence.total
    return np.asarray(np.maximum(shares, LEAST_SHARE))


class Climb:
    """A step of paths through scores: by one position, or at a cost by none or two.

    Parameters
    ----------
    hold : float
        The cost.
    """

    def __init__(self, hold: float) -> None:
        self._hold, self._slower = np.float32(hold), np.zeros((0, 0), np.float32)

    def take(self, best: np.ndarray, reached: np.ndarray) -> None:
        """Find what is reached at each position from the best there is at each.

        All scores are gone through as if they were one, which is faster, but for the first two
        positions of each.

        Parameters
        ----------
        best, reached : np.ndarray [scores, positions] float32
            The second one is written to; each is in one piece of memory.
        """
        if self._slower.shape != best.shape:
            self._slower = np.empty_like(best)
        slower, flat, all_reached = self._slower, best.ravel(), reached.ravel()
        np.subtract(best, self._hold, out=slower)
        np.maximum(slower.ravel()[1:], flat[:-1], out=all_reached[1:])
        np.maximum(all_reached[2:], slower.ravel()[:-2], out=all_reached[2:])
        reached[:, 0] = slower[:, 0]
        np.maximum(slower[:, 1:2], best[:, :1], out=reached[:, 1:2])


@dataclass(frozen=True, eq=False)
class Alignment:
    """Where in a score each moment of a query lies.

    Parameters
    ----------
    share : float
        Of the evidence that the score explains, at most 1.
    query, score : np.ndarray [frames] float64
        Matching times, seconds; the score's leap where the performance does.
    tempo_ratio : float
        The query's speed against the score: the median over the path.
    """

    share: float
    query: np.ndarray
    score: np.ndarray
    tempo_ratio: float

    @property
    def start(self) -> float:
        """Where in the score the query begins, seconds."""
        return float(self.score[0])

    @property
    def end(self) -> float:
        """Where in the score it ends, seconds."""
        return float(self.score[-1])


def align(evidence: Gains, candidate: Candidate, notes: Notes, params: FeatureParams) -> Alignment:
    """Align a query with the whole of a candidate's score.

    It may begin and end anywhere and leap, at a cost, as players do who leave out repeats.

    Parameters
    ----------
    evidence : Gains
    candidate : Candidate
    notes : callable
        Gives the notes of a candidate's piece.
    params : FeatureParams

    References
    ----------
    .. [1] M. Mueller, "Fundamentals of Music Processing", Springer, 2015, section 7.2:
       subsequence DTW.
    """
    step = candidate.tempo_ratio * evidence.step
    seconds = float(notes(candidate)["offset"].max(initial=0))
    frames = int(seconds * params.frame_rate / step) + 2
    middle = candidate.tempo_ratio * (evidence.step - 1) / 2  # of what is averaged in a frame
    roll = draw_spans([(candidate, middle, step)], frames, notes, params)
    share, path = _trace(evidence, roll.gains(evidence.values)[0])
    query = np.arange(len(path)) * evidence.step / params.frame_rate
    score = path * step / params.frame_rate
    return Alignment(share, query, score, _slope(path) * candidate.tempo_ratio)


OVERLAP = 65
"""Frames of a long query that are followed on either side of those whose positions are used."""


def align_closely(
    log_odds: Tensor,
    coarse: Alignment,
    candidate: Candidate,
    notes: Notes,
    params: FeatureParams,
) -> Alignment:
    """Follow a path again, on every frame of a query that was aligned on coarser ones.

    Parameters
    ----------
    log_odds : Tensor [2, PITCHES, frames]
        Of the query.
    coarse : Alignment
        As `align` found it; a query it took whole frames of stays as it is.
    candidate, notes, params
        As for `align`.

    Returns
    -------
    Alignment
        With a position for every frame.
    """
    length, rate = log_odds.shape[-1], params.frame_rate
    times = np.arange(length) / rate
    if len(coarse.query) == length:
        return coarse
    coarsely, positions = np.interp(times, coarse.query, coarse.score), np.empty(length)
    margin = candidate.tempo_ratio * (MARGIN + 2 * length / len(coarse.query)) / rate
    for first in range(0, length, FRAMES):
        inner = slice(first, min(length, first + FRAMES))
        part = slice(max(0, first - OVERLAP), min(length, first + FRAMES + OVERLAP))
        near = coarsely[part].min() - margin, coarsely[part].max() + margin
        found = _follow(note_gains(log_odds[..., part], length), candidate, near, notes, params)
        positions[inner] = found[inner.start - part.start : inner.stop - part.start]
    return replace(coarse, query=times, score=positions)


def _follow(
    evidence: Gains,
    candidate: Candidate,
    near: tuple[float, float],
    notes: Notes,
    params: FeatureParams,
) -> np.ndarray:
    """Return the positions, seconds, of all frames within a stretch of the score."""
    step = candidate.tempo_ratio
    first, last = (side * params.frame_rate for side in near)
    frames = int((last - first) / step) + 2
    roll = draw_spans([(candidate, first, step)], frames, notes, params)
    path = _trace(evidence, roll.gains(evidence.values)[0])[1]
    return (first + path * step) / params.frame_rate


def _trace(evidence: Gains, gains: Tensor) -> tuple[float, np.ndarray]:
    """Return the best path's share and its positions, for gains ``[frames, positions]``.

    Before and after what it explains, the path rests.
    """
    hold, leap = HOLD * evidence.mean_gain, LEAP * evidence.mean_gain
    steps, values = Climb(hold), gains.numpy()
    best, reached = values.copy(), np.empty_like(values[:1])
    for frame in range(1, len(values)):
        before = best[frame - 1 : frame]
        steps.take(before, reached)
        np.maximum(reached, before.max() - np.float32(leap), out=reached)
        best[frame] += reached[0]
    path = np.zeros(len(values), np.int64)
    path[-1] = best[-1].argmax()
    for frame in range(len(values) - 1, 0, -1):
        path[frame - 1] = _source(best[frame - 1], int(path[frame]), hold, leap)
    gained = values[np.arange(len(path)), path]
    first, last = _span_of_piece(evidence, gained, path)
    resting = path[np.clip(np.arange(len(path)), first, last - 1)]
    return float(best[-1].max() / evidence.total), resting


def _span_of_piece(evidence: Gains, gained: np.ndarray, path: np.ndarray) -> tuple[int, int]:
    """Return from which to before which frame the query is of the piece.

    There is an introduction before, or another piece after it, where the path explains little: it
    has to go somewhere while these are played.

    Parameters
    ----------
    evidence : Gains
    gained : np.ndarray [frames] float32
        What the path gains in each frame.
    path : np.ndarray [frames] int64
    """
    most, climbs = evidence.values.clamp_min(0).sum(0).numpy(), np.diff(path)
    begins = np.array([0, *(np.flatnonzero((climbs < 0) | (climbs > 2)) + 1)])
    shares = np.add.reduceat(gained, begins) / np.maximum(np.add.reduceat(most, begins), 1e-6)
    ahead = np.append(0, np.cumsum(gained - LEAST_OF_BEST * max(shares.max(), 0) * most))
    last = int(np.argmax(ahead - np.minimum.accumulate(ahead)))
    if not last:  # nothing is explained
        return 0, len(path)
    first = int(np.argmin(ahead[: last + 1]))
    least = LEAST_MISSING * evidence.mean_gain
    begins_later, ends_sooner = -ahead[first] > least, ahead[last] - ahead[-1] > least
    return first if begins_later else 0, last if ends_sooner else len(path)


def _source(before: np.ndarray, position: int, hold: float, leap: float) -> int:
    """Return the position from which one was reached, by a leap only where that is better."""
    climbs = range(min(2, position) + 1)
    reached = [before[position - climb] - (0.0 if climb == 1 else hold) for climb in climbs]
    peak = int(before.argmax())
    chosen = int(np.argmax(reached))
    return peak if before[peak] - leap > reached[chosen] else position - chosen


SLOPE_FRAMES = 43
"""The tempo is read off stretches of the path of this length."""


def _slope(path: np.ndarray) -> float:
    """Return the median climb a frame, over stretches without a leap's distortion."""
    length = min(SLOPE_FRAMES, len(path) - 1)
    if length < 1:
        return 1.0
    climbs = path[length:] - path[:-length]
    return float(np.median(climbs[climbs != 0]) / length) if climbs.any() else 1.0
