"""Positions of a library that the note-triple fingerprints of a query agree on.

Conventions: as of `mmid.index.fingerprints`; keys are semitones from a piece to the query.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from mmid.index.fingerprints import (
    BIN,
    FASTEST,
    SCATTER,
    SLOWEST,
    NoteTriples,
    Ranges,
    find_triples,
    in_kept_half,
    look_up,
)
from mmid.index.sorted_file import SortedNumbers
from mmid.music.notes import PITCHES

TEMPO_BIN, MOST_TEMPI = 0.15, 32
"""And on the tempo, if they are so many octaves apart; no more such steps are between tempi."""

MOST_PAGES, MOST_READ = 8_000, 400_000
"""Of a query, the rarest triples are looked up whose postings are on no more pages, and no more: of
30 s in two octaves of keys a fifth, in a tenth of the time, and nearly as many pieces are found."""

QUICKLY, THOROUGHLY = 0.25, 2.5
"""So many times as many to begin with, and where these find nothing."""

CROWDED = (10, 4, 0)
"""Positions of fewer postings than this are counted only if too few others have as many votes."""

DOUBT = 4
"""Triples that agree on nothing: the agreement of a few proves little."""

SPREAD = 60.0
"""So much of the middle of a query is looked up: the tempo of longer ones wanders too far."""


@dataclass(frozen=True)
class Agreement:
    """A position that triples of a query agree on.

    Parameters
    ----------
    piece : int
        Position in the library.
    votes : int
        The query's triples.
    share : float
        Of all that were looked up, 0 to 1.
    tempo_ratio : float
        The query's speed against the piece.
    start : float
        Where in the piece the query begins, seconds.
    transpose : int
        Semitones that take the piece to the query's key.
    """

    piece: int
    votes: int
    share: float
    tempo_ratio: float
    start: float
    transpose: int = 0


def search_triples(
    postings: SortedNumbers,
    library: np.ndarray,
    firsts: np.ndarray,
    notes: np.ndarray,
    top: int,
    keys: Sequence[int] = (0,),
    *,
    steady: bool = False,
    effort: float = 1.0,
) -> list[Agreement]:
    """Find the positions of a library that most triples of a query agree on.

    A query's triple counts once a position, however often it is found there; the tempo comes from
    the span of triples; and positions are those of the query's middle, which an error of the tempo
    moves least.

    Parameters
    ----------
    postings : SortedNumbers
        From `mmid.index.fingerprint_table.library_postings`.
    library : np.ndarray of mmid.music.notes.NOTE_DTYPE
        What they are of.
    firsts : np.ndarray [pieces] int64
        Where each piece begins in it.
    notes : np.ndarray of mmid.music.notes.NOTE_DTYPE
        The query's.
    top : int
        Positions to return, one a piece and key.
    keys : sequence of int
        Semitones that may take a piece to the query's key.
    steady : bool
        Count those together that agree on the tempo, too.
    effort : float
        How much of the triples to look up, as `QUICKLY` and `THOROUGHLY` say.

    Returns
    -------
    list of Agreement
        Best first.
    """
    if len(notes) < 3:
        return []
    middle, onset, pitch = _middle_of(notes)
    triples = find_triples(onset, pitch, in_kept_half())
    triples, which, found = _look_up_rarest(postings, triples, keys, effort)
    tempo_ratio, key = found.span / triples.span[which], triples.pitch[which] - found.pitch
    fits = (tempo_ratio >= SLOWEST) & (tempo_ratio <= FASTEST) & np.isin(key, keys)
    fits &= found.note < len(library)  # which postings of a strange index may not be
    which, note, tempo_ratio, key = which[fits], found.note[fits], tempo_ratio[fits], key[fits]
    found_in = np.searchsorted(firsts, note, side="right") - 1
    when = onset[triples.note[which]] - middle
    position = np.asarray(library["onset"][note], np.float64) - when * tempo_ratio
    postings_of = _Postings(found_in, key, which, position, tempo_ratio)
    fullest = _fullest_of_all(postings_of, len(triples), top, steady)
    kept = sorted(_best_of_each(fullest, postings_of), key=lambda one: -one[0])[:top]
    return [postings_of.agreement(inside, votes, len(triples), middle) for votes, inside in kept]


def _best_of_each(
    fullest: Iterable[tuple[np.ndarray, int]], found: _Postings
) -> Iterable[tuple[int, np.ndarray]]:
    """Return the votes and the postings of the fullest position of each piece in each key."""
    best: dict[tuple[int, int], tuple[int, np.ndarray]] = {}
    for inside, votes in fullest:
        name = int(found.piece[inside[0]]), int(found.key[inside[0]])
        if name not in best or votes > best[name][0]:
            best[name] = votes, inside
    return best.values()


@dataclass(frozen=True, eq=False)
class _Postings:
    """What was found of a query's triples, one row a posting.

    Parameters
    ----------
    piece, key, which : np.ndarray [n] int64
        Where it was found, semitones from there to the query, and the query's triple.
    position, tempo_ratio : np.ndarray [n] float64
        Where in the piece the query's middle would be, seconds, and the query's speed.
    """

    piece: np.ndarray
    key: np.ndarray
    which: np.ndarray
    position: np.ndarray
    tempo_ratio: np.ndarray

    def agreement(self, inside: np.ndarray, votes: int, triples: int, middle: float) -> Agreement:
        """Return what some postings say that so many of a query's triples agree on."""
        ratio = float(np.median(self.tempo_ratio[inside]))
        return Agreement(
            piece=int(self.piece[inside[0]]),
            votes=votes,
            share=votes / (triples + DOUBT),
            tempo_ratio=ratio,
            start=float(np.median(self.position[inside]) - middle * ratio),
            transpose=int(self.key[inside[0]]),
        )


