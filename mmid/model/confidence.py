"""How confident an answer is: a probability from what the votes and the alignment say.

Conventions: evidence is a row of figures, those of `Evidence` in their order; the probability is a
logistic regression on them, fitted to answers known to be right or wrong.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CAPPED_SECONDS = 30.0
"""Beyond this a query's length says no more: only so much of it is looked up and compared."""


@dataclass(frozen=True)
class Evidence:
    """What speaks for the first match.

    Parameters
    ----------
    votes : float
        Its share of the votes cast.
    explained : float
        Share of the evidence of notes that its score explains; 0 where nothing was aligned.
    lead : float
        How far its support, what candidates are ranked by, exceeds that of the next other music.
    above : float
        How far it exceeds that of the crowd: other music farther down.
    seconds : float
        Length of the query.
    snippets : int
        Size of the library: the larger, the likelier is a good match by chance.
    """

    votes: float
    explained: float
    lead: float
    above: float
    seconds: float
    snippets: int

    def row(self) -> list[float]:
        """Return the figures that the regression weighs, one for the constant first."""
        return [
            1.0,
            self.votes,
            self.explained,
            self.lead,
            self.above,
            math.log1p(min(self.seconds, CAPPED_SECONDS)),
            math.log10(max(self.snippets, 1)),
        ]


CALIBRATION = (-15.3, -0.8, 3.1, 2.8, 4.2, -0.6, 1.9)
"""For models that bring no calibration of their own: that of mmid-2, rounded."""

VOTES_ALONE = (-5.0, 0.0, 0.0, 8.0, 4.0, 0.0, 0.0)
"""Where no notes are compared, as in an index of recordings: set by hand, not fitted."""

PENALTY = 1.0
"""On the squares of the weights: keeps them finite where right and wrong do not overlap."""


LEAST_NOTES, LEAST_PASSAGE = 2.0, 1.0
"""Seconds of transcribed notes, and of the piece, that an answer must rest on."""

UNPROVEN = 0.05
"""Confidence at most of an answer that rests on less: it is not found, whatever the threshold."""


def is_proven(sounding: float, votes: float, passage: float | None) -> bool:
    """Return whether an answer rests on enough for its confidence to mean anything.

    The regression knows clips of three seconds and more: a beep of half a second may lie wholly
    within a held note, and is explained by it better than music ever is.

    Parameters
    ----------
    sounding : float
        Seconds of the query in which notes were transcribed.
    votes : float
        The answer's share of the votes cast.
    passage : float or None
        Seconds of the piece that the query covers; None where the vote does not say.

    Examples
    --------
    >>> is_proven(3.0, 0.4, 2.8), is_proven(0.4, 0.4, 2.8), is_proven(3.0, 0.0, 2.8)
    (True, False, False)
    """
    long_enough = passage is None or passage >= LEAST_PASSAGE
    return sounding >= LEAST_NOTES and votes > 0 and long_enough


def confidence(evidence: Evidence, calibration: Sequence[float] = CALIBRATION) -> float:
    """Return the probability that a match is right.

    Examples
    --------
    >>> confidence(Evidence(0.7, 0.6, 1.1, 2.0, 10.0, 10_000)) > 0.9
    True
    >>> confidence(Evidence(0.2, 0.3, 0.0, 0.2, 3.0, 10_000)) < 0.5
    True
    """
    return float(1 / (1 + np.exp(-np.clip(np.dot(calibration, evidence.row()), -30, 30))))


def fit_confidence(answers: Sequence[Evidence], right: Sequence[bool]) -> list[float]:
    """Fit the weights of `confidence` to first matches known to be right or wrong.

    Parameters
    ----------
    answers : sequence of Evidence
    right : sequence of bool

    Returns
    -------
    list of float
        A weight for each figure of `Evidence.row`.
    """
    rows = np.array([answer.row() for answer in answers])
    target, weights = np.asarray(right, float), np.zeros(rows.shape[1])
    penalty = PENALTY * np.eye(len(weights))
    penalty[0, 0] = 1e-6
    for _ in range(100):
        likely = 1 / (1 + np.exp(-np.clip(rows @ weights, -30, 30)))
        slope = rows.T @ (likely - target) + penalty @ weights
        curve = (rows * (likely * (1 - likely))[:, None]).T @ rows
        weights = weights - np.linalg.solve(curve + penalty, slope)
    return [float(round(weight, 3)) for weight in weights]
