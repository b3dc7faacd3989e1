"""Pieces found by triples of their notes, after Arzt, Böck and Widmer (ISMIR 2012).

Conventions: times in seconds. A triple is three notes that follow one another, each at least
`APART` after the one before. Its fingerprint is their pitches and the ratio of the two gaps, which
no tempo changes; its span, from the first note to the third, then tells the tempo. A token is a
64-bit number: fingerprint, note and span, from the highest bits to the lowest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

APART = 0.05
"""Notes closer than this sound together."""

LONGEST = 8.0
"""No gap within a triple is longer."""

FOLLOWERS = 5
"""Notes that each note of a triple may go on with: those that follow soonest."""

RATIO_BINS, BINS_PER_OCTAVE = 32, 4
"""Gap ratios from 1/16 to 16; a query looks in the neighbouring bins, too."""

NOTE_BITS, SPAN_BITS = 28, 10
SPAN_OCTAVES, SPAN_STEPS = 5, 102
"""Spans are kept from 1/32 s on, in so many steps an octave."""

SLOWEST, FASTEST = 0.25, 4.0
"""Speeds of the query against the piece."""

BIN = 1.0
"""Tokens agree if they place the query's middle within so many seconds of the piece."""

SHARD = 500_000
"""Notes indexed together; bounds the memory a search needs."""

MARGIN = 30.0
"""The query's middle lies no farther outside its piece."""

MOST_TOKENS = 20_000
"""Of a query; those of a longer one are thinned evenly."""


@dataclass(frozen=True, eq=False)
class Triples:
    """Triples of the notes of some music.

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

    def thin(self, most: int) -> Triples:
        """Return at most so many of them, spread evenly."""
        kept = np.linspace(0, len(self) - 1, min(len(self), most)).astype(np.int64)
        return Triples(self.fingerprint[kept], self.note[kept], self.span[kept])


def find_triples(onset: np.ndarray, pitch: np.ndarray) -> Triples:
    """List the triples of notes.

    Parameters
    ----------
    onset : np.ndarray [n] float64
        Sorted.
    pitch : np.ndarray [n] uint8
    """
    follower = np.searchsorted(onset, onset + APART)[:, None] + np.arange(FOLLOWERS)
    exists = follower < len(onset)
    follower = np.minimum(follower, len(onset) - 1)
    exists &= onset[follower] - onset[:, None] <= LONGEST
    first, which = np.nonzero(exists)
    second = follower[first, which]
    pair, which = np.nonzero(exists[second])
    first, second = first[pair], second[pair]
    third = follower[second, which]
    gap, then = onset[second] - onset[first], onset[third] - onset[second]
    ratio = np.floor(np.log2(then / gap) * BINS_PER_OCTAVE) + RATIO_BINS // 2
    fingerprint = np.clip(ratio, 0, RATIO_BINS - 1).astype(np.uint64)
    for place, note in enumerate((third, second, first)):
        fingerprint += pitch[note].astype(np.uint64) * np.uint64(RATIO_BINS * 128**place)
    return Triples(fingerprint, first, gap + then)


def _neighbours(triples: Triples) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield which triples have a fingerprint one ratio bin lower, the same and higher, and it."""
    ratio = triples.fingerprint.astype(np.int64) % RATIO_BINS
    for shift in (-1, 0, 1):
        (kept,) = np.nonzero((ratio + shift >= 0) & (ratio + shift < RATIO_BINS))
        yield kept, (triples.fingerprint[kept].astype(np.int64) + shift).astype(np.uint64)


