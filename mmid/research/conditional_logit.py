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

from mmid.model.confidence import Curve, minimum
from mmid.model.evidence import AGAINST, FOR
from mmid.research.candidates import Trial

PENALTY = 1.0
"""On squared steps away from the weights to begin with, of figures scaled to a deviation of 1."""

SIGNS = np.array([1.0] * len(FOR) + [-1.0] * len(AGAINST))
"""Those that weights must have."""

LEAST_SPREAD = 1e-9
"""Standard deviation of a figure that is taken to be the same everywhere."""

ROUNDS = 4
"""How often each piece's best candidate is chosen anew."""


def fit_ranking(trials: Sequence[Trial], begin: Mapping[str, float]) -> dict[str, float]:
    """Fit weights that put the best right candidate of each query before the others.

    Parameters
    ----------
    trials : sequence of Trial
        Those without a right candidate teach nothing.
    begin : mapping of str to float
        Weights to begin with: from them the fit is drawn away by what it is given.

    Returns
    -------
    dict of str to float
        By figure; none that would count against what it is meant to speak for. Their sums spread as
        far as those of the weights to begin with, so that leads stay comparable.
    """
    names = [*FOR, *AGAINST]
    queries = [_query(trial, names) for trial in trials]
    queries = [query for query in queries if query[1].any() and not query[1].all()]
    if not queries:
        return dict(begin)
    rows = np.concatenate([rows for rows, _, _ in queries])
    scale = np.maximum(rows.std(0), LEAST_SPREAD)
    first = np.array([begin.get(name, 0.0) for name in names])
    weights = first
    for _ in range(ROUNDS):
        chosen = [_best_of_pieces(*query, weights) / scale for query in queries]
        weights = _signed_logit(chosen, first * scale, rows.std(0) > LEAST_SPREAD) / scale
    spreads = [float((rows @ one).std()) for one in (first, weights)]
    weights = weights * spreads[0] / max(spreads[1], LEAST_SPREAD)
    rounded = zip(names, np.round(weights, 3).tolist(), strict=True)
    return {name: weight for name, weight in rounded if weight}


def _query(trial: Trial, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a query's figures, and of each candidate whether it is right, and its piece.

    Candidates about which less is known than about others are left out: what was not compared would
    pass for what does not agree.
    """
    known = [one.ranked.figures.known() for one in trial.candidates]
    most = max(map(len, known), default=0)
    fully = [one for one, own in zip(trial.candidates, known, strict=True) if len(own) == most]
    known = [own for own in known if len(own) == most]
    rows = np.array([[figures.get(name, 0.0) for name in names] for figures in known])
    right = np.array([one.right for one in fully], bool)
    music = np.array([one.music for one in fully])
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
    queries: Sequence[np.ndarray], towards: np.ndarray, varies: np.ndarray
) -> np.ndarray:
    """Fit weights near some multiple of others, leaving out those of the wrong sign, worst first.

    Where no figure varies, the weights are the others.
    """
    if not varies.any():
        return towards
    multiple = _fit_logit([rows @ towards[:, None] for rows in queries], np.ones(1))
    towards, counting = max(float(multiple[0]), 0.0) * towards, varies.copy()
    while True:
        weights = np.zeros(len(SIGNS))
        weights[counting] = _fit_logit([rows[:, counting] for rows in queries], towards[counting])
        wrong = -SIGNS * weights
        if wrong.max(initial=0.0) <= 0:
            return weights
        counting[wrong.argmax()] = False


def _fit_logit(queries: Sequence[np.ndarray], towards: np.ndarray) -> np.ndarray:
    """Fit a conditional logit: of each query the first row is right."""
    return minimum(lambda weights: _loss(queries, weights, towards), towards)


def _loss(queries: Sequence[np.ndarray], weights: np.ndarray, towards: np.ndarray) -> Curve:
    """Return the penalized loss, its slope and its curvature."""
    away = weights - towards
    loss = PENALTY / 2 * float(away @ away)
    slope, curve = PENALTY * away, PENALTY * np.eye(len(weights))
    for rows in queries:
        sums = rows @ weights
        likely = np.exp(sums - sums.max())
        likely /= likely.sum()
        mean = likely @ rows
        loss -= float(np.log(max(likely[0], 1e-300)))
        slope = slope + mean - rows[0]
        curve = curve + (rows * likely[:, None]).T @ rows - np.outer(mean, mean)
    return loss, slope, curve
