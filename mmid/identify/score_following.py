"""How far a piece goes on around the position where it was found: its score followed both ways.

Conventions: notes are log-odds ``[2, PITCHES, frames]``; frames are those of the recording. A
score's roll is drawn at the tempo ratio found, so that a right path climbs about one position a
frame. Gains are in nats, as in `mmid.identify.alignment`: they add up while the piece is played and
fall when it is not, so that it begins and ends where their sum rises no more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from mmid.identify.alignment import HOLD, Gains, note_gains
from mmid.identify.note_stream import Tape
from mmid.identify.rolls import Notes, draw_spans
from mmid.identify.voting import Candidate
from mmid.music.grid import FeatureParams

PATIENCE_SECONDS = 20.0
"""A piece that has gained nothing for so long has ended."""

BAND_SECONDS = 15.0
"""How far from the best position in the score others are kept in view."""

CHUNK = 215
"""Frames followed at once."""

ROWS = 32
"""Frames compared with a whole score at once; bounds memory."""

AFTER = 22
"""Frames of rest drawn after a score's last note."""

SLOPE_SECONDS = 4.0
"""A tempo is read off stretches of this length."""

ALIKE = 0.7
"""What explains so much of another track, against that, replaces it."""


@dataclass(frozen=True, eq=False)
class PieceTrack:
    """A piece along a stretch of a recording.

    Parameters
    ----------
    first : int
        Frame of the recording that it begins at.
    seed : int
        Frame at which it was found.
    gained : np.ndarray [frames] float64
        What its score has gained since, with each frame.
    possible : np.ndarray [frames] float64
        What a score would have gained that held just the transcribed notes.
    positions : np.ndarray [frames] float64
        Where in the piece each frame lies, seconds.
    """

    first: int
    seed: int
    gained: np.ndarray
    possible: np.ndarray
    positions: np.ndarray

    @property
    def end(self) -> int:
        """Frame of the recording after its last one."""
        return self.first + len(self.gained)

    @property
    def share(self) -> float:
        """Share of the notes transcribed along it that its score explains."""
        return float(self.gained[-1] / max(self.possible[-1], 1e-6)) if len(self.gained) else 0.0

    @property
    def peak(self) -> int:
        """After how many frames it has gained most."""
        return int(np.concatenate([[0.0], self.gained]).argmax())

    @property
    def dip(self) -> int:
        """After how many frames, before that, it has gained least."""
        return int(np.concatenate([[0.0], self.gained])[: self.peak + 1].argmin())

    def gained_before(self, frame: int) -> float:
        """Return what it has gained before a frame of the recording."""
        count = min(max(0, frame - self.first), len(self.gained))
        return float(self.gained[count - 1]) if count else 0.0

    def likely_span(self, toll: float) -> tuple[int, int]:
        """Return the span around its seed in which it gains most less a toll on all notes.

        Beyond it the piece may be another in the same key, some of which any score explains.

        Parameters
        ----------
        toll : float
            Share of what is possible.

        Returns
        -------
        first, end : int
            Frames of the recording, the second is the one after the last.
        """
        net = np.concatenate([[0.0], self.gained - toll * self.possible])
        seed = min(max(0, self.seed - self.first), len(self.gained))
        first, end = int(net[: seed + 1].argmin()), seed + int(net[seed:].argmax())
        return self.first + first, self.first + end

    def moved(self, frames: int) -> PieceTrack:
        """Return it as on a tape that begins so many frames earlier."""
        return replace(self, first=self.first + frames, seed=self.seed + frames)

    def cut(self, first: int, end: int) -> PieceTrack:
        """Return the part from a frame of the recording up to another."""
        low, high = max(0, first - self.first), max(0, end - self.first)
        lost = [values[low - 1] if low else 0.0 for values in (self.gained, self.possible)]
        return replace(
            self,
            first=max(first, self.first),
            gained=self.gained[low:high] - lost[0],
            possible=self.possible[low:high] - lost[1],
            positions=self.positions[low:high],
        )

    def tempo_ratio(self, frame_rate: float) -> float:
        """Return the median speed against the score."""
        length = min(int(SLOPE_SECONDS * frame_rate), len(self.positions) - 1)
        if length < 1:
            return 1.0
        slopes = (self.positions[length:] - self.positions[:-length]) * frame_rate / length
        return float(np.median(slopes)) or 1.0


