"""`mmid.system.processes`: work in other processes, in order, and over when it is broken off."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import active_children
from pathlib import Path

import pytest

from mmid.system.processes import AHEAD, parallel


def test_few_items_stay_in_this_process():
    assert list(parallel(lambda x: x + 1, [1, 2, 3], jobs=4)) == [2, 3, 4]  # no lambda is sent


def test_results_come_in_order_and_few_of_them_wait(monkeypatch):
    sent = []

    class Threads(ThreadPoolExecutor):
        def __init__(self, jobs, _context, _start):
            super().__init__(jobs)

        def submit(self, function, *arguments):
            sent.append(arguments)
            return super().submit(function, *arguments)

    monkeypatch.setattr("mmid.system.processes.ProcessPoolExecutor", Threads)
    done = parallel(abs, range(300), jobs=2, batch=1, least=8)
    for number in range(100):
        assert next(done) == number and len(sent) <= number + 2 * AHEAD
    assert list(done) == list(range(100, 300))


def interrupted(number: int) -> int:
    os.kill(os.getpid(), signal.SIGINT)  # as a terminal sends it to all processes
    return number


def test_workers_do_not_hear_ctrl_c():
    assert list(parallel(interrupted, range(4), jobs=2, batch=1, least=1)) == list(range(4))


def finish(work: tuple[float, Path]) -> None:
    seconds, finished = work
    time.sleep(seconds)
    finished.touch()


def test_work_that_is_broken_off_leaves_no_process(tmp_path):
    work = [(60.0 if number else 0.0, tmp_path / str(number)) for number in range(4)]
    done = parallel(finish, work, jobs=2, batch=1, least=1)
    next(done)
    assert active_children()
    with pytest.raises(KeyboardInterrupt):
        done.throw(KeyboardInterrupt())
    assert not active_children() and [path.name for path in tmp_path.iterdir()] == ["0"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_process_is_started_whole_before_a_stop_is_heard(number, monkeypatch):
    heard = []
    before = signal.signal(number, lambda *_: heard.append(started.copy()))
    started: list[int] = []

    class Pool(ThreadPoolExecutor):
        def __init__(self, jobs, _context, _start):
            super().__init__(jobs)

        def submit(self, function, *arguments):
            os.kill(os.getpid(), number)
            time.sleep(0.05)  # another thread, whose signals are not blocked, takes it
            started.append(len(started))
            return super().submit(function, *arguments)

    over = threading.Event()
    other = threading.Thread(target=over.wait)
    other.start()
    monkeypatch.setattr("mmid.system.processes.ProcessPoolExecutor", Pool)
    try:
        assert list(parallel(abs, range(4), jobs=2, batch=1, least=1)) == list(range(4))
    finally:
        signal.signal(number, before)
        over.set()
        other.join()
    assert heard == [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3]]
