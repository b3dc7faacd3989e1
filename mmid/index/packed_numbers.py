"""Sorted numbers in five bytes each.

Conventions: numbers are uint64, sorted. The lowest five bytes of one are its tail, the lowest
first; tails are uint8 ``[n, 5]``. The three above, its head, are the same for many that follow one
another, a run: heads are uint32 ``[2, runs + 1]``, the head of each run and the position of its
first number, and behind them `NO_HEAD` and how many numbers there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from mmid.system.arrays import map_array, store_array

TAIL_BYTES, HEAD_SHIFT = 5, np.uint64(40)
"""Bytes of a tail, and bits below a head."""

NO_HEAD = 2**24
"""Above all heads."""

PAGE = 512
"""Numbers of a page."""

_TAIL = np.dtype([("low", "<u4"), ("high", "u1")])


class SortedNames(NamedTuple):
    """The files of sorted numbers: heads, the first number of every page, and tails.

    In this order they are checked: tails are sorted or not by their heads.
    """

    heads: str
    page_index: str
    tails: str


def pack_tails(numbers: np.ndarray) -> np.ndarray:
    """Return the tails of numbers."""
    whole = np.ascontiguousarray(numbers, "<u8").view(np.uint8).reshape(-1, 8)
    return np.ascontiguousarray(whole[:, :TAIL_BYTES])


def unpack(tails: np.ndarray, heads: np.ndarray) -> np.ndarray:
    """Put tails and as many heads, uint32 ``[n]``, together."""
    tail = np.ascontiguousarray(tails).view(_TAIL)[:, 0]
    words = np.empty((len(tail), 2), "<u4")
    words[:, 0] = tail["low"]
    np.left_shift(heads, np.uint32(8), out=words[:, 1])
    words[:, 1] |= tail["high"]
    return np.asarray(words.view("<u8")[:, 0], np.uint64)


def heads_of(numbers: np.ndarray) -> np.ndarray:
    """Return the head of each number, uint32 ``[n]``."""
    return (numbers >> HEAD_SHIFT).astype(np.uint32)


def store_sorted(folder: Path, names: SortedNames, parts: Iterable[np.ndarray]) -> None:
    """Write sorted numbers, part by part.

    Raises
    ------
    OSError
        If they cannot be written.
    """
    head, first, page_index = [], [], [np.zeros(0, np.uint64)]

    def tails() -> Iterator[np.ndarray]:
        done, last = 0, NO_HEAD
        for part in parts:
            heads = heads_of(part)
            fresh = np.flatnonzero(np.diff(heads, prepend=np.uint32(last)))
            head.append(heads[fresh])
            first.append(fresh + done)
            page_index.append(part[-done % PAGE :: PAGE])
            done, last = done + len(part), int(heads[-1]) if len(part) else last
            yield pack_tails(part)

    count = len(store_array(folder / names.tails, None, tails()))
    np.save(folder / names.page_index, np.concatenate(page_index))
    runs = np.concatenate([*head, [NO_HEAD]]), np.concatenate([*first, [count]])
    np.save(folder / names.heads, np.stack(runs).astype(np.uint32))


class PackedNumbers:
    """Sorted numbers, packed, as an array of which some are unpacked at a time.

    Parameters
    ----------
    tails : np.ndarray [n, 5] uint8
        May be mapped.
    heads : np.ndarray [2, runs + 1] uint32

    Raises
    ------
    ValueError
        If the tails are none, or the heads not those of so many numbers.
    """

    def __init__(self, tails: np.ndarray, heads: np.ndarray) -> None:
        if tails.shape[1] != TAIL_BYTES:
            raise ValueError("holds another kind of array")
        self._tails = tails
        self._head, self._first = check_heads(heads, len(tails))

    @classmethod
    def map(cls, heads: Path, tails: Path) -> PackedNumbers:
        """Map them from their files.

        Raises
        ------
        OSError
            If one of them cannot be read.
        ValueError
            If one does not hold such numbers.
        """
        return cls(map_array(tails, np.uint8, 2), map_array(heads, np.uint32, 2))

    def __len__(self) -> int:
        return len(self._tails)

    def __getitem__(self, chosen: slice | np.ndarray) -> np.ndarray:
        """Return some of the numbers, by a slice without a step or by their positions."""
        if not isinstance(chosen, slice):
            run = np.searchsorted(self._first, chosen, "right") - 1
            return unpack(self._tails[chosen], self._head[run])
        start, stop, _ = chosen.indices(len(self))
        tails = self._tails[start:stop]
        runs = slice(
            max(0, int(np.searchsorted(self._first, start, "right")) - 1),
            int(np.searchsorted(self._first, stop)),
        )
        bounds = np.append(self._first[runs], stop).clip(start, stop)
        return unpack(tails, np.repeat(self._head[runs], np.diff(bounds)))

    def searchsorted(
        self, values: np.ndarray, side: Literal["left", "right"] = "left"
    ) -> np.ndarray:
        """Return where values would go among the numbers, as NumPy's does."""
        heads = heads_of(values)
        run = np.searchsorted(self._head, heads)
        low = self._first[run].astype(np.int64)
        high = self._first[run + (self._head[run] == heads)].astype(np.int64)
        unsettled = np.flatnonzero(low < high)
        while len(unsettled):
            middle = (low[unsettled] + high[unsettled]) // 2
            number, value = unpack(self._tails[middle], heads[unsettled]), values[unsettled]
            above = number <= value if side == "right" else number < value
            low[unsettled[above]] = middle[above] + 1
            high[unsettled[~above]] = middle[~above]
            unsettled = unsettled[low[unsettled] < high[unsettled]]
        return low


def check_heads(heads: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the head and the first position of each run, if they are of so many numbers."""
    if len(heads) != 2 or not heads.shape[1] or heads[0, -1] != NO_HEAD or heads[1, -1] != count:
        raise ValueError("counts do not agree")
    return np.asarray(heads[0]), np.asarray(heads[1])