def part(
    earlier: PieceTrack, later: PieceTrack, *, same: bool = False
) -> tuple[PieceTrack, PieceTrack]:
    """Share out what two tracks both claim, where that leaves them most gain together.

    If the later one explains nearly as much of all of the earlier one, that one is left nothing; of
    the same music, it keeps what lies before the later one.
    """
    low, high = max(earlier.first, later.first), min(earlier.end, later.end)
    if low >= high:
        return earlier, later
    total, before = earlier.gained_before(earlier.end), earlier.gained_before(low)
    instead = later.gained_before(earlier.end) - later.gained_before(earlier.first)
    if instead >= ALIKE * total and before <= (1 - ALIKE) * total:
        return earlier.cut(earlier.first, low if same else earlier.first), later
    cuts = range(low, high + 1)
    whole = later.gained_before(later.end)
    together = [earlier.gained_before(at) + whole - later.gained_before(at) for at in cuts]
    cut = cuts[int(np.argmax(together))]
    left, right = earlier.cut(earlier.first, cut), later.cut(cut, later.end)
    begun = right.cut(right.first + right.dip, right.end)
    return left.cut(left.first, left.first + left.peak), begun


def track_piece(
    tape: Tape,
    window: tuple[int, int],
    candidates: Sequence[Candidate],
    notes: Notes,
    params: FeatureParams,
    passed: Callable[[int], None],
) -> PieceTrack:
    """Follow a piece from where a window fits it best, back and on.

    Parameters
    ----------
    tape : Tape
        It is wound on to where the piece ends, and looked back on as far as it goes.
    window : tuple of int
        First frame and the one after the last.
    candidates : sequence of Candidate
        The piece in its key, at tempi it may have; the one that gains most is followed.
    notes : callable
        Gives the notes of a candidate's piece.
    params : FeatureParams
    passed : callable
        Called with every frame that was reached on the way on.
    """
    gains = _gains(tape.between(*window))
    hold = HOLD * gains.mean_gain
    rolls = [_draw_score(candidate, notes, params) for candidate in candidates]
    ends = [_best_end(gains.values, roll, hold) for roll in rolls]
    best = max(range(len(ends)), key=lambda one: ends[one][0])
    _, frame, position = ends[best]
    roll, frame = rolls[best], frame + window[0] + 1
    positions = roll.shape[1]
    back = _pursue(_backward(tape, frame), roll.flip(1), positions - 1 - position, hold, params)
    on = _pursue(_forward(tape, frame, passed), roll, position, hold, params)
    back.positions = positions - 1 - back.positions
    seconds = candidates[best].tempo_ratio / params.frame_rate
    return PieceTrack(
        frame - len(back.gained),
        frame,
        np.concatenate([back.turned(back.gained), back.gained[-1:].sum() + on.gained]),
        np.concatenate([back.turned(back.possible), back.possible[-1:].sum() + on.possible]),
        np.concatenate([back.positions[::-1], on.positions]) * seconds,
    )


def _gains(log_odds: Tensor) -> Gains:
    return note_gains(log_odds, max(log_odds.shape[-1], 1))


def _draw_score(candidate: Candidate, notes: Notes, params: FeatureParams) -> Tensor:
    """Draw a whole score at the tempo and in the key found: ``[2 * PITCHES, positions]``."""
    seconds = float(notes(candidate)["offset"].max(initial=0))
    frames = int(seconds * params.frame_rate / candidate.tempo_ratio) + AFTER
    spans = [(candidate, 0.0, candidate.tempo_ratio)]
    return draw_spans(spans, frames, notes, params).whole()[0]


