"""How far confidences can be believed: Brier score, reliability, AUROC, and what verdicts came to.

Conventions: an answer is right if its first match is; what is answered once the piece is taken out
of the library is wrong, whatever it is. Shares are 0 to 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.table import Table

from mmid.options import Verdict
from mmid.system.tables import FittingTable

BINS = 10
"""Of equal width, from 0 to 1, that confidences are sorted into."""


@dataclass(frozen=True)
class Bin:
    """Answers of about the same confidence: where it can be believed, so many are right.

    Parameters
    ----------
    low, high : float
        From which confidence on, and up to which.
    answers : int
    confidence, right : float
        The mean confidence, and the share of the answers that are right.
    """

    low: float
    high: float
    answers: int
    confidence: float
    right: float


@dataclass(frozen=True)
class Verdicts:
    """What answers came to, as shares of the queries that sum to 1.

    Parameters
    ----------
    found_right, found_wrong, perhaps_right, perhaps_wrong, absent : float
    """

    found_right: float
    found_wrong: float
    perhaps_right: float
    perhaps_wrong: float
    absent: float


def sum_verdicts(verdicts: Sequence[Verdict], right: Sequence[bool]) -> Verdicts:
    """Count verdicts by whether the first match is right.

    Examples
    --------
    >>> sum_verdicts(["found", "perhaps", "absent", "found"], [True, False, True, True])
    Verdicts(found_right=0.5, found_wrong=0.0, perhaps_right=0.0, perhaps_wrong=0.25, absent=0.25)
    """
    both, count = list(zip(verdicts, right, strict=True)), max(1, len(verdicts))

    def share(verdict: Verdict, is_right: bool) -> float:
        return both.count((verdict, is_right)) / count

    return Verdicts(
        found_right=share("found", True),
        found_wrong=share("found", False),
        perhaps_right=share("perhaps", True),
        perhaps_wrong=share("perhaps", False),
        absent=share("absent", True) + share("absent", False),
    )


def brier(confidences: Sequence[float] | np.ndarray, right: Sequence[bool] | np.ndarray) -> float:
    """Return the mean squared error of confidences: 0 is perfect, 0.25 that of always 0.5.

    References
    ----------
    .. [1] G. Brier, "Verification of forecasts expressed in terms of probability", Monthly Weather
       Review 78 (1950).
    """
    return float(np.mean((np.asarray(confidences) - np.asarray(right, float)) ** 2))


def reliability(
    confidences: Sequence[float] | np.ndarray, right: Sequence[bool] | np.ndarray
) -> tuple[Bin, ...]:
    """Sort answers into bins by confidence; those without any are left out."""
    sure, good = np.asarray(confidences, float), np.asarray(right, float)
    place = np.minimum((sure * BINS).astype(int), BINS - 1)
    bins = []
    for number in np.unique(place):
        own = place == number
        bins.append(
            Bin(
                low=float(number / BINS),
                high=float((number + 1) / BINS),
                answers=int(own.sum()),
                confidence=float(sure[own].mean()),
                right=float(good[own].mean()),
            )
        )
    return tuple(bins)


def auroc(present: Sequence[float] | np.ndarray, absent: Sequence[float] | np.ndarray) -> float:
    """Return how well confidence separates queries whose piece is there from others.

    Returns
    -------
    float
        The share of pairs, one of each, in which the first is higher; ties count half.
    """
    one, other = np.asarray(present, float)[:, None], np.asarray(absent, float)
    return float((one > other).mean() + (one == other).mean() / 2)


def reliability_table(bins: Sequence[Bin]) -> Table:
    """Return a reliability diagram as a table: a row a bin."""
    table = FittingTable(title="reliability: of answers of a confidence, so many are right")
    for name in ("confidence", "answers", "mean confidence", "right"):
        table.add_column(name, justify="right")
    for one in bins:
        span = f"{one.low:.0%}..{one.high:.0%}"
        table.add_row(span, str(one.answers), f"{one.confidence:.1%}", f"{one.right:.1%}")
    return table
