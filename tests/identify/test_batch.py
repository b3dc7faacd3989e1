"""`mmid.identify.batch`: answers in order, from one thread or several, to sinks that may fail."""

from __future__ import annotations

import copy
import gc
import os
import shutil
import signal
import threading
import weakref
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mmid.errors import MmidError
from mmid.identify.answer import Identification
from mmid.identify.batch import Answered, Sink, answer_files, hand_out
from mmid.identify.identifier import Identifier
from mmid.index.build import build_index
from mmid.index.folder import LibraryIndex
from mmid.index.notes import Noted
from mmid.music.folders import BadFile
from mmid.system.forks import CAN_FORK
from mmid.system.threads import AHEAD


class Stub:
    """Answers after its own fashion: `bad` files fail, and `slow` ones wait for all others."""

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.others = threading.Semaphore(0)

    def open(self, path, start, duration):
        self.opened.append(path.name)
        if path.name == "bad":
            raise MmidError("bad: cannot be read")
        if path.name == "slow":
            assert self.others.acquire(timeout=60)
        self.others.release()
        return (path.name, start, duration)

    def search(self, query):
        return query

    def answer(self, asked, name):
        return Identification(name, 1.0, True, ())


class Kept(Sink):
    """A sink that keeps names, and fails of some."""

    def __init__(self, fails: str = "") -> None:
        self.names: list[str] = []
        self.fails, self.closed = fails, False

    def take(self, answered: Answered) -> None:
        if answered.answer.query == self.fails:
            raise MmidError(f"{self.fails}: no place for it")
        self.names.append(answered.answer.query)

    def close(self) -> None:
        self.closed = True


FILES = [Path("slow"), Path("a"), Path("bad"), Path("b"), BadFile(Path("x*"), "x*: no file")]


@pytest.mark.parametrize("jobs", [2, 3, 8])
def test_answers_come_in_the_order_of_the_files(jobs):
    found = [a.answer for a in answer_files(Stub(), FILES, 1.0, 2.0, jobs)]
    assert [answer.query for answer in found] == ["slow", "a", "bad", "b", "x*"]
    errors = [answer.error for answer in found]
    assert errors == [None, None, "bad: cannot be read", None, "x*: no file"]


def test_a_span_is_asked_for():
    (found,) = answer_files(Stub(), [Path("a")], 1.0, 2.0)
    assert found.query == ("a", 1.0, 2.0)


@pytest.mark.parametrize("jobs", [1, 2])
def test_only_so_many_files_are_begun_before_their_turn(jobs):
    stub = Stub()
    answers = answer_files(stub, [Path(str(n)) for n in range(40)], jobs=jobs)
    next(answers)
    assert len(stub.opened) <= AHEAD * jobs + 1
    answers.close()
    assert len(stub.opened) <= AHEAD * jobs + 1


def test_cores_are_shared_and_given_back(monkeypatch):
    given = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.setattr(torch, "set_num_threads", given.append)
    assert len(list(answer_files(Stub(), FILES, jobs=3))) == len(FILES)
    assert given == [2, 8]


def test_threads_answer_as_one_does(tmp_path, pieces, midi_folder, recording, tiny_model):
    build_index(tmp_path / "index", pieces, tiny_model)
    identifier = Identifier(tiny_model, LibraryIndex(tmp_path / "index", tiny_model))
    files = [recording, *sorted(midi_folder.rglob("*.mid"))]
    one, three = (list(answer_files(identifier, files, 0.0, 6.0, jobs)) for jobs in (1, 3))
    assert [a.answer for a in one] == [a.answer for a in three]


@pytest.fixture
def identifier(tmp_path, pieces, tiny_model) -> Identifier:
    build_index(tmp_path / "index", pieces, tiny_model)
    return Identifier(tiny_model, LibraryIndex(tmp_path / "index", tiny_model))


def test_forks_answer_as_threads_do_and_keep_what_it_was_found_from(
    identifier, midi_folder, recording
):
    files = [recording, BadFile(Path("x*"), "x*: no file"), *sorted(midi_folder.rglob("*.mid"))]
    threads, forks = (
        list(answer_files(identifier, files, 0.0, 6.0, 2, explained=explained))
        for explained in (True, False)
    )
    assert [a.answer for a in forks] == [a.answer for a in threads]
    assert threads[0].result is not None
    given = {a.result for a in forks if a.answer.error is None}
    assert given == ({None} if CAN_FORK else {a.result for a in forks[:1] + forks[2:]})


@pytest.mark.skipif(not CAN_FORK, reason="this system's processes do not fork safely")
def test_a_file_whose_process_is_killed_is_one_line_and_the_rest_is_answered(
    identifier, recording, tmp_path, monkeypatch
):
    files = [tmp_path / f"{name}.wav" for name in ("a", "large", "c", "d")]
    for file in files:
        shutil.copy(recording, file)
    opened = Identifier.open

    def open_or_die(self, path, start, duration):
        if path.stem == "large":
            os.kill(os.getpid(), signal.SIGKILL)
        return opened(self, path, start, duration)

    monkeypatch.setattr(Identifier, "open", open_or_die)
    said: list[str] = []
    sink = Kept()
    assert hand_out(answer_files(identifier, files, jobs=2, explained=False), [sink], said.append)
    assert sink.names == [str(file) for file in files]
    killed = "its process was killed, maybe for want of memory; try fewer --jobs"
    assert said == [f"{tmp_path}/large.wav: {killed}"]


def test_what_is_on_a_gpu_or_a_server_is_not_forked(identifier):
    assert identifier.forkable is CAN_FORK
    for place, index in (("cuda", identifier.index), ("cpu", Noted())):
        encoders = SimpleNamespace(device=torch.device(place))
        other = copy.copy(identifier)
        other.model, other.index = SimpleNamespace(encoders=encoders), index
        assert not other.forkable


def test_a_failure_is_told_and_stops_nothing():
    told: list[str] = []
    first, second = Kept(fails="a"), Kept()
    failed = hand_out(answer_files(Stub(), FILES[1:]), [first, second], told.append)
    assert failed == 3
    assert told == ["a: no place for it", "bad: cannot be read", "x*: no file"]
    assert first.names == ["bad", "b", "x*"] and second.names == ["a", "bad", "b", "x*"]
    assert first.closed and second.closed


def test_sinks_are_closed_when_interrupted():
    sink = Kept()

    def answers():
        yield Answered(Identification("a", 1.0, False, ()))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hand_out(answers(), [sink], print)
    assert sink.names == ["a"] and sink.closed


def test_an_interrupted_answer_goes_to_all_sinks_or_none(interruptible):
    first, second = Kept(), Kept()
    first.take = lambda answered: (signal.raise_signal(signal.SIGINT), Kept.take(first, answered))
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        hand_out(answer_files(Stub(), FILES[1:]), [first, second], print)
    assert first.names == second.names == ["a"]
    assert signal.getsignal(signal.SIGINT) is handler


def test_an_answer_is_let_go_once_its_sinks_have_had_it():
    alive: list[weakref.ref] = []

    def answers():
        for number in range(4):
            answered = Answered(Identification(str(number), 1.0, False, ()))
            alive.append(weakref.ref(answered))
            yield answered
            del answered
            gc.collect()
            assert sum(ref() is not None for ref in alive) <= 1

    assert hand_out(answers(), [Kept()], print) == 0
