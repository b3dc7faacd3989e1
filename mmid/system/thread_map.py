"""Arrays computed with all cores: NumPy lets other threads go on meanwhile.

Conventions: results come in the order of what they are of.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from mmid.system.processes import schedule

Item = TypeVar("Item")
Result = TypeVar("Result")


def thread_map(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Map a function over items in a thread a core; only a few results wait to be taken.

    Examples
    --------
    >>> list(thread_map(abs, [-1, 2, -3]))
    [1, 2, 3]
    """
    threads = os.cpu_count() or 1
    with ThreadPoolExecutor(threads) as pool:

        def submit(some: Sequence[Item]) -> Future[list[Result]]:
            return pool.submit(lambda: [function(item) for item in some])

        yield from schedule(items, threads, 1, submit, Future.result)
