"""Sorted numbers on disk, of which only what is needed is read.

Conventions: files are as `mmid.index.packed_numbers` writes them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import Protocol

import numpy as np

from mmid.index.packed_numbers import PAGE, TAIL_BYTES, check_heads, heads_of, unpack
from mmid.system.arrays import find_array, map_array


class SortedNumbers(Protocol):
    """What sorted numbers are looked up in: a `SortedFile`, or several."""

    def pages_within(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Return how many pages numbers from some to others lie on, ``[n]`` int64."""

    def near(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Return the numbers of some ranges, sorted, and others near to them."""


class SortedFile:
    """Sorted numbers on disk; memory holds their page index and their heads only.

    A memory map would do as much, but a system counts many pages around each one touched as the
    process's own.

    Parameters
    ----------
    heads, page_index, tails : Path
        ``.npy`` files; tails are read later.

    Raises
    ------
    OSError
        If one of them cannot be read.
    ValueError
        If one does not hold such numbers, or they are not of one another by their counts.
    """

    def __init__(self, heads: Path, page_index: Path, tails: Path) -> None:
        self._begin, (self._count, width) = find_array(tails, np.uint8, 2)
        mapped = map_array(page_index, np.uint64)
        if width != TAIL_BYTES:
            raise ValueError(f"{tails}: holds another kind of array")
        if len(mapped) != -(-self._count // PAGE):
            raise ValueError(f"{tails}: counts do not agree")
        self._page_index = np.array(mapped)
        self._head, self._first = check_heads(map_array(heads, np.uint32, 2), self._count)
        self._file = tails.open("rb", buffering=0)
        self._reading = Lock()

    def __len__(self) -> int:
        return self._count

    def pages_within(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Return how many pages numbers from some to others lie on, ``[n]`` int64."""
        first = np.maximum(np.searchsorted(self._page_index, low) - 1, 0)
        last = np.maximum(first, np.searchsorted(self._page_index, high, "right"))
        return np.asarray(last - first)

    def near(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Return the runs that numbers of some ranges lie in.

        Parameters
        ----------
        low, high : np.ndarray [n] uint64
            Numbers from ``low`` to ``high`` are wanted.

        Returns
        -------
        np.ndarray [m] uint64
            Sorted; others are among them.
        """
        first = np.searchsorted(self._head, heads_of(low))
        last = np.searchsorted(self._head, heads_of(high), "right")
        first, last = _joined(first, last)
        tails = b"".join(map(self._read, self._first[first].tolist(), self._first[last].tolist()))
        counts = last - first
        run = np.repeat(first - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())
        head = np.repeat(self._head[run], self._first[run + 1] - self._first[run])
        return unpack(np.frombuffer(tails, np.uint8).reshape(-1, TAIL_BYTES), head)

    def _read(self, first: int, last: int) -> bytes:
        """Read tails from one to before another."""
        begin, size = self._begin + TAIL_BYTES * first, TAIL_BYTES * (last - first)
        if sys.platform != "win32":
            return os.pread(self._file.fileno(), size, begin)
        with self._reading:  # threads share where a file is read, and forks elsewhere
            self._file.seek(begin)
            return self._file.read(size)


def _joined(first: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return spans that hold what given ones do, sorted and apart from one another; none empty."""
    if not len(first):
        return first, last
    order = np.argsort(first, kind="stable")
    first, reached = first[order], np.maximum.accumulate(last[order])
    begins = np.flatnonzero(first[1:] > reached[:-1]) + 1
    first, last = first[np.append(0, begins)], reached[np.append(begins, 0) - 1]
    filled = last > first
    return first[filled], last[filled]


class SortedFiles:
    """Sorted numbers of several files, read as those of one; some may be passed over.

    Parameters
    ----------
    files : sequence of SortedFile
    is_kept : callable, optional
        Says which of some numbers are read, ``[n]`` bool; by default all.
    """

    def __init__(
        self,
        files: Sequence[SortedFile],
        is_kept: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> None:
        self._files, self._is_kept = files, is_kept

    def pages_within(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Return how many pages numbers from some to others lie on, as `SortedFile` does."""
        return np.asarray(sum(file.pages_within(low, high) for file in self._files))

    def near(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Return what is kept of the runs that numbers lie in, as `SortedFile.near` does."""
        numbers = np.concatenate([file.near(low, high) for file in self._files])
        if len(self._files) > 1:
            numbers.sort(kind="stable")  # merges what is sorted already
        return numbers if self._is_kept is None else numbers[self._is_kept(numbers)]
