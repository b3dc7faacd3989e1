"""Programs that read strangers' files, each in a process of its own, with bounds on it.

Conventions: a program that crashes, hangs or takes too much ends its own process only, and the
file is refused with a reason on one line.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event, Lock, Timer

from mmid.errors import MidiError
from mmid.music.scores import verovio_worker
from mmid.music.scores.verovio_worker import SECONDS, SECONDS_A_MEGABYTE

_LASTS = 100  # files; what leaks in a worker goes with it


class ScoreWorker:
    """A process that has verovio make MIDI of one score after the other.

    Parameters
    ----------
    folder : str
        Of the package verovio.
    seconds : float
        A score that takes longer is refused; a large one has more, `SECONDS_A_MEGABYTE`.
    """

    def __init__(self, folder: str, seconds: float = SECONDS) -> None:
        self._command = [sys.executable, os.fspath(verovio_worker.__file__), folder]
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._answered = 0
        self._lock = Lock()
        atexit.register(self.close)

    def convert(self, form: str, text: str) -> tuple[bytes, bytes]:
        """Make MIDI of a score, and list its bars as `mmid.music.scores.verovio_worker` does.

        Where listing them fails, there are none.

        Parameters
        ----------
        form : str
            As verovio names it: ``xml`` for MusicXML, ``mei``, ``humdrum``.
        text : str

        Raises
        ------
        MidiError
            The reason, without the file's name.
        """
        with self._lock:
            midi, bars = self._ask(form.encode(), text.encode("utf-8", "replace"))
        if not midi:
            raise MidiError("not a score that verovio can read")
        return midi, bars

    def _ask(self, *request: bytes) -> tuple[bytes, bytes]:
        process = self._running()
        assert process.stdin and process.stdout
        late = Event()

        def end() -> None:
            late.set()
            process.kill()

        seconds = self._seconds + SECONDS_A_MEGABYTE * sum(map(len, request)) / 1e6
        timer = Timer(seconds, end)
        timer.daemon = True
        timer.start()
        midi = bars = None
        try:
            with suppress(OSError):
                verovio_worker.send(process.stdin, *request)
                midi = verovio_worker.receive(process.stdout)
                bars = verovio_worker.receive(process.stdout)
        finally:
            timer.cancel()
            if bars is None:
                self.close()
        if midi is None:
            raise MidiError(
                f"reading it takes more than {seconds:.0f} s"
                if late.is_set()
                else "verovio fails on it, or needs too much memory"
            )
        self._answered += 1
        return midi, bars or b""

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None or self._answered >= _LASTS:
            self.close()
            pipe = subprocess.PIPE
            self._process = subprocess.Popen(
                self._command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL
            )
            self._answered = 0
        return self._process

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        for pipe in (process.stdin, process.stdout):
            with suppress(OSError):
                if pipe:
                    pipe.close()
        process.wait()


def run_bounded(
    command: Sequence[str],
    name: str,
    seconds: float,
    megabytes: int,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> None:
    """Run a program that reads a file; whatever it prints and its exit status do not count.

    Parameters
    ----------
    command : sequence of str
    name : str
        What the program is called in a message.
    seconds : float
    megabytes : int
        Memory that it may have; bounded on Linux only.
    environment : mapping, optional
        More variables than those of this process.
    folder : Path, optional
        Where it runs.

    Raises
    ------
    MidiError
        If it takes too long or cannot be run, without the file's name.
    """
    silent = subprocess.DEVNULL
    env = {**os.environ, **(environment or {})}
    try:
        process = subprocess.Popen(
            command, stdin=silent, stdout=silent, stderr=silent, env=env, cwd=folder
        )
    except OSError as error:
        raise MidiError(f"{name} cannot be run ({error.strerror})") from None
    _bound(process.pid, megabytes, seconds)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        raise MidiError(f"{name} takes more than {seconds:g} s to read it") from None
    finally:
        process.kill()
        process.wait()


def _bound(pid: int, megabytes: int, seconds: float) -> None:
    """Bound what a program takes, also where this process ends before it."""
    with suppress(ImportError, AttributeError, OSError, ValueError):
        import resource

        limit = megabytes << 20
        resource.prlimit(pid, resource.RLIMIT_AS, (limit, limit))
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit, limit))
        resource.prlimit(pid, resource.RLIMIT_CPU, (int(seconds) + 1, int(seconds) + 1))
        resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))
