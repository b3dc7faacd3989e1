"""Work shared out among threads, which share one model and one index."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 2
"""Items that are begun or done before their turn, at most, for each thread."""

MOST_JOBS = 4
"""Queries answered at once, unless the user wants more: each takes 100 to 300 MB."""


def queries_at_once(jobs: int | None) -> int:
    """Return how many queries to answer at once: as many as the user wants, or as suits here."""
    return jobs or min(os.cpu_count() or 1, MOST_JOBS)


def in_threads(
    function: Callable[[Item], Result], items: Iterable[Item], jobs: int
) -> Generator[Result, None, None]:
    """Map a function over items in threads, each with its share of the cores.

    Parameters
    ----------
    function : callable
    items : iterable
        Read in the calling thread.
    jobs : int
        Threads. Even one leaves the calling thread free, so that Ctrl-C works whatever it is at.
        Close the generator to begin no more items.

    Yields
    ------
    object
        What the function returns, in the order of the items.
    """
    with _cores_shared(jobs), _threads(jobs) as pool:
        begun: deque[Future[Result]] = deque()
        for item in items:
            if len(begun) == AHEAD * jobs:
                yield begun.popleft().result()
            begun.append(pool.submit(function, item))
        while begun:
            yield begun.popleft().result()


@contextmanager
def _threads(jobs: int) -> Iterator[ThreadPoolExecutor]:
    """Give a pool that begins nothing more, and is not waited for, once its user stops."""
    pool = ThreadPoolExecutor(jobs, "mmid")
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def _cores_shared(jobs: int) -> Iterator[None]:
    """Leave each of several jobs its share of the cores."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(max(1, before // jobs))
    try:
        yield
    finally:
        torch.set_num_threads(before)
