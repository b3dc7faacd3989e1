"""How confident an answer is: a probability from what the votes and the comparisons say.

Conventions: evidence is a set of named figures, those of `mmid.model.evidence`; the probability is
a logistic regression on them, fitted to answers known to be right or wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mmid.model.evidence import CALIBRATION, CONSTANT, FIGURES, SURROUNDINGS, Evidence, weigh

PENALTY = 1.0
"""On the squares of the weights: keeps them finite where right and wrong do not overlap."""

STEPS = 100
"""Of Newton's method; a fit of a thousand answers needs ten."""


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


def logistic(sums: np.ndarray | float) -> np.ndarray:
    """Return the probabilities of log-odds, without overflow."""
    odds: np.ndarray = 1 / (1 + np.exp(-np.clip(sums, -30, 30)))
    return odds


def confidence(evidence: Evidence, calibration: Mapping[str, float] = CALIBRATION) -> float:
    """Return the probability that a match is right.

    Parameters
    ----------
    evidence : Evidence
    calibration : mapping of str to float
        Weights of `Evidence.terms`, by name.

    Examples
    --------
    >>> found = dict(votes=0.7, explained=0.6, lead=1.1, above=2.0, seconds=10.0, snippets=10_000)
    >>> confidence(Evidence(**found)) > 0.9
    True
    >>> confidence(Evidence(**found | dict(votes=0.2, explained=0.3, lead=0.0, above=0.2))) < 0.5
    True
    """
    return float(logistic(weigh(evidence.terms(), calibration)))


def fit_confidence(
    answers: Sequence[Evidence],
    right: Sequence[bool],
    names: Sequence[str] = (*FIGURES, *SURROUNDINGS),
) -> dict[str, float]:
    """Fit the weights of `confidence` to first matches known to be right or wrong.

    Parameters
    ----------
    answers : sequence of Evidence
    right : sequence of bool
    names : sequence of str
        Of the terms to weigh; one that is the same in all answers weighs nothing.

    Returns
    -------
    dict of str to float
        A weight for each term of `Evidence.terms` that counts, and the constant.
    """
    terms = [answer.terms() for answer in answers]
    rows = np.array([[term.get(name, 0.0) for name in names] for term in terms])
    rows = rows.reshape(len(terms), len(names))
    counting = [n for n, column in enumerate(rows.T) if np.ptp(column) > 0]
    weights = fit_logistic(
        np.column_stack([np.ones(len(rows)), rows[:, counting]]), np.asarray(right, float)
    )
    named = zip((CONSTANT, *(names[n] for n in counting)), weights, strict=True)
    return {name: round(float(weight), 3) for name, weight in named}


def fit_logistic(rows: np.ndarray, target: np.ndarray, penalty: float = PENALTY) -> np.ndarray:
    """Fit a logistic regression by Newton's method.

    Parameters
    ----------
    rows : np.ndarray [answers, terms] float64
        The first term is the constant, which costs nothing.
    target : np.ndarray [answers] float64
        0 or 1.
    penalty : float
        On half the sum of the squared weights.

    Returns
    -------
    np.ndarray [terms] float64
    """
    weights = np.zeros(rows.shape[1])
    costs = penalty * np.eye(len(weights))
    costs[0, 0] = 1e-6
    for _ in range(STEPS):
        likely = logistic(rows @ weights)
        slope = rows.T @ (likely - target) + costs @ weights
        curve = (rows * (likely * (1 - likely))[:, None]).T @ rows
        weights = weights - np.linalg.solve(curve + costs, slope)
    return weights
