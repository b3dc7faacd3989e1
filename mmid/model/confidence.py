"""How confident an answer is: a probability from what the votes and the comparisons say.

Conventions: evidence is a set of named figures, those of `mmid.model.evidence`; the probability is
a logistic regression on them, fitted to answers known to be right or wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from mmid.model.evidence import CALIBRATION, CONSTANT, FIGURES, SURROUNDINGS, Evidence, weigh

PENALTY = 1.0
"""On the squares of the weights: keeps them finite where right and wrong do not overlap."""

FREE = 1e-6
"""The same for the constant."""

STEPS, SETTLED = 100, 1e-9
"""Of Newton's method, at most, and the gain that ends it."""


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
        What a voter gives the answer: its share of the votes of snippets or of note triples, or how
        far its melody correlates.
    passage : float or None
        Seconds of the piece from where the query begins to where it ends: less than none where a
        repeat goes back, and None where the vote does not say.

    Examples
    --------
    >>> is_proven(3.0, 0.4, 2.8), is_proven(0.4, 0.4, 2.8), is_proven(3.0, 0.0, 2.8)
    (True, False, False)
    >>> is_proven(30.0, 0.4, -18.1)
    True
    """
    long_enough = passage is None or passage < 0 or passage >= LEAST_PASSAGE
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
    begin: Mapping[str, float] = {},
    penalty: float = PENALTY,
) -> dict[str, float]:
    """Fit the weights of `confidence` to first matches known to be right or wrong.

    Parameters
    ----------
    answers : sequence of Evidence
    right : sequence of bool
    names : sequence of str
        Of the terms to weigh.
    begin : mapping of str to float
        Weights that the fit begins with, and is drawn to: those of a term that is the same in all
        answers stay.
    penalty : float
        On half the sum of the squared steps away from them.

    Returns
    -------
    dict of str to float
        A weight for each term of `Evidence.terms` that counts, and the constant.
    """
    terms = [answer.terms() for answer in answers]
    rows = np.array([[term.get(name, 0.0) for name in names] for term in terms])
    rows = rows.reshape(len(terms), len(names))
    counting = [n for n, column in enumerate(rows.T) if np.ptp(column) > 0]
    known = rows @ np.array([begin.get(name, 0.0) for name in names]) + begin.get(CONSTANT, 0.0)
    design = np.column_stack([np.ones(len(rows)), rows[:, counting]])
    steps = fit_logistic(design, np.asarray(right, float), penalty, known)
    fitted = {name: weight for name, weight in begin.items() if name in (CONSTANT, *names)}
    for name, step in zip((CONSTANT, *(names[n] for n in counting)), steps.tolist(), strict=True):
        fitted[name] = fitted.get(name, 0.0) + step
    return {name: round(weight, 3) for name, weight in fitted.items()}


def fit_logistic(
    rows: np.ndarray, target: np.ndarray, penalty: float, known: np.ndarray
) -> np.ndarray:
    """Fit a logistic regression by Newton's method.

    Parameters
    ----------
    rows : np.ndarray [answers, terms] float64
        The first term is the constant, which costs nothing.
    target : np.ndarray [answers] float64
        0 or 1.
    penalty : float
        On half the sum of the squared weights.
    known : np.ndarray [answers] float64
        Log-odds that the others are added to.

    Returns
    -------
    np.ndarray [terms] float64
    """
    costs = penalty * np.eye(rows.shape[1])
    costs[0, 0] = FREE

    def measure(weights: np.ndarray) -> Curve:
        sums = known + rows @ weights
        likely = logistic(sums)
        loss = float(np.logaddexp(0.0, sums).sum() - target @ sums + weights @ costs @ weights / 2)
        slope = rows.T @ (likely - target) + costs @ weights
        return loss, slope, (rows * (likely * (1 - likely))[:, None]).T @ rows + costs

    return minimum(measure, np.zeros(rows.shape[1]))


Curve: TypeAlias = tuple[float, np.ndarray, np.ndarray]
"""The value of a function, its slope and its curvature."""


def minimum(measure: Callable[[np.ndarray], Curve], begin: np.ndarray) -> np.ndarray:
    """Return where a convex function is least, by Newton's method with steps halved as needed."""
    place, here = begin, measure(begin)
    for _ in range(STEPS):
        step = np.linalg.solve(here[2], here[1])
        there = measure(place - step)
        while there[0] > here[0] and np.abs(step).max() > SETTLED:
            step = step / 2
            there = measure(place - step)
        gained = here[0] - there[0]
        if gained > 0:
            place, here = place - step, there
        if gained < SETTLED:
            break
    return place
