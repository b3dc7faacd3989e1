"""People who are impatient: what is stopped ends in time, loses nothing and goes on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from hashlib import pbkdf2_hmac
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from killing import Training

import mmid.cli.shell
import mmid.index.validation
from mmid.cli.app import app
from mmid.identify.identifier import Identifier
from mmid.index.build import update_index
from mmid.index.pending import Pending
from mmid.output.playlist import Playlist
from mmid.system import files as whole
from mmid.training.loop import BEST_NAME, STATE_NAME


def start(work: Callable[[], None], said: Path) -> int:
    """Do something in a process of its own, with what it says in a file; return its id."""
    child = os.fork()
    if child:
        return child
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    file = said.open("w", buffering=1)
    os.dup2(file.fileno(), 2)
    sys.stdout = sys.stderr = file
    status = 70
    try:
        work()
        status = 0
    except SystemExit as end:
        status = int(end.code or 0)
    finally:
        os._exit(status)


def stop(child: int, number: int, send: Callable[[int, int], None] = os.kill) -> int:
    """Stop a process, or all those it began as well; return its exit status."""
    send(child, number)
    return exit_status(child)


def exit_status(child: int) -> int:
    """Wait for a process to end; return its exit status."""

    def ended() -> list[int]:
        process, status = os.waitpid(child, os.WNOHANG)
        return [os.waitstatus_to_exitcode(status)] if process else []

    return wait_for(ended)[0]


HANGS = 120.0
"""Seconds after which something never comes, on the busiest of machines."""


def wait_for(something: Callable[[], Any]) -> Any:
    until = time.monotonic() + HANGS
    while not (found := something()):
        assert time.monotonic() < until, "it hangs"
        time.sleep(0.01)
    return found


STOPS = [(signal.SIGINT, 130, "stopped"), (signal.SIGTERM, 143, "terminated")]


def command(*arguments: object) -> Callable[[], None]:
    def work() -> None:
        sys.argv = ["mmid", *map(str, arguments)]
        mmid.cli.shell.catch_stops()
        mmid.cli.shell.run(app)

    return work


@pytest.mark.parametrize(("number", "status", "word"), STOPS)
def test_a_build_in_this_process_stops_and_goes_on(
    number, status, word, tmp_path, tiny_model, midi_folder, options, monkeypatch
):
    begun, add = tmp_path / "begun", Pending.add

    def add_some(self, item):
        add(self, item)
        if len(self._waiting) == 3:
            begun.touch()
            time.sleep(10 * HANGS)

    said = tmp_path / "said"
    with monkeypatch.context() as patch:
        patch.setattr(Pending, "add", add_some)
        child = start(command("build-index", midi_folder, *options, "--jobs", "1"), said)
        wait_for(begun.exists)
        assert stop(child, number) == status
    assert said.read_text() == f"mmid: {word}; run it again to go on\n"
    assert not list((tmp_path / "index").glob("data-*")), "no half an index"
    kept = list((tmp_path / "index").glob("pending-*/*.npz"))
    assert kept and not list(tmp_path.rglob("*.part"))
    report = update_index(tmp_path / "index", [midi_folder], tiny_model, jobs=1)
    assert report.items == 6 and not list((tmp_path / "index").glob("pending-*"))


@pytest.mark.parametrize("send", [os.kill, os.killpg])  # as a terminal or a service's manager does
@pytest.mark.parametrize("explained", [False, True])
@pytest.mark.parametrize(("number", "status", "word"), STOPS)
def test_a_batch_stops_and_keeps_what_is_done(
    number, status, word, explained, send, tmp_path, built, recording, options, monkeypatch
):
    monkeypatch.setattr(Playlist, "explains", explained)
    takes = tmp_path / "takes"
    takes.mkdir()
    for name in range(300):
        shutil.copy(recording, takes / f"{name:03}.wav")
    said, page = tmp_path / "said", tmp_path / "a.m3u8"
    outputs = ["--json", "--sidecar", "--playlist", page, "--min-confidence", 0, "--jobs", 2]
    child = start(command("query", takes, *options, *outputs), said)
    wait_for(lambda: said.exists() and "{" in said.read_text())
    assert stop(child, number, send) == status
    with pytest.raises(ProcessLookupError):  # nothing goes on
        os.killpg(child, 0)
    *answers, last = said.read_text().splitlines()
    assert last == f"mmid: stopped, {300 - len(answers)} of 300 files left"
    assert len(list(takes.glob("*.json"))) == len(answers)
    assert len(page.read_text().splitlines()) == 1 + 2 * len(answers)
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize(("number", "status", "word"), STOPS)
def test_an_evaluation_stops_and_keeps_what_is_done(
    number, status, word, tmp_path, built, recording, options, monkeypatch
):
    begun, asked = tmp_path / "begun", Identifier.search

    def search(self, *arguments):
        if len(begun.read_text()) == 8:
            time.sleep(10 * HANGS)
        begun.write_text(begun.read_text() + "x")
        return asked(self, *arguments)

    begun.touch()
    monkeypatch.setattr(Identifier, "search", search)
    rows = [f"{i},{recording},{tmp_path}/library/piece 2.mid" for i in range(300)]
    (tmp_path / "pairs.csv").write_text("\n".join(["id,audio,midi", *rows]))
    said, out = tmp_path / "said", tmp_path / "o.json"
    asked_for = ["--clips", "1", "--per-recording", 3, "--out", out, "--jobs", 1]
    child = start(command("eval", "pieces", tmp_path, *options, *asked_for), said)
    wait_for(lambda: len(begun.read_text()) == 8)
    time.sleep(1.0)  # for its first thread to take in what is done
    assert stop(child, number) == status
    *_, kept, last = said.read_text().splitlines()
    assert kept.endswith("o.json: holds the 2 of 300 that are done") and last == f"mmid: {word}"
    [scores] = json.loads(out.read_text())
    assert [clip["source"] for clip in scores["results"]] == ["0"] * 3 + ["1"] * 3


def test_what_does_not_hear_is_ended_and_leaves_nothing(tmp_path, recording, options, monkeypatch):
    begun = tmp_path / "mmid.0.part"

    def deaf(*_: object) -> None:
        with whole.unfinished(begun):
            begun.touch()
            pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)  # an hour in a library's code

    monkeypatch.setattr("mmid.model.loading.load_model", deaf)
    monkeypatch.setattr(mmid.cli.shell, "GRACE", 0.1)
    said = tmp_path / "said"
    child = start(command("query", recording, *options), said)
    wait_for(begun.exists)
    time.sleep(0.1)
    assert stop(child, signal.SIGTERM) == 143
    assert said.read_text() == "mmid: terminated\n" and not begun.exists()


class Finalised:
    """Its end is a moment in which Python drops what is raised."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        os.kill(os.getpid(), self.number)
        time.sleep(0.1)


