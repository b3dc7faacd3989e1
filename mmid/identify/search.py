"""A query looked up: its note triples in every key, its snippets in the keys these make likely.

Conventions: a tempo ratio is the query's speed against the library's; keys are semitones from a
piece to the query.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from mmid.identify.alignment import COMPARED_FRAMES, Gains, compared_gains
from mmid.identify.correlation import RATIOS, Melodies, correlate
from mmid.identify.melody import find_tunes, with_tunes
from mmid.identify.search_options import SearchOptions
from mmid.identify.voting import SAME_TEMPO, Candidate, Hits, Position, elect, joined, nearest
from mmid.index.fingerprint_search import Agreement
from mmid.index.melodies import CLASSES
from mmid.index.protocol import Library
from mmid.model.checkpoint import Checkpoint
from mmid.model.drawing import EXCERPT_SECONDS, MANY_KEYS, ONE_KEY, PHASES, Effort
from mmid.model.embedding import (
    TUNINGS,
    Query,
    Sound,
    draw_query,
    embed_drawn,
)
from mmid.model.transcriber import transcribed_notes
from mmid.system.console import stage

FAR_OFF = max(TUNINGS)
"""From so many cents on, notes may as well be transcribed a semitone away: both keys are tried."""

FEW_KEYS = 2
"""Of more keys, those that are worth it are chosen first, and then looked up in full."""

LIKELY, LEAST_AGREEING = 0.5, 10
"""Keys are likely where at least such a share of the most triples that agree on a position agree,
if these are so many, and the keys few: by chance alone, as many agree in any key."""

NEAR_KEYS, OCTAVE = 6, 12
"""Where no keys are likely, all up to so many semitones away are searched, and the octaves."""

NEIGHBOURS = 25
"""Nearest snippets that vote, for each snippet of the query (Dorfer et al. 2017)."""

EACH = 3
"""Candidates of one piece, at most, that are compared note by note."""

FRAMES_TO_COMPARE = 10_750
"""Frames to compare, over all candidates: the longer the query, the fewer candidates."""

LOOKED_UP, IN_EACH_KEY = 1_200, 50
"""Snippets of a query looked up at most, over all tempi: in one key or two, and in each of many."""

CORRELATED = 30
"""Files whose melodies correlate best, that are compared note by note."""

FEW, FEW_TUNES = 12, 6
"""And candidates of each voter that are compared to see whether the first leaves any doubt."""

AGREED = 40
"""Positions that note triples agree on, at most, that are compared note by note."""


@dataclass(frozen=True, eq=False)
class Embeddings:
    """A query, embedded at the tempi and in the keys that are tried.

    Parameters
    ----------
    query : Query
        As the model takes it, with its notes transcribed if it works on notes.
    tempo_ratios : sequence of float
    keys : sequence of int
    snippets : tuple of (np.ndarray, np.ndarray)
        Vectors and frames at each tempo, as of `mmid.model.embedding.embed_drawn`; of many some.
    """

    query: Query
    tempo_ratios: Sequence[float]
    keys: Sequence[int]
    snippets: tuple[tuple[np.ndarray, np.ndarray], ...]


@dataclass(frozen=True)
class Hypotheses:
    """Keys and tempi that are worth trying for a query.

    Parameters
    ----------
    keys : tuple of int
    tempo_ratios : tuple of float
    """

    keys: tuple[int, ...]
    tempo_ratios: tuple[float, ...]

    def narrowed(self, best: Sequence[tuple[int, float]]) -> Hypotheses | None:
        """Return the keys and tempi about those of the best positions, if the keys are few."""
        keys = tuple(dict.fromkeys(key for key, _ in best))
        ratios = tuple(_near_tempi(self.tempo_ratios, [ratio for _, ratio in best]))
        return Hypotheses(keys, ratios) if ratios and len(keys) <= FEW_KEYS else None


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
    agreeing : int
        How many note triples agree on the first of ``found``.
    few : bool
        Whether few candidates are to be compared.
    compared : dict
        Figures of the positions that were compared with these gains, for `ranking` to keep.
    closely : dict
        What those explain that were compared on finer frames, likewise.
    """

    query: Query
    gains: tuple[Gains, ...]
    hits: tuple[Hits, ...]
    found: tuple[Candidate, ...] = ()
    melody: tuple[Gains, ...] = ()
    tunes: tuple[Candidate, ...] = ()
    agreeing: int = 0
    few: bool = False
    compared: dict[Position, dict[str, float]] = field(default_factory=dict)
    closely: dict[Position, float] = field(default_factory=dict)

    @property
    def most_compared(self) -> int:
        """How many candidates are worth comparing with it."""
        frames = sum(part.values.shape[1] for part in self.gains) or COMPARED_FRAMES
        return min(FEW, FRAMES_TO_COMPARE // frames) if self.few else FRAMES_TO_COMPARE // frames

    def shortened(self, keys: Sequence[int]) -> SearchResult:
        """Return the first of what was found in some keys, of which few are compared."""
        found, tunes = ([c for c in own if c.transpose in keys] for own in (self.found, self.tunes))
        return replace(self, found=(*found[:FEW],), tunes=(*tunes[:FEW_TUNES],), few=True)


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
    def embed(self, query: Query, tried: Hypotheses | None = None) -> Embeddings:
        """Embed music at some tempi and in some keys, by default as `every` says.

        Of many snippets as large a share is kept as if every tempo were tried: votes are the same.
        """
        transcribed = query.transcribed(self._encoders)
        every = self.every(transcribed)
        tried = every if tried is None else tried
        ratios, keys = tried.tempo_ratios, tried.keys
        many = len(keys) > FEW_KEYS
        effort, limit = (MANY_KEYS, IN_EACH_KEY) if many else (ONE_KEY, LOOKED_UP)
        each = [draw_query(transcribed, self._encoders, ratio, effort) for ratio in ratios]
        part, whole = (
            self._amount(transcribed, effort, some) for some in (ratios, every.tempo_ratios)
        )
        share = min(1.0, limit * part / whole / max(1, sum(map(len, each))))
        some = (drawn.thinned(share, self._params.snippet) for drawn in each)
        snippets = tuple(embed_drawn(transcribed, one, self._encoders, keys) for one in some)
        return Embeddings(transcribed, ratios, keys, snippets)

    def _amount(self, query: Query, effort: Effort, tempo_ratios: Iterable[float]) -> float:
        """Return about how much is embedded of a query at some tempi; at least something."""
        snippet = self._params.snippet_seconds
        each = (_drawn_amount(ratio * query.seconds, effort, snippet) for ratio in tempo_ratios)
        return max(sum(each), snippet)

    def every(self, query: Query) -> Hypotheses:
        """Return the keys, and the tempi at which a query is long enough, that are to be tried."""
        shortest = min(1.0, self._params.snippet_seconds / query.seconds)
        ratios = tuple(ratio for ratio in self._options.tempo_ratios if ratio >= shortest)
        return Hypotheses(self._keys_of(query), ratios)

    @stage("find likely keys")
    def by_notes(
        self, query: Query, excluded: frozenset[int] = frozenset(), effort: float = 1.0
    ) -> SearchResult:
        """Return what note triples find in every key, of all notes and of melodies.

        Parameters
        ----------
        query : Query
            Transcribed.
        excluded : frozenset of int
            Positions of items that do not count.
        effort : float
            How much of the triples to look up (`mmid.index.fingerprint_search.QUICKLY`).
        """
        keys = self.every(query).keys
        top = AGREED + len(keys) * len(excluded)
        with ThreadPoolExecutor(1) as beside:
            tunes = beside.submit(self._tunes, query, keys, effort)
            found = self._agreed(query, keys, top, effort)
        agreed = [at for at in found if at.piece not in excluded]
        gains, melody = self._gains(query)
        return SearchResult(
            query=query,
            gains=gains,
            hits=(),
            found=self._candidates_of(agreed),
            melody=melody,
            tunes=tunes.result(),
            agreeing=agreed[0].votes if agreed else 0,
        )

    def likely(self, by_notes: SearchResult) -> Hypotheses | None:
        """Return the keys and tempi of the positions that most note triples agree on.

        Returns
        -------
        Hypotheses or None
            None if they agree on nothing, or on as much in many keys.
        """
        found = by_notes.found
        if by_notes.agreeing < LEAST_AGREEING:
            return None
        best = [one for one in found if one.triples >= LIKELY * found[0].triples]
        return self.every(by_notes.query).narrowed(
            [(one.transpose, one.tempo_ratio) for one in best]
        )

    @stage("look it up")
    def find(
        self, embedded: Embeddings, extra: int = 0, by_notes: SearchResult | None = None
    ) -> SearchResult:
        """Look up the snippets of music, and beside them its note triples in the same keys.

        Parameters
        ----------
        embedded : Embeddings
        extra : int
            How many more neighbours to find of each snippet, for `decide` to leave some out.
        by_notes : SearchResult, optional
            What `by_notes` found of it, where that is known.
        """
        with ThreadPoolExecutor(1) as beside:
            notes = beside.submit(self._in_keys, embedded, by_notes)
            hits = self._hits(embedded, NEIGHBOURS + extra)
            return replace(notes.result(), hits=hits)

    def _in_keys(self, embedded: Embeddings, by_notes: SearchResult | None) -> SearchResult:
        """Return what note triples find, with as many positions in each of the keys embedded."""
        query, keys = embedded.query, embedded.keys
        by_notes = by_notes or self.by_notes(query)
        if by_notes.few or len(keys) > FEW_KEYS or tuple(keys) == self.every(query).keys:
            return by_notes
        agreed = [at for key in keys for at in self._agreed(query, (key,), AGREED)]
        return replace(by_notes, found=self._candidates_of(agreed))

    @stage("correlate melodies")
    def by_correlation(
        self, query: Query, tried: Hypotheses, excluded: frozenset[int] = frozenset()
    ) -> tuple[Candidate, ...]:
        """Return the positions at which a library's melodies correlate best with what sounds.

        Each is tried in every octave of its key: many are sung in another than they are written in.

        Parameters
        ----------
        query : Query
            Transcribed.
        tried : Hypotheses
        excluded : frozenset of int
            Positions of items that do not count.
        """
        ratios = [ratio for ratio in RATIOS if _near_tempi([ratio], tried.tempo_ratios)]
        if not (self._notes_count and query.log_odds is not None and ratios):
            return ()
        rate = self._params.frame_rate
        found = correlate(
            query.log_odds,
            rate,
            self._melodies,
            ratios,
            top=CORRELATED,
            excluded=excluded,
            melody=query.melody,
        )
        return tuple(
            Candidate(
                piece=one.piece,
                share=0.0,
                tempo_ratio=one.tempo_ratio,
                start=one.start * rate,
                transpose=key,
                correlation=one.excess,
            )
            for one in found
            for key in tried.keys
            if key % CLASSES == one.key
        )

    @cached_property
    def _melodies(self) -> Melodies:
        """The library's, gathered once."""
        return Melodies.of(self._index)

    def _gains(self, query: Query) -> tuple[tuple[Gains, ...], tuple[Gains, ...]]:
        """Return what a query's notes, and its melody's, are compared by, if they are."""
        if not self._notes_count:
            return (), ()
        sides = (query.log_odds, query.melody)
        notes, melody = (() if side is None else tuple(compared_gains(side)) for side in sides)
        return notes, melody

    def _tunes(self, query: Query, keys: Sequence[int], effort: float) -> tuple[Candidate, ...]:
        """Look up the melody, in each key."""
        if not self._notes_count or query.log_odds is None or query.melody is None:
            return ()
        return find_tunes(query.log_odds, query.melody, keys, self._index, self._params, effort)

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

    @property
    def _notes_count(self) -> bool:
        """Whether the notes of a query are compared with those of pieces."""
        return self._index.kind == "midi" and self._options.vote == "consistent"

    def _agreed(
        self, query: Query, keys: Sequence[int], top: int, effort: float = 1.0
    ) -> list[Agreement]:
        """Look up the note triples of a query, in all these keys at once."""
        log_odds = query.log_odds if self._notes_count else None
        if log_odds is None:
            return []
        notes = transcribed_notes(log_odds, self._params.frame_rate)
        return self._index.search_triples(notes, top, keys, effort=effort)

    def _candidates_of(self, agreed: Sequence[Agreement]) -> tuple[Candidate, ...]:
        rate = self._params.frame_rate
        return tuple(
            Candidate(
                piece=at.piece,
                share=0.0,
                tempo_ratio=at.tempo_ratio,
                start=at.start * rate,
                transpose=at.transpose,
                triples=at.share,
            )
            for at in agreed
        )

    def _keys_of(self, query: Query) -> tuple[int, ...]:
        """Return the keys to try: far off concert pitch, those on both sides.

        Of sound whose notes are not known, only its own key can be, if it is among them.
        """
        keys = tuple(self._options.keys)
        if isinstance(query, Sound) and 0 in keys:
            return (0,)
        if len(keys) > 1 or abs(query.tuning) < FAR_OFF:
            return keys
        return (*keys, keys[0] - (1 if query.tuning > 0 else -1))

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


def _drawn_amount(seconds: float, effort: Effort, snippet_seconds: float) -> float:
    """Return about how many snippets of music drawn so long are embedded, in seconds of them."""
    if seconds > effort.seconds:
        return effort.seconds * (1 - snippet_seconds / EXCERPT_SECONDS)
    phases = PHASES if seconds <= effort.dense_seconds else 1
    return max(0.0, seconds - snippet_seconds) * phases


def widely(every: Hypotheses) -> Hypotheses:
    """Return which of many keys are searched where none is likely."""
    near = (key for key in every.keys if abs(key) <= NEAR_KEYS or not key % OCTAVE)
    return Hypotheses(tuple(near) or every.keys, every.tempo_ratios)


def _near_tempi(tried: Iterable[float], found: Sequence[float]) -> list[float]:
    """Return the tempi tried that are about one of those found."""
    octaves = np.log2(found)
    return [ratio for ratio in tried if (np.abs(octaves - math.log2(ratio)) <= SAME_TEMPO).any()]
