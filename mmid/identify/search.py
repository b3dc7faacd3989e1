"""A query looked up: its snippets at every tempo and in every key, and its note triples.

Conventions: a tempo ratio is the query's speed against the library's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from mmid.identify.alignment import COMPARED_FRAMES, Gains, compared_gains
from mmid.identify.melody import find_tunes, tune_keys, with_tunes
from mmid.identify.search_options import SearchOptions
from mmid.identify.voting import Candidate, Hits, elect, joined, nearest
from mmid.index.protocol import Library
from mmid.model.checkpoint import Checkpoint
from mmid.model.embedding import MANY_KEYS, ONE_KEY, TUNINGS, Query, embed_query
from mmid.model.transcriber import transcribed_notes
from mmid.music.notes import transposed
from mmid.system.console import stage

FAR_OFF = max(TUNINGS)
"""From so many cents on, notes may as well be transcribed a semitone away: both keys are tried."""

FEW_KEYS = 2
"""Of more keys, those that are worth it are chosen first, and then looked up in full."""

NEIGHBOURS = 25
"""Nearest snippets that vote, for each snippet of the query (Dorfer et al. 2017)."""

EACH = 3
"""Candidates of one piece, at most, that are compared note by note."""

FRAMES_TO_COMPARE = 21_500
"""Frames to compare, over all candidates: the longer the query, the fewer candidates."""

LOOKED_UP, IN_EACH_KEY = 1_200, 500
"""Snippets of a query looked up at most, over all tempi: in one key or two, and in each of many."""

AGREED = 40
"""Positions that note triples agree on, at most, that are compared note by note."""


@dataclass(frozen=True, eq=False)
class Embeddings:
    """A query, embedded at every tempo and in every key that are tried.

    Parameters
    ----------
    query : Query
        As the model takes it, with its notes transcribed if it works on notes.
    tempo_ratios : sequence of float
    keys : sequence of int
    snippets : tuple of (np.ndarray, np.ndarray)
        Vectors and frames at each tempo, as of `mmid.model.embedding.embed_query`; of many some.
    """

    query: Query
    tempo_ratios: Sequence[float]
    keys: Sequence[int]
    snippets: tuple[tuple[np.ndarray, np.ndarray], ...]


@dataclass(frozen=True, eq=False)
class SearchResult:
    """A query and all that a library has near it, before anything is decided.

    Parameters
    ----------
    query : Query
        As the model takes it, with its notes transcribed if it works on notes.
    gains : tuple of Gains
        What a score gains by its notes, or those of excerpts, where they can be compared.
    hits : tuple of Hits
        One a tempo and key.
    found : tuple of Candidate
        Positions that note triples agree on, where notes can be compared.
    melody : tuple of Gains
        What a score gains by its melody's notes, in the same excerpts.
    tunes : tuple of Candidate
        Positions that note triples of melodies agree on.
    """

    query: Query
    gains: tuple[Gains, ...]
    hits: tuple[Hits, ...]
    found: tuple[Candidate, ...] = ()
    melody: tuple[Gains, ...] = ()
    tunes: tuple[Candidate, ...] = ()

    @property
    def most_compared(self) -> int:
        """How many candidates are worth comparing with it."""
        frames = max((part.values.shape[1] for part in self.gains), default=COMPARED_FRAMES)
        return FRAMES_TO_COMPARE // frames


class Lookup:
    """A model and an index, ready to look queries up.

    Parameters
    ----------
    model : Checkpoint
    index : Library
        Of a folder or on Milvus.
    options : SearchOptions
    """

    def __init__(
        self, model: Checkpoint, index: Library, options: SearchOptions = SearchOptions()
    ) -> None:
        self._encoders, self._index, self._options = model.encoders, index, options
        self._params = model.encoders.config.features

    @stage("embed a query")
    def embed(self, query: Query, keys: Sequence[int] | None = None) -> Embeddings:
        """Embed music at every tempo, and in these keys, by default in all that are tried."""
        transcribed = query.transcribed(self._encoders)
        shortest = min(1.0, self._params.snippet_seconds / transcribed.seconds)
        ratios = tuple(ratio for ratio in self._options.tempo_ratios if ratio >= shortest)
        keys = self._keys_of(transcribed) if keys is None else keys
        many = len(keys) > FEW_KEYS
        effort, most = (MANY_KEYS, IN_EACH_KEY) if many else (ONE_KEY, LOOKED_UP)
        each = [embed_query(transcribed, self._encoders, ratio, effort, keys) for ratio in ratios]
        share = min(1.0, most / max(1, sum(len(frames) for _, frames in each)))
        snippets = tuple(_thinned(*made, share) for made in each)
        return Embeddings(transcribed, ratios, keys, snippets)

    @stage("look it up")
    def find(self, embedded: Embeddings, extra: int = 0) -> SearchResult:
        """Look up the snippets of music, and beside them its note triples.

        Parameters
        ----------
        embedded : Embeddings
        extra : int
            How many more neighbours to find of each snippet, for `decide` to leave some out.
        """
        notes_count = self._index.kind == "midi" and self._options.vote == "consistent"
        log_odds = embedded.query.log_odds if notes_count else None
        melody = embedded.query.melody if notes_count else None
        every = self._keys_of(embedded.query)
        with ThreadPoolExecutor(1) as beside:
            found = beside.submit(self._agreed, log_odds, embedded.keys)
            tunes = beside.submit(self._tunes, melody, every)
            hits = self._hits(embedded, NEIGHBOURS + extra)
            gains = () if log_odds is None else tuple(compared_gains(log_odds))
            return SearchResult(
                query=embedded.query,
                gains=gains,
                hits=hits,
                found=found.result(),
                melody=() if melody is None else tuple(compared_gains(melody)),
                tunes=tunes.result(),
            )

    def _tunes(self, melody: Tensor | None, keys: Sequence[int]) -> tuple[Candidate, ...]:
        """Look up the melody, in each key."""
        if melody is None:
            return ()
        return find_tunes(melody, tune_keys(keys, FEW_KEYS), self._index, self._params)

    def _hits(self, embedded: Embeddings, count: int) -> tuple[Hits, ...]:
        """Look snippets up at every tempo and in each key, in one search."""
        together = np.concatenate([v.reshape(-1, v.shape[2]) for v, _ in embedded.snippets])
        rows, similarity = self._index.search(together, count, self._options.search)
        piece, position = self._index.locate(rows)
        hits, first = [], 0
        for ratio, (_, frames) in zip(embedded.tempo_ratios, embedded.snippets, strict=True):
            for key in embedded.keys:
                own = slice(first, first + len(frames))
                hits.append(Hits(ratio, frames, piece[own], position[own], similarity[own], key))
                first = own.stop
        return tuple(h for h in hits if len(h.query_frame))

    def _agreed(self, log_odds: Tensor | None, keys: Sequence[int]) -> tuple[Candidate, ...]:
        """Look up the note triples of the transcription, in each key."""
        if log_odds is None:
            return ()
        rate, found = self._params.frame_rate, []
        notes = transcribed_notes(log_odds, rate)
        for key in keys:
            written = transposed(notes, -key, self._params.pitches)
            for at in self._index.search_triples(written, AGREED):
                found.append(
                    Candidate(
                        piece=at.piece,
                        share=0.0,
                        tempo_ratio=at.tempo_ratio,
                        start=at.start * rate,
                        transpose=key,
                        triples=at.share,
                    )
                )
        return tuple(found)

    def _keys_of(self, query: Query) -> Sequence[int]:
        """Return the keys to try: far off concert pitch, those on both sides."""
        if len(self._options.keys) > 1 or abs(query.tuning) < FAR_OFF:
            return self._options.keys
        [key] = self._options.keys
        return (key, key - (1 if query.tuning > 0 else -1))

    def candidates(
        self, result: SearchResult, excluded: frozenset[int] = frozenset()
    ) -> list[Candidate]:
        """Choose the candidates that are compared, by the votes of snippets and of note triples.

        Each of a few keys has as many candidates; many keys share them.
        """
        hits = [nearest(hypothesis, NEIGHBOURS, excluded) for hypothesis in result.hits]
        keys = dict.fromkeys(hypothesis.transpose for hypothesis in hits)
        apart = [[h for h in hits if h.transpose == key] for key in keys]
        electing = apart if len(keys) <= FEW_KEYS else [hits]
        parts = None if self._index.kind == "midi" else self._length
        elected = [
            candidate
            for part in electing
            for candidate in elect(part, self._options.vote, result.most_compared, EACH, parts)
        ]
        frames = int(result.query.seconds * self._params.frame_rate)
        others = joined(elected, result.found, frames, hits)
        together = with_tunes(others, result.tunes, frames, hits)
        return [c for c in together if c.piece not in excluded]

    def _length(self, piece: int) -> float:
        """Return the length of an item of the index, frames."""
        return self._index.entries[piece].seconds * self._params.frame_rate


def _thinned(
    vectors: np.ndarray, frames: np.ndarray, share: float
) -> tuple[np.ndarray, np.ndarray]:
    """Keep a share of snippets, spread evenly."""
    chosen = np.linspace(0, len(frames) - 1, math.ceil(share * len(frames))).astype(np.int64)
    return vectors[:, chosen], frames[chosen]
