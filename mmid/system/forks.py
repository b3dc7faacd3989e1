"""Work shared out among forks of this process, which have what it has loaded without loading it.

Conventions: a fork begins as this process is at that moment; memory that neither changes is in both
at once. What other threads, a GPU or a connection to a server do for this process they do not do
for its forks. A fork gets no Ctrl-C; it ends when this process lets go of it, however that happens.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from logging import LogRecord
from logging.handlers import QueueHandler
from multiprocessing import get_context
from multiprocessing.connection import Connection, Pipe
from multiprocessing.process import BaseProcess
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from traceback import format_exc
from typing import Any, Generic, NamedTuple, TypeVar

from mmid.errors import MmidError
from mmid.system.console import LOG
from mmid.system.processes import signals_blocked, stops_put_off
from mmid.system.threads import in_threads

Item = TypeVar("Item")
Result = TypeVar("Result")

CAN_FORK = sys.platform == "linux"
"""Elsewhere a system's libraries do not go on in a fork, or there are none."""

EXPENDABLE = "500"
"""Of 1,000: how much rather a system that is out of memory kills a fork than what forked it."""


KILLED = "its process was killed, maybe for want of memory; try fewer --jobs"


class ForkKilledError(MmidError):
    """A fork that was killed while it worked."""


class _RaisedError(Exception):
    """Where in a fork something was raised: its traceback, as text."""


def in_forks(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    jobs: int,
    lost: Callable[[Item, ForkKilledError], Result] | None = None,
) -> Generator[Result, None, None]:
    """Map a function over items in forks of this process, each of which has one thread of PyTorch.

    Parameters
    ----------
    function : callable
    items : iterable
        Read in the calling thread, and sent to forks; so are the results, back.
    jobs : int
        Forks.
    lost : callable, optional
        Gives the result of an item whose fork was killed; another takes that fork's place.

    Yields
    ------
    object
        What the function returns, in the order of the items.

    Raises
    ------
    ForkKilledError
        If a fork is killed, and there is no ``lost``.
    """
    forks = _Forks(function)

    def call(item: Item) -> Result:
        try:
            return forks.call(item)
        except ForkKilledError as error:
            if lost is None:
                raise
            return lost(item, error)

    try:
        forks.start(jobs)
        yield from in_threads(call, items, jobs)
    finally:
        forks.end()


class _Outcome(NamedTuple):
    """What a function returned, or raised and where, and what was logged meanwhile."""

    result: Any
    error: Exception | None
    traceback: str
    logged: list[LogRecord]


class _Fork(NamedTuple):
    process: BaseProcess
    pipe: Connection[Any, _Outcome]


class _Forks(Generic[Item, Result]):
    """Forks that call a function, for as many threads of this process as there are forks."""

    def __init__(self, function: Callable[[Item], Result]) -> None:
        self._function = function
        self._forks: list[_Fork] = []
        self._idle: SimpleQueue[_Fork] = SimpleQueue()
        self._changing, self._ended = Lock(), False

    def start(self, count: int) -> None:
        """Begin so many forks."""
        for _ in range(count):
            self._idle.put(self._begin())

    def call(self, item: Item) -> Result:
        """Call the function in a fork that is idle."""
        fork = self._idle.get()
        try:
            fork.pipe.send(item)
            outcome = fork.pipe.recv()
        except (EOFError, ConnectionError):
            fork = self._replaced(fork)
            raise ForkKilledError(KILLED) from None
        finally:
            self._idle.put(fork)
        for record in outcome.logged:
            LOG.handle(record)
        if outcome.error is not None:
            raise outcome.error from _RaisedError(outcome.traceback)
        result: Result = outcome.result
        return result

    def end(self) -> None:
        """End all forks at once, whatever they are at."""
        with self._changing:
            self._ended = True
        for fork in self._forks:
            fork.process.kill()
        for fork in self._forks:
            fork.process.join()

    def _replaced(self, fork: _Fork) -> _Fork:
        """Begin a fork in the place of one that was killed, unless all are ended."""
        with self._changing:
            if self._ended:
                return fork
            if fork in self._forks:
                self._forks.remove(fork)
                fork.process.kill()
                fork.process.join()
            return self._begin()

    def _begin(self) -> _Fork:
        ours, theirs = Pipe()
        new = get_context("fork").Process(target=self._be_fork, args=(ours, theirs), daemon=True)
        with signals_blocked(signal.SIGINT, signal.SIGTERM), stops_put_off():
            new.start()
            self._forks.append(_Fork(new, ours))
        theirs.close()
        return self._forks[-1]

    def _be_fork(self, others: Connection[Any, Any], pipe: Connection[_Outcome, Item]) -> None:
        """Call the function for the process that this is a fork of, until it lets go."""
        for inherited in (others, *(fork.pipe for fork in self._forks)):
            inherited.close()  # or it would seem that somebody holds on
        _settle_in()
        logged: SimpleQueue[LogRecord] = SimpleQueue()
        LOG.handlers[:] = [QueueHandler(logged)]
        with suppress(EOFError, ConnectionError):
            while True:
                result, error, traceback = _attempt(self._function, pipe.recv())
                said = [logged.get() for _ in range(logged.qsize())]
                pipe.send(_Outcome(result, error, traceback, said))
        os._exit(0)  # what else is to be tidied up is the other process's


def _attempt(
    function: Callable[[Item], Result], item: Item
) -> tuple[Result | None, Exception | None, str]:
    try:
        return function(item), None, ""
    except Exception as error:
        return None, error, format_exc()


def _settle_in() -> None:
    """Be a process that is stopped by itself, computes in one thread, and can be done without."""
    import torch
    from threadpoolctl import threadpool_limits

    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(EXPENDABLE)
    torch.set_num_threads(1)
    threadpool_limits(1, "blas")  # NumPy's
