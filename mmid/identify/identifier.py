"""Music to what the library has of it: a recording to its piece, a score to its recordings."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mmid.identify.alignment import Alignment, Gains, align, explained, note_gains
from mmid.identify.answer import Identification, Match
from mmid.identify.search import FEW_KEYS, Asked, Lookup
from mmid.identify.search_options import SearchOptions
from mmid.identify.voting import Candidate, straightened
from mmid.index.protocol import Library
from mmid.model.checkpoint import Checkpoint
from mmid.model.confidence import (
    CALIBRATION,
    LEAST_NOTES,
    UNPROVEN,
    VOTES_ALONE,
    Evidence,
    confidence,
    is_proven,
)
from mmid.model.embedding import Query, open_query, sounding_seconds
from mmid.music.duplicates import group_duplicates
from mmid.music.grid import FeatureParams
from mmid.options import Kind, Reason
from mmid.system.console import stage

CLOSELY = 12
"""Best places that are compared again on finer frames, where the first ones were coarse."""

VOTES_WEIGH, TRIPLES_WEIGH = 2.0, 2.0
"""What votes of snippets and of note triples count beside the share explained."""

FAR_TEMPO = 0.05
"""What a tempo twice or half the score's costs."""

SAME_AMONG = 10
"""Best candidates among which files of the same music are told."""

CROWD = slice(4, 30)
"""Other music farther down: what support there is by chance."""

PROBABLE = 0.2
"""Confidence from which an answer that is not confident is worth naming."""

HARDLY = 0.25
"""Where notes sound for less of a query than this, it hardly has any."""


@dataclass(frozen=True)
class Ranked:
    """A candidate with the share of the notes heard that it explains, if they were compared."""

    candidate: Candidate
    explained: float | None

    @property
    def support(self) -> float:
        """What candidates are ranked by."""
        octaves = math.log2(self.candidate.tempo_ratio)
        votes = VOTES_WEIGH * self.candidate.share + TRIPLES_WEIGH * self.candidate.triples
        return votes + (self.explained or 0.0) - FAR_TEMPO * octaves**2


