"""How far a mean over clips can be trusted: bootstrap over the pieces they are from.

Conventions: clips of one piece are alike, so whole pieces are drawn, with all their clips.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

DRAWS = 2_000
LEVEL = 0.95


def mean_interval(
    values: Sequence[float],
    pieces: Sequence[Hashable],
    *,
    draws: int = DRAWS,
    level: float = LEVEL,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Return the percentile interval of the mean of values, their pieces drawn anew.

    For two systems queried with the same clips, the values are their differences.

    Parameters
    ----------
    values : sequence of float
    pieces : sequence
        The piece of each value.
    draws : int
        Times that the pieces are drawn, with replacement.
    level : float
        Share of the draws whose mean lies within.
    seed : int

    Returns
    -------
    tuple of float, or None
        Lowest and highest; None without values.

    References
    ----------
    .. [1] B. Efron, R. Tibshirani, "An Introduction to the Bootstrap", Chapman & Hall 1993,
       chapter 13.

    Examples
    --------
    >>> mean_interval([1.0, 1.0, 1.0], ["a", "a", "b"])
    (1.0, 1.0)
    >>> low, high = mean_interval([0.0, 1.0] * 50, range(100))
    >>> bool(0.3 < low < 0.5 < high < 0.7)
    True
    """
    if not len(values):
        return None
    numbers = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    owner = np.array([numbers[piece] for piece in pieces])
    count = len(numbers)
    sums, sizes = np.bincount(owner, values, count), np.bincount(owner, minlength=count)
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), draws)
    means = drawn @ sums / (drawn @ sizes)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