def converted(number: int) -> None:
    """Stop where Python makes an error of what is raised, as in the body of a class."""

    class Named:
        def __set_name__(self, *_: object) -> None:
            os.kill(os.getpid(), number)
            time.sleep(0.1)

    type("Owner", (), {"name": Named()})


def dropped(number: int) -> None:
    """Stop where Python drops what is raised, and work on."""
    Finalised(number)
    time.sleep(10 * HANGS)


@pytest.mark.parametrize("moment", [converted, dropped])
@pytest.mark.parametrize(("number", "status", "word"), STOPS)
def test_a_stop_that_python_swallows_is_a_stop(
    number, status, word, moment, tmp_path, recording, options, monkeypatch
):
    monkeypatch.setattr("mmid.model.loading.load_model", lambda *_: moment(number))
    said = tmp_path / "said"
    child = start(command("query", recording, *options), said)
    assert exit_status(child) == status and said.read_text() == f"mmid: {word}\n"


def test_training_stops_and_goes_on(tmp_path):
    training = Training(tmp_path / "t", np.random.default_rng(0))
    run = tmp_path / "t" / "run"
    child = start(training.work, tmp_path / "said")
    wait_for((run / STATE_NAME).exists)
    stop(child, signal.SIGINT)
    assert (run / BEST_NAME).exists() and not list(run.rglob("*.part"))
    assert training.state() in ("epoch 1", "epoch 2", "epoch 3", "epoch 4")
    training.work()
    assert training.state() == "epoch 4"
