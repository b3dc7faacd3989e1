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
    if not stderr.is_terminal:
        yield quiet
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=stderr) as display:

        def tell(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = display.add_task(what, total=total)
            display.update(tasks[what], completed=done, total=total)

        yield tell
