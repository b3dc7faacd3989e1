"""Ranked candidates made into the matches of an answer: where, how fast, and how confident."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any
from weakref import WeakKeyDictionary

from mmid.identify.alignment import ALIGNED_FRAMES, Alignment, align, note_gains
from mmid.identify.answer import Match
from mmid.identify.melody import notes_read
from mmid.identify.ranking import Ranked, group_same_music, rivals
from mmid.identify.search import SearchResult
from mmid.identify.search_options import SearchOptions
from mmid.identify.voting import Candidate, Position, straightened
from mmid.index.protocol import Library
from mmid.model.checkpoint import Checkpoint
from mmid.model.confidence import LEAST_NOTES, UNPROVEN, confidence, is_proven
from mmid.model.evidence import UNCOMPARED, Evidence, weights_of
from mmid.music.bars import moment
from mmid.options import Reason

SAME_AMONG = 10
"""Best candidates among which files of the same music are looked for."""

PROBABLE = 0.2
"""Confidence from which an answer that is not confident is worth naming."""

HARDLY = 0.25
"""Where notes sound for less of a query than this, it hardly has any."""


class MatchBuilder:
    """Makes matches of an index's candidates."""

    def __init__(self, model: Checkpoint, index: Library, options: SearchOptions) -> None:
        self._params, self.weights = model.encoders.config.features, weights_of(model.facts)
        self._index, self._options = index, options
        self._aligned: WeakKeyDictionary[SearchResult, dict[Position, Alignment]] = (
            WeakKeyDictionary()
        )

    def build(
        self, ranked: Sequence[Ranked], result: SearchResult, sounding: float
    ) -> tuple[Match, ...]:
        """Make matches of the best candidates, files of the same music together.

        Confidence may rest on the seconds for which notes sound in the query.
        """
        top = self._options.top
        groups = group_same_music(ranked, self._index, max(SAME_AMONG, 2 * top))
        matches = (
            self._match(group, rivals(group, groups, ranked), result, exactly=number == 0)
            for number, group in enumerate(groups[:top])
        )
        return tuple(_capped(match, sounding) for match in matches)

    def _match(
        self,
        group: Sequence[Ranked],
        others: tuple[float, float],
        result: SearchResult,
        *,
        exactly: bool,
    ) -> Match:
        best, query = group[0], result.query
        candidate, entries = best.candidate, self._index.entries
        entry = entries[candidate.piece]
        start, end, tempo_ratio = self._passage(candidate, result, exactly)
        score_among_recordings = query.kind == "midi" and self._index.kind == "recordings"
        lead, above = (best.support - other for other in others)
        evidence = Evidence(
            **asdict(best.figures),
            lead=lead,
            above=above,
            seconds=query.seconds,
            snippets=self._index.snippets,
        )
        start, end = (_within(time, entry.seconds) for time in (start, end))
        return Match(
            piece=entry.name,
            confidence=self._confidence(evidence),
            votes=candidate.share,
            explained=best.explained,
            lead=lead,
            above=above,
            start=start,
            end=end,
            tempo_ratio=1 / tempo_ratio if score_among_recordings else tempo_ratio,
            transpose=candidate.transpose,
            also=tuple(entries[other.candidate.piece].name for other in group[1:]),
            title=entry.title,
            **passage_bars(entry.bars, start, end),
            figures=best.figures,
        )

    def _passage(
        self, candidate: Candidate, result: SearchResult, exactly: bool
    ) -> tuple[float | None, float | None, float]:
        """Return start and end in the piece, seconds, where they are known, and the tempo."""
        path = self.align(candidate, result) if exactly else None
        if path:
            return path.start, path.end, path.tempo_ratio
        if exactly:
            candidate = straightened(result.hits, candidate)
        if candidate.start is None:
            return None, None, candidate.tempo_ratio
        start = candidate.start / self._params.frame_rate
        return start, start + result.query.seconds * candidate.tempo_ratio, candidate.tempo_ratio

    def align(self, candidate: Candidate, result: SearchResult) -> Alignment | None:
        """Align a query with a candidate's whole score, once, where its notes can be compared."""
        log_odds = result.query.log_odds
        if not result.gains or log_odds is None:
            return None
        known, position = self._aligned.setdefault(result, {}), candidate.position
        if position not in known:
            notes = notes_read(self._index)
            known[position] = align(
                note_gains(log_odds, ALIGNED_FRAMES), candidate, notes, self._params
            )
        return known[position]

    def _confidence(self, evidence: Evidence) -> float:
        if self._options.vote == "majority":
            return evidence.votes
        weights = UNCOMPARED if evidence.explained is None else self.weights
        return confidence(evidence, weights.confidence)

    def reason(self, matches: Sequence[Match], sounding: float, seconds: float) -> Reason | None:
        """Return why nothing is found, if so, in a query of which so many seconds sound."""
        first = matches[0] if matches else None
        proven = first is not None and _is_proven(first, sounding)
        if first is not None and proven and first.confidence >= self._options.min_confidence:
            return None
        if sounding < LEAST_NOTES:
            return "no_notes" if sounding < HARDLY * seconds else "too_short"
        probable = first is not None and first.confidence >= PROBABLE
        return "not_confident" if probable else "nothing_fits"


def _within(time: float | None, seconds: float) -> float | None:
    """Clip a time to a piece."""
    return None if time is None else min(max(0.0, time), seconds)


def _is_proven(match: Match, sounding: float) -> bool:
    """Return whether a match rests on enough, by whichever voter found it."""
    figures = match.figures
    votes = max(figures.votes, figures.triples, figures.tune, figures.correlation)
    return is_proven(sounding, votes, match.passage)


def _capped(match: Match, sounding: float) -> Match:
    """Return a match with as much confidence as what it rests on allows."""
    if _is_proven(match, sounding):
        return match
    return replace(match, confidence=min(match.confidence, UNPROVEN))


def passage_bars(bars: str, start: float | None, end: float | None) -> dict[str, Any]:
    """Return where a passage, seconds, begins and ends in the bars of its piece, for a `Match`."""
    first, last = (moment(bars, time) for time in (start, end))
    return {
        "start_bar": first and first.bar,
        "start_beat": first and first.beat,
        "end_bar": last and last.bar,
        "end_beat": last and last.beat,
    }
