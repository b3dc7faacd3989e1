"""From the nearest snippets of a query to the pieces they speak for.

Conventions: a hit is a query snippet and a library snippet near it. Every tempo hypothesis casts
the votes of all its query snippets; a share is a piece's part of all the votes its hypothesis cast.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from mmid.options import Vote

Frames = Callable[[int], float]
"""Gives the length of a piece, frames."""

Position: TypeAlias = tuple[int, int, float, float | None, bool]
"""Of a query in a library: the piece, the key, the tempo and the frame it begins at, and whether
the melody alone counts."""


@dataclass(frozen=True, eq=False)
class Hits:
    """The nearest snippets of a query at one tempo.

    Parameters
    ----------
    tempo_ratio : float
        How fast the query is taken to be played against the score.
    query_frame : np.ndarray [queries] int64
        Where each query snippet begins, in frames of the query.
    piece, position : np.ndarray [queries, k] int64
        Piece of each hit and the frame of it the snippet begins at.
    similarity : np.ndarray [queries, k] float32
        Cosine.
    transpose : int
        Semitones that would take the library to the query's key.
    """

    tempo_ratio: float
    query_frame: np.ndarray
    piece: np.ndarray
    position: np.ndarray
    similarity: np.ndarray
    transpose: int = 0


@dataclass(frozen=True)
class Candidate:
    """A piece and what speaks for it.

    Parameters
    ----------
    piece : int
        Position in the index.
    share : float
        Of the votes cast, 0 to 1.
    tempo_ratio : float
        The hypothesis that gave the share.
    start : float or None
        Frame of the piece at which the query begins, where the vote says so.
    transpose : int
        Semitones that take the piece to the query's key.
    triples : float
        Share of the query's note triples that agree on the position, 0 to 1.
    tune : float
        The same of the triples of its melody.
    correlation : float
        How far its melody's with what sounds exceeds that of other music, where that found it.
    alone : bool
        Compared is the piece's melody alone, as if the file held no other note.
    """

    piece: int
    share: float
    tempo_ratio: float
    start: float | None
    transpose: int = 0
    triples: float = 0.0
    tune: float = 0.0
    correlation: float = 0.0
    alone: bool = False

    @property
    def position(self) -> Position:
        """What it says of where the query lies, whatever speaks for it."""
        return self.piece, self.transpose, self.tempo_ratio, self.start, self.alone


def majority(hits: Hits, top: int) -> list[Candidate]:
    """Count one vote a hit, wherever in the piece it lies.

    References
    ----------
    .. [1] M. Dorfer, A. Arzt, G. Widmer, "Learning audio-sheet music correspondences for score
       identification and offline alignment", ISMIR 2017.
    """
    pieces, votes = np.unique(hits.piece, return_counts=True)
    best = np.argsort(-votes, kind="stable")[:top]
    total = hits.piece.size
    ratio = hits.tempo_ratio
    return [Candidate(int(pieces[i]), votes[i] / total, ratio, start=None) for i in best]


BIN_FRAMES = 24
"""Votes for the same start of the query within the piece agree if they lie this close."""

DRIFT = 0.05
"""How far the tempo may wander from its hypothesis, as a share of the query's length."""


def consistent(hits: Hits, top: int, length_of: Frames | None = None) -> list[Candidate]:
    """Count the query snippets that agree on where in a piece the query begins.

    A hit says the query begins at ``position - query_frame * tempo_ratio`` of its piece. The starts
    fall in bins, on two grids half a bin apart; a query snippet votes once a bin, with its nearest
    hit there.

    Parameters
    ----------
    hits : Hits
        The nearest hit of each query snippet first.
    top : int
        Candidates to return.
    length_of : callable, optional
        Given where pieces may be parts of what the query holds: shares are then of the votes of
        snippets that fall within the piece, or the tempo that squeezes all of them into it wins.

    References
    ----------
    .. [1] A. Wang, "An industrial-strength audio search algorithm", ISMIR 2003.
    """
    found = _fullest([hits], top, each=1)
    if length_of is not None:
        query = hits.query_frame * hits.tempo_ratio
        within = [_within(query + (c.start or 0.0), length_of(c.piece)) for c in found]
        fair = [(len(query) + DOUBT) / (count + DOUBT) for count in within]
        found = [replace(c, share=c.share * f) for c, f in zip(found, fair, strict=True)]
    return sorted(found, key=lambda c: -c.share)


