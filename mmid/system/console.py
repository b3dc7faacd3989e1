"""What a command shows while it works: progress, notes and timings on stderr, never on stdout.

Conventions: a `note` is always shown, for what went wrong; a `remark` unless the user asked for
quiet; the time a `stage` took only where the user asked for more. A library's warnings, remarks and
stages go to the logger ``mmid``, so that a program that uses mmid can have them as well.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module

from rich.console import Console
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.spinner import Spinner

from mmid.errors import label
from mmid.system.start import loading_modules


class _Console(Console):
    """A console that leaves a closed pipe to whoever ends the command."""

    def on_broken_pipe(self) -> None:
        raise  # what Console is handling


stderr = _Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)
stdout = _Console(
    highlight=False,
    emoji=False,
    width=None if os.isatty(1) or os.environ.get("COLUMNS") else 120,
)

ProgressCallback = Callable[[str, int, int], None]

LOG = logging.getLogger("mmid")
LOG.addHandler(logging.NullHandler())  # a program that does not ask for them sees none

_displays: list[Live] = []


def quiet(what: str, done: int, total: int) -> None:
    """Show no progress."""


def note(text: str) -> None:
    """Print a line to stderr as it is, but for what a terminal would act on."""
    stderr.print(label(text), markup=False)


def warn(text: str) -> None:
    """Print a line to stderr as `note` does, or give it to the log of a program that uses mmid."""
    LOG.warning("%s", text)


def remark(text: str) -> None:
    """Print a line to stderr as it is, unless the user asked for quiet."""
    LOG.info("%s", text)


def remarks_shown() -> bool:
    """Return whether remarks and progress are wanted."""
    return LOG.level <= logging.INFO


@contextmanager
def stage(what: str) -> Iterator[None]:
    """Say what is done now, where `waiting` shows it, and afterwards how long it took."""
    for display in _displays:
        if isinstance(display.renderable, Spinner):
            display.renderable.update(text=f"{what[:1].upper()}{what[1:]}")
    began = time.perf_counter()
    yield
    LOG.debug("%-28s %6.2f s", what, time.perf_counter() - began)


class _Lines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        note(record.getMessage())


def set_loudness(*, silent: bool = False, verbose: bool = False) -> None:
    """Choose what is shown besides notes: nothing, remarks, or remarks and timings."""
    LOG.handlers[:] = [_Lines()]
    LOG.setLevel(logging.WARNING if silent else logging.DEBUG if verbose else logging.INFO)


@contextmanager
def progress() -> Iterator[ProgressCallback]:
    """Show a bar for each kind of work that is reported; nothing where stderr is no terminal.

    Yields
    ------
    callable
        Called with ``(what, done, total)``.
    """
    if not (stderr.is_terminal and remarks_shown()):
        yield quiet
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    tasks: dict[str, TaskID] = {}
    display = Progress(*columns, console=stderr, redirect_stdout=False)
    with display, _known(display.live):

        def advance(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = display.add_task(what, total=total)
            display.update(tasks[what], completed=done, total=total)

        yield advance


@contextmanager
def waiting(what: str) -> Iterator[ProgressCallback]:
    """Show what is waited for, on a terminal that shows nothing else; it goes in the end.

    Yields
    ------
    callable
        As of `progress`; what is reported to it is not shown.
    """
    if _displays or not (stderr.is_terminal and remarks_shown()):
        yield quiet
        return
    display = Live(Spinner("line", what), console=stderr, transient=True, redirect_stdout=False)
    with display, _known(display):
        yield quiet


def loading(module: str, what: str) -> None:
    """Import a module that takes seconds to load, while a terminal shows what is waited for."""
    if module not in sys.modules and stderr.is_terminal and remarks_shown():
        with waiting(what), loading_modules():
            import_module(module)


@contextmanager
def _known(display: Live) -> Iterator[None]:
    _displays.append(display)
    try:
        yield
    finally:
        _displays.remove(display)


@contextmanager
def aside() -> Iterator[None]:
    """Take what is shown off the terminal while something is printed to stdout."""
    shown = [(live, live.transient) for live in _displays if stdout.is_terminal]
    for live, _ in shown:
        live.transient = True
        live.stop()
    try:
        yield
    finally:
        for live, transient in shown:
            live.transient = transient
            live.start()
