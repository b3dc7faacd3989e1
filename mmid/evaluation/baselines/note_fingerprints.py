"""Pieces found by note triples, after Arzt, Böck and Widmer (ISMIR 2012).

Conventions: those of `mmid.index.fingerprints`, whose triples and postings these are; all
postings are kept here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmid.index.fingerprints import BIN, FASTEST, SLOWEST, NoteTriples, find_triples, look_up

SHARD = 500_000
"""Notes indexed together; bounds the memory a search needs."""

MARGIN = 30.0
"""The query's middle lies no farther outside its piece."""

MOST_TRIPLES = 20_000
"""Of a query; those of a longer one are thinned evenly."""


class _Shard:
    """The postings of some pieces, which are laid end to end on one time axis, far apart.

    Parameters
    ----------
    notes : sequence of np.ndarray of mmid.music.notes.NOTE_DTYPE
        One a piece, sorted by onset.
    """

    def __init__(self, notes: Sequence[np.ndarray]) -> None:
        lasts = np.array([piece["onset"].max(initial=0) for piece in notes], np.float64)
        starts = np.cumsum(lasts + 2 * MARGIN) - lasts - MARGIN
        owner = np.repeat(np.arange(len(notes)), [len(piece) for piece in notes])
        self.pieces, self._begins = len(notes), starts - MARGIN
        self._onset = np.concatenate([piece["onset"] for piece in notes]) + starts[owner]
        triples = find_triples(self._onset, np.concatenate([piece["pitch"] for piece in notes]))
        self._postings = triples.postings()
        self._postings.sort()

    def count(self, triples: NoteTriples, when: np.ndarray) -> np.ndarray:
        """Count the query's triples that agree on a position, for each piece's best position.

        Parameters
        ----------
        triples : NoteTriples
            Of the query.
        when : np.ndarray [triples] float64
            When each begins, from the query's middle.
        """
        best = np.zeros(self.pieces, np.int64)
        which, found = look_up(self._postings, triples)
        tempo_ratio, note = found.span / triples.span[which], found.note
        middle = self._onset[note] - when[which] * tempo_ratio
        owner = self._owner(middle)
        fits = (tempo_ratio >= SLOWEST) & (tempo_ratio <= FASTEST)
        fits &= owner == self._owner(self._onset[note])
        which, owner = which[fits], owner[fits]
        inside = (middle[fits] - self._begins[owner]) / BIN
        for shift in (0.0, 0.5):
            position = owner + self.pieces * np.floor(inside + shift).astype(np.int64)
            votes = np.unique(position * len(triples) + which) // len(triples)  # one a triple
            position, counts = np.unique(votes, return_counts=True)
            np.maximum.at(best, position % self.pieces, counts)
        return best

    def _owner(self, position: np.ndarray) -> np.ndarray:
        return np.searchsorted(self._begins, position, side="right") - 1


class FingerprintIndex:
    """The note triples of a library, ready for queries.

    From the paper it departs in three points, each of which finds more: a query's triple counts
    once a position, however often it is found there; the tempo comes from the whole span of a
    triple rather than its first gap; and positions are those of the query's middle, which an error
    of the tempo moves least.

    Parameters
    ----------
    notes : sequence of np.ndarray of mmid.music.notes.NOTE_DTYPE
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
        """Return how much of a query agrees on its best position in each piece.

        Parameters
        ----------
        notes : np.ndarray of mmid.music.notes.NOTE_DTYPE
            Sorted by onset.

        Returns
        -------
        np.ndarray [pieces] float64
            Share of the query's triples, 0 to 1.
        """
        onset = notes["onset"].astype(np.float64)
        triples = find_triples(onset, notes["pitch"]).thin(MOST_TRIPLES)
        if not len(triples):
            return np.zeros(sum(shard.pieces for shard in self._shards))
        when = onset[triples.note] - (onset[0] + onset[-1]) / 2
        counts = np.concatenate([shard.count(triples, when) for shard in self._shards])
        return counts / len(triples)
