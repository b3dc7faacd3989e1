"""Sorted numbers on disk, of which only the pages needed are read.

Conventions: ``.npy`` files of uint64, sorted; the page index of one are its pages' first numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import Protocol

import numpy as np

from mmid.system.arrays import find_array, map_array

PAGE = 512
"""Numbers read together: four kilobytes."""


def page_index_of(numbers: np.ndarray) -> np.ndarray:
    """Return the first number of every page."""
    return np.ascontiguousarray(numbers[::PAGE])


class SortedNumbers(Protocol):
    """What sorted numbers are looked up in: a `SortedFile`, or several."""

    def pages_within(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Return how many pages numbers from some to others lie on, ``[n]`` int64."""

    def near(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Return the pages that numbers of some ranges lie on, sorted."""


class SortedFile:
    """Sorted numbers on disk; memory holds their page index only.

    A memory map would do as much, but a system counts many pages around each one touched as the
    process's own.

    Parameters
    ----------
    path, page_index : Path
        ``.npy`` files, of the numbers, read later, and of their `page_index_of`, read now.

    Raises
    ------
    OSError
        If one of them cannot be read.
    ValueError
        If one does not hold such numbers, or the page index is not the file's own by its count.
    """

    def __init__(self, path: Path, page_index: Path) -> None:
        self._begin, (self._count,) = find_array(path, np.uint64)
        mapped = map_array(page_index, np.uint64)
        if len(mapped) != -(-self._count // PAGE):
            raise ValueError(f"{path}: counts do not agree")
        self._page_index = np.array(mapped)
        self._file = path.open("rb", buffering=0)
        self._reading = Lock()  # threads that read at once share where the file is read

    def __len__(self) -> int:
        return self._count

    def pages_within(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Return how many pages numbers from some to others lie on, ``[n]`` int64."""
        first, last = self._span(low, high)
        return np.asarray(last - first)

    def near(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Return the pages that numbers of some ranges lie on.

        Parameters
        ----------
        low, high : np.ndarray [n] uint64
            Numbers from ``low`` to ``high`` are wanted.

        Returns
        -------
        np.ndarray [m] uint64
            Sorted; others are among them.
        """
        first, last = self._span(low, high)
        bounds = np.zeros(len(self._page_index) + 1, np.int64)
        np.add.at(bounds, first, 1)
        np.add.at(bounds, last, -1)
        wanted = np.cumsum(bounds) > 0
        edges = np.flatnonzero(np.diff(wanted, prepend=False))
        runs = [self._read(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True)]
        return np.concatenate([np.zeros(0, np.uint64), *runs])

    def _span(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the first pages of ranges, and those after their last."""
        first = np.maximum(np.searchsorted(self._page_index, low) - 1, 0)
        return first, np.maximum(first, np.searchsorted(self._page_index, high, "right"))

    def _read(self, first: int, last: int) -> np.ndarray:
        """Read pages from one to before another."""
        size = np.dtype(np.uint64).itemsize
        with self._reading:
            self._file.seek(self._begin + size * PAGE * int(first))
            return np.frombuffer(self._file.read(size * PAGE * int(last - first)), np.uint64)


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
        """Return what is kept of the pages that numbers lie on, as `SortedFile.near` does."""
        numbers = np.concatenate([file.near(low, high) for file in self._files])
        if len(self._files) > 1:
            numbers.sort(kind="stable")  # merges what is sorted already
        return numbers if self._is_kept is None else numbers[self._is_kept(numbers)]
