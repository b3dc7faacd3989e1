"""The note triples of a library as sorted postings.

Conventions: postings are those of `mmid.index.fingerprints`. Of a fingerprint that more notes share
than it is worth counting only a stop-list entry is kept.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from mmid.errors import LibraryIndexError
from mmid.index.fingerprints import (
    FINGERPRINT,
    LONGEST_GAP,
    NOTE_BITS,
    STOP,
    find_triples,
    kept_half,
    make_postings,
    most_common,
    notes_of,
    spans_of,
)
from mmid.index.notes import in_melody
from mmid.index.packed_numbers import PackedNumbers

Sorted: TypeAlias = np.ndarray | PackedNumbers
"""Sorted postings, in memory or not."""

NOTES_AT_ONCE = 4_000
"""Notes whose triples are listed at once: what comes of them stays in the processor's cache."""

BLOCK = 1 << 20
"""Postings looked at together; bounds memory."""


@dataclass(frozen=True, eq=False)
class Postings:
    """Sorted postings, stop-list entries among them, in parts that are made as they are read, once.

    Parameters
    ----------
    count : int
    parts : iterable of np.ndarray uint64
        Following one another.
    """

    count: int
    parts: Iterable[np.ndarray]


def library_postings(
    notes: np.ndarray,
    firsts: Sequence[int],
    known: Sorted | None = None,
    start: int = 0,
    *,
    melody: bool = False,
) -> Postings:
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

    Raises
    ------
    LibraryIndexError
        If there are more notes than a posting can number.
    """
    _refuse_too_many(notes)
    if known is not None:
        extended = _extended(known, _list_postings(notes, firsts, start, melody))
        if extended is not None:
            return extended
    return _thinned(_list_postings(notes, firsts, 0, melody))


def delta_postings(
    base: Sorted,
    known: Sorted,
    notes: np.ndarray,
    firsts: Sequence[int],
    start: int,
    *,
    melody: bool = False,
) -> Postings:
    """Return the postings that go beside those of a library, which stay as they are.

    What is on the library's stop list is left out. A fingerprint is common by its number here, so
    that there may be twice as many as in `library_postings` of all in one.

    Parameters
    ----------
    base : np.ndarray [n] uint64 or PackedNumbers
        The library's postings.
    known : np.ndarray [m] uint64 or PackedNumbers
        Those beside them until now.
    notes, firsts, start, melody
        As of `library_postings`: the library's notes and the others behind them, of which those
        from ``start`` on are new.

    Raises
    ------
    LibraryIndexError
        If there are more notes than a posting can number.
    """
    _refuse_too_many(notes)
    more = _list_postings(notes, firsts, start, melody)
    more = more[~_is_stopped(base, more)]
    return _with_more(known, _stop_list(known), more, most_common(len(base)))


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
) -> np.ndarray:
    """Return all sorted postings of the pieces, or of their melodies, from a note on."""
    bounds = np.array([*firsts, len(notes)])
    bounds = bounds[bounds >= start]

    def postings_of(some: np.ndarray) -> np.ndarray:
        """Return the postings of pieces that lie between some bounds."""
        own = notes[some[0] : some[-1]]
        onset = _end_to_end(own["onset"], some - some[0])
        numbers = np.flatnonzero(in_melody(own)) if melody else np.arange(len(own))
        triples = kept_half(find_triples(onset[numbers], own["pitch"][numbers]))
        return replace(triples, note=numbers[triples.note]).postings(int(some[0]))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        postings = _joined(pool.map(postings_of, _parts(bounds)))
    postings.sort()
    return postings


def _parts(bounds: np.ndarray) -> Iterator[np.ndarray]:
    """Yield bounds of pieces that follow one another: of `NOTES_AT_ONCE` notes, or one piece."""
    while len(bounds) > 1:
        ahead = max(1, int(np.searchsorted(bounds, bounds[0] + NOTES_AT_ONCE, "right")) - 1)
        if bounds[ahead] > bounds[0]:
            yield bounds[: ahead + 1]
        bounds = bounds[ahead:]


def _joined(parts: Iterable[np.ndarray]) -> np.ndarray:
    """Put arrays one behind the other as they come: no two whole copies."""
    postings, end = np.empty(BLOCK, np.uint64), 0
    for part in parts:
        if end + len(part) > len(postings):
            postings.resize(end + len(part) + end // 4, refcheck=False)
        postings[end : end + len(part)] = part
        end += len(part)
    postings.resize(end, refcheck=False)
    return postings


def _thinned(postings: np.ndarray) -> Postings:
    """Leave stop-list entries of too common fingerprints; the postings given are overwritten."""
    most, end = most_common(len(postings)), 0
    for block in _whole_blocks(postings):
        thin = _thin(block, most)
        postings[end : end + len(thin)] = thin  # no further than what was read
        end += len(thin)
    return Postings(end, (postings[i : min(i + BLOCK, end)] for i in range(0, end + 1, BLOCK)))


def _whole_blocks(postings: np.ndarray) -> Iterator[np.ndarray]:
    """Yield sorted postings, about `BLOCK` at a time, all of a fingerprint together."""
    rest = postings
    while len(rest):
        last = rest[min(BLOCK, len(rest)) - 1] | ((np.uint64(1) << FINGERPRINT) - np.uint64(1))
        ahead = int(np.searchsorted(rest, last, "right"))
        yield rest[:ahead]
        rest = rest[ahead:]


def _thin(postings: np.ndarray, most: int) -> np.ndarray:
    """Put a stop-list entry in place of fingerprints that more of sorted postings have."""
    fingerprint = postings >> FINGERPRINT
    firsts = np.flatnonzero(np.diff(fingerprint, prepend=~fingerprint[:1]))
    counts = np.diff(firsts, append=len(postings))
    common = counts > most
    kept = np.repeat(~common, counts)
    kept[firsts[common]] = True
    thin = postings[kept]
    stops = np.cumsum(np.where(common, 1, counts))[common] - 1
    thin[stops] = _stop_entries(fingerprint[firsts[common]], counts[common])
    return np.asarray(thin)


def _refuse_too_many(notes: np.ndarray) -> None:
    if len(notes) > 2**NOTE_BITS:
        raise LibraryIndexError(
            f"{len(notes):,} notes are too many for one index; make several of parts of the library"
        )


def _extended(known: Sorted, more: np.ndarray) -> Postings | None:
    """Add postings to thinned ones; None if some were left out there that no longer are to be."""
    stops = _stop_list(known)
    before = len(known) + int((notes_of(known[stops]) - 1).sum())
    most = most_common(before + len(more))
    return _with_more(known, stops, more, most) if most == most_common(before) else None


def _stop_list(postings: Sorted) -> np.ndarray:
    """Return where stop-list entries are in postings."""
    firsts = range(0, len(postings) + 1, BLOCK)
    return np.concatenate([_stop_entries_in(postings, first) for first in firsts])


def _with_more(known: Sorted, stops: np.ndarray, more: np.ndarray, most: int) -> Postings:
    """Add sorted postings to thinned ones, whose stop list is given, and thin them as well."""
    fingerprint, added = np.unique(more >> FINGERPRINT, return_counts=True)
    first = known.searchsorted(fingerprint << FINGERPRINT)
    end = known.searchsorted((fingerprint + np.uint64(1)) << FINGERPRINT)
    counts = end - first
    stopped = np.isin(first, stops) & (counts > 0)
    counts[stopped] = notes_of(known[first[stopped]])
    counts += added
    common = counts > most
    rare = more[np.repeat(~common, added)]
    fresh = np.sort(np.concatenate([rare, _stop_entries(fingerprint[common], counts[common])]))
    left_out = int((end - first)[common].sum())
    parts = _merged(known, fresh, first[common], end[common])
    return Postings(len(known) + len(fresh) - left_out, parts)


def _merged(
    known: Sorted, fresh: np.ndarray, first: np.ndarray, end: np.ndarray
) -> Iterator[np.ndarray]:
    """Yield sorted postings with others among them and ranges left out; all are ascending."""
    position = known.searchsorted(fresh)
    for begin in range(0, len(known) + 1, BLOCK):
        block = known[begin : begin + BLOCK]
        some = slice(*np.searchsorted(position, [begin, begin + BLOCK]))
        edges = np.zeros(len(block) + 1, np.int8)
        np.add.at(edges, np.clip(first - begin, 0, len(block)), 1)
        np.add.at(edges, np.clip(end - begin, 0, len(block)), -1)
        left = np.flatnonzero(np.cumsum(edges[:-1], dtype=np.int8))
        ahead = position[some] - begin
        yield np.insert(np.delete(block, left), ahead - np.searchsorted(left, ahead), fresh[some])


def _stop_entries(fingerprint: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return stop-list entries of fingerprints that so many postings have."""
    counts = np.minimum(counts, 2**NOTE_BITS - 1)
    return make_postings(fingerprint, counts, np.full(len(counts), STOP))


def _stop_entries_in(postings: Sorted, first: int) -> np.ndarray:
    """Return where stop-list entries are in a block of postings."""
    return np.flatnonzero(spans_of(postings[first : first + BLOCK]) == STOP) + first


def _end_to_end(onset: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Lay pieces on one time axis, so far apart that no triple spans two."""
    counts = np.diff(bounds)
    filled = counts > 0
    lasts = onset[bounds[1:][filled] - 1].astype(np.float64)
    begins = np.cumsum(lasts + 2 * LONGEST_GAP) - lasts
    return np.asarray(onset + np.repeat(begins, counts[filled]))