def _width(query: np.ndarray) -> float:
    """Return the width of bins for snippets at these frames of the query, at the piece's tempo."""
    return float(BIN_FRAMES + DRIFT * (query.max(initial=0) - query.min(initial=0)))


PIECE_BITS, BIN_BITS = 24, 24
"""Of numbers that stand for a hypothesis, a piece and a bin of starts."""


def _within(starts: np.ndarray, length: float) -> int:
    """Count the snippets that begin within a piece, give or take half a bin."""
    reach = BIN_FRAMES / 2
    return int(((starts >= -reach) & (starts <= length + reach)).sum())


SHARPNESS = 4.0
"""How much less a query snippet's farther hits weigh."""

DOUBT = 16
"""Votes that go to no piece: the agreement of a few snippets proves little."""


def _weights(similarity: np.ndarray) -> np.ndarray:
    """Weigh hits by how near they are; a query snippet's best hit weighs its similarity."""
    closeness = np.exp(SHARPNESS * (similarity - similarity[:, :1]))
    weights: np.ndarray = closeness * np.clip(similarity[:, :1], 0, 1)
    return weights


@dataclass(frozen=True, eq=False)
class _Votes:
    """The hits of all hypotheses, one row each, a query snippet's nearest first.

    Parameters
    ----------
    owner : np.ndarray [n] int64
        Number of the hypothesis, then that of the piece.
    snippet : np.ndarray [n] int64
        Number of the query snippet among those of all hypotheses.
    start, bins, weight : np.ndarray [n] float64
        Where the query begins in the piece, frames and widths of bins, and what the vote weighs.
    """

    owner: np.ndarray
    snippet: np.ndarray
    start: np.ndarray
    bins: np.ndarray
    weight: np.ndarray

    @classmethod
    def of(cls, hits: Sequence[Hits]) -> _Votes:
        """Put the hits of hypotheses one behind the other; shares are what votes weigh."""
        parts, snippets = [], 0
        for number, h in enumerate(hits):
            query = h.query_frame * h.tempo_ratio
            start = h.position - query[:, None]
            snippet = np.arange(snippets, snippets := snippets + len(query))
            parts.append(
                (
                    (number << PIECE_BITS) + h.piece,
                    np.broadcast_to(snippet[:, None], start.shape),
                    start,
                    start / _width(query),
                    _weights(h.similarity) / (len(query) + DOUBT),
                )
            )
        return cls(
            *(np.concatenate([a.ravel() for a in column]) for column in zip(*parts, strict=True))
        )

    def binned(self, shift: float) -> tuple[np.ndarray, ...]:
        """Return the votes that count, sorted by bins, and where each bin begins and ends."""
        bins = np.floor(self.bins + shift).astype(np.int64) & (2**BIN_BITS - 1)
        place = (self.owner << BIN_BITS) + bins
        order = np.argsort(place, kind="stable")
        fresh = np.diff(place[order], prepend=-1) != 0
        votes = order[fresh | (np.diff(self.snippet[order], prepend=-1) != 0)]
        firsts = np.flatnonzero(np.diff(place[votes], prepend=-1))
        return votes, firsts, np.append(firsts[1:], len(votes))


