"""Queries wait their turn: so many at once, so many behind them, and none beyond that."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from mmid.serve.errors import Cancelled, Refused

Result = TypeVar("Result")

MOST_WAITING = 64
"""Requests that are received or wait, at most, besides those that are worked on."""


class Desk:
    """Does work in threads, in the order in which it came.

    Parameters
    ----------
    at_once : int
        Threads.
    most_waiting : int, optional
        More than these are refused; `MOST_WAITING` by default.
    changed : callable
        Called in the server's thread when the numbers change.

    Attributes
    ----------
    present, running : int
        Requests that are here, and those of them that are worked on.
    """

    def __init__(
        self,
        at_once: int,
        most_waiting: int | None = None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._pool = ThreadPoolExecutor(at_once, "mmid-query")
        self._turn = asyncio.Semaphore(at_once)
        behind = MOST_WAITING if most_waiting is None else most_waiting
        self._most, self._changed = at_once + behind, changed
        self.present = self.running = 0

    @property
    def waiting(self) -> int:
        """How many are received, or wait their turn."""
        return self.present - self.running

    @contextmanager
    def place(self) -> Iterator[None]:
        """Have a place in the queue.

        Raises
        ------
        Refused
            If there is none.
        """
        if self.present >= self._most:
            raise Refused(503, f"{self.waiting} requests wait already; try again in a minute")
        self.present += 1
        self._changed()
        try:
            yield
        finally:
            self.present -= 1
            self._changed()

    async def do(
        self, work: Callable[[], Result], has_left: Callable[[], Awaitable[bool]]
    ) -> Result:
        """Do work in a thread, when it is its turn.

        Raises
        ------
        Cancelled
            If whoever asked for it left before.
        """
        async with self._turn:
            if await has_left():
                raise Cancelled("nobody waits for this answer")
            self.running += 1
            self._changed()
            try:
                return await asyncio.get_running_loop().run_in_executor(self._pool, work)
            finally:
                self.running -= 1

    def close(self) -> None:
        """Begin nothing more."""
        self._pool.shutdown(wait=False, cancel_futures=True)
