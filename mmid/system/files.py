"""Files written whole or not at all, and files from anywhere read into memory.

Conventions: what is no regular file (a pipe, a device, a folder) is an `OSError` before it is
opened, so that nothing can be waited for; what is too large or no JSON is a `ValueError`.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO

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


MOST_BYTES = 16 * 2**20
"""Of a manifest, a sidecar, a list of pairs: a hundred times what a large library's has."""


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading.

    Raises
    ------
    OSError
        If it cannot be opened, or is not a regular file.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
    return path.open("rb")


def read_regular(path: Path, most: int = MOST_BYTES) -> bytes:
    """Read a whole file.

    Raises
    ------
    OSError
        As of `open_regular`.
    ValueError
        If it holds more than so many bytes.
    """
    with open_regular(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"larger than {most} bytes")
    return content


def parse_json(text: str | bytes) -> Any:
    """Parse JSON however deep.

    Raises
    ------
    ValueError
        If it is none, or nested too deep.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deep") from None


def read_json(path: Path) -> Any:
    """Parse a whole file.

    Raises
    ------
    OSError, ValueError
        As of `read_regular` and `parse_json`.
    """
    return parse_json(read_regular(path))


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a regular file, hexadecimal."""
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
