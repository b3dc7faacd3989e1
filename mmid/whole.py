"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock

UNFINISHED = "mmid.*.part"
"""What is found of files being written, or left by a process that was killed."""


@contextmanager
def written_whole(path: Path, *, durably: bool = False) -> Iterator[Path]:
    """Give a place to write a file to, which takes its name once it is whole.

    Until then, and where writing fails, what is at `path` stays as it is.

    Parameters
    ----------
    path : Path
    durably : bool
        Have it on disk before it takes its name, and the name before going on.

    Yields
    ------
    Path
        In the same folder, named as `UNFINISHED` says.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> path = Path(mkdtemp()) / "answer.txt"
    >>> with written_whole(path) as part:
    ...     _ = part.write_text("42")
    >>> path.read_text()
    '42'
    """
    part = path.with_name(UNFINISHED.replace("*", secrets.token_hex(8)))
    try:
        with unfinished(part):
            yield part
            if durably:
                flush(part)
        part.replace(path)
        if durably:
            flush(path.parent)
    finally:
        with suppress(OSError):
            part.unlink()


_unfinished: set[Path] = set()
_change = Lock()


@contextmanager
def unfinished(path: Path) -> Iterator[None]:
    """Have a file or folder deleted if this process is ended meanwhile by `drop_unfinished`."""
    with _change:
        _unfinished.add(path)
    try:
        yield
    finally:
        with _change:
            _unfinished.discard(path)


def drop_unfinished() -> None:
    """Delete what is being written, just before the process ends: nothing is finished after it."""
    _change.acquire()  # for good
    for path in _unfinished:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        with suppress(OSError):
            path.unlink()


def flush(path: Path) -> None:
    """Have a file or folder on disk."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return  # folders cannot be opened everywhere
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
