"""How good a timeline is: pieces right in order, and how far off their starts and ends are.

Conventions: times in seconds. A piece is right if it is named after one of its scores and listed
where it is among the others: pieces right are the longest such run in both orders.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from mmid.errors import MmidError, label
from mmid.evaluation.medley import Span, read_spans
from mmid.identify.identifier import Identifier
from mmid.identify.timeline import WINDOW_SECONDS, Played, Timeline, follow
from mmid.index.items import Entry
from mmid.system.console import ProgressCallback, quiet
from mmid.system.files import file_digest
from mmid.system.tables import FittingTable, clock

NEAR_SECONDS = 5.0
"""A start or an end that is found this close is good."""


@dataclass(frozen=True)
class PlayedPiece:
    """A piece that was played, and what was found of it.

    Parameters
    ----------
    id : str
    start, end : float
        When it was played.
    piece : str or None
        What it was named; None where it was not named right.
    start_error, end_error : float or None
        How much too late its start and its end were found.
    """

    id: str
    start: float
    end: float
    piece: str | None = None
    start_error: float | None = None
    end_error: float | None = None


@dataclass(frozen=True)
class TimelineScores:
    """How good a recording's timeline is.

    Parameters
    ----------
    query : str
        The recording.
    seconds : float
        Its length.
    took : float
        Seconds that the timeline took.
    told : int
        Pieces in the timeline.
    results : tuple of PlayedPiece
        One a piece that was played, in order.
    """

    query: str
    seconds: float
    took: float
    told: int
    results: tuple[PlayedPiece, ...]

    @property
    def right(self) -> int:
        """Pieces right, in order."""
        return sum(one.piece is not None for one in self.results)

    @property
    def starts(self) -> np.ndarray:
        """How far off the starts of those are: ``[right]``."""
        return np.abs([one.start_error for one in self.results if one.start_error is not None])

    @property
    def ends(self) -> np.ndarray:
        """How far off their ends are: ``[right]``."""
        return np.abs([one.end_error for one in self.results if one.end_error is not None])

    def to_dict(self) -> dict[str, Any]:
        """Return all figures as JSON-ready names and values."""
        return {
            "pieces": len(self.results),
            "right": self.right,
            "starts_near": int((self.starts <= NEAR_SECONDS).sum()),
            "ends_near": int((self.ends <= NEAR_SECONDS).sum()),
            "median_start_error": _median(self.starts),
            "median_end_error": _median(self.ends),
            "share_of_real_time": self.took / self.seconds,
            **asdict(self),
        }


def _median(values: np.ndarray) -> float | None:
    return float(np.median(values)) if len(values) else None


def evaluate_timeline(
    identifier: Identifier,
    entries: Sequence[Entry],
    truth: Path,
    recording: Path,
    every: float = WINDOW_SECONDS,
    progress: ProgressCallback = quiet,
) -> TimelineScores:
    """Make the timeline of a recording that is known, and score it.

    Parameters
    ----------
    identifier : Identifier
    entries : sequence of Entry
        Its index's.
    truth : Path
        What is played, as `mmid.evaluation.medley` lists it.
    recording : Path
    every : float
        As of `mmid.identify.timeline.follow`.
    progress : callable

    Returns
    -------
    TimelineScores

    Raises
    ------
    MmidError
        If a file cannot be read, or none of the scores is in the index.
    """
    spans = read_spans(truth)
    right = _right_names(spans, entries)
    if not any(right):
        raise MmidError(f"{label(truth)}: none of its scores is in the index")
    begun = time.perf_counter()
    timeline = follow(identifier, recording, every, progress=progress)
    return score_timeline(timeline, spans, right, time.perf_counter() - begun)


def _right_names(spans: Sequence[Span], entries: Sequence[Entry]) -> list[frozenset[str]]:
    """Return the names that the index has for each piece played."""
    names: dict[str, set[str]] = {}
    for entry in entries:
        names.setdefault(entry.digest, set()).add(entry.name)
    try:
        return [
            frozenset[str]().union(*(names.get(file_digest(Path(p)), set()) for p in span.midi))
            for span in spans
        ]
    except OSError as error:
        raise MmidError(f"{label(error.filename)}: {error.strerror}") from error


def score_timeline(
    timeline: Timeline, spans: Sequence[Span], right: Sequence[frozenset[str]], took: float
) -> TimelineScores:
    """Compare a timeline with what was played.

    Parameters
    ----------
    timeline : Timeline
    spans : sequence of Span
        What was played, in order.
    right : sequence of frozenset of str
        Names that are right for each.
    took : float
        Seconds that the timeline took.
    """
    results = [PlayedPiece(span.id, span.start, span.end) for span in spans]
    for place, one in _paired(spans, right, timeline.played):
        span = spans[place]
        errors = one.start - span.start, one.end - span.end
        results[place] = PlayedPiece(span.id, span.start, span.end, one.match.piece, *errors)
    return TimelineScores(
        timeline.query, timeline.seconds, took, len(timeline.played), tuple(results)
    )


def _paired(
    spans: Sequence[Span], right: Sequence[frozenset[str]], played: Sequence[Played]
) -> list[tuple[int, Played]]:
    """Pair what was played with what was found, in order: as many as can be, then the nearest."""
    best: list[list[tuple[float, list[tuple[int, Played]]]]]
    best = [[(0.0, [])] * (len(played) + 1) for _ in range(len(spans) + 1)]
    for i, span in enumerate(spans):
        for j, one in enumerate(played):
            kept = max(best[i][j + 1], best[i + 1][j], key=lambda pair: pair[0])
            if right[i] & {one.match.piece, *one.match.also}:
                worth, pairs = best[i][j]
                paired = worth + 1 + _overlap(span, one) / (len(spans) + 1)
                kept = max(kept, (paired, [*pairs, (i, one)]), key=lambda pair: pair[0])
            best[i + 1][j + 1] = kept
    return best[-1][-1][1]


def _overlap(span: Span, one: Played) -> float:
    """Return the time that two spans share, against that which they cover together."""
    shared = min(span.end, one.end) - max(span.start, one.start)
    covered = max(span.end, one.end) - min(span.start, one.start)
    return max(0.0, shared) / covered if covered else 0.0


def timeline_scores_table(scores: TimelineScores) -> Table:
    """Return how well each piece of a recording's timeline was found."""
    figures = scores.to_dict()
    errors = [_error(figures[f"median_{side}_error"]) for side in ("start", "end")]
    title = (
        f"{escape(label(scores.query))}: {scores.right} of {len(scores.results)}"
        f" pieces right in order, {scores.told} found\n"
        f"starts within {NEAR_SECONDS:g} s: {figures['starts_near']}, median error {errors[0]}\n"
        f"ends within {NEAR_SECONDS:g} s: {figures['ends_near']}, median error {errors[1]}\n"
        f"took {figures['share_of_real_time']:.1%} of the time it lasts"
    )
    table = FittingTable(title=title)
    for name in ("from", "to"):
        table.add_column(name, justify="right")
    for name in ("played", "named"):
        table.add_name_column(name)
    for name in ("start", "end"):
        table.add_column(name, justify="right")
    for one in scores.results:
        off = _error(one.start_error, "+"), _error(one.end_error, "+")
        named = escape(label(one.piece or ""))
        table.add_row(clock(one.start), clock(one.end), escape(label(one.id)), named, *off)
    return table


def _error(seconds: float | None, sign: str = "") -> str:
    return "" if seconds is None else f"{seconds:{sign}.1f} s"
