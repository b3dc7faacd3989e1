"""Melodies found by correlation: each is laid over all that sounds, wherever it may begin.

It needs no note to be transcribed for certain, nor to be known as the melody's, so that it finds
what is sung over a band. Octaves are folded together. Of a large library all is tried coarsely, and
the best of it again.

Conventions: time is counted in `RATE` frames a second of the library's time, pitch classes from C.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from mmid.index.melodies import CLASSES, RATE, REST, PackedMelodies
from mmid.index.protocol import Library
from mmid.model.embedding import ONSET_PROBABILITY
from mmid.model.transcriber import LOWEST

STEP = RATE // 2
"""A query may begin at every other frame."""

PHASES, COARSE_PHASES = 2, 4
"""So many beginnings that follow one another are a passage's, and are correlated together."""

RATIOS = tuple(2 ** (step / 12) for step in range(-4, 5))
"""Tempi tried, as ratios of the query's speed to the library's."""

COARSELY = slice(None, None, 2)
"""Of these, every other one is tried with all pieces."""

SECONDS, COARSE_SECONDS = 30.0, 20.0
"""Of a longer query, so much of its middle is correlated."""

SHORTLIST = 1_500
"""Pieces that correlate best at these tempi, which are tried at all of them."""

SHORTEST = 2.0
"""Shorter queries correlate with anything, seconds."""

LOW, HIGH = 45, 88
"""MIDI pitches among which melodies are looked for."""

LEAD = 4 * RATE
"""A query may begin so many frames ahead of a piece."""

HELD = 2
"""A note sounds for so many frames at least."""

LED = 0.5
"""What the transcriber takes for the melody weighs so much beside all that sounds."""

SPREAD = 1.45
"""Standard deviation of what notes add to a score, in each query at each tempo."""

BEFORE = 8.0
"""Notes that correlate with nothing, added to those of every passage: a few prove little."""

LEAST = 6
"""Notes a passage must have."""

TOGETHER = 4_000
"""Passages correlated at a time: they fit in a processor's cache."""


APART = int(SECONDS * max(RATIOS)) + COARSE_PHASES
"""Seconds between pieces on one time axis: no passage spans two."""

PASSED, SOUNDED = np.divmod(np.arange(REST + 1, dtype=np.int32), CLASSES)
SOUNDED[REST] = CLASSES
"""Frames that pass at each code of a melody, and the pitch class that sounds then."""


@dataclass(frozen=True)
class Correlated:
    """A piece whose melody correlates with what sounds.

    Parameters
    ----------
    piece : int
    key : int
        Semitones (0 to 11) that take it to the query's.
    tempo_ratio : float
    start : float
        The second of the piece at which the query begins.
    excess : float
        How far it exceeds that of other music, in standard deviations.
    """

    piece: int
    key: int
    tempo_ratio: float
    start: float
    excess: float


class Passage(NamedTuple):
    """Where a piece correlates best: how well, from which frame, at which tempo, in which key."""

    score: float
    frame: int
    ratio: int
    key: int


class Line(NamedTuple):
    """The melodies of some pieces, laid on one time axis.

    Parameters
    ----------
    frame, pitch_class : np.ndarray [notes] int32
        When each note begins, and its pitch class; of rests among them, `CLASSES`.
    first : np.ndarray [pieces] int64
        The frame at which each piece begins.
    before : np.ndarray [seconds + 1] int32
        How many notes begin before each second.
    """

    frame: np.ndarray
    pitch_class: np.ndarray
    first: np.ndarray
    before: np.ndarray


