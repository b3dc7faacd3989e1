"""The note triples of a library as sorted postings.

Conventions: postings are those of `mmid.index.fingerprints`. Of a fingerprint that more notes share
than it is worth counting only a stop-list entry is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

import numpy as np

from mmid.errors import LibraryIndexError
from mmid.index.fingerprints import (
    FINGERPRINT,
    LONGEST_GAP,
    NOTE_BITS,
    STOP,
    find_triples,
    in_kept_half,
    make_postings,
    most_common,
    notes_of,
    spans_of,
)
from mmid.index.notes import in_melody
from mmid.index.packed_numbers import PackedNumbers
from mmid.index.sorted_runs import PAGE, SortedRuns
from mmid.system.arrays import let_go
from mmid.system.thread_map import thread_map

Sorted: TypeAlias = np.ndarray | PackedNumbers
"""Sorted postings, in memory or not."""

NOTES_AT_ONCE = 4_000
"""Notes whose triples are listed at once: what comes of them stays in the processor's cache."""

NOTES_OF_RUN = 80_000
"""Notes whose postings are sorted together; bounds memory, as `BLOCK` does."""

BLOCK = 1 << 20
"""Postings looked at together."""

NONE = np.zeros(0, np.uint64)


def library_postings(
    notes: np.ndarray,
    firsts: Sequence[int],
    known: Sorted | None = None,
    start: int = 0,
    *,
    melody: bool = False,
    work: Path | None = None,
) -> Iterator[np.ndarray]:
    """Return the postings of pieces whose notes follow one another.

    Parameters
    ----------
    notes : np.ndarray [n] of mmid.music.notes.NOTE_DTYPE
        As they are stored (`mmid.index.notes`).
    firsts : sequence of int
        Where each piece begins in them, ascending.
    known : np.ndarray [m] uint64 or PackedNumbers, optional
        The postings of the pieces before a note.
    start : int
        That note.
    melody : bool
        List the triples of melodies alone, which no other note comes between.
    work : Path, optional
        A folder whose disk takes what memory should not hold; by default that of temporary files.

    Returns
    -------
    iterator of np.ndarray uint64
        Sorted postings, stop-list entries among them, in parts that are made as they are read.

    Raises
    ------
    LibraryIndexError
        If there are more notes than a posting can number.
    """
    _refuse_too_many(notes)
    if known is not None:
        more = SortedRuns(_list_postings(notes, firsts, start, melody), work)
        before = _listed_in(known)
        if most_common(before) == most_common(before + len(more)):  # none come back
            return _thinned(known, more, most_common(before))
    runs = SortedRuns(_list_postings(notes, firsts, 0, melody), work)
    return _thinned(NONE, runs, most_common(len(runs)))


def delta_postings(
    base: Sorted,
    known: Sorted,
    notes: np.ndarray,
    firsts: Sequence[int],
    start: int,
    *,
    melody: bool = False,
    work: Path | None = None,
) -> Iterator[np.ndarray]:
    """Return the postings that go beside those of a library, which stay as they are.

    What is on the library's stop list is left out. A fingerprint is common by its number here, so
    that there may be twice as many as in `library_postings` of all in one.

    Parameters
    ----------
    base : np.ndarray [n] uint64 or PackedNumbers
        The library's postings.
    known : np.ndarray [m] uint64 or PackedNumbers
        Those beside them until now.
    notes, firsts, start, melody, work
        As of `library_postings`: the library's notes and the others behind them, of which those
        from ``start`` on are new.

    Raises
    ------
    LibraryIndexError
        If there are more notes than a posting can number.
    """
    _refuse_too_many(notes)
    runs = _list_postings(notes, firsts, start, melody)
    more = SortedRuns((run[~_is_stopped(base, run)] for run in runs), work)
    return _thinned(known, more, most_common(len(base)))


def _is_stopped(base: Sorted, postings: np.ndarray) -> np.ndarray:
    """Return which of sorted postings have a fingerprint on a stop list."""
    fingerprint, counts = np.unique(postings >> FINGERPRINT, return_counts=True)
    first = base.searchsorted(fingerprint << FINGERPRINT)
    there = first < len(base)
    found = base[first[there]]
    stopped = np.zeros(len(fingerprint), bool)
    stopped[there] = (found >> FINGERPRINT == fingerprint[there]) & (spans_of(found) == STOP)
    return np.repeat(stopped, counts)


