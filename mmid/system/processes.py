"""Work shared out among processes.

Conventions: a worker process gets no Ctrl-C; the process that started it ends it. So what a worker
writes must be whole or not at all, as `mmid.system.files` writes it.
"""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import active_children, get_context
from threading import current_thread, main_thread
from typing import Protocol, TypeVar

from mmid.errors import MmidError

Item = TypeVar("Item")
Result = TypeVar("Result")
Task = TypeVar("Task")


class Engine(Protocol):
    """What maps a function over items, in order: `parallel`, or a cluster."""

    def __call__(
        self,
        function: Callable[[Item], Result],
        items: Sequence[Item],
        jobs: int | None = None,
        *,
        batch: int = 32,
        least: int = 16,
        start: Callable[[], None] | None = None,
    ) -> Iterator[Result]:
        """Map as `parallel` does."""


AHEAD = 4
"""Batches a worker process has before it at most; bounds the results that wait."""


def schedule(
    items: Sequence[Item],
    jobs: int,
    batch: int,
    submit: Callable[[Sequence[Item]], Task],
    result: Callable[[Task], list[Result]],
) -> Iterator[Result]:
    """Keep workers busy with batches of items, and yield what comes of them, in order.

    ``submit`` begins the task of a batch, of at most so many items, and ``result`` waits for one.
    """
    size = max(1, min(batch, len(items) // (AHEAD * jobs)))
    waiting: deque[Task] = deque()
    for first in range(0, len(items), size):
        if len(waiting) == AHEAD * jobs:
            yield from result(waiting.popleft())
        waiting.append(submit(items[first : first + size]))
    while waiting:
        yield from result(waiting.popleft())


def parallel(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    jobs: int | None = None,
    *,
    batch: int = 32,
    least: int = 16,
    start: Callable[[], None] | None = None,
) -> Iterator[Result]:
    """Map a function over items in worker processes, in order; few items stay in this one.

    Parameters
    ----------
    function : callable
        Defined in a module, so that a worker process can import it.
    items : sequence
    jobs : int, optional
        Worker processes; all cores by default.
    batch : int
        Items sent together, at most.
    least : int
        Items that a worker process is worth starting for.
    start : callable, optional
        Called once before anything else in the process that maps.

    Raises
    ------
    MmidError
        If a worker process is killed.
    """
    jobs = min(jobs or os.cpu_count() or 1, max(1, len(items) // least))
    if jobs == 1:
        if start:
            start()
        yield from map(function, items)
        return
    others = set(active_children())
    with ProcessPoolExecutor(jobs, get_context("spawn"), start) as pool:

        def submit(some: Sequence[Item]) -> Future[list[Result]]:
            with signals_blocked(signal.SIGINT), stops_put_off():
                return pool.submit(_map, function, some)

        try:
            yield from schedule(items, jobs, batch, submit, Future.result)
        except BrokenProcessPool:
            raise MmidError(
                "a worker process died, maybe for want of memory; try fewer --jobs"
            ) from None
        except BaseException:
            for worker in set(active_children()) - others:
                worker.terminate()
            raise  # and the pool, finding them gone, gives up what waits


def end_workers() -> None:
    """End all worker processes at once."""
    for worker in active_children():
        worker.kill()


def _map(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    return [function(item) for item in items]


@contextmanager
def stops_put_off() -> Iterator[None]:
    """Put Ctrl-C and SIGTERM off until what is inside is done."""
    if current_thread() is not main_thread():  # signals disturb that one only
        yield
        return
    caught: list[int] = []
    stops = (signal.SIGINT, signal.SIGTERM)
    before = {stop: signal.signal(stop, lambda number, _: caught.append(number)) for stop in stops}
    try:
        yield
    finally:
        for stop, handler in before.items():
            signal.signal(stop, handler)
        for number in caught[:1]:
            signal.raise_signal(number)


@contextmanager
def signals_blocked(*signals: signal.Signals) -> Iterator[None]:
    """Block signals in this thread; processes started meanwhile never get them.

    Other threads still get them, and Python then handles them in the main one.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
