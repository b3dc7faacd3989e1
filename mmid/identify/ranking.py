"""Candidates in order: their votes, and the share of the transcribed notes that they explain.

Conventions: a candidate is a position in a piece, at a tempo and in a key. What candidates are
ranked by is called their support; the ranked are sorted by it, the best first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmid.identify.alignment import Gains, explained, note_gains
from mmid.identify.search import SearchResult
from mmid.identify.voting import Candidate
from mmid.index.protocol import Library
from mmid.music.duplicates import group_duplicates
from mmid.music.grid import FeatureParams

CLOSELY = 12
"""Best candidates that are compared again on finer frames, where the first ones were coarse."""

VOTES_WEIGH, TRIPLES_WEIGH = 2.0, 2.0
"""What votes of snippets and of note triples count beside the share explained."""

FAR_TEMPO = 0.05
"""What a tempo twice or half the score's costs."""

CROWD = slice(4, 30)
"""Other music farther down: what support there is by chance."""


@dataclass(frozen=True)
class Ranked:
    """A candidate with the share of the transcribed notes it explains, if they were compared."""

    candidate: Candidate
    explained: float | None

    @property
    def support(self) -> float:
        """What candidates are ranked by."""
        octaves = math.log2(self.candidate.tempo_ratio)
        votes = VOTES_WEIGH * self.candidate.share + TRIPLES_WEIGH * self.candidate.triples
        return votes + (self.explained or 0.0) - FAR_TEMPO * octaves**2


def rank(
    candidates: Sequence[Candidate], result: SearchResult, index: Library, params: FeatureParams
) -> list[Ranked]:
    """Compare candidates with the transcribed notes; keep the best of each piece in each key.

    Of excerpts the one explained best counts: others may lie where repeats were left out.
    """
    gains, log_odds = result.gains, result.query.log_odds
    shares: Sequence[float | None] = [None] * len(candidates)
    if gains:
        parts = [explained(part, candidates, index.notes, params) for part in gains]
        shares = np.max(parts, axis=0).tolist()
    ranked = _best_first([Ranked(c, share) for c, share in zip(candidates, shares, strict=True)])
    if len(gains) == 1 and gains[0].step > 1 and log_odds is not None:
        closely = _compare_closely(ranked[:CLOSELY], note_gains(log_odds), index, params)
        ranked = _best_first([*closely, *ranked[CLOSELY:]])
    best: dict[tuple[int, int], Ranked] = {}
    for one in ranked:
        best.setdefault((one.candidate.piece, one.candidate.transpose), one)
    return list(best.values())


def _best_first(ranked: Sequence[Ranked]) -> list[Ranked]:
    return sorted(ranked, key=lambda one: -one.support)


def _compare_closely(
    ranked: Sequence[Ranked], gains: Gains, index: Library, params: FeatureParams
) -> list[Ranked]:
    candidates = [one.candidate for one in ranked]
    shares = explained(gains, candidates, index.notes, params)
    return list(map(Ranked, candidates, shares.tolist()))


def group_same_music(ranked: Sequence[Ranked], index: Library, among: int) -> list[list[Ranked]]:
    """Group the best so many files by the music they hold; any other is a group of its own."""
    best: dict[int, Ranked] = {}
    for one in ranked:
        best.setdefault(one.candidate.piece, one)
    files = list(best.values())
    if index.kind != "midi" or not files:
        return [[one] for one in files]
    compared, others = files[:among], files[among:]
    labels = group_duplicates([index.notes(one.candidate.piece) for one in compared])
    groups: dict[int, list[Ranked]] = {}
    for label, one in zip(labels, compared, strict=True):
        groups.setdefault(int(label), []).append(one)
    return [*groups.values(), *([one] for one in others)]


def rivals(
    group: Sequence[Ranked], groups: Sequence[Sequence[Ranked]], ranked: Sequence[Ranked]
) -> tuple[float, float]:
    """Return the support of the best other music in any key, and of the crowd in a group's key.

    The groups are those of `group_same_music`, the ranked what they were made of.
    """
    others = [other for other in groups if other is not group]
    rival = others[0][0].support if others else 0.0
    owner = {one.candidate.piece: number for number, other in enumerate(others) for one in other}
    supports: dict[int, float] = {}
    for one in ranked:
        candidate = one.candidate
        if candidate.piece in owner and candidate.transpose == group[0].candidate.transpose:
            supports.setdefault(owner[candidate.piece], one.support)
    crowd = list(supports.values())[CROWD]
    return rival, sum(crowd) / len(crowd) if crowd else rival