def _list_postings(
    notes: np.ndarray, firsts: Sequence[int], start: int, melody: bool
) -> Iterator[np.ndarray]:
    """Yield the postings of pieces, or of their melodies, from a note on: some sorted at a time."""
    bounds = np.array([*firsts, len(notes)])
    bounds = bounds[bounds >= start]

    def run_of(some: np.ndarray) -> np.ndarray:
        """Return the sorted postings of pieces that lie between some bounds."""
        few = _parts(some, NOTES_AT_ONCE)
        postings = np.concatenate([NONE, *(_postings_of(notes, part, melody) for part in few)])
        let_go(notes)
        postings.sort()
        return postings

    return thread_map(run_of, [*_parts(bounds, NOTES_OF_RUN)])


def _postings_of(notes: np.ndarray, bounds: np.ndarray, melody: bool) -> np.ndarray:
    """Return the postings of pieces that lie between some bounds, unsorted."""
    own = notes[bounds[0] : bounds[-1]]
    onset = _end_to_end(own["onset"], bounds - bounds[0])
    numbers = np.flatnonzero(in_melody(own)) if melody else np.arange(len(own))
    triples = find_triples(onset[numbers], own["pitch"][numbers], in_kept_half())
    return replace(triples, note=numbers[triples.note]).postings(int(bounds[0]))


def _parts(bounds: np.ndarray, notes: int) -> Iterator[np.ndarray]:
    """Yield bounds of pieces that follow one another: of so many notes, or one piece."""
    while len(bounds) > 1:
        ahead = max(1, int(np.searchsorted(bounds, bounds[0] + notes, "right")) - 1)
        if bounds[ahead] > bounds[0]:
            yield bounds[: ahead + 1]
        bounds = bounds[ahead:]


def _listed_in(postings: Sorted) -> int:
    """Count the postings that thinned ones were made of."""
    count = len(postings)
    for first in range(0, len(postings), BLOCK):
        block = postings[first : first + BLOCK]
        count += int((notes_of(block[spans_of(block) == STOP]) - 1).sum())
    return count


def _thinned(known: Sorted, more: SortedRuns, most: int) -> Iterator[np.ndarray]:
    """Put postings among thinned ones, and stop-list entries in place of what is too common."""

    def part(bounds: tuple[int, int]) -> np.ndarray:
        fresh, ends = more.within(*bounds), np.array(bounds, np.uint64)
        first, end = known.searchsorted(ends[:1])[0], known.searchsorted(ends[1:], "right")[0]
        if first < end:
            fresh = np.concatenate([known[first:end], fresh])
            fresh.sort(kind="stable")  # merges what is sorted already
        return _thin(fresh, most)

    return thread_map(part, _ranges(known, more))


def _ranges(known: Sorted, more: SortedRuns) -> list[tuple[int, int]]:
    """Return ranges of about `BLOCK` postings at most, all of a fingerprint in one."""
    samples = [more.samples(), known[np.arange(0, len(known), PAGE)]]
    begins = np.sort(np.concatenate(samples))[:: max(1, BLOCK // PAGE)]
    whole = {0, 2**64, *(begins[1:] >> FINGERPRINT << FINGERPRINT).tolist()}
    return [(low, high - 1) for low, high in pairwise(sorted(whole))]


def _thin(postings: np.ndarray, most: int) -> np.ndarray:
    """Put a stop-list entry in place of fingerprints that more of sorted postings have."""
    fingerprint = postings >> FINGERPRINT
    firsts = np.flatnonzero(np.diff(fingerprint, prepend=~fingerprint[:1]))
    rows = np.diff(firsts, append=len(postings))
    counts, stops = rows.copy(), np.flatnonzero(spans_of(postings) == STOP)
    counts[np.searchsorted(firsts, stops, "right") - 1] += notes_of(postings[stops]) - 1
    common = counts > most
    kept = np.repeat(~common, rows)
    kept[firsts[common]] = True
    thin = postings[kept]
    entries = np.cumsum(np.where(common, 1, rows))[common] - 1
    thin[entries] = _stop_entries(fingerprint[firsts[common]], counts[common])
    return np.asarray(thin)


def _refuse_too_many(notes: np.ndarray) -> None:
    if len(notes) > 2**NOTE_BITS:
        raise LibraryIndexError(
            f"{len(notes):,} notes are too many for one index; make several of parts of the library"
        )


def _stop_entries(fingerprint: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return stop-list entries of fingerprints that so many postings have."""
    counts = np.minimum(counts, 2**NOTE_BITS - 1)
    return make_postings(fingerprint, counts, np.full(len(counts), STOP))


def _end_to_end(onset: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Lay pieces on one time axis, so far apart that no triple spans two."""
    counts = np.diff(bounds)
    filled = counts > 0
    lasts = onset[bounds[1:][filled] - 1].astype(np.float64)
    begins = np.cumsum(lasts + 2 * LONGEST_GAP) - lasts
    return np.asarray(onset + np.repeat(begins, counts[filled]))