@dataclass(frozen=True, eq=False)
class Trace:
    """How a match was found.

    Parameters
    ----------
    candidate : Candidate
        The place in the piece, at the tempo and in the key, that was voted for.
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
        """Return what the model hears in music once and for all: its notes, if it hears any."""
        return query.listened(self.model.encoders)

    def identify(self, query: Query, name: str = "") -> Identification:
        """Identify music.

        Parameters
        ----------
        query : Query
            Of either kind, whatever the index holds.
        name : str
            What to call it in the answer.
        """
        return self.decide(self.ask(query), name)

    def ask(self, query: Query, spare: int = 0, without: frozenset[int] = frozenset()) -> Asked:
        """Look music up, as `Lookup.find` does; of many keys, those in which something fits.

        So an answer rests on as much as if its key had been known.

        Parameters
        ----------
        query : Query
        spare : int
            How many more neighbours to find of each snippet, for `decide` to leave some out.
        without : frozenset of int
            Positions of items that do not count where keys are chosen.
        """
        embedded = self.lookup.embed(query)
        asked = self.lookup.find(embedded, spare)
        if len(embedded.keys) <= FEW_KEYS:
            return asked
        keys = self._likely_keys(asked, without)
        return self.lookup.find(self.lookup.embed(asked.query, keys), spare)

    def _likely_keys(self, asked: Asked, without: frozenset[int]) -> tuple[int, ...]:
        """Return the first key, and of the others that of the best place."""
        ranked = self._rank(self.lookup.candidates(asked, without), asked)
        keys = (self.options.keys[0], *(place.candidate.transpose for place in ranked))
        return tuple(dict.fromkeys(keys))[:FEW_KEYS]

    @stage("compare and align")
    def decide(
        self, asked: Asked, name: str = "", without: frozenset[int] = frozenset()
    ) -> Identification:
        """Choose among what `ask` found.

        Parameters
        ----------
        asked : Asked
        name : str
            What to call the query in the answer.
        without : frozenset of int
            Positions of items to act as if they were not in the index.
        """
        ranked = self._rank(self.lookup.candidates(asked, without), asked)
        query, sounding = asked.query, sounding_seconds(asked.query, self.params.frame_rate)
        matches = tuple(_capped(match, sounding) for match in self._matches(ranked, asked))
        reason = self._reason(matches, sounding, query.seconds)
        return Identification(
            name,
            query.seconds,
            reason is None,
            matches,
            query.tuning,
            reason=reason,
            keys=tuple(self.options.keys),
        )

    def _reason(self, matches: Sequence[Match], sounding: float, seconds: float) -> Reason | None:
        """Return why nothing is found, if so."""
        first = matches[0] if matches else None
        proven = first is not None and is_proven(sounding, first.votes, first.passage)
        if first is not None and proven and first.confidence >= self.options.min_confidence:
            return None
        if sounding < LEAST_NOTES:
            return "no_notes" if sounding < HARDLY * seconds else "too_short"
        probable = first is not None and first.confidence >= PROBABLE
        return "not_confident" if probable else "nothing_fits"

    def trace(self, asked: Asked, match: Match) -> Trace:
        """Tell how `decide`, with nothing left out, came to a match.

        Parameters
        ----------
        asked : Asked
            What the decision was made from.
        match : Match
            One of its matches.
        """
        entries = self.index.entries
        places = [c for c in self.lookup.candidates(asked) if entries[c.piece].name == match.piece]
        best = self._rank(places, asked)[0]
        notes = self.index.notes(best.candidate.piece)
        path = self._align(best.candidate, asked)
        candidate = best.candidate if path else straightened(asked.hits, best.candidate)
        return Trace(candidate, path, notes, entries[candidate.piece].seconds)

    def _rank(self, candidates: Sequence[Candidate], asked: Asked) -> list[Ranked]:
        """Compare candidates with the notes heard; keep each piece's best place in each key.

        Of excerpts the one explained best counts: others may lie where repeats were left out.
        """
        gains, log_odds = asked.gains, asked.query.log_odds
        shares: Sequence[float | None] = [None] * len(candidates)
        if gains:
            notes = self.index.notes
            parts = [explained(part, candidates, notes, self.params) for part in gains]
            shares = np.max(parts, axis=0).tolist()
        ranked = [Ranked(c, share) for c, share in zip(candidates, shares, strict=True)]
        if len(gains) == 1 and gains[0].step > 1 and log_odds is not None:
            ranked = self._compare_closely(ranked, note_gains(log_odds))
        best: dict[tuple[int, int], Ranked] = {}
        for place in sorted(ranked, key=lambda r: -r.support):
            best.setdefault((place.candidate.piece, place.candidate.transpose), place)
        return list(best.values())

    def _compare_closely(self, ranked: Sequence[Ranked], gains: Gains) -> list[Ranked]:
        ordered = sorted(ranked, key=lambda r: -r.support)
        places = [r.candidate for r in ordered[:CLOSELY]]
        shares = explained(gains, places, self.index.notes, self.params)
        return [*map(Ranked, places, shares.tolist()), *ordered[CLOSELY:]]

    def _matches(self, ranked: Sequence[Ranked], asked: Asked) -> tuple[Match, ...]:
        best: dict[int, Ranked] = {}
        for place in ranked:
            best.setdefault(place.candidate.piece, place)
        groups = self._same_music(list(best.values()))
        return tuple(
            self._match(group, self._rivals(group, groups, ranked), asked, rank == 0)
            for rank, group in enumerate(groups[: self.options.top])
        )

    def _rivals(
        self, group: Sequence[Ranked], groups: Sequence[Sequence[Ranked]], ranked: Sequence[Ranked]
    ) -> tuple[float, float]:
        """Return the support of the best other music in any key, and of the crowd in this one."""
        others = [other for other in groups if other is not group]
        rival = others[0][0].support if others else 0.0
        owner = {r.candidate.piece: number for number, other in enumerate(others) for r in other}
        supports: dict[int, float] = {}
        for place in ranked:
            candidate = place.candidate
            if candidate.piece in owner and candidate.transpose == group[0].candidate.transpose:
                supports.setdefault(owner[candidate.piece], place.support)
        crowd = list(supports.values())[CROWD]
        return rival, sum(crowd) / len(crowd) if crowd else rival

    def _same_music(self, ranked: Sequence[Ranked]) -> list[list[Ranked]]:
        """Group files of the same music among the best candidates, the best of each first."""
        if self.kind != "midi" or not ranked:
            return [[r] for r in ranked]
        best = ranked[: max(SAME_AMONG, 2 * self.options.top)]
        labels = group_duplicates([self.index.notes(r.candidate.piece) for r in best])
        groups: dict[int, list[Ranked]] = {}
        for label, place in zip(labels, best, strict=True):
            groups.setdefault(int(label), []).append(place)
        return [*groups.values(), *([r] for r in ranked[len(best) :])]

    def _match(
        self, group: Sequence[Ranked], rivals: tuple[float, float], asked: Asked, first: bool
    ) -> Match:
        best, query = group[0], asked.query
        candidate, entries = best.candidate, self.index.entries
        entry = entries[candidate.piece]
        start, end, tempo_ratio = self._place(candidate, asked, first)
        score_asked_of_recordings = query.kind == "midi" and self.kind == "recordings"
        lead, above = (best.support - rival for rival in rivals)
        share = best.explained or 0.0
        evidence = Evidence(candidate.share, share, lead, above, query.seconds, self.snippets)
        return Match(
            entry.name,
            self._confidence(evidence, compared=best.explained is not None),
            candidate.share,
            best.explained,
            lead,
            above,
            None if start is None else min(max(0.0, start), entry.seconds),
            None if end is None else min(max(0.0, end), entry.seconds),
            1 / tempo_ratio if score_asked_of_recordings else tempo_ratio,
            candidate.transpose,
            tuple(entries[other.candidate.piece].name for other in group[1:]),
            entry.title,
        )

    def _place(
        self, candidate: Candidate, asked: Asked, exactly: bool
    ) -> tuple[float | None, float | None, float]:
        """Return start and end in the piece, seconds, where they are known, and the tempo."""
        path = self._align(candidate, asked) if exactly else None
        if path:
            return path.start, path.end, path.tempo_ratio
        if exactly:
            candidate = straightened(asked.hits, candidate)
        if candidate.start is None:
            return None, None, candidate.tempo_ratio
        start = candidate.start / self.params.frame_rate
        return start, start + asked.query.seconds * candidate.tempo_ratio, candidate.tempo_ratio

    def _align(self, candidate: Candidate, asked: Asked) -> Alignment | None:
        """Align a query with a candidate's whole score, where its notes can be compared."""
        log_odds = asked.query.log_odds
        if not asked.gains or log_odds is None:
            return None
        return align(note_gains(log_odds), candidate, self.index.notes, self.params)

    def _confidence(self, evidence: Evidence, *, compared: bool) -> float:
        if self.options.vote == "majority":
            return evidence.votes
        if not compared:
            return confidence(evidence, VOTES_ALONE)
        return confidence(evidence, self.model.facts.get("confidence", CALIBRATION))


def _capped(match: Match, sounding: float) -> Match:
    """Return a match with as much confidence as what it rests on allows."""
    if is_proven(sounding, match.votes, match.passage):
        return match
    return replace(match, confidence=min(match.confidence, UNPROVEN))