def _fullest(hits: Sequence[Hits], top: int, each: int) -> list[Candidate]:
    """Return the fullest bins of all hypotheses, at most one of each for a piece.

    Parameters
    ----------
    hits : sequence of Hits
    top, each : int
        Candidates to return, and how many of one piece at most.

    Returns
    -------
    list of Candidate
        Highest share first.
    """
    if not sum(h.piece.size for h in hits):
        return []
    all_votes = _Votes.of(hits)
    (some, begin, end), (others, first, last) = (all_votes.binned(shift) for shift in (0.0, 0.5))
    votes = np.concatenate([some, others])
    begin, end = np.append(begin, first + len(some)), np.append(end, last + len(some))
    share, owner = np.add.reduceat(all_votes.weight[votes], begin), all_votes.owner[votes[begin]]
    seen: Counter[int] = Counter()
    done: set[int] = set()
    found: list[Candidate] = []
    for i in np.argsort(-share, kind="stable").tolist():
        own = int(owner[i])
        number, piece = divmod(own, 1 << PIECE_BITS)
        if own not in done and seen[piece] < each:
            done.add(own)
            seen[piece] += 1
            h, start = hits[number], _median(all_votes.start[votes[begin[i] : end[i]]])
            found.append(Candidate(piece, float(share[i]), h.tempo_ratio, start, h.transpose))
            if len(found) == top:
                break
    return found


