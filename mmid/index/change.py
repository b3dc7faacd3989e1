"""A change of an index, and the files of it that every data folder holds alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np

from mmid.index.inverted_lists import InvertedLists
from mmid.index.items import Entry
from mmid.index.manifest import BOUNDS, LIST_ROWS, NOTES, POSITIONS, VECTORS
from mmid.index.pending import Embedded
from mmid.system.arrays import store_array
from mmid.system.console import ProgressCallback

FILES = {"vectors": VECTORS, "positions": POSITIONS, "notes": NOTES}
"""Where the arrays of items are stored, one behind the other."""


@dataclass(frozen=True, eq=False)
class Change:
    """Items of an index that stay, and new ones.

    Parameters
    ----------
    kept : sequence of (Entry, Entry)
        Rows of the old index, in its order, and what they shall say now.
    fresh : sequence of Entry
        New rows.
    load : callable
        Gives the item of a new row by its position in `fresh`.
    progress : callable
        Called with ``(what, done, total)``.
    """

    kept: Sequence[tuple[Entry, Entry]]
    fresh: Sequence[Entry]
    load: Callable[[int], Embedded]
    progress: ProgressCallback

    def store(
        self,
        data: Path,
        name: Literal["vectors", "positions", "notes"],
        known: Iterable[np.ndarray],
        rows: int,
        dtype: np.dtype | None = None,
    ) -> np.ndarray:
        """Write an array of so many rows: parts that are known, and behind them the new items'."""
        new = (getattr(self.load(number), name) for number in range(len(self.fresh)))
        return store_array(data / FILES[name], rows, chain(known, new), dtype)


def laid_out(rows: Iterable[Entry], first: int = 0, first_note: int = 0) -> list[Entry]:
    """Give rows their positions, one behind the other, from a vector and a note on."""
    entries = []
    for row in rows:
        entries.append(replace(row, first=first, first_note=first_note))
        first, first_note = first + row.count, first_note + row.notes
    return entries


def store_lists(data: Path, lists: InvertedLists) -> None:
    """Write which vectors each inverted list has."""
    np.save(data / LIST_ROWS, lists.rows)
    np.save(data / BOUNDS, lists.bounds)
