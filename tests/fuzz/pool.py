"""Cases run in a child process, which may hang, crash or take memory without harm to the rest.

Conventions: a case must end within `SECONDS`, take less than `MOST_MEMORY` and print nothing.
"""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from fuzz.cases import CASES, Corpus, outcome
from fuzz.scores import SCORE_CASES

SECONDS = 10.0
PATIENCE = 12
"""How many times as long a machine with other work may take."""

MOST_MEMORY = 1_000
"""MB that cases may take, beyond what the process had when it was forked."""


def fuzz(
    kind: str,
    count: int,
    corpus: Corpus,
    folder: Path,
    seed: int = 0,
    report: Callable[[str], None] = print,
    first: int = 0,
) -> Counter[str]:
    """Run so many cases of a kind; return how they ended, and the ``peak`` of memory, MB."""
    seen: Counter[str] = Counter()
    child = Child(kind, corpus, folder, seed)
    for number in range(first, first + count):
        ended, memory = child.run(number)
        if memory > MOST_MEMORY:
            ended = f"fault: {memory} MB"
        seen["peak MB"] = max(seen["peak MB"], memory)
        seen[ended[:120]] += 1
        if ended.startswith("fault"):
            report(f"{kind} {number}: {ended}")
            child.end()
            child = Child(kind, corpus, folder, seed)
    child.end()
    return seen


class Child:
    """A process that runs cases as they are asked for."""

    def __init__(self, kind: str, corpus: Corpus, folder: Path, seed: int) -> None:
        context = get_context("fork")
        self._here, there = context.Pipe()
        arguments = (there, kind, corpus, folder, seed)
        self._process = context.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        there.close()

    def run(self, number: int) -> tuple[str, int]:
        """Run a case; return how it ended, and the most memory that cases have taken, MB."""
        try:
            self._here.send(number)
            if not self._ends():
                return "fault: hangs", 0
            return self._here.recv()
        except (EOFError, OSError):
            self._process.join()
            return f"fault: crashed, status {self._process.exitcode}", 0

    def _ends(self) -> bool:
        """Wait for a case: so many seconds of its own, or many more of a busy machine's."""
        began = self._busy()
        for _ in range(int(PATIENCE * SECONDS)):
            if self._here.poll(1.0):
                return True
            if self._busy() - began > SECONDS:
                return False
        return False

    def _busy(self) -> float:
        try:
            fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> None:
        """End it."""
        self._process.kill()
        self._process.join()
        self._here.close()


def _serve(asked: Connection, kind: str, corpus: Corpus, folder: Path, seed: int) -> None:
    said = tempfile.TemporaryFile()  # noqa: SIM115
    for stream in (1, 2):
        os.dup2(said.fileno(), stream)
    before = peak_memory()  # what a forked process begins with counts
    while True:
        number = asked.recv()
        place = folder / "case"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        rng = np.random.default_rng([seed, number])
        try:
            ended = outcome({**CASES, **SCORE_CASES}[kind], corpus, place, rng)
        except BaseException as error:
            frames = traceback.extract_tb(error.__traceback__)
            where = [f"{Path(f.filename).name}:{f.lineno}" for f in frames][-5:]
            ended = f"fault: {type(error).__name__}: {str(error)[:200]!r} in {' '.join(where)}"
        if os.fstat(said.fileno()).st_size:
            os.lseek(said.fileno(), 0, os.SEEK_SET)
            ended = f"fault: printed {os.read(said.fileno(), 200)!r}"
            os.ftruncate(said.fileno(), 0)
        asked.send((ended, peak_memory() - before))


def peak_memory() -> int:
    """Return the most memory this process has had, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
