"""Files from anywhere, read into memory: regular ones only, and no more of them than makes sense.

Conventions: what is no regular file (a pipe, a device, a folder) is an `OSError` before it is
opened, so that nothing can be waited for; what is too large or no JSON is a `ValueError`.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

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
