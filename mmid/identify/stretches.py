"""Stretches of a query, to be looked up by themselves where the whole of it names nothing.

A recording may have an introduction that its score lacks, or leave out a verse. Then no position in
the piece explains all of it, and yet one explains a stretch of it as well as ever.

Conventions: times in seconds of the query.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from mmid.identify.answer import Identification
from mmid.model.embedding import Query, Transcribed
from mmid.model.evidence import CAPPED_SECONDS

LEAST_SECONDS = 10.0
"""Shorter stretches name too little."""

MOST = 4
"""Stretches of a query, at most: a long one's are spread over it."""


@dataclass(frozen=True, eq=False)
class Stretch:
    """A part of a query.

    Parameters
    ----------
    query : Transcribed
    start, end : float
        Where in the whole it lies, seconds.
    """

    query: Transcribed
    start: float
    end: float


def stretches_of(query: Query) -> list[Stretch]:
    """Return the halves of a query, or of a long one some half-minutes, the last one first.

    The last, because introductions are commoner than endings of something else. There are none of
    what is short, and of what no notes were transcribed of.
    """
    if not isinstance(query, Transcribed) or query.seconds < 2 * LEAST_SECONDS:
        return []
    frames, rate = query.log_odds.shape[-1], query.params.frame_rate
    length = min(frames // 2, int(CAPPED_SECONDS * rate))
    count = min(MOST, frames // length)
    firsts = [round(n * (frames - length) / (count - 1)) for n in reversed(range(count))]
    return [_cut(query, first, first + length) for first in firsts]


def _cut(query: Transcribed, first: int, last: int) -> Stretch:
    """Return some frames of a query."""
    rate, melody = query.params.frame_rate, query.melody
    part = replace(
        query,
        log_odds=query.log_odds[..., first:last],
        melody=None if melody is None else melody[..., first:last],
    )
    return Stretch(part, first / rate, last / rate)


def resting_on(
    stretch: Stretch, answer: Identification, whole: Identification, looks: int, least: float
) -> Identification | None:
    """Return the answer to a query that a stretch of it gives, if that is confident enough.

    Parameters
    ----------
    stretch : Stretch
    answer, whole : Identification
        As the stretch and the whole are answered by themselves.
    looks : int
        How many chances there are to find something: its odds are divided by them.
    least : float
        The confidence from which on it counts as found.
    """
    if not answer.matched:
        return None
    matches = tuple(
        replace(match, confidence=best_of(looks, match.confidence)) for match in answer.matches
    )
    if matches[0].confidence < least:
        return None
    return replace(
        whole, matched=True, matches=matches, reason=None, stretch=(stretch.start, stretch.end)
    )


def best_of(looks: int, confidence: float) -> float:
    """Return how confident the best of several looks is, each of which might be right by chance.

    Examples
    --------
    >>> best_of(1, 0.9), round(best_of(3, 0.9), 3)
    (0.9, 0.75)
    """
    return confidence / (confidence + looks * (1 - confidence))
