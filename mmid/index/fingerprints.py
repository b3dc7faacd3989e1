"""Note-triple fingerprints: what three notes that follow one another are looked up by.

Conventions: times in seconds. A triple is three notes that follow one another, each at least
`APART` after the one before. Its fingerprint is the intervals from the first to the others, the
ratio of the two gaps, which no tempo changes, and the first pitch, from the highest digits to the
lowest: the same triple in other keys is a number nearby, and all keys are looked up at once. Its
span, from the first note to the third, then gives the tempo. A posting is a 64-bit number:
fingerprint, note and span, from the highest bits to the lowest. Of fingerprints too common in a
library there is a stop-list entry alone: their number for a note, and the last span. Notes are of
`mmid.music.notes.NOTE_DTYPE`, sorted by onset.

References
----------
.. [1] A. Arzt, S. Böck, G. Widmer, "Fast identification of piece and score position via symbolic
   fingerprinting", ISMIR 2012.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from mmid.music.notes import PITCHES

APART = 0.05
"""Notes closer than this sound together."""

LONGEST_GAP = 8.0
"""No gap within a triple is longer."""

FOLLOWERS = 5
"""Notes that each note of a triple may go on with: those that follow soonest."""

RATIO_BINS, BINS_PER_OCTAVE = 32, 4
"""Gap ratios from 1/16 to 16; a query looks in the neighbouring bins, too."""

NOTE_BITS, SPAN_BITS = 28, 10
SPAN_OCTAVES, SPAN_STEPS = 5, 102
"""Spans are kept from 1/32 s on, in so many steps an octave."""

FINGERPRINT = np.uint64(NOTE_BITS + SPAN_BITS)
"""Bits below a posting's fingerprint."""

STOP = 2**SPAN_BITS - 1
"""The span of a stop-list entry."""

SLOWEST, FASTEST = 0.25, 4.0
"""Speeds of the query against the piece."""

BIN = 1.0
"""Postings agree if they put the query's middle within so many seconds of the piece."""


@dataclass(frozen=True, eq=False)
class NoteTriples:
    """The note triples of some music.

    Parameters
    ----------
    fingerprint : np.ndarray [n] uint64
    note : np.ndarray [n] int64
        Their first notes.
    span : np.ndarray [n] float64
        From the first note to the third.
    """

    fingerprint: np.ndarray
    note: np.ndarray
    span: np.ndarray

    def __len__(self) -> int:
        return len(self.note)

    def take(self, chosen: np.ndarray) -> NoteTriples:
        """Return some of them."""
        return NoteTriples(self.fingerprint[chosen], self.note[chosen], self.span[chosen])

    @property
    def pitch(self) -> np.ndarray:
        """Those of their first notes, ``[n]`` int64."""
        return self.fingerprint.astype(np.int64) % PITCHES

    def thin(self, most: int) -> NoteTriples:
        """Return at most so many of them, spread evenly."""
        return self.take(np.linspace(0, len(self) - 1, min(len(self), most)).astype(np.int64))

    def postings(self, base: int = 0) -> np.ndarray:
        """Return them as postings, unsorted, with notes counted from a base on."""
        span = np.round((np.log2(self.span) + SPAN_OCTAVES) * SPAN_STEPS)
        return make_postings(self.fingerprint, self.note + base, np.clip(span, 0, STOP - 1))


def make_postings(fingerprint: np.ndarray, note: np.ndarray, span: np.ndarray) -> np.ndarray:
    """Put fingerprints, notes and spans, whole numbers all, together."""
    postings = fingerprint << FINGERPRINT
    postings |= note.astype(np.uint64) << np.uint64(SPAN_BITS)
    postings |= span.astype(np.uint64)
    return postings


def spans_of(postings: np.ndarray) -> np.ndarray:
    """Return the spans of postings, as whole numbers; `STOP` of stop-list entries."""
    return postings & np.uint64(2**SPAN_BITS - 1)


def notes_of(postings: np.ndarray) -> np.ndarray:
    """Return the notes of postings, or what stop-list entries say instead."""
    return (postings >> np.uint64(SPAN_BITS) & np.uint64(2**NOTE_BITS - 1)).astype(np.int64)


def find_triples(
    onset: np.ndarray, pitch: np.ndarray, kept: np.ndarray | None = None
) -> NoteTriples:
    """List the triples of notes.

    Parameters
    ----------
    onset : np.ndarray [n] float64
        Sorted.
    pitch : np.ndarray [n] uint8
    kept : np.ndarray [PITCHES ** 2] bool, optional
        Which to list, by their intervals; by default all.
    """
    follower = np.searchsorted(onset, onset + APART)[:, None] + np.arange(FOLLOWERS)
    exists = follower < len(onset)
    follower = np.minimum(follower, len(onset) - 1)
    gaps = onset[follower] - onset[:, None]
    exists &= gaps <= LONGEST_GAP
    interval = (pitch[follower] - pitch[:, None]) % np.uint8(PITCHES)
    pairs = np.flatnonzero(exists)
    second, to_second = follower.ravel()[pairs], interval.ravel()[pairs][:, None]
    to_third = (interval.take(second, 0) + to_second) % np.uint8(PITCHES)
    intervals = to_second * np.int64(PITCHES) + to_third
    listed = exists.take(second, 0)
    if kept is not None:
        listed &= kept.take(intervals)
    triples = np.flatnonzero(listed)
    pair, which = np.divmod(triples, FOLLOWERS)
    gap, then = gaps.ravel()[pairs[pair]], gaps.ravel()[second[pair] * FOLLOWERS + which]
    ratio = np.floor(np.log2(then / gap) * BINS_PER_OCTAVE) + RATIO_BINS // 2
    fingerprint = intervals.ravel()[triples] * RATIO_BINS
    fingerprint += np.clip(ratio, 0, RATIO_BINS - 1).astype(np.int64)
    first = pairs[pair] // FOLLOWERS
    fingerprint = fingerprint * PITCHES + pitch[first]
    return NoteTriples(fingerprint.astype(np.uint64), first, gap + then)


