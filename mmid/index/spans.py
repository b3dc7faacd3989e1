"""Which rows of an index's arrays belong to its items.

Conventions: a span is a first row and a count; spans are ascending and do not overlap.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np


def join_spans(spans: Iterable[tuple[int, int]]) -> Iterator[slice]:
    """Join spans that follow one another.

    Examples
    --------
    >>> list(join_spans([(0, 2), (2, 3), (7, 1)]))
    [slice(0, 5, None), slice(7, 8, None)]
    """
    first = end = 0
    for start, count in spans:
        if start != end:
            yield slice(first, end)
            first = start
        end = start + count
    yield slice(first, end)


def rows_within(spans: Iterable[tuple[int, int]], rows: int) -> np.ndarray:
    """Return which of so many rows lie within spans, bool."""
    within = np.zeros(rows, bool)
    for span in join_spans(spans):
        within[span] = True
    return within
