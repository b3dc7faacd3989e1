"""What a command shows while it works: progress and notes on stderr, never on stdout."""

from __future__ import annotations

import os
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

stderr = Console(stderr=True, highlight=False, soft_wrap=True)
stdout = Console(highlight=False, width=None if os.isatty(1) else 120)

Tell = Callable[[str, int, int], None]

_displays: list[Progress] = []


def quiet(what: str, done: int, total: int) -> None:
    """Show no progress."""


def note(text: str) -> None:
    """Print a line to stderr as it is."""
    stderr.print(text, markup=False)


@contextmanager
def progress() -> Iterator[Tell]:
    """Show a bar for each kind of work told of; nothing where stderr is no terminal.

    Yields
    ------
    callable
        Told ``(what, done, total)``.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    tasks: dict[str, TaskID] = {}
    display = Progress(
        *columns, console=stderr, disable=not stderr.is_terminal, redirect_stdout=False
    )
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
