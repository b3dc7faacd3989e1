"""Small changes of a large index: a second data folder, the delta, beside the first.

Conventions: the delta goes on where the first folder's vectors, positions and notes end, and has
the postings of those notes, the table of all items, and the inverted lists of all vectors that
these have. What no item has any more stays where it is and is passed over. Every change makes the
delta anew, so there is one at most; where it would be large, the whole index is written anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np

from mmid.index.fingerprint_table import delta_postings
from mmid.index.folder import LibraryIndex
from mmid.index.inverted_lists import InvertedLists, nearest_centroids
from mmid.index.items import Entry, write_pieces
from mmid.index.manifest import (
    BOUNDS,
    LIST_ROWS,
    MELODY_POSTINGS,
    NOTES,
    PIECES,
    POSITIONS,
    SORTED_FILES,
    VECTORS,
)
from mmid.index.pending import Embedded
from mmid.index.sorted_file import page_index_of
from mmid.index.spans import rows_within
from mmid.system.arrays import joined, map_array, store_array
from mmid.system.console import ProgressCallback, quiet

WHOLE_BELOW = 200_000
"""An index of fewer vectors is written anew: that is soon done."""

LARGEST = 0.2
"""Vectors that were added or removed since, against those of the first data folder."""


def is_small(
    old: LibraryIndex, kept: Sequence[tuple[Entry, Entry]], fresh: Sequence[Entry]
) -> bool:
    """Return whether a change, as of `write_delta`, leaves most of the first data folder."""
    stay = sum(before.count for before, _ in kept if before.first < old.base_rows)
    added = len(old.vectors) - old.base_rows + sum(entry.count for entry in fresh)
    changed = added + old.base_rows - stay
    return old.base_rows >= WHOLE_BELOW and changed <= LARGEST * old.base_rows


def write_delta(
    data: Path,
    old: LibraryIndex,
    kept: Sequence[tuple[Entry, Entry]],
    fresh: Sequence[Entry],
    load: Callable[[int], Embedded],
    progress: ProgressCallback = quiet,
) -> list[Entry]:
    """Write the files of a delta.

    Parameters
    ----------
    data : Path
        Its folder, empty.
    old : LibraryIndex
        The index that it changes.
    kept : sequence of (Entry, Entry)
        Rows of the old index, in its order, and what they shall say now.
    fresh : sequence of Entry
        New rows.
    load : callable
        Gives the item of a new row by its position in `fresh`.
    progress : callable
        Called with ``(what, done, total)``.

    Returns
    -------
    list of Entry
        The table's rows.

    Raises
    ------
    LibraryIndexError
        If the old inverted lists or postings are damaged.
    """
    items = range(len(fresh))
    entries = [*_as_they_lie(kept), *_behind(old, fresh)]
    before = old.vectors[old.base_rows :]
    vectors = _go_on(data / VECTORS, before, (load(i).vectors for i in items), fresh, "count")
    known = old.positions[old.base_rows :]
    _go_on(data / POSITIONS, known, (load(i).positions for i in items), fresh, "count")
    known = old.all_notes[old.base_notes :]
    notes = _go_on(data / NOTES, known, (load(i).notes for i in items), fresh, "notes")
    if len(notes):
        _write_postings(data, old, notes, entries[len(kept) :])
    write_pieces(data / PIECES, entries)
    lists = _lists(old, entries, vectors[len(before) :], progress)
    np.save(data / LIST_ROWS, lists.rows)
    np.save(data / BOUNDS, lists.bounds)
    return entries


def _as_they_lie(kept: Sequence[tuple[Entry, Entry]]) -> Iterable[Entry]:
    for before, after in kept:
        first, first_note = before.first, before.first_note
        lies_there = (after.first, after.first_note) == (first, first_note)
        yield after if lies_there else replace(after, first=first, first_note=first_note)


def _behind(old: LibraryIndex, fresh: Sequence[Entry]) -> Iterable[Entry]:
    first, first_note = len(old.vectors), len(old.all_notes)
    for entry in fresh:
        yield replace(entry, first=first, first_note=first_note)
        first, first_note = first + entry.count, first_note + entry.notes


def _go_on(
    path: Path, known: np.ndarray, more: Iterable[np.ndarray], fresh: Sequence[Entry], what: str
) -> np.ndarray:
    """Write an old delta's rows and those of new items; no rows need no file."""
    rows = len(known) + sum(getattr(entry, what) for entry in fresh)
    return store_array(path, rows, chain([known], more)) if rows else known


def _write_postings(
    data: Path, old: LibraryIndex, notes: np.ndarray, fresh: Sequence[Entry]
) -> None:
    """Write the postings of a delta's notes, the old one's and those of new items."""
    uint64 = np.dtype(np.uint64)
    base_notes, *_ = old.checks.check_parts(NOTES)
    whole = joined([map_array(base_notes, notes.dtype), notes])
    firsts = [entry.first_note for entry in fresh]
    for name, page_index in SORTED_FILES:
        base, *known = (map_array(path, np.uint64) for path in old.checks.check_parts(name))
        before = known[0] if known else np.zeros(0, np.uint64)
        start, melody = len(old.all_notes), name == MELODY_POSTINGS
        postings = delta_postings(base, before, whole, firsts, start, melody=melody)
        stored = store_array(data / name, postings.count, postings.parts, uint64)
        np.save(data / page_index, page_index_of(stored))


def _lists(
    old: LibraryIndex, entries: Sequence[Entry], fresh: np.ndarray, progress: ProgressCallback
) -> InvertedLists:
    """Take the vectors of removed items out of the old inverted lists, and put new ones in."""
    lists, first = old.inverted_lists(), len(old.vectors)
    held = rows_within(((entry.first, entry.count) for entry in entries), first + len(fresh))
    stays = held[lists.rows]
    number = np.repeat(np.arange(len(lists.centroids), dtype=np.int32), np.diff(lists.bounds))
    more = nearest_centroids(fresh, lists.centroids, progress)
    rows = np.concatenate([lists.rows[stays], np.arange(first, len(held), dtype=np.uint32)])
    of_all = np.concatenate([number[stays], more])
    return InvertedLists.of(old.vectors, lists.centroids, of_all, lists.graph, rows)
