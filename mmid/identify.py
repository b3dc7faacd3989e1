"""Music to what the library has of it: a recording to its piece, a score to its recordings."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmid.align import Alignment, Gains, align, explained, note_gains
from mmid.answer import Identification, Match
from mmid.checkpoint import Checkpoint
from mmid.choices import Kind, Search, Vote
from mmid.confidence import CALIBRATION, VOTES_ALONE, Evidence, confidence
from mmid.console import stage
from mmid.library import group_duplicates
from mmid.lookup import TEMPO_RATIOS, Asked, Lookup
from mmid.params import FeatureParams
from mmid.query import Query, open_query
from mmid.store import Library
from mmid.vote import Candidate

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

MIN_CONFIDENCE = 0.5
TOP = 5


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
    notes : np.ndarray [n] of mmid.midi.NOTE_DTYPE
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
    search : {"auto", "exact", "hnsw"}
    vote : {"consistent", "majority"}
    tempo_ratios : sequence of float
        Speeds of the query against the library to try.
    keys : sequence of int
        Transpositions to try, semitones.
    top : int
        Matches to return.
    min_confidence : float
        The first match counts as found from here on.
    """

    def __init__(
        self,
        model: Checkpoint,
        index: Library,
        *,
        search: Search = "auto",
        vote: Vote = "consistent",
        tempo_ratios: Sequence[float] = TEMPO_RATIOS,
        keys: Sequence[int] = (0,),
        top: int = TOP,
        min_confidence: float = MIN_CONFIDENCE,
    ) -> None:
        self._model, self._index = model, index
        self._vote: Vote = vote
        self.lookup = Lookup(model, index, search, vote, tempo_ratios, keys)
        self._top, self.min_confidence = top, min_confidence

    @property
    def names(self) -> list[str]:
        """What the index holds, by position."""
        return [entry.name for entry in self._index.entries]

    def notes(self, piece: int) -> np.ndarray:
        """Return the notes of a MIDI file of the index, by its position."""
        return self._index.notes(piece)

    @property
    def snippets(self) -> int:
        """How many snippets the index holds."""
        return self._index.snippets

    @property
    def kind(self) -> Kind:
        """Whether the index holds MIDI files or recordings."""
        return self._index.kind

    @property
    def params(self) -> FeatureParams:
        """The grid queries must be on."""
        return self._model.encoders.config.features

    @property
    def reach(self) -> int:
        """Frames of a recording on either side that a frame's notes depend on."""
        return self._model.encoders.config.reach

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

    @stage("read a query")
    def open(
        self, path: str | os.PathLike[str], start: float = 0.0, duration: float | None = None
    ) -> Query:
        """Read a recording or a MIDI file, or a span of it, as `mmid.query.open_query` does."""
        return open_query(path, self.params, start, duration, self._model.encoders.device)

    def listen(self, query: Query) -> Query:
        """Return what the model hears in music once and for all: its notes, if it hears any."""
        return query.listened(self._model.encoders)

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

    def ask(self, query: Query, spare: int = 0) -> Asked:
        """Look music up, as `Lookup.find` does."""
        return self.lookup.find(self.lookup.embed(query), spare)

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
        matches = self._matches(ranked, asked)
        matched = bool(matches) and matches[0].confidence >= self.min_confidence
        return Identification(name, asked.query.seconds, matched, matches, asked.query.tuning)

    def trace(self, asked: Asked, match: Match) -> Trace:
        """Tell how `decide`, with nothing left out, came to a match.

        Parameters
        ----------
        asked : Asked
            What the decision was made from.
        match : Match
            One of its matches.
        """
        entries = self._index.entries
        places = [c for c in self.lookup.candidates(asked) if entries[c.piece].name == match.piece]
        [best] = self._rank(places, asked)
        notes = self._index.notes(best.candidate.piece)
        path = self._align(best.candidate, asked)
        return Trace(best.candidate, path, notes, entries[best.candidate.piece].seconds)

    def _rank(self, candidates: Sequence[Candidate], asked: Asked) -> list[Ranked]:
        """Compare candidates with the notes heard, and keep the best place in each piece.

        Of excerpts the one explained best counts: others may lie where repeats were left out.
        """
        gains, log_odds = asked.gains, asked.query.log_odds
        shares: Sequence[float | None] = [None] * len(candidates)
        if gains:
            notes = self._index.notes
            parts = [explained(part, candidates, notes, self.params) for part in gains]
            shares = np.max(parts, axis=0).tolist()
        ranked = [Ranked(c, share) for c, share in zip(candidates, shares, strict=True)]
        if len(gains) == 1 and gains[0].step > 1 and log_odds is not None:
            ranked = self._compare_closely(ranked, note_gains(log_odds))
        best: dict[int, Ranked] = {}
        for place in sorted(ranked, key=lambda r: -r.support):
            best.setdefault(place.candidate.piece, place)
        return list(best.values())

    def _compare_closely(self, ranked: Sequence[Ranked], gains: Gains) -> list[Ranked]:
        ordered = sorted(ranked, key=lambda r: -r.support)
        places = [r.candidate for r in ordered[:CLOSELY]]
        shares = explained(gains, places, self._index.notes, self.params)
        return [*map(Ranked, places, shares.tolist()), *ordered[CLOSELY:]]

    def _matches(self, ranked: Sequence[Ranked], asked: Asked) -> tuple[Match, ...]:
        groups = self._same_music(ranked)
        matches = []
        supports = [group[0].support for group in groups]
        for place, group in enumerate(groups[: self._top]):
            others = supports[:place] + supports[place + 1 :]
            rival, crowd = (others or [0.0])[0], others[CROWD]
            rivals = rival, sum(crowd) / len(crowd) if crowd else rival
            matches.append(self._match(group, rivals, asked, place == 0))
        return tuple(matches)

    def _same_music(self, ranked: Sequence[Ranked]) -> list[list[Ranked]]:
        """Group files of the same music among the best candidates, the best of each first."""
        if self.kind != "midi" or not ranked:
            return [[r] for r in ranked]
        best = ranked[: max(SAME_AMONG, 2 * self._top)]
        labels = group_duplicates([self._index.notes(r.candidate.piece) for r in best])
        groups: dict[int, list[Ranked]] = {}
        for label, place in zip(labels, best, strict=True):
            groups.setdefault(int(label), []).append(place)
        return [*groups.values(), *([r] for r in ranked[len(best) :])]

    def _match(
        self, group: Sequence[Ranked], rivals: tuple[float, float], asked: Asked, first: bool
    ) -> Match:
        best, query = group[0], asked.query
        candidate, entries = best.candidate, self._index.entries
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
        )

    def _place(
        self, candidate: Candidate, asked: Asked, exactly: bool
    ) -> tuple[float | None, float | None, float]:
        """Return start and end in the piece, seconds, where they are known, and the tempo."""
        if candidate.start is None:
            return None, None, candidate.tempo_ratio
        path = self._align(candidate, asked) if exactly else None
        if path:
            return path.start, path.end, path.tempo_ratio
        start = candidate.start / self.params.frame_rate
        return start, start + asked.query.seconds * candidate.tempo_ratio, candidate.tempo_ratio

    def _align(self, candidate: Candidate, asked: Asked) -> Alignment | None:
        """Align a query with a candidate's whole score, where its notes can be compared."""
        log_odds = asked.query.log_odds
        if not asked.gains or log_odds is None:
            return None
        return align(note_gains(log_odds), candidate, self._index.notes, self.params)

    def _confidence(self, evidence: Evidence, *, compared: bool) -> float:
        if self._vote == "majority":
            return evidence.votes
        if not compared:
            return confidence(evidence, VOTES_ALONE)
        return confidence(evidence, self._model.facts.get("confidence", CALIBRATION))