@dataclass(frozen=True, eq=False)
class Melodies:
    """The melodies of a library, of which some are unpacked at a time.

    Parameters
    ----------
    packed : PackedMelodies
    seconds : np.ndarray [pieces] int64
        For how long a query may begin in each piece.
    """

    packed: PackedMelodies
    seconds: np.ndarray

    @classmethod
    def of(cls, index: Library) -> Melodies:
        """Take those of an index."""
        long = np.array([entry.seconds for entry in index.entries])
        return cls(index.melodies(), np.ceil(long).astype(np.int64) + LEAD // RATE)

    def __len__(self) -> int:
        return len(self.seconds)

    def passages(self, pieces: np.ndarray, apart: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Give the piece and the first frame of passages, some at a time.

        Parameters
        ----------
        pieces : np.ndarray [n] int64
            Whose passages.
        apart : int
            Frames from each to the next of a piece.
        """
        counts = -(-RATE * self.seconds[pieces] // apart)
        ends = np.cumsum(counts)
        for part in range(0, int(counts.sum()), TOGETHER):
            number = np.arange(part, min(part + TOGETHER, ends[-1]))
            place = np.searchsorted(ends, number, "right")
            yield pieces[place], apart * (number - ends[place] + counts[place]) - LEAD

    def line(self, pieces: np.ndarray) -> Line:
        """Lay some pieces on one time axis.

        Parameters
        ----------
        pieces : np.ndarray [n] int64
        """
        codes, counts = self.packed.codes_of(pieces)
        frame = np.cumsum(PASSED[codes], dtype=np.int32)
        passed = np.append(np.int32(0), frame)[np.append(0, np.cumsum(counts))]
        reached = np.diff(passed) // RATE + 1  # no more than seconds, unless these are made up
        spans = np.maximum(self.seconds[pieces], reached) + APART
        first = RATE * (np.cumsum(spans) - spans) + LEAD
        frame += np.repeat((first - passed[:-1]).astype(np.int32), counts)
        counted = np.bincount(frame // RATE + 1, minlength=int(spans.sum()) + 1)
        return Line(frame, SOUNDED[codes], first, np.cumsum(counted, dtype=np.int32))


def correlate(
    log_odds: Tensor,
    frame_rate: float,
    melodies: Melodies,
    ratios: Sequence[float] = RATIOS,
    top: int = 40,
    excluded: frozenset[int] = frozenset(),
    melody: Tensor | None = None,
) -> list[Correlated]:
    """Find the pieces whose melodies correlate best with what sounds.

    Parameters
    ----------
    log_odds : Tensor [2, PITCHES, frames]
        Of a query's notes, as `mmid.model.transcriber` gives them.
    frame_rate : float
        Hz.
    melodies : Melodies
    ratios : sequence of float
        Tempi to try.
    top : int
        Pieces to return.
    excluded : frozenset of int
        Pieces that do not count.
    melody : Tensor [2, PITCHES, frames], optional
        The log-odds of the notes of the query's melody.

    Returns
    -------
    list of Correlated
        The best first.
    """
    sides = [_folded(side) for side in (log_odds, melody) if side is not None]
    sound, skipped = _middle(np.stack(sides), frame_rate, SECONDS)
    if sound.shape[-1] < SHORTEST * frame_rate or sound[0, 1].max() < ONSET_PROBABILITY:
        return []
    pieces = np.setdiff1d(np.arange(len(melodies)), list(excluded))
    if len(pieces) > SHORTLIST:
        pieces = _shortlist(sound, frame_rate, melodies, ratios[COARSELY], pieces)
    best: dict[int, Passage] = {}
    for passages in _scored(_table(sound, frame_rate, ratios, PHASES), melodies, pieces):
        for piece, passage in _best_of_each_piece(*passages):
            best[piece] = max(best.get(piece, passage), passage)
    order = sorted(best, key=lambda piece: -best[piece].score)
    others = best[order[top]].score if len(order) > top else 0.0
    found = []
    for piece in order[:top]:
        passage, ratio = best[piece], ratios[best[piece].ratio]
        start = passage.frame / RATE - skipped * ratio
        found.append(Correlated(piece, passage.key, ratio, start, passage.score - others))
    return found


def _shortlist(
    sound: np.ndarray,
    frame_rate: float,
    melodies: Melodies,
    ratios: Sequence[float],
    pieces: np.ndarray,
) -> np.ndarray:
    """Return the pieces that correlate best with the middle of what sounds, in their order."""
    middle, _ = _middle(sound, frame_rate, COARSE_SECONDS)
    best = np.full(len(melodies), -np.inf, np.float32)
    table = _table(middle, frame_rate, ratios, COARSE_PHASES)
    for (piece, _), scores, _ in _scored(table, melodies, pieces):
        first = np.flatnonzero(np.diff(piece, prepend=-1))
        most = np.maximum.reduceat(scores.amax(1).numpy(), first)
        best[piece[first]] = np.maximum(best[piece[first]], most)
    return np.sort(pieces[np.argsort(-best[pieces], kind="stable")[:SHORTLIST]])


def _middle(sound: np.ndarray, frame_rate: float, seconds: float) -> tuple[np.ndarray, float]:
    """Return the middle of a long query, and how many seconds come before it."""
    frames = int(seconds * frame_rate)
    first = max(0, (sound.shape[-1] - frames) // 2)
    return sound[..., first : first + frames], first / frame_rate


def _folded(log_odds: Tensor) -> np.ndarray:
    """Return ``[2, CLASSES, frames]``: how likely each pitch class is to sound, and to begin."""
    octaves = (HIGH - LOW + CLASSES - 1) // CLASSES
    rows = log_odds[:, LOW - LOWEST : HIGH - LOWEST].float().sigmoid().cpu()
    padded = nn.functional.pad(rows, (0, 0, 0, octaves * CLASSES - rows.shape[1]))
    folded = padded.view(len(rows), octaves, CLASSES, -1).amax(1)
    return np.asarray(folded.roll(LOW % CLASSES, 1).numpy())


def _table(sound: np.ndarray, frame_rate: float, ratios: Sequence[float], phases: int) -> Tensor:
    """Return what a note adds to the scores of a passage, by its pitch class and frame in it.

    Parameters
    ----------
    sound : np.ndarray [sides, 2, CLASSES, frames]
        As `_folded` gives it: all that sounds, and where it is known the melody.
    frame_rate : float
    ratios : sequence of float
    phases : int

    Returns
    -------
    Tensor [CLASSES + 1, frames, CLASSES + 1, phases, ratios] bfloat16
        In each key, for queries that begin `STEP` frames later each time, at each tempo; and as if
        of another key how many notes it adds, 1 or 0. Behind the pitch classes is what a rest adds.
    """
    seconds = sound.shape[-1] / frame_rate
    length = RATE * (int(seconds * max(ratios)) + 1 + phases * STEP // RATE)
    table = np.zeros((CLASSES + 1, length, CLASSES + 1, phases, len(ratios)), np.float32)
    for number, ratio in enumerate(ratios):
        gain = _gain_of_sides([_drawn(side, int(seconds * ratio * RATE)) for side in sound])
        in_keys = np.stack([np.roll(gain, -key, 0) for key in range(CLASSES)], -1)
        for phase in range(phases):
            within = slice(phase * STEP, phase * STEP + gain.shape[1])
            table[:CLASSES, within, :CLASSES, phase, number] = in_keys
            table[:CLASSES, within, CLASSES, phase, number] = 1
    return torch.from_numpy(table).bfloat16()


def _drawn(sound: np.ndarray, frames: int) -> np.ndarray:
    """Return sound on so many frames: how much sounds, and whether anything begins."""
    edges = np.linspace(0, sound.shape[2], frames + 1).astype(np.int64)[:-1]
    lengths = np.diff(edges, append=sound.shape[2])
    sounding = np.add.reduceat(sound[0], edges, axis=1) / np.maximum(lengths, 1)
    return np.stack([sounding, np.maximum.reduceat(sound[1], edges, axis=1)])


def _gain_of_sides(drawn: Sequence[np.ndarray]) -> np.ndarray:
    """Return ``[CLASSES, frames]``: what a note adds, by all that sounds and by the melody."""
    weights = (1.0, LED)[: len(drawn)]
    gain = sum(w * _standard(_gain(side)) for w, side in zip(weights, drawn, strict=True))
    return SPREAD * _standard(np.asarray(gain))


def _standard(values: np.ndarray) -> np.ndarray:
    """Return values less their mean, over their standard deviation."""
    return np.asarray((values - values.mean()) / max(float(values.std()), 1e-6))


def _gain(drawn: np.ndarray) -> np.ndarray:
    """Return ``[CLASSES, frames]``: how much better than any other a note fits there."""
    held = drawn - drawn.mean(2, keepdims=True)
    held -= (drawn.mean(1, keepdims=True) - drawn.mean((1, 2), keepdims=True)) / 2
    held /= np.maximum(held.std((1, 2), keepdims=True), 1e-6)
    sounding, begins = np.pad(held, ((0, 0), (0, 0), (1, HELD)))
    frames = drawn.shape[2]
    early, here, late = (begins[:, first : first + frames] for first in range(3))
    together = sum(sounding[:, 1 + first : 1 + first + frames] for first in range(HELD))
    return np.asarray(0.8 * here + 0.4 * (early + late) + together / np.sqrt(HELD))


def _scored(
    table: Tensor, melodies: Melodies, pieces: np.ndarray
) -> Iterator[tuple[np.ndarray, Tensor, Tensor]]:
    """Give passages' pieces and first frames, their scores in the best key, and those in each."""
    length, phases, ratios = table.shape[1], *table.shape[3:]
    rows = table.flatten(2).flatten(0, 1)
    for piece, begin in melodies.passages(pieces, phases * STEP):
        new = np.diff(piece, prepend=-1) > 0
        line = melodies.line(piece[new])
        row_of_first = line.pitch_class * np.int32(length) + line.frame
        on_line = line.first[np.cumsum(new) - 1] + begin
        row, bags = _rows(row_of_first, line.before, on_line, length)
        summed = nn.functional.embedding_bag(row, rows, bags, mode="sum")
        in_keys, count = summed[:, : -phases * ratios], summed[:, -phases * ratios :].float()
        scores = _most_of_keys(in_keys).float() / (count + BEFORE).sqrt()
        in_keys = in_keys.view(-1, CLASSES, phases * ratios)
        yield np.stack([piece, begin]), scores.masked_fill(count < LEAST, -torch.inf), in_keys


def _most_of_keys(summed: Tensor) -> Tensor:
    """Return the most of any key: long rows are compared in two thirds of the time of short ones.

    Parameters
    ----------
    summed : Tensor [passages, CLASSES * n]

    Returns
    -------
    Tensor [passages, n]
    """
    for parts in (3, 2, 2):
        summed = reduce(torch.maximum, summed.chunk(parts, 1))
    return summed


def _rows(
    row_of_first: np.ndarray, before: np.ndarray, begin: np.ndarray, length: int
) -> tuple[Tensor, Tensor]:
    """Return the rows of the notes of passages, and where each passage's begin among these."""
    second = begin // RATE
    low = before[second]
    counts = before[second + length // RATE] - low
    ends = np.cumsum(counts, dtype=np.int32)
    note = np.repeat(low - ends + counts, counts)
    note += np.arange(len(note), dtype=np.int32)
    row = row_of_first[note]
    row -= np.repeat(begin.astype(np.int32), counts)
    return torch.from_numpy(row), torch.from_numpy(ends - counts)


def _best_of_each_piece(
    passages: np.ndarray, scores: Tensor, in_keys: Tensor
) -> Iterator[tuple[int, Passage]]:
    """Give the pieces and the best passage of each."""
    (piece, begin), ratios = passages, scores.shape[1] // PHASES
    score, column = (part.numpy() for part in scores.max(1))
    first = np.flatnonzero(np.diff(piece, prepend=-1))
    best = np.repeat(np.maximum.reduceat(score, first), np.diff(first, append=len(piece)))
    among = np.flatnonzero((score == best) & np.isfinite(score))
    chosen = among[np.flatnonzero(np.diff(piece[among], prepend=-1))]
    phase, ratio = np.divmod(column[chosen], ratios)
    key = in_keys[chosen, :, column[chosen]].argmax(1).numpy()
    frame = begin[chosen] + STEP * phase
    found = (part.tolist() for part in (score[chosen], frame, ratio, key))
    return zip(piece[chosen].tolist(), map(Passage, *found), strict=True)
