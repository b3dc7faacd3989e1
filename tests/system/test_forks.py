"""`mmid.system.forks`: work in copies of this process, in order, one of which may be killed."""

from __future__ import annotations

import logging
import os
import signal
import time
from multiprocessing import active_children
from pathlib import Path

import pytest
import torch
from threadpoolctl import threadpool_info

from mmid.errors import MmidError
from mmid.system.console import LOG
from mmid.system.forks import CAN_FORK, ForkKilledError, in_forks
from mmid.system.threads import AHEAD

pytestmark = pytest.mark.skipif(not CAN_FORK, reason="this system's processes do not fork safely")

HANGS = 120.0
"""Seconds after which something never comes, on the busiest of machines."""


def wait_for(something) -> None:
    until = time.monotonic() + HANGS
    while not something():
        assert time.monotonic() < until, "it hangs"
        time.sleep(0.01)


def test_results_come_in_order_from_other_processes(tmp_path):
    def late(number: int) -> tuple[int, int]:
        if number == 0:  # is done after another fork's
            wait_for((tmp_path / "1").exists)
        (tmp_path / str(number)).touch()
        return number, os.getpid()

    numbers, processes = zip(*in_forks(late, range(12), 2), strict=True)
    assert numbers == tuple(range(12))
    assert len(set(processes)) == 2 and os.getpid() not in processes
    assert not active_children()


def test_forks_have_what_was_loaded_and_one_thread_each():
    loaded = object()  # which could not be sent
    before = torch.get_num_threads()

    def threads() -> set[int]:
        return {pool["num_threads"] for pool in threadpool_info()} | {torch.get_num_threads()}

    found = in_forks(lambda _: (id(loaded), threads()), range(2), 2)
    assert list(found) == [(id(loaded), {1})] * 2
    assert torch.get_num_threads() == before


def test_forks_compute_after_this_process_has_in_all_its_threads():
    many = torch.rand(400, 400, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def compute(number: int) -> float:
        return float((many @ many).sin().sum()) + number

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        here = compute(0)
        assert list(in_forks(compute, range(3), 2)) == pytest.approx([here, here + 1, here + 2])
    finally:
        torch.set_num_threads(before)


def test_only_so_many_items_are_begun_before_their_turn():
    begun: list[int] = []
    results = in_forks(abs, (begun.append(n) or n for n in range(40)), 2)
    next(results)
    assert len(begun) <= 2 * AHEAD + 1 and active_children()
    results.close()
    assert len(begun) <= 2 * AHEAD + 1 and not active_children()


def dies(number: int) -> int:
    if number in (1, 2, 5):
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_the_items_of_killed_forks_are_lost_and_no_others():
    said: list[str] = []

    def lost(number: int, error: ForkKilledError) -> int:
        said.append(str(error))
        return -number

    assert list(in_forks(dies, range(8), 2, lost)) == [0, -1, -2, 3, 4, -5, 6, 7]
    assert said == ["its process was killed, maybe for want of memory; try fewer --jobs"] * 3
    assert not active_children()


def test_a_killed_fork_ends_what_cannot_do_without_its_item():
    results = in_forks(dies, range(8), 2)
    assert next(results) == 0
    with pytest.raises(ForkKilledError):
        next(results)
    assert not active_children()


def test_what_is_raised_in_a_fork_is_raised_with_its_traceback():
    def fail(number: int) -> int:
        raise (MmidError if number else ZeroDivisionError)(f"{number}: no")

    results = in_forks(fail, [0], 2)
    with pytest.raises(ZeroDivisionError, match="0: no") as caught:
        list(results)
    assert "in fail" in str(caught.value.__cause__)
    with pytest.raises(MmidError, match="1: no"):
        list(in_forks(fail, [1], 2))


def test_what_a_fork_logs_is_logged_here(caplog):
    def tell(number: int) -> int:
        LOG.debug("number %d", number)
        return os.getpid()

    with caplog.at_level(logging.DEBUG, "mmid"):
        assert os.getpid() not in list(in_forks(tell, range(3), 2))
    assert sorted(caplog.messages) == ["number 0", "number 1", "number 2"]


def test_forks_do_not_get_ctrl_c():
    def interrupted(number: int) -> int:
        os.kill(os.getpid(), signal.SIGINT)  # as a terminal sends it to all processes
        return number

    assert list(in_forks(interrupted, range(4), 2)) == list(range(4))


@pytest.mark.parametrize("stop", [KeyboardInterrupt, GeneratorExit])
def test_what_is_broken_off_leaves_no_process(stop, tmp_path):
    def sleep(number: int) -> int:
        if number:
            (tmp_path / str(number)).touch()
            time.sleep(10 * HANGS)
        return number

    results = in_forks(sleep, range(5), 2)
    next(results)
    wait_for(lambda: len(list(tmp_path.iterdir())) == 2)
    with pytest.raises(stop):
        results.throw(stop())
    assert not active_children()


def test_forks_end_with_the_process_that_was_killed(tmp_path):
    def write(number: int) -> int:
        (tmp_path / str(os.getpid())).touch()
        return number

    parent = os.fork()
    if not parent:
        results = in_forks(write, range(99), 2)
        next(results)
        while True:  # forks wait for more to do
            time.sleep(HANGS)
    wait_for(lambda: len(list(tmp_path.iterdir())) == 2)
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    wait_for(lambda: not any(_is_alive(path.name) for path in tmp_path.iterdir()))


def _is_alive(process: str) -> bool:
    """Say whether a process has not ended; one that has may be there until its parent knows."""
    try:
        return Path("/proc", process, "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
