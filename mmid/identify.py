"""Music to what the library has of it: a recording to its piece, a score to its recordings.

Conventions: times in seconds. In an answer, ``tempo_ratio`` is the recording's speed against the
score, 2 being twice as fast, whichever of them was asked about; between two recordings or two
scores it is the query's speed against the library's. ``transpose`` is in semitones.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmid.checkpoint import Checkpoint
from mmid.choices import Kind, Search, Vote
from mmid.errors import MmidError
from mmid.index import LibraryIndex
from mmid.params import FeatureParams
from mmid.query import Query, embed_query, open_query
from mmid.vote import Candidate, Hits, elect

TEMPO_RATIOS = tuple(2 ** (step / 6) for step in range(-6, 7))
"""Speeds tried: half to double the library's, 12 % apart; training tolerates 6 % either way."""

NEIGHBOURS = 25
"""Nearest snippets that vote, for each snippet of the query (Dorfer et al. 2017)."""

MIN_CONFIDENCE = 0.5
TOP = 5


@dataclass(frozen=True)
class Match:
    """Something of the library that may be the same music.

    Parameters
    ----------
    piece : str
        Path of the MIDI file or recording, relative to the library folder.
    confidence : float
        Probability that it is right.
    votes : float
        Its share of the votes cast.
    start, end : float or None
        Where in it, seconds; None where the vote does not tell.
    tempo_ratio : float
        The recording's speed against the score.
    transpose : int
    """

    piece: str
    confidence: float
    votes: float
    start: float | None
    end: float | None
    tempo_ratio: float
    transpose: int


