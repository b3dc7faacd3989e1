"""A ranking learned from queries whose right candidates are known: a conditional logit.

Conventions: of every query the best right candidate stands against the best candidate of each
other piece. A weight has the sign that its figure is meant to have, or is none.

References
----------
.. [1] D. McFadden, "Conditional logit analysis of qualitative choice behavior", in Frontiers in
   Econometrics, 1974.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mmid.model.evidence import AGAINST, FOR
from mmid.research.candidates import Trial

PENALTY = 1.0
"""On the squared weights of the ranking, of figures scaled to a deviation of 1."""

ROUNDS, STEPS = 4, 30
"""How often candidates are chosen anew, and Newton steps at most for each choice."""


def fit_ranking(trials: Sequence[Trial], begin: Mapping[str, float]) -> dict[str, float]:
    """Fit weights that put the best right candidate of each query before the others.

    Parameters
    ----------
    trials : sequence of Trial
        Those without a right candidate teach nothing.
    begin : mapping of str to float
        Weights that choose the best candidate of each piece at first.

    Returns
    -------
    dict of str to float
        By figure; none that would count against what it is meant to speak for.
    """
    names = [*FOR, *AGAINST]
    queries = [_query(trial, names) for trial in trials]
    queries = [query for query in queries if query[1].any() and not query[1].all()]
    if not queries:
        return dict(begin)
    scale = np.concatenate([rows for rows, _, _ in queries]).std(0)
    signs = np.array([1.0] * len(FOR) + [-1.0] * len(AGAINST))
    weights = np.array([begin.get(name, 0.0) for name in names])
    for _ in range(ROUNDS):
        chosen = [_best_of_pieces(*query, weights) / np.maximum(scale, 1e-9) for query in queries]
        weights = _signed_logit(chosen, signs, scale > 1e-9) / np.maximum(scale, 1e-9)
    return {name: round(float(w), 3) for name, w in zip(names, weights, strict=True) if w}


def _query(trial: Trial, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a query's figures, and of each candidate whether it is right, and its piece."""
    known = [one.ranked.figures.known() for one in trial.candidates]
    rows = np.array([[figures.get(name, 0.0) for name in names] for figures in known])
    right = np.array([one.right for one in trial.candidates], bool)
    music = np.array([one.music for one in trial.candidates])
    return rows.reshape(len(known), len(names)), right & trial.present, music


def _best_of_pieces(
    rows: np.ndarray, right: np.ndarray, music: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Return the figures of each piece's best candidate, the right one first."""
    order = np.argsort(-(rows @ weights), kind="stable")
    order = order[np.argsort(~right[order], kind="stable")]
    first = np.unique(np.where(right, -1, music)[order], return_index=True)[1]
    return np.asarray(rows[order[np.sort(first)]])


def _signed_logit(
    queries: Sequence[np.ndarray], signs: np.ndarray, varies: np.ndarray
) -> np.ndarray:
    """Fit weights, leaving out one by one those of the wrong sign, the worst first."""
    counting = varies.copy()
    while True:
        weights = np.zeros(len(signs))
        weights[counting] = _fit_logit([rows[:, counting] for rows in queries])
        wrong = -signs * weights
        if wrong.max(initial=0.0) <= 0:
            return weights
        counting[wrong.argmax()] = False


def _fit_logit(queries: Sequence[np.ndarray]) -> np.ndarray:
    """Fit a conditional logit by Newton's method: of each query the first row is right."""
    weights = np.zeros(queries[0].shape[1])
    loss, slope, curve = _loss(queries, weights)
    for _ in range(STEPS):
        step = np.linalg.solve(curve, slope)
        while True:
            after = _loss(queries, weights - step)
            if after[0] <= loss or np.abs(step).max(initial=0.0) < 1e-9:
                break
            step = step / 2
        done = loss - after[0] < 1e-9
        weights, (loss, slope, curve) = weights - step, after
        if done:
            break
    return weights


def _loss(
    queries: Sequence[np.ndarray], weights: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """Return the penalized loss, its slope and its curvature."""
    loss = PENALTY / 2 * float(weights @ weights)
    slope, curve = PENALTY * weights, PENALTY * np.eye(len(weights))
    for rows in queries:
        sums = rows @ weights
        likely = np.exp(sums - sums.max())
        likely /= likely.sum()
        mean = likely @ rows
        loss -= float(np.log(max(likely[0], 1e-300)))
        slope = slope + mean - rows[0]
        curve = curve + (rows * likely[:, None]).T @ rows - np.outer(mean, mean)
    return loss, slope, curve
