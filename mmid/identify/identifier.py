"""Identify music: search the index, compare what was found, and choose an answer."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import numpy as np

from mmid.identify.alignment import Alignment
from mmid.identify.answer import Identification, Match
from mmid.identify.matches import MatchBuilder
from mmid.identify.ranking import Ranked, rank
from mmid.identify.search import (
    FEW_KEYS,
    NEIGHBOURS,
    Hypotheses,
    Lookup,
    SearchResult,
    widely,
)
from mmid.identify.search_options import SearchOptions
from mmid.identify.stretches import resting_on, stretches_of
from mmid.identify.voting import Candidate, straightened
from mmid.index.fingerprint_search import QUICKLY, THOROUGHLY
from mmid.index.folder import LibraryIndex
from mmid.index.protocol import Library
from mmid.model.checkpoint import Checkpoint
from mmid.model.embedding import Query, Transcribed, open_query, sounding_seconds
from mmid.model.evidence import Weights
from mmid.music.grid import FeatureParams
from mmid.options import Kind
from mmid.system.console import stage
from mmid.system.forks import CAN_FORK

OUTSTANDING = 0.35
"""Support by which the best position must exceed those in other keys for its key to be likely."""

WELL_EXPLAINED = 0.25
"""Share of the transcribed notes that it must explain, or else melodies are correlated as well."""

CERTAIN = 0.995
"""What part of the evidence makes so confident is the answer: all of it hardly changes that."""

FIRST_FOUND = 5
"""Of what makes a key likely, so many are compared to see whether they explain the query."""


@dataclass(frozen=True, eq=False)
class Trace:
    """How a match was found.

    Parameters
    ----------
    candidate : Candidate
        The position in the piece, the tempo and the key that got the votes.
    path : Alignment or None
        The alignment of the query with the piece; None if notes were not compared.
    notes : np.ndarray [n] of mmid.music.notes.NOTE_DTYPE
        The notes of the piece; empty for a recording.
    seconds : float
        The length of the piece.
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
        The model that made the index.
    index : Library
        An index in a folder or on Milvus, opened.
    options : SearchOptions
        How to search, and how many matches to return.
    """

    def __init__(
        self, model: Checkpoint, index: Library, options: SearchOptions = SearchOptions()
    ) -> None:
        self.model, self.index, self.options = model, index, options
        self.lookup = Lookup(model, index, options)
        self._builder = MatchBuilder(model, index, options)
        self._ranked: WeakKeyDictionary[SearchResult, list[Ranked]] = WeakKeyDictionary()
        self._answering: WeakKeyDictionary[SearchResult, tuple[SearchResult, float]] = (
            WeakKeyDictionary()
        )

    @property
    def names(self) -> list[str]:
        """The names of the pieces, in the index's order."""
        return [entry.name for entry in self.index.entries]

    def notes(self, piece: int) -> np.ndarray:
        """Return the notes of the piece at a position of `names`, [n] of `NOTE_DTYPE`."""
        return self.index.notes(piece)

    @property
    def snippets(self) -> int:
        """The number of snippets that the index holds."""
        return self.index.snippets

    @property
    def kind(self) -> Kind:
        """What the index holds: ``midi`` or ``recordings``."""
        return self.index.kind

    @property
    def weights(self) -> Weights:
        """The weights of the ranking and of the confidence."""
        return self._builder.weights

    @property
    def params(self) -> FeatureParams:
        """The time grid that queries must be on."""
        return self.model.encoders.config.features

    @property
    def forkable(self) -> bool:
        """Whether a fork of this process can identify as well as it: not on a GPU or a server."""
        on_cpu = self.model.encoders.device.type == "cpu"
        return CAN_FORK and on_cpu and isinstance(self.index, LibraryIndex)

    def identify_file(
        self, path: str | os.PathLike[str], start: float = 0.0, duration: float | None = None
    ) -> Identification:
        """Identify a recording or a MIDI file, or a span of it.

        Parameters
        ----------
        path : str or path
            A recording or a MIDI file.
        start, duration : float
            The span to use, seconds; by default all of it.

        Returns
        -------
        Identification

        Raises
        ------
        MmidError
            If the file cannot be read, or the span lies outside it.
        """
        return self.identify(self.open(path, start, duration), os.fspath(path))

    def open(
        self, path: str | os.PathLike[str], start: float = 0.0, duration: float | None = None
    ) -> Query:
        """Read a recording or a MIDI file, or a span of it in seconds, as `open_query` does."""
        return open_query(path, self.params, start, duration, self.model.encoders.device)

    def listen(self, query: Query) -> Query:
        """Return the query with its transcription, if the model works on notes."""
        return query.transcribed(self.model.encoders)

    def identify(self, query: Query, name: str = "") -> Identification:
        """Identify music that was read.

        Parameters
        ----------
        query : Query
            A recording or a score, whatever the index holds.
        name : str
            The name of the query in the answer.

        Returns
        -------
        Identification
        """
        return self.answer(self.search(query), name)

    def search(
        self, query: Query, extra: int = 0, excluded: frozenset[int] = frozenset()
    ) -> SearchResult:
        """Find candidates for a query, in the keys and at the tempi that something fits.

        These are the likely ones by fingerprints; or else every tempo, and of many keys those of
        the candidates that explain the query best. So an answer rests on as much evidence as if
        its key had been known. Some of the fingerprints and few candidates are tried first: where
        they leave no doubt, the rest is not looked at.

        Parameters
        ----------
        query : Query
            Music, transcribed or not.
        extra : int
            How many more neighbours to find of each snippet, so that `decide` may exclude some:
            then all candidates are looked for.
        excluded : frozenset of int
            Positions of pieces to ignore when keys are chosen.

        Returns
        -------
        SearchResult
        """
        query, lookup = self.listen(query), self.lookup
        certain = self._certain(query, excluded) if self._may_hurry(extra) else None
        if certain is not None:
            return certain
        by_notes, tried = lookup.by_notes(query, excluded), lookup.every(query)
        if likely := self._likely(by_notes):
            tried = likely
        elif len(tried.keys) > FEW_KEYS:
            by_notes, tried = self._choose_keys(by_notes, extra, excluded)
        return lookup.find(lookup.embed(query, tried), extra, by_notes)

    def _may_hurry(self, extra: int) -> bool:
        """Return whether few candidates are enough, if the first of them leaves no doubt."""
        return not extra and self.options.top <= SearchOptions.top

    def _certain(self, query: Query, excluded: frozenset[int]) -> SearchResult | None:
        """Return what part of the evidence finds, if what comes first there leaves no doubt."""
        lookup = self.lookup
        by_notes, keys = lookup.by_notes(query, excluded, QUICKLY), lookup.every(query).keys
        if not by_notes.gains:
            return None
        tried = self._likely(by_notes) or self._fitting(by_notes.shortened(keys), excluded)
        if tried is None:
            return None
        few = by_notes.shortened(tried.keys)
        found = lookup.find(lookup.embed(query, tried), by_notes=few)
        matches = self.decide(found, excluded=excluded).matches
        return found if matches and matches[0].confidence >= CERTAIN else None

    def _choose_keys(
        self, by_notes: SearchResult, extra: int, excluded: frozenset[int]
    ) -> tuple[SearchResult, Hypotheses]:
        """Choose among keys of which none is likely; return also what was found on the way."""
        if not by_notes.gains:
            return by_notes, self._search_keys(by_notes, extra, excluded)
        by_notes = self.lookup.by_notes(by_notes.query, excluded, THOROUGHLY)
        fitting = self._fitting(by_notes, excluded)
        if fitting is not None:
            return by_notes, fitting
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

    def _fitting(self, by_notes: SearchResult, excluded: frozenset[int]) -> Hypotheses | None:
        """Return the keys and tempi of what fits best by far, if it explains the query well."""
        outstanding, ranked = self._compare_keys(by_notes, excluded)
        well = outstanding is not None and (ranked[0].explained or 0) >= WELL_EXPLAINED
        return outstanding if well else None

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

    def _ranked_candidates(self, result: SearchResult) -> Iterator[Candidate]:
        """Give what was ranked, best first: of the stretch that answered, then of the whole."""
        stretch = self._answering.get(result)
        if stretch is not None:
            for one in self._rank_found(stretch[0]):
                yield _earlier(one.candidate, stretch[1])
        for one in self._rank_found(result):
            yield one.candidate

    @stage("compare and align")
    def decide(
        self, result: SearchResult, name: str = "", excluded: frozenset[int] = frozenset()
    ) -> Identification:
        """Rank what `search` found, and compute the confidence.

        Parameters
        ----------
        result : SearchResult
            What `search` returned.
        name : str
            The name of the query in the answer.
        excluded : frozenset of int
            Positions of pieces to leave out, as if they were not in the index.

        Returns
        -------
        Identification
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

    def answer(
        self, result: SearchResult, name: str = "", excluded: frozenset[int] = frozenset()
    ) -> Identification:
        """Choose as `decide` does; where nothing is found, a stretch of the query may answer.

        Parameters
        ----------
        result, name, excluded
            As for `decide`.
        """
        whole = self.decide(result, name, excluded)
        open_ = result.gains and whole.reason in ("not_confident", "nothing_fits")
        parts = stretches_of(result.query) if open_ else []
        least = self.options.min_confidence
        for stretch in parts:
            part = self._glance(stretch.query, excluded)
            if part is None:
                continue
            alone = self.decide(part, name, excluded)
            found = resting_on(stretch, alone, whole, 1 + len(parts), least)
            if found is not None:
                if not excluded:
                    self._answering[result] = part, stretch.start * self.params.frame_rate
                return found
        return whole

    def _glance(self, query: Transcribed, excluded: frozenset[int]) -> SearchResult | None:
        """Look music up in the keys that its note triples make likely, if they make any."""
        lookup = self.lookup
        by_notes, tried = lookup.by_notes(query, excluded), lookup.every(query)
        if likely := self._likely(by_notes):
            tried = likely
        elif len(tried.keys) > FEW_KEYS:
            fitting = self._fitting(by_notes, excluded)
            if fitting is None:
                return None
            tried = fitting
        extra = NEIGHBOURS if excluded else 0
        return lookup.find(lookup.embed(query, tried), extra, by_notes)

    def trace(self, result: SearchResult, match: Match) -> Trace:
        """Return how `answer` or `decide`, with nothing excluded, came to a match.

        Parameters
        ----------
        result : SearchResult
            What `search` returned.
        match : Match
            One of the matches that `decide` returned for it.

        Returns
        -------
        Trace
        """
        entries = self.index.entries
        found = self._ranked_candidates(result)
        candidate = next(one for one in found if entries[one.piece].name == match.piece)
        path = self._builder.align(candidate, result)
        return Trace(
            candidate=candidate if path else straightened(result.hits, candidate),
            path=path,
            notes=self.index.notes(candidate.piece),
            seconds=entries[candidate.piece].seconds,
        )


def _earlier(candidate: Candidate, frames: float) -> Candidate:
    """Return a candidate for a query that begins so many frames before."""
    if candidate.start is None or not frames:
        return candidate
    return replace(candidate, start=candidate.start - frames * candidate.tempo_ratio)


def _first(every: Hypotheses, ranked: Sequence[Ranked]) -> Hypotheses:
    """Return the first key, and of the others that of the best candidate, at every tempo."""
    keys = (every.keys[0], *(one.candidate.transpose for one in ranked))
    return Hypotheses(tuple(dict.fromkeys(keys))[:FEW_KEYS], every.tempo_ratios)