@dataclass(frozen=True, eq=False)
class Ranges:
    """Postings to look at: those from a number to another.

    Parameters
    ----------
    which : np.ndarray [n] int64
        The triple of a query that each range is for.
    low, high : np.ndarray [n] uint64
    """

    which: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def of(cls, triples: NoteTriples, lowest: int = 0, highest: int = 0) -> Ranges:
        """Return where triples may be, gap ratios one bin off and some transpositions included.

        A query transposed by so many semitones against the library, from the lowest to the highest,
        has triples that lie as many below it there.
        """
        pitch = triples.pitch
        base = triples.fingerprint.astype(np.int64) - pitch
        ratio = base // PITCHES % RATIO_BINS
        first, last = (np.clip(pitch - key, 0, PITCHES - 1) for key in (highest, lowest))
        parts = []
        for shift in (-1, 0, 1):
            (kept,) = np.nonzero((ratio + shift >= 0) & (ratio + shift < RATIO_BINS))
            near = base[kept] + shift * PITCHES
            parts.append((kept, near + first[kept], near + last[kept] + 1))
        which, low, high = (np.concatenate(side) for side in zip(*parts, strict=True))
        begins, ends = (side.astype(np.uint64) << FINGERPRINT for side in (low, high))
        return cls(which, begins, ends - np.uint64(1))

    def rarest(self, sizes: np.ndarray, most: int) -> Ranges:
        """Keep those of the triples with fewest postings, as long as these are no more in all."""
        of_triple = np.bincount(self.which, sizes)
        order = np.argsort(of_triple, kind="stable")
        chosen = np.zeros(len(of_triple), bool)
        chosen[order[np.cumsum(of_triple[order]) <= most]] = True
        kept = chosen[self.which]
        return Ranges(self.which[kept], self.low[kept], self.high[kept])


def look_up(
    postings: np.ndarray, triples: NoteTriples, ranges: Ranges | None = None
) -> tuple[np.ndarray, NoteTriples]:
    """Find the postings of a query's fingerprints, gap ratios one bin off included.

    Those on the stop list are passed over.

    Parameters
    ----------
    postings : np.ndarray [n] uint64
        Sorted.
    triples : NoteTriples
        The query's.
    ranges : Ranges, optional
        Where to look; by default wherever the triples may be in the query's own key.

    Returns
    -------
    which : np.ndarray [found] int64
        The query's triple.
    found : NoteTriples
        The library's.
    """
    ranges = Ranges.of(triples) if ranges is None else ranges
    first = np.searchsorted(postings, ranges.low)
    count = np.searchsorted(postings, ranges.high, "right") - first
    before = np.cumsum(count) - count
    posting = postings[np.repeat(first - before, count) + np.arange(count.sum())]
    which, span = np.repeat(ranges.which, count), spans_of(posting)
    which, posting, span = (side[span != STOP] for side in (which, posting, span))
    seconds = 2.0 ** (span.astype(np.float64) / SPAN_STEPS - SPAN_OCTAVES)
    return which, NoteTriples(posting >> FINGERPRINT, notes_of(posting), seconds)


SCATTER = np.uint64(0x9E3779B97F4A7C15)
"""Multiplied by it, fingerprints scatter evenly (Knuth's multiplicative hashing)."""

MOST_POSTINGS = 300
"""A fingerprint with more postings than this says little for what it costs to count: leaving it out
is five times as fast and finds more, and half of a library's postings need not be kept."""

LARGE = 60_000_000
"""With twice as many postings a library may have twice as many of a fingerprint, and so on."""


@cache
def in_kept_half() -> np.ndarray:
    """Return of which intervals triples are kept, in every key, whatever the gaps' ratio.

    Returns
    -------
    np.ndarray [PITCHES ** 2] bool
        By the second note's interval times `PITCHES`, and the third note's.
    """
    return np.asarray((np.arange(PITCHES**2, dtype=np.uint64) * SCATTER) >> np.uint64(63) == 0)


def most_common(postings: int) -> int:
    """Return how many postings of a fingerprint a library of so many may have.

    Examples
    --------
    >>> most_common(1_000), most_common(130_000_000), most_common(500_000_000)
    (300, 600, 2400)
    """
    return MOST_POSTINGS << max(0, (postings // LARGE).bit_length() - 1)
