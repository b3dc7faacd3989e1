"""Small changes of a large index: a second data folder, the delta, beside the first.

Conventions: the delta goes on where the first folder's vectors, positions and notes end, and has
the postings of those notes, the table of all items, and the inverted lists of all vectors that
these have. What no item has any more stays where it is and is passed over. Every change makes the
delta anew, so there is one at most; where it would be large, the whole index is written anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mmid.index.change import Change, laid_out, store_lists
from mmid.index.fingerprint_table import delta_postings
from mmid.index.folder import LibraryIndex
from mmid.index.inverted_lists import InvertedLists, nearest_centroids
from mmid.index.items import Entry, write_pieces
from mmid.index.manifest import MELODY_POSTINGS, NOTES, PIECES, SORTED_FILES
from mmid.index.melodies import store_melodies
from mmid.index.packed_numbers import PackedNumbers, store_sorted
from mmid.index.spans import rows_within
from mmid.system.arrays import joined, map_array
from mmid.system.console import ProgressCallback

WHOLE_BELOW = 200_000
"""An index of fewer vectors is written anew: that is soon done."""

LARGEST = 0.2
"""Vectors that were added or removed since, against those of the first data folder."""


def is_small(old: LibraryIndex, change: Change) -> bool:
    """Return whether a change leaves most of the first data folder."""
    stay = sum(before.count for before, _ in change.kept if before.first < old.base_rows)
    added = len(old.vectors) - old.base_rows + sum(entry.count for entry in change.fresh)
    changed = added + old.base_rows - stay
    return old.base_rows >= WHOLE_BELOW and changed <= LARGEST * old.base_rows


def write_delta(data: Path, old: LibraryIndex, change: Change) -> list[Entry]:
    """Write the files of a delta.

    Parameters
    ----------
    data : Path
        Its folder, empty.
    old : LibraryIndex
        The index that it changes.
    change : Change

    Returns
    -------
    list of Entry
        The table's rows.

    Raises
    ------
    LibraryIndexError
        If the old inverted lists or postings are damaged.
    """
    fresh = laid_out(change.fresh, len(old.vectors), len(old.all_notes))
    entries = [*_as_they_lie(change.kept), *fresh]
    vectors, before = old.vectors[old.base_rows :], len(old.vectors) - old.base_rows
    rows = before + sum(entry.count for entry in fresh)
    if rows:  # no rows need no file
        vectors = change.store(data, "vectors", [vectors], rows)
        change.store(data, "positions", [old.positions[old.base_rows :]], rows)
    notes = old.all_notes[old.base_notes :]
    count = len(notes) + sum(entry.notes for entry in fresh)
    if count:
        notes = change.store(data, "notes", [notes], count)
        _write_postings(data, old, notes, fresh)
        _write_melodies(data, old, notes, entries)
    write_pieces(data / PIECES, entries)
    store_lists(data, _lists(old, entries, vectors[before:], change.progress))
    return entries


def _as_they_lie(kept: Sequence[tuple[Entry, Entry]]) -> Iterable[Entry]:
    for before, after in kept:
        first, first_note = before.first, before.first_note
        lies_there = (after.first, after.first_note) == (first, first_note)
        yield after if lies_there else replace(after, first=first, first_note=first_note)


def _write_postings(
    data: Path, old: LibraryIndex, notes: np.ndarray, fresh: Sequence[Entry]
) -> None:
    """Write the postings of a delta's notes, the old one's and those of new items."""
    base_notes, *_ = old.checks.check_parts(NOTES)
    whole = joined([map_array(base_notes, notes.dtype), notes])
    firsts = [entry.first_note for entry in fresh]
    for names in SORTED_FILES:
        paths = map(old.checks.check_parts, (names.heads, names.tails))
        base, *known = map(PackedNumbers.map, *paths)
        before = known[0] if known else np.zeros(0, np.uint64)
        start, melody = len(old.all_notes), names == MELODY_POSTINGS
        postings = delta_postings(base, before, whole, firsts, start, melody=melody, work=data)
        store_sorted(data, names, postings)


def _write_melodies(
    data: Path, old: LibraryIndex, notes: np.ndarray, entries: Sequence[Entry]
) -> None:
    """Write the melodies of a delta's notes."""
    behind = (entry for entry in entries if entry.first_note >= old.base_notes)
    here = [replace(entry, first_note=entry.first_note - old.base_notes) for entry in behind]
    store_melodies(data, notes, here)


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
