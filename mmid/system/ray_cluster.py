"""Work shared out among the machines of a Ray cluster.

Conventions: a cluster's machines have the same mmid and see the same files under the same names. A
task is tried again where the worker or the machine it ran on is gone.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from mmid.errors import MmidError
from mmid.system.processes import schedule

Item = TypeVar("Item")
Result = TypeVar("Result")

RETRIES = 4
"""A file that takes its worker with it every time is the file's fault."""


@dataclass(frozen=True)
class RayCluster:
    """A Ray cluster, in the place of `mmid.system.processes.parallel`.

    Parameters
    ----------
    address : str or None
        ``ray://HOST:PORT`` of its client server; None for the one that RAY_ADDRESS names or that
        runs on this machine, else one that lives as long as the work.
    retries : int
        How often a task is tried again.
    """

    address: str | None = None
    retries: int = RETRIES

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
        """Map a function, of a module that the cluster's machines have, as `parallel` does.

        There are as many tasks at once as the cluster has cores by default.

        Raises
        ------
        MmidError
            If Ray is not installed, the cluster does not answer, or a task fails again and again.
        """
        with _connected(self.address) as ray:
            jobs = min(jobs or _cores(ray), max(1, len(items) // least))
            started = ray.put(start)
            work = ray.remote(max_retries=self.retries, num_cpus=1)(_work)
            submit = partial(work.remote, [started], function)
            yield from schedule(items, jobs, batch, submit, partial(_result, ray))


@contextmanager
def _connected(address: str | None) -> Iterator[Any]:
    """Connect to a cluster, and leave it."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray's own reports to its makers
    try:
        import ray
    except ImportError as error:
        raise MmidError("--engine ray: needs Ray; pip install 'mmid[ray]'") from error
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError, ImportError) as error:
        raise MmidError(f"--engine {address or 'ray'}: {_in_a_line(error)}") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _cores(ray: Any) -> int:
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def _result(ray: Any, task: Any) -> list[Any]:
    """Wait for a task; what it raised is raised as it was."""
    try:
        return ray.get(task)  # type: ignore[no-any-return]
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None) or error
        if not isinstance(cause, ray.exceptions.RayError):
            raise cause from error
        raise MmidError(f"--engine ray: gave a task up: {_in_a_line(cause)}") from error


def _in_a_line(error: Exception) -> str:
    """Return how a long message begins, and how it ends."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " … ".join(dict.fromkeys([*lines[:1], *lines[-1:]])) or type(error).__name__


_started: set[Any] = set()
"""What was called in this process of the cluster."""


def _work(
    started: list[Any], function: Callable[[Item], Result], items: list[Item]
) -> list[Result]:
    import ray

    [reference] = started
    if reference not in _started:
        start = ray.get(reference)
        if start:
            start()
        _started.add(reference)
    return [function(item) for item in items]


def engine_named(name: str) -> RayCluster | None:
    """Return the engine of a name; None is this machine's processes.

    Raises
    ------
    MmidError
        If there is none of the name.
    """
    if name == "local":
        return None
    if name == "ray" or name.startswith("ray://"):
        return RayCluster(None if name == "ray" else name)
    raise MmidError(f"--engine {name}: give local, ray or ray://HOST:PORT")