def _fullest_of_all(
    found: _Postings, triples: int, top: int, steady: bool
) -> Iterator[tuple[np.ndarray, int]]:
    """Yield what `_fullest` does, on two grids half a bin apart."""
    owner = found.piece * 2 * PITCHES + found.key + PITCHES
    for shift, group in product((0.0, 0.5), _owners(owner, found.tempo_ratio, steady)):
        bins = np.floor(found.position / BIN + shift).astype(np.int64)
        yield from _fullest(group, bins, found.which, triples, top)


def _middle_of(notes: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Return when the middle of a query is, and the onsets and pitches of the notes about it."""
    onset = notes["onset"].astype(np.float64)
    middle = float(onset[0] + onset[-1]) / 2
    near = np.abs(onset - middle) <= SPREAD / 2
    return middle, onset[near], notes["pitch"][near]


def _look_up_rarest(
    postings: SortedNumbers, triples: NoteTriples, keys: Sequence[int], times: float
) -> tuple[NoteTriples, np.ndarray, NoteTriples]:
    """Look up the rarest of a query's triples; return these, and what `look_up` does of them."""
    ranges = Ranges.of(triples, min(keys), max(keys))
    ranges = ranges.rarest(postings.pages_within(ranges.low, ranges.high), int(times * MOST_PAGES))
    read = postings.near(ranges.low, ranges.high)
    sizes = np.searchsorted(read, ranges.high, "right") - np.searchsorted(read, ranges.low)
    ranges = ranges.rarest(sizes, int(times * MOST_READ))
    chosen, which = np.unique(ranges.which, return_inverse=True)
    triples = triples.take(chosen)
    return triples, *look_up(read, triples, replace(ranges, which=which))


def _owners(piece: np.ndarray, tempo_ratio: np.ndarray, steady: bool) -> Iterator[np.ndarray]:
    """Yield pieces, or numbers of pieces and tempi, on two grids half a step of tempo apart.

    Of few triples many agree on a position by chance, but at any tempo.
    """
    if not steady:
        yield piece
        return
    for shift in (0.0, 0.5):
        step = np.floor(np.log2(tempo_ratio) / TEMPO_BIN + shift).astype(np.int64)
        yield piece * MOST_TEMPI + step


def _fullest(
    piece: np.ndarray, bins: np.ndarray, which: np.ndarray, triples: int, top: int
) -> Iterator[tuple[np.ndarray, int]]:
    """Yield what lies in the bins with most of the query's triples, and how many these are."""
    if not len(piece):
        return
    low = int(bins.min())
    position = piece * (int(bins.max()) - low + 1) + bins - low
    about = _postings_about(position)
    for least in CROWDED:
        (some,) = np.nonzero(about >= least)
        key = position[some] * triples + which[some]
        order = np.argsort(key)
        votes_of = key[order]
        fresh = np.diff(votes_of, prepend=-1) != 0  # a triple votes once a position
        firsts = np.flatnonzero(np.diff(votes_of // triples, prepend=-1))
        votes = np.add.reduceat(fresh, firsts) if len(firsts) else np.zeros(0, np.int64)
        if (votes >= least).sum() >= 2 * top:
            break
    ends = np.append(firsts[1:], len(order))
    for i in np.argsort(-votes, kind="stable")[: 2 * top]:
        yield some[order[firsts[i] : ends[i]]], int(votes[i])


def _postings_about(position: np.ndarray) -> np.ndarray:
    """Return for each posting at least the number of those that agree on the same position."""
    bits = np.uint64(64 - len(position).bit_length())
    scattered = ((position.astype(np.uint64) * SCATTER) >> bits).astype(np.int64)
    return np.bincount(scattered)[scattered]
