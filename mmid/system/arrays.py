"""Arrays in files from anywhere: of the type expected, and as large as they say.

Conventions: ``.npy`` files as NumPy writes them in its first format, row by row; NumPy's own reader
takes much more than that for a header. What holds something else is a `ValueError`.
"""

from __future__ import annotations

import math
import mmap
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.lib.format import dtype_to_descr, write_array_header_1_0

from mmid.system.files import open_regular

MAGIC = b"\x93NUMPY\x01\x00"
"""What a file begins with; the header's length follows."""

NUMBER = re.compile(r"\d{1,15}")

BLOCK_ROWS = 1 << 16
"""Rows read at once."""

LARGE_BYTES = 1 << 27
"""What is read of a larger mapped array is not left in memory."""

SPARSE = 64
"""Of one row in so many, an array is read from end to end to have them; of fewer, each is."""


def find_array(
    path: Path, dtype: np.dtype | type, dimensions: int = 1
) -> tuple[int, tuple[int, ...]]:
    """Return at which byte of its file an array begins, and its shape.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it holds something else, or not as much as it says.
    """
    with open_regular(path) as file:
        start, size = file.read(len(MAGIC) + 2), path.stat().st_size
        header = file.read(int.from_bytes(start[len(MAGIC) :], "little"))
        first = file.tell()
    text = header.decode("latin-1").rstrip()
    shape = tuple(int(number) for number in NUMBER.findall(text.rpartition("'shape'")[2]))
    facts = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False}
    if start[: len(MAGIC)] != MAGIC or len(shape) != dimensions or text != _header(facts, shape):
        raise ValueError("holds another kind of array")
    if size - first != math.prod(shape) * np.dtype(dtype).itemsize:
        raise ValueError("is cut short")
    return first, shape


def _header(facts: dict[str, Any], shape: tuple[int, ...]) -> str:
    return repr(facts | {"shape": shape})[:-1] + ", }"


def map_array(path: Path, dtype: np.dtype | type, dimensions: int = 1) -> np.ndarray:
    """Map an array for reading.

    Raises
    ------
    OSError, ValueError
        As of `find_array`.
    """
    first, shape = find_array(path, dtype, dimensions)
    if not math.prod(shape):  # nothing can be mapped
        return np.zeros(shape, dtype)
    return np.memmap(path, dtype, "r", first, shape)


class JoinedArray:
    """Arrays of one type, one behind the other, read as one; what is read is copied, not the rest.

    Parameters
    ----------
    parts : sequence of np.ndarray
    """

    def __init__(self, parts: Sequence[np.ndarray]) -> None:
        self.parts = parts
        self._firsts = np.cumsum([0, *map(len, parts)])
        self.dtype, self.shape = parts[0].dtype, (len(self), *parts[0].shape[1:])

    def __len__(self) -> int:
        return int(self._firsts[-1])

    def __getitem__(self, chosen: Any) -> Any:
        """Return some rows, by a slice or their numbers, or a field of all."""
        if isinstance(chosen, str):
            return JoinedArray([part[chosen] for part in self.parts])
        if not isinstance(chosen, slice):
            return self.take(chosen)
        start, stop, step = chosen.indices(len(self))
        spans = zip(self.parts, self._firsts[:-1].tolist(), strict=True)
        pieces = [part[max(0, start - first) : max(0, stop - first)] for part, first in spans]
        return np.concatenate(pieces)[::step]

    def take(self, rows: np.ndarray, axis: int = 0) -> np.ndarray:
        """Return rows by their numbers."""
        assert axis == 0
        rows = np.asarray(rows)
        found = np.empty((*rows.shape, *self.shape[1:]), self.dtype)
        for part, first in zip(self.parts, self._firsts[:-1], strict=True):
            inside = (rows >= first) & (rows < first + len(part))
            found[inside] = part[rows[inside] - first]
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)


def joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Return arrays one behind the other, as one to read rows of; of several, a `JoinedArray`."""
    return parts[0] if len(parts) == 1 else cast(np.ndarray, JoinedArray(parts))


def let_go(array: np.ndarray) -> None:
    """Take what was read of a large mapped array out of memory, where the system does so.

    It counts many pages around each one touched as the process's own; here they stay in its cache.
    """
    parts = array.parts if isinstance(array, JoinedArray) else [array]
    for part in parts:
        held: Any = part
        while isinstance(held, np.ndarray):
            held = held.base
        large = part.nbytes > LARGE_BYTES and isinstance(held, mmap.mmap)
        if large and hasattr(mmap, "MADV_DONTNEED"):
            held.madvise(mmap.MADV_DONTNEED)


def read_rows(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return rows of an array that may be mapped, by their numbers, and leave none of it in memory.

    Parameters
    ----------
    array : np.ndarray [n, width]
    rows : np.ndarray [m] int
        All different.
    """
    if len(rows) * SPARSE < len(array):
        found = array.take(rows, 0)
        let_go(array)
        return np.asarray(found)
    place = np.full(len(array), len(rows), np.uint32)
    place[rows] = np.arange(len(rows), dtype=np.uint32)
    found = np.zeros((len(rows), *array.shape[1:]), array.dtype)
    for first in range(0, len(array), BLOCK_ROWS):
        own = place[first : first + BLOCK_ROWS]
        wanted = np.flatnonzero(own < len(rows))
        found[own[wanted]] = array[first : first + BLOCK_ROWS][wanted]
        let_go(array)
    return found


def read_blocks(path: Path, dtype: np.dtype | type, dimensions: int = 1) -> Iterator[np.ndarray]:
    """Yield an array `BLOCK_ROWS` rows at a time, which are not mapped: a map would stay in memory.

    Raises
    ------
    OSError, ValueError
        As of `find_array`.
    """
    first, (rows, *row) = find_array(path, dtype, dimensions)
    with open_regular(path) as file:
        file.seek(first)
        for done in range(0, rows, BLOCK_ROWS):
            count = min(BLOCK_ROWS, rows - done)
            yield np.fromfile(file, dtype, count * math.prod(row)).reshape(count, *row)


def store_array(
    path: Path, rows: int | None, parts: Iterable[np.ndarray], dtype: np.dtype | None = None
) -> np.ndarray:
    """Write an .npy file of so many rows, or of all there are, part by part; return it mapped.

    It is not mapped while it is written: on a full disk that would end the process.
    """
    done, facts = 0, {"descr": dtype_to_descr(np.dtype(dtype)), "fortran_order": False}
    row: tuple[int, ...] = ()
    with path.open("wb") as file:
        for part in parts:
            row = part.shape[1:]
            if not file.tell():
                facts["descr"] = dtype_to_descr(part.dtype)
                write_array_header_1_0(file, facts | {"shape": (0, *row)})
            file.write(np.ascontiguousarray(part).data)
            done += len(part)
        file.seek(0)
        write_array_header_1_0(file, facts | {"shape": (done, *row)})  # as long for any count
    assert rows in (None, done)
    return np.asarray(np.load(path, mmap_mode="r" if done else None))