class _Shard:
    """The tokens of some pieces, which are laid end to end on one time axis, far apart.

    Parameters
    ----------
    notes : sequence of np.ndarray of mmid.midi.NOTE_DTYPE
        One a piece, sorted by onset.
    """

    def __init__(self, notes: Sequence[np.ndarray]) -> None:
        lasts = np.array([piece["onset"].max(initial=0) for piece in notes], np.float64)
        starts = np.cumsum(lasts + 2 * MARGIN) - lasts - MARGIN
        owner = np.repeat(np.arange(len(notes)), [len(piece) for piece in notes])
        self.pieces, self._begins = len(notes), starts - MARGIN
        self._onset = np.concatenate([piece["onset"] for piece in notes]) + starts[owner]
        triples = find_triples(self._onset, np.concatenate([piece["pitch"] for piece in notes]))
        span = np.round((np.log2(triples.span) + SPAN_OCTAVES) * SPAN_STEPS)
        tokens = triples.fingerprint << np.uint64(NOTE_BITS + SPAN_BITS)
        tokens |= triples.note.astype(np.uint64) << np.uint64(SPAN_BITS)
        tokens |= np.clip(span, 0, 2**SPAN_BITS - 1).astype(np.uint64)
        tokens.sort()
        self._tokens = tokens

    def count(self, triples: Triples, when: np.ndarray) -> np.ndarray:
        """Count the query's tokens that agree on a place, for each piece's best place.

        Parameters
        ----------
        triples : Triples
            Of the query.
        when : np.ndarray [triples] float64
            When each begins, from the query's middle.
        """
        best = np.zeros(self.pieces, np.int64)
        which, token = self._look_up(triples)
        mask = np.uint64(2**SPAN_BITS - 1)
        span = 2.0 ** ((token & mask).astype(np.float64) / SPAN_STEPS - SPAN_OCTAVES)
        note = (token >> np.uint64(SPAN_BITS) & np.uint64(2**NOTE_BITS - 1)).astype(np.int64)
        tempo_ratio = span / triples.span[which]
        middle = self._onset[note] - when[which] * tempo_ratio
        owner = self._owner(middle)
        fits = (tempo_ratio >= SLOWEST) & (tempo_ratio <= FASTEST)
        fits &= owner == self._owner(self._onset[note])
        which, owner = which[fits], owner[fits]
        inside = (middle[fits] - self._begins[owner]) / BIN
        for shift in (0.0, 0.5):
            place = owner + self.pieces * np.floor(inside + shift).astype(np.int64)
            votes = np.unique(place * len(triples) + which) // len(triples)  # one a token
            place, counts = np.unique(votes, return_counts=True)
            np.maximum.at(best, place % self.pieces, counts)
        return best

    def _owner(self, place: np.ndarray) -> np.ndarray:
        return np.searchsorted(self._begins, place, side="right") - 1

    def _look_up(self, triples: Triples) -> tuple[np.ndarray, np.ndarray]:
        """Return, for every token of these pieces alike, the query's triple and the token."""
        whose, tokens = [], []
        shift = np.uint64(NOTE_BITS + SPAN_BITS)
        for kept, fingerprint in _neighbours(triples):
            first = np.searchsorted(self._tokens, fingerprint << shift)
            found = np.searchsorted(self._tokens, (fingerprint + np.uint64(1)) << shift) - first
            before = np.cumsum(found) - found
            place = np.repeat(first - before, found) + np.arange(found.sum())
            whose.append(np.repeat(kept, found))
            tokens.append(self._tokens[place])
        return np.concatenate(whose), np.concatenate(tokens)


class FingerprintIndex:
    """The note triples of a library, ready for queries.

    From the paper it departs in three points, each of which finds more: a query's token counts
    once a place, however often it is found there; the tempo comes from the whole span of a triple
    rather than its first gap; and places are those of the query's middle, which an error of the
    tempo moves least.

    Parameters
    ----------
    notes : sequence of np.ndarray of mmid.midi.NOTE_DTYPE
        One a piece, sorted by onset.

    References
    ----------
    .. [1] A. Arzt, S. Böck, G. Widmer, "Fast identification of piece and score position via
       symbolic fingerprinting", ISMIR 2012.
    """

    def __init__(self, notes: Sequence[np.ndarray]) -> None:
        shard = (np.cumsum([len(piece) for piece in notes]) - 1) // SHARD
        firsts = np.flatnonzero(np.diff(shard, prepend=-1)).tolist()
        ends = [*firsts[1:], len(notes)]
        self._shards = [_Shard(notes[a:b]) for a, b in zip(firsts, ends, strict=True)]

    def search(self, notes: np.ndarray) -> np.ndarray:
        """Return how much of a query agrees on its best place in each piece.

        Parameters
        ----------
        notes : np.ndarray of mmid.midi.NOTE_DTYPE
            Sorted by onset.

        Returns
        -------
        np.ndarray [pieces] float64
            Share of the query's tokens, 0 to 1.
        """
        onset = notes["onset"].astype(np.float64)
        triples = find_triples(onset, notes["pitch"]).thin(MOST_TOKENS)
        if not len(triples):
            return np.zeros(sum(shard.pieces for shard in self._shards))
        when = onset[triples.note] - (onset[0] + onset[-1]) / 2
        counts = np.concatenate([shard.count(triples, when) for shard in self._shards])
        return counts / len(triples)