def _median(values: np.ndarray) -> float:
    """Do what ``np.median`` does, several times as fast for a few values."""
    ordered = np.sort(values)
    return float((ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2)


def nearest(hits: Hits, count: int, excluded: frozenset[int] = frozenset()) -> Hits:
    """Keep the nearest so many hits of each query snippet that are in none of the pieces named."""
    hidden = np.isin(hits.piece, list(excluded))
    order = np.argsort(hidden, axis=1, kind="stable")[:, :count]
    piece, position, similarity = (
        np.take_along_axis(array, order, 1)
        for array in (hits.piece, hits.position, hits.similarity)
    )
    return replace(hits, piece=piece, position=position, similarity=similarity)


def elect(
    hits: Sequence[Hits], how: Vote, top: int, each: int = 1, length_of: Frames | None = None
) -> list[Candidate]:
    """Take each piece's best hypotheses.

    Parameters
    ----------
    hits : sequence of Hits
        One a hypothesis of tempo and key.
    how : {"consistent", "majority"}
    top, each : int
        Candidates to return, and how many of one piece at most.
    length_of : callable, optional
        As for `consistent`.

    Returns
    -------
    list of Candidate
        Highest share first.
    """
    if how == "consistent" and length_of is None:
        return _fullest(hits, top, each)

    def count(one: Hits) -> list[Candidate]:
        return consistent(one, top, length_of) if how == "consistent" else majority(one, top)

    found = [replace(c, transpose=h.transpose) for h in hits for c in count(h)]
    seen: Counter[int] = Counter()
    elected: list[Candidate] = []
    for candidate in sorted(found, key=lambda c: -c.share):
        if seen[candidate.piece] < each and len(elected) < top:
            seen[candidate.piece] += 1
            elected.append(candidate)
    return elected


SAME_TEMPO = 0.25
"""Octaves between tempi that count as one."""


def joined(
    elected: Sequence[Candidate], found: Sequence[Candidate], frames: int, hits: Sequence[Hits] = ()
) -> list[Candidate]:
    """Put the candidates of two voters together, each with what the other says of its position.

    Parameters
    ----------
    elected, found : sequence of Candidate
        Those of snippets, and those of note triples.
    frames : int
        Length of the query.
    hits : sequence of Hits
        What snippets were elected from. In a piece only the fullest bins are: their votes for
        another position in it, which triples found, are counted here.
    """
    share, triples = np.zeros(len(found)), np.zeros(len(elected))
    for i, one in enumerate(elected):
        for j, other in enumerate(found):
            if agree(one, other, frames):
                triples[i] = max(triples[i], other.triples)
                share[j] = max(share[j], one.share)
    for number, other in enumerate(found):
        if not share[number]:
            share[number] = max((share_at(one, other, frames) for one in hits), default=0.0)
    return [
        *(replace(c, triples=float(t)) for c, t in zip(elected, triples, strict=True)),
        *(replace(c, share=float(s)) for c, s in zip(found, share, strict=True)),
    ]


def agree(one: Candidate, other: Candidate, frames: int) -> bool:
    """Say whether two candidates put the middle of a query at one position, at about one tempo."""
    if (one.piece, one.transpose) != (other.piece, other.transpose):
        return False
    if one.start is None or other.start is None:
        return False
    apart = one.start - other.start + frames / 2 * (one.tempo_ratio - other.tempo_ratio)
    return abs(apart) <= BIN_FRAMES + DRIFT * frames and _same_tempo(one, other)


def _same_tempo(one: Candidate | Hits, other: Candidate) -> bool:
    return abs(math.log2(one.tempo_ratio / other.tempo_ratio)) <= SAME_TEMPO


def share_at(hits: Hits, candidate: Candidate, frames: int) -> float:
    """Return the share of the votes for a position of a hypothesis that agrees with it."""
    if hits.transpose != candidate.transpose or not _same_tempo(hits, candidate):
        return 0.0
    assert candidate.start is not None
    start = candidate.start + frames / 2 * (candidate.tempo_ratio - hits.tempo_ratio)
    near = _near(hits, candidate.piece, start)
    votes = (_weights(hits.similarity) * near).max(1, initial=0.0).sum()
    return float(votes / (len(near) + DOUBT))


def _near(hits: Hits, piece: int, start: float) -> np.ndarray:
    """Return which hits say that the query begins about there."""
    query = hits.query_frame * hits.tempo_ratio
    apart = np.abs(hits.position - query[:, None] - start)
    return np.asarray((hits.piece == piece) & (apart <= _width(query) / 2))


FIRM = 4.0
"""Frames off the line from which on a hit counts less."""

LEAST_SNIPPETS, LEAST_WEIGHT, ROUNDS = 8, 1e-3, 5
"""Snippets that make a line, and what each weighs, at least; how often all are weighed again."""


def straightened(hits: Sequence[Hits], candidate: Candidate) -> Candidate:
    """Find a candidate's tempo and start more finely than in the steps that were tried.

    Parameters
    ----------
    hits : sequence of Hits
        What it was elected from.
    candidate : Candidate

    Returns
    -------
    Candidate
        Along the line through its hits; as it was where too few or too scattered hits make one.

    References
    ----------
    .. [1] P. Holland, R. Welsch, "Robust regression using iteratively reweighted least squares",
       Communications in Statistics 6 (1977).
    """
    if candidate.start is None:
        return candidate
    tried = candidate.tempo_ratio, candidate.transpose
    [own] = [h for h in hits if (h.tempo_ratio, h.transpose) == tried]
    near = _near(own, candidate.piece, candidate.start)
    rows = np.flatnonzero(near.any(1))
    if len(rows) < LEAST_SNIPPETS:
        return candidate
    best = np.where(near, own.similarity, -np.inf)[rows].argmax(1)
    query, position = own.query_frame[rows], own.position[rows, best]
    weight = np.maximum(_weights(own.similarity)[rows, best], LEAST_WEIGHT)
    slope, start = _line(query, position, weight)
    if not abs(math.log2(max(slope, 1e-6) / candidate.tempo_ratio)) <= SAME_TEMPO:
        return candidate
    return replace(candidate, tempo_ratio=slope, start=start)


def _line(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    """Return slope and intercept of the line through most points."""
    firm = weight
    for _ in range(ROUNDS):
        slope, start = np.polyfit(x, y, 1, w=np.sqrt(firm))
        firm = weight / np.maximum(1, np.abs(y - start - slope * x) / FIRM)
    return float(slope), float(start)