@dataclass(frozen=True)
class Identification:
    """The answer for one recording or MIDI file.

    Parameters
    ----------
    query : str
        What was asked about.
    seconds : float
        Its length.
    matched : bool
        Whether the first match is sure enough.
    matches : tuple of Match
        Best first.
    error : str or None
        Why it could not be processed.
    """

    query: str
    seconds: float
    matched: bool
    matches: tuple[Match, ...]
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as JSON-ready names and values."""
        return asdict(self)


class Identifier:
    """A model and an index, ready for queries.

    Parameters
    ----------
    model : Checkpoint
    index : LibraryIndex
    search : {"auto", "exact", "hnsw"}
    vote : {"consistent", "majority"}
    tempo_ratios : sequence of float
        Speeds of the query against the library to try.
    top : int
        Matches to return.
    min_confidence : float
        The first match counts as found from here on.
    """

    def __init__(
        self,
        model: Checkpoint,
        index: LibraryIndex,
        *,
        search: Search = "auto",
        vote: Vote = "consistent",
        tempo_ratios: Sequence[float] = TEMPO_RATIOS,
        top: int = TOP,
        min_confidence: float = MIN_CONFIDENCE,
    ) -> None:
        self._model, self._index = model, index
        self._search: Search = search
        self._vote: Vote = vote
        self._tempo_ratios, self._top, self.min_confidence = tempo_ratios, top, min_confidence

    @property
    def names(self) -> list[str]:
        """What the index holds, by position."""
        return [entry.name for entry in self._index.entries]

    @property
    def kind(self) -> Kind:
        """Whether the index holds MIDI files or recordings."""
        return self._index.kind

    @property
    def params(self) -> FeatureParams:
        """The grid queries must be on."""
        return self._model.encoders.config.features

    def identify_file(
        self, path: str | os.PathLike[str], start: float = 0.0, duration: float | None = None
    ) -> Identification:
        """Identify a recording or a MIDI file, or a span of it.

        Raises
        ------
        MmidError
            If it cannot be read.
        """
        query = open_query(path, self.params, start, duration, self._model.encoders.device)
        return self.identify(query, os.fspath(path))

    def identify_files(
        self, paths: Sequence[Path], start: float = 0.0, duration: float | None = None
    ) -> Iterator[Identification]:
        """Identify recordings and MIDI files one by one; one that fails says so in its answer."""
        for path in paths:
            try:
                yield self.identify_file(path, start, duration)
            except MmidError as error:
                yield Identification(os.fspath(path), 0.0, False, (), str(error))

    def identify(
        self, query: Query, name: str = "", without: frozenset[int] = frozenset()
    ) -> Identification:
        """Identify music.

        Parameters
        ----------
        query : Query
            Of either kind, whatever the index holds.
        name : str
            What to call it in the answer.
        without : frozenset of int
            Positions of items to act as if they were not in the index.
        """
        shortest = self.params.snippet_seconds / query.seconds
        ratios = [ratio for ratio in self._tempo_ratios if ratio >= min(1.0, shortest)]
        hypotheses = [self._hits(query, ratio, without) for ratio in ratios]
        hits = [hypothesis for hypothesis in hypotheses if len(hypothesis.query_frame)]
        elected = elect(hits, self._vote, max(2, self._top) + len(without))
        candidates = [c for c in elected if c.piece not in without]
        matches = tuple(self._match(c, query) for c in candidates[: self._top])
        matched = bool(matches) and matches[0].confidence >= self.min_confidence
        return Identification(name, query.seconds, matched, matches)

    def _hits(self, query: Query, tempo_ratio: float, without: frozenset[int]) -> Hits:
        vectors, frames = embed_query(query, self._model, tempo_ratio)
        wanted = NEIGHBOURS * (4 if without else 1)
        snippets, similarity = self._index.search(vectors, wanted, self._search)
        if without:
            hidden = np.isin(self._index.locate(snippets)[0], list(without))
            order = np.argsort(hidden, axis=1, kind="stable")[:, :NEIGHBOURS]
            snippets = np.take_along_axis(snippets, order, 1)
            similarity = np.take_along_axis(similarity, order, 1)
        piece, place = self._index.locate(snippets)
        return Hits(tempo_ratio, frames, piece, place, similarity)

    def _match(self, candidate: Candidate, query: Query) -> Match:
        entry, rate = self._index.entries[candidate.piece], self.params.frame_rate
        score_asked_of_recordings = query.kind == "midi" and self.kind == "recordings"
        start = end = None
        if candidate.start is not None:
            first = candidate.start / rate
            start = min(max(0.0, first), entry.seconds)
            end = min(entry.seconds, first + query.seconds * candidate.tempo_ratio)
        return Match(
            entry.name,
            self._confidence(candidate.share, query.seconds),
            candidate.share,
            start,
            end,
            1 / candidate.tempo_ratio if score_asked_of_recordings else candidate.tempo_ratio,
            0,
        )

    def _confidence(self, share: float, seconds: float) -> float:
        if self._vote == "majority":
            return share
        return confidence(share, seconds, self._model.facts.get("confidence", CALIBRATION))


def confidence(share: float, seconds: float, calibration: Sequence[float]) -> float:
    """Return the probability that a match is right, by logistic regression.

    Parameters
    ----------
    share : float
        Of the consistent votes.
    seconds : float
        Length of the query: the same share means more in a longer one.
    calibration : sequence of float
        Weights of one, the share and the logarithm of the length, from `fit_confidence`.

    Examples
    --------
    >>> round(confidence(0.5, 10.0, (-4.0, 8.0, 0.0)), 3)
    0.5
    """
    evidence = np.dot(calibration, [1.0, share, math.log1p(seconds)])
    return float(1 / (1 + np.exp(-evidence)))


def fit_confidence(
    shares: Sequence[float], seconds: Sequence[float], right: Sequence[bool]
) -> list[float]:
    """Fit the weights of `confidence` to first matches known to be right or wrong.

    A small penalty on the weights keeps them finite where right and wrong do not overlap.

    Returns
    -------
    list of float
        Weights of one, the share and the logarithm of the length.
    """
    evidence = np.stack([np.ones(len(shares)), shares, np.log1p(seconds)], 1)
    target, weights = np.asarray(right, float), np.zeros(3)
    for _ in range(100):
        likely = 1 / (1 + np.exp(-evidence @ weights))
        slope = evidence.T @ (likely - target) + PENALTY * weights
        curve = (evidence * (likely * (1 - likely))[:, None]).T @ evidence
        weights = weights - np.linalg.solve(curve + PENALTY * np.eye(3), slope)
    return [float(round(weight, 3)) for weight in weights]


PENALTY = 0.01

CALIBRATION = (-4.0, 10.0, 0.0)
"""For models that bring no calibration of their own."""
