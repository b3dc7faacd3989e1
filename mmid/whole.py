"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

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
        yield part
        if durably:
            flush(part)
        part.replace(path)
        if durably:
            flush(path.parent)
    finally:
        with suppress(OSError):
            part.unlink()


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
