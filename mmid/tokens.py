"""The note triples of a library, listed as sorted tokens.

Conventions: tokens are those of `mmid.triples`. Of a fingerprint that more notes share than it is
worth counting only a mark is kept.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from mmid.errors import LibraryIndexError
from mmid.triples import (
    FINGERPRINT,
    LONGEST,
    MARK,
    NOTE_BITS,
    find_triples,
    kept_half,
    make_tokens,
    most_common,
    notes_of,
    spans_of,
)

TOGETHER = 20_000
"""Notes whose triples are listed at once: what comes of them stays in the processor's cache."""

BLOCK = 1 << 22
"""Tokens looked at together; bounds memory."""


def library_tokens(
    notes: np.ndarray, firsts: Sequence[int], known: np.ndarray | None = None, start: int = 0
) -> np.ndarray:
    """Return the sorted tokens of pieces whose notes follow one another, marks among them.

    Parameters
    ----------
    notes : np.ndarray [n] of mmid.midi.NOTE_DTYPE
    firsts : sequence of int
        Where each piece begins in them, ascending.
    known : np.ndarray [m] uint64, optional
        The tokens of the pieces before a note.
    start : int
        That note.

    Returns
    -------
    np.ndarray [tokens] uint64

    Raises
    ------
    LibraryIndexError
        If there are more notes than a token can number.
    """
    if len(notes) > 2**NOTE_BITS:
        raise LibraryIndexError(
            f"{len(notes):,} notes are too many for one index; make several of parts of the library"
        )
    tokens = None
    if known is not None:
        more = _list_tokens(notes, firsts, start)
        tokens = _thinned(np.insert(known, np.searchsorted(known, more), more))
    if tokens is None:
        tokens = _thinned(_list_tokens(notes, firsts, 0))
    assert tokens is not None
    return tokens


def _list_tokens(notes: np.ndarray, firsts: Sequence[int], start: int) -> np.ndarray:
    """Return all sorted tokens of the pieces from a note on."""
    bounds = np.array([*firsts, len(notes)])
    bounds = bounds[bounds >= start]

    def tokens_of(some: np.ndarray) -> np.ndarray:
        """Return the tokens of pieces that lie between some bounds."""
        own = notes[some[0] : some[-1]]
        onset = _end_to_end(own["onset"], some - some[0])
        return kept_half(find_triples(onset, own["pitch"])).tokens(int(some[0]))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        tokens = _joined(list(pool.map(tokens_of, _parts(bounds))))
    tokens.sort()
    return tokens


def _parts(bounds: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the bounds of pieces that follow one another, `TOGETHER` notes or one piece at once."""
    while len(bounds) > 1:
        ahead = max(1, int(np.searchsorted(bounds, bounds[0] + TOGETHER, "right")) - 1)
        if bounds[ahead] > bounds[0]:
            yield bounds[: ahead + 1]
        bounds = bounds[ahead:]


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    """Put arrays one behind the other, each let go of once it is there: no two whole copies."""
    tokens = np.empty(sum(map(len, parts)), np.uint64)
    end = len(tokens)
    while parts:
        part = parts.pop()
        tokens[end - len(part) : end] = part
        end -= len(part)
    return tokens


def _thinned(tokens: np.ndarray) -> np.ndarray | None:
    """Leave a mark of fingerprints that are too common; None if some were left out that are not.

    The tokens given are overwritten.
    """
    firsts = _firsts(tokens)
    counts = np.diff(np.append(firsts, len(tokens)))
    marks = np.concatenate([_marked(tokens, first) for first in range(0, len(tokens) + 1, BLOCK)])
    group = np.searchsorted(firsts, marks, side="right") - 1
    np.add.at(counts, group, notes_of(tokens[marks]) - 1)
    rare = counts <= most_common(int(counts.sum()))
    if rare[group].any():
        return None
    fingerprint = tokens[firsts[~rare]] >> FINGERPRINT
    common = np.minimum(counts[~rare], 2**NOTE_BITS - 1)
    tokens[firsts[~rare]] = make_tokens(fingerprint, common, np.full(len(common), MARK))
    kept = np.repeat(rare, np.diff(np.append(firsts, len(tokens))))
    kept[firsts[~rare]] = True
    return tokens[kept]


def _firsts(tokens: np.ndarray) -> np.ndarray:
    """Return where the fingerprints of sorted tokens begin."""
    found = [np.zeros(min(1, len(tokens)), np.int64)]
    for first in range(1, len(tokens), BLOCK):
        fingerprint = tokens[first - 1 : first + BLOCK] >> FINGERPRINT
        found.append(np.flatnonzero(fingerprint[1:] != fingerprint[:-1]) + first)
    return np.concatenate(found)


def _marked(tokens: np.ndarray, first: int) -> np.ndarray:
    """Return where marks are in a block of tokens."""
    return np.flatnonzero(spans_of(tokens[first : first + BLOCK]) == MARK) + first


def _end_to_end(onset: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Lay pieces on one time axis, so far apart that no triple spans two."""
    counts = np.diff(bounds)
    filled = counts > 0
    lasts = onset[bounds[1:][filled] - 1].astype(np.float64)
    begins = np.cumsum(lasts + 2 * LONGEST) - lasts
    return np.asarray(onset + np.repeat(begins, counts[filled]))
