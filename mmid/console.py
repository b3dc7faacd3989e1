"""What a command shows while it works: progress, notes and timings on stderr, never on stdout.

Conventions: a `note` is always shown, for what went wrong; a `remark` unless the user asked for
quiet; the time a `stage` took only where the user asked for more. A library's warnings, remarks and
stages go to the logger ``mmid``, so that a program that uses mmid can have them as well.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from mmid.errors import label


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

Tell = Callable[[str, int, int], None]

LOG = logging.getLogger("mmid")
LOG.addHandler(logging.NullHandler())  # a program that does not ask for them sees none

_displays: list[Progress] = []


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
    """Tell whether remarks and progress are wanted."""
    return LOG.level <= logging.INFO


@contextmanager
def stage(what: str) -> Iterator[None]:
    """Tell how long a part of the work took, where the user asked for it."""
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
def progress() -> Iterator[Tell]:
    """Show a bar for each kind of work told of; nothing where stderr is no terminal.

    Yields
    ------
    callable
        Told ``(what, done, total)``.
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
    with display, _known(display):

        def tell(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = display.add_task(what, total=total)
            display.update(tasks[what], completed=done, total=total)

        yield tell


@contextmanager
def _known(display: Progress) -> Iterator[None]:
    _displays.append(display)
    try:
        yield
    finally:
        _displays.remove(display)


@contextmanager
def aside() -> Iterator[None]:
    """Take the bars off the terminal while something is printed to stdout."""
    shown = [display.live for display in _displays if stdout.is_terminal and not display.disable]
    for live in shown:
        live.transient = True
        live.stop()
    try:
        yield
    finally:
        for live in shown:
            live.transient = False
            live.start()
