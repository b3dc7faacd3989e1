"""Music to what the library has of it: a recording to its piece, a score to its recordings."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import numpy as np

from mmid.identify.alignment import Alignment
from mmid.identify.answer import Identification, Match
from mmid.identify.matches import MatchBuilder
from mmid.identify.ranking import Ranked, rank
from mmid.identify.search import FEW_KEYS, Hypotheses, Lookup, SearchResult, widely
from mmid.identify.search_options import SearchOptions
from mmid.identify.voting import Candidate, straightened
from mmid.index.protocol import Library
from mmid.model.checkpoint import Checkpoint
from mmid.model.embedding import Query, open_query, sounding_seconds
from mmid.model.evidence import Weights
from mmid.music.grid import FeatureParams
from mmid.options import Kind
from mmid.system.console import stage

OUTSTANDING = 0.35
"""Support by which the best position must exceed those in other keys for its key to be likely."""

WELL_EXPLAINED = 0.25
"""Share of the transcribed notes that it must explain, or else melodies are correlated as well."""

FIRST_FOUND = 5
"""Of what makes a key likely, so many are compared to see whether they explain the query."""


@dataclass(frozen=True, eq=False)
class Trace:
    """How a match was found.

    Parameters
    ----------
    candidate : Candidate
        The position in the piece, at the tempo and in the key, that was voted for.
    path : Alignment or None
        Of the query with the piece, where notes were compared.
    notes : np.ndarray [n] of mmid.music.notes.NOTE_DTYPE
        The piece's; none of a recording.
    seconds : float
        The piece's length.
    """

    candidate: Candidate
    path: Alignment | None
    notes: np.ndarray
    seconds: float


class Identifier:
    """A model and an index, ready for queries.

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
        self.model, self.index, self.options = model, index, options
        self.lookup = Lookup(model, index, options)
        self._builder = MatchBuilder(model, index, options)
        self._ranked: WeakKeyDictionary[SearchResult, list[Ranked]] = WeakKeyDictionary()

    @property
    def names(self) -> list[str]:
        """What the index holds, by position."""
        return [entry.name for entry in self.index.entries]

    def notes(self, piece: int) -> np.ndarray:
        """Return the notes of a MIDI file of the index, by its position."""
        return self.index.notes(piece)

    @property
    def snippets(self) -> int:
        """How many snippets the index holds."""
        return self.index.snippets

    @property
    def kind(self) -> Kind:
        """Whether the index holds MIDI files or recordings."""
        return self.index.kind

    @property
    def weights(self) -> Weights:
        """What figures weigh in the ranking and in the confidence."""
        return self._builder.weights

    @property
    def params(self) -> FeatureParams:
        """The grid queries must be on."""
        return self.model.encoders.config.features

    def identify_file(
        self, path: str | os.PathLike[str], start: float = 0.0, duration: float | None = None
    ) -> Identification:
        """Identify a recording or a MIDI file, or a span of it.

        Raises
        ------
        MmidError
            If it cannot be read.
        """
        return self.identify(self.open(path, start, duration), os.fspath(path))

    def open(
        self, path: str | os.PathLike[str], start: float = 0.0, duration: float | None = None
    ) -> Query:
        """Read a recording or a MIDI file, or a span of it, as `embedding.open_query` does."""
        return open_query(path, self.params, start, duration, self.model.encoders.device)

    def listen(self, query: Query) -> Query:
        """Return music transcribed once and for all, if the model works on notes."""
        return query.transcribed(self.model.encoders)

    def identify(self, query: Query, name: str = "") -> Identification:
        """Identify music.

        Parameters
        ----------
        query : Query
            Of either kind, whatever the index holds.
        name : str
            What to call it in the answer.
        """
        return self.decide(self.search(query), name)

    def search(
        self, query: Query, extra: int = 0, excluded: frozenset[int] = frozenset()
    ) -> SearchResult:
        """Look music up, as `Lookup.find` does, in the keys and at the tempi that something fits.

        These are the likely ones by note triples; or else every tempo, and of many keys those in
        which what these and melodies that correlate find explains the query best. So an answer
        rests on as much evidence as if its key had been known.

        Parameters
        ----------
        query : Query
        extra : int
            How many more neighbours to find of each snippet, for `decide` to leave some out.
        excluded : frozenset of int
            Positions of items that do not count where keys are chosen.
        """
        query, lookup = self.listen(query), self.lookup
        by_notes, tried = lookup.by_notes(query, excluded), lookup.every(query)
        if likely := self._likely(by_notes):
            tried = likely
        elif len(tried.keys) > FEW_KEYS:
            by_notes, tried = self._choose_keys(by_notes, extra, excluded)
        return lookup.find(lookup.embed(query, tried), extra, by_notes)

    def _choose_keys(
        self, by_notes: SearchResult, extra: int, excluded: frozenset[int]
    ) -> tuple[SearchResult, Hypotheses]:
        """Choose among keys of which none is likely; return also what was found on the way."""
        if not by_notes.gains:
            return by_notes, self._search_keys(by_notes, extra, excluded)
        by_notes = self.lookup.by_notes(by_notes.query, excluded, thorough=True)
        outstanding, ranked = self._compare_keys(by_notes, excluded)
        if outstanding is not None and (ranked[0].explained or 0) >= WELL_EXPLAINED:
            return by_notes, outstanding
        by_notes = self._correlated(by_notes, excluded)
        outstanding, ranked = self._compare_keys(by_notes, excluded)
        return by_notes, outstanding or _first(self.lookup.every(by_notes.query), ranked)

    def _likely(self, by_notes: SearchResult) -> Hypotheses | None:
        """Return likely keys and tempi, if one of the first found explains the query at all."""
        likely = self.lookup.likely(by_notes)
        if likely is None:
            return None
        first = self._rank(by_notes.found[:FIRST_FOUND], by_notes)
        explains = any(one.explained is not None and one.explained > 0 for one in first)
        return likely if explains else None

    def _correlated(self, by_notes: SearchResult, excluded: frozenset[int]) -> SearchResult:
        """Add what melodies that correlate with the query find."""
        query, lookup = by_notes.query, self.lookup
        correlated = lookup.by_correlation(query, lookup.every(query), excluded)
        return replace(by_notes, tunes=(*by_notes.tunes, *correlated))

    def _compare_keys(
        self, by_notes: SearchResult, excluded: frozenset[int]
    ) -> tuple[Hypotheses | None, list[Ranked]]:
        """Return the keys and tempi of the best that was found, if it stands out; and all of it."""
        ranked = self._rank(self.lookup.candidates(by_notes, excluded), by_notes)
        best = [one.candidate for one in ranked if one.support > ranked[0].support - OUTSTANDING]
        every = self.lookup.every(by_notes.query)
        return every.narrowed([(c.transpose, c.tempo_ratio) for c in best]), ranked

    def _search_keys(
        self, by_notes: SearchResult, extra: int, excluded: frozenset[int]
    ) -> Hypotheses:
        """Return `_first` of what snippets find in many keys, where notes are not compared."""
        lookup = self.lookup
        every = lookup.every(by_notes.query)
        result = lookup.find(lookup.embed(by_notes.query, widely(every)), extra, by_notes)
        return _first(every, self._rank(lookup.candidates(result, excluded), result))

    def _rank(self, candidates: Sequence[Candidate], result: SearchResult) -> list[Ranked]:
        return rank(candidates, result, self.index, self.params, self.weights)

    def _rank_found(self, result: SearchResult) -> list[Ranked]:
        """Rank all that was found, once: to say how an answer was found takes it again."""
        if result not in self._ranked:
            self._ranked[result] = self._rank(self.lookup.candidates(result), result)
        return self._ranked[result]

    @stage("compare and align")
    def decide(
        self, result: SearchResult, name: str = "", excluded: frozenset[int] = frozenset()
    ) -> Identification:
        """Choose among what `search` found.

        Parameters
        ----------
        result : SearchResult
        name : str
            What to call the query in the answer.
        excluded : frozenset of int
            Positions of items to act as if they were not in the index.
        """
        ranked = (
            self._rank(self.lookup.candidates(result, excluded), result)
            if excluded
            else self._rank_found(result)
        )
        query, sounding = result.query, sounding_seconds(result.query, self.params.frame_rate)
        matches = self._builder.build(ranked, result, sounding)
        reason = self._builder.reason(matches, sounding, query.seconds)
        return Identification(
            query=name,
            seconds=query.seconds,
            matched=reason is None,
            matches=matches,
            tuning=query.tuning,
            reason=reason,
            keys=tuple(self.options.keys),
        )

    def trace(self, result: SearchResult, match: Match) -> Trace:
        """Say how `decide`, with nothing left out, came to a match.

        Parameters
        ----------
        result : SearchResult
            What the decision was made from.
        match : Match
            One of its matches.
        """
        entries, found = self.index.entries, (one.candidate for one in self._rank_found(result))
        candidate = next(one for one in found if entries[one.piece].name == match.piece)
        path = self._builder.align(candidate, result)
        return Trace(
            candidate=candidate if path else straightened(result.hits, candidate),
            path=path,
            notes=self.index.notes(candidate.piece),
            seconds=entries[candidate.piece].seconds,
        )


def _first(every: Hypotheses, ranked: Sequence[Ranked]) -> Hypotheses:
    """Return the first key, and of the others that of the best candidate, at every tempo."""
    keys = (every.keys[0], *(one.candidate.transpose for one in ranked))
    return Hypotheses(tuple(dict.fromkeys(keys))[:FEW_KEYS], every.tempo_ratios)