def _climb(best: np.ndarray, hold: float) -> np.ndarray:
    """Go on by a frame: rest where one is, climb a position, or two."""
    reached = best - hold
    np.maximum(reached[1:], best[:-1], out=reached[1:])
    np.maximum(reached[2:], best[:-2] - hold, out=reached[2:])
    return np.asarray(reached)


def _best_end(gains: Tensor, roll: Tensor, hold: float) -> tuple[float, int, int]:
    """Return gain, last frame and position of the path that gains most, wherever it began [1]_.

    References
    ----------
    .. [1] T. F. Smith, M. S. Waterman, "Identification of common molecular subsequences", Journal
       of Molecular Biology 147, 1981.
    """
    best, end = np.zeros(roll.shape[1], np.float32), (-np.inf, 0, 0)
    for frame, row in enumerate(_rows(gains, roll)):
        best = np.maximum(_climb(best, hold), 0) + row
        position = int(best.argmax())
        if best[position] > end[0]:
            end = float(best[position]), frame, position
    return end


def _rows(gains: Tensor, roll: Tensor) -> Iterator[np.ndarray]:
    """Yield, frame by frame, what each position of a roll gains: ``[positions]``."""
    for some in torch.split(gains, ROWS, 1):
        yield from (some.T @ roll).numpy()


def _forward(tape: Tape, frame: int, passed: Callable[[int], None]) -> Iterator[Tensor]:
    """Yield gains from a frame on, as long as there are any."""
    while (log_odds := tape.between(frame, frame + CHUNK)).shape[-1]:
        yield _gains(log_odds).values
        frame += log_odds.shape[-1]
        passed(frame)


def _backward(tape: Tape, frame: int) -> Iterator[Tensor]:
    """Yield gains from a frame back, the last first, as far as the tape remembers."""
    while frame > tape.first:
        first = max(tape.first, frame - CHUNK)
        yield _gains(tape.between(first, frame)).values.flip(1)
        frame = first


@dataclass(eq=False)
class _Pursuit:
    """What a pursuit has gained with each frame, could have, and where in the roll it was."""

    gained: np.ndarray
    possible: np.ndarray
    positions: np.ndarray

    @staticmethod
    def turned(sums: np.ndarray) -> np.ndarray:
        """Turn sums that run backward into such that run forward."""
        return np.diff(np.concatenate([[0.0], sums]))[::-1].cumsum()


def _pursue(
    chunks: Iterable[Tensor],
    roll: Tensor,
    position: int,
    hold: float,
    params: FeatureParams,
) -> _Pursuit:
    """Follow a score from a position on until it gains no more; end where it gained most."""
    patience, band = (
        int(seconds * params.frame_rate) for seconds in (PATIENCE_SECONDS, BAND_SECONDS)
    )
    low, best = position, np.zeros(1, np.float32)
    gained, positions, possible = [0.0], [position], [0.0]
    for chunk in chunks:
        low, best = _shift_view(best, low, positions[-1], band, chunk.shape[1], roll.shape[1])
        for row in _rows(chunk, roll[:, low : low + len(best)]):
            best = _climb(best, hold) + row
            positions.append(low + int(best.argmax()))
            gained.append(float(best.max()))
        possible.extend(chunk.clamp_min(0).sum(0).tolist())
        if len(gained) - int(np.argmax(gained)) > patience:
            break
    count = int(np.argmax(gained)) + 1
    sums = np.cumsum(possible[:count])
    return _Pursuit(np.array(gained[1:count]), sums[1:], np.array(positions[1:count], float))


def _shift_view(
    best: np.ndarray, low: int, position: int, band: int, frames: int, positions: int
) -> tuple[int, np.ndarray]:
    """Keep in view what lies around a position, and what can be reached from it in some frames."""
    first = max(0, position - band)
    view = np.full(min(positions, position + band + 2 * frames) - first, -np.inf, np.float32)
    start, end = max(first, low), min(first + len(view), low + len(best))
    view[start - first : end - first] = best[start - low : end - low]
    return first, view
