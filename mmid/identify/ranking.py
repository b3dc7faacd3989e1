"""Candidates in order: their votes, and the share of the transcribed notes that they explain.

Conventions: a candidate is a position in a piece, at a tempo and in a key. What candidates are
ranked by, the weighted sum of their figures, is called their support; the ranked are sorted by it,
the best first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mmid.identify.alignment import Gains, note_gains
from mmid.identify.comparison import compare_notes, explained_as_read
from mmid.identify.melody import notes_read, read_both_ways
from mmid.identify.search import SearchResult
from mmid.identify.voting import Candidate
from mmid.index.protocol import Library
from mmid.model.evidence import DEFAULT_WEIGHTS, UNCOMPARED, Figures, Weights, weigh
from mmid.music.duplicates import group_duplicates
from mmid.music.grid import FeatureParams

CLOSELY = 12
"""Best candidates that are compared again on finer frames, where the first ones were coarse."""

WHOLLY = 32
"""Best candidates whose melody and harmony are compared as well."""

CROWD = slice(4, 30)
"""Other music farther down: what support there is by chance."""


@dataclass(frozen=True)
class Ranked:
    """A candidate with its figures, and the support that they are."""

    candidate: Candidate
    figures: Figures
    support: float

    @property
    def explained(self) -> float | None:
        """The share of the transcribed notes it explains, if they were compared."""
        return self.figures.explained


def rank(
    candidates: Sequence[Candidate],
    result: SearchResult,
    index: Library,
    params: FeatureParams,
    weights: Weights = DEFAULT_WEIGHTS,
) -> list[Ranked]:
    """Compare candidates with the transcribed notes; keep the best of each piece in each key."""
    return best_of_each(compare(candidates, result, index, params, weights))


def compare(
    candidates: Sequence[Candidate],
    result: SearchResult,
    index: Library,
    params: FeatureParams,
    weights: Weights = DEFAULT_WEIGHTS,
) -> list[Ranked]:
    """Compare candidates with the transcribed notes, and sort them.

    Of excerpts the one explained best counts: others may lie where repeats were left out.
    """
    gains, log_odds = result.gains, result.query.log_odds
    by = (weights if gains else UNCOMPARED).ranking
    candidates = read_both_ways(candidates, index) if gains else candidates
    ranked = rerank(_measure(candidates, result, index, params), by)
    if gains:
        wholly = _compare_wholly(ranked[:WHOLLY], result, index, params)
        ranked = rerank([*wholly, *ranked[WHOLLY:]], by)
    coarse = len(gains) == 1 and gains[0].step > 1
    glancing = result.few and not result.hits  # only to see where to look
    if coarse and log_odds is not None and not glancing:
        closely = _compare_closely(ranked[:CLOSELY], result, note_gains(log_odds), index, params)
        ranked = rerank([*closely, *ranked[CLOSELY:]], by)
    return _counted(ranked, result.query.seconds, index, params) if gains else ranked


def _counted(
    ranked: Sequence[Ranked], seconds: float, index: Library, params: FeatureParams
) -> list[Ranked]:
    """Add how many notes begin in each candidate's passage, for a query that is so long."""
    counted = []
    for one in ranked:
        assert one.candidate.start is not None
        start = one.candidate.start / params.frame_rate
        onsets = notes_read(index)(one.candidate)["onset"]
        end = start + seconds * one.candidate.tempo_ratio
        count = int(np.count_nonzero((onsets >= start) & (onsets < end)))
        counted.append(replace(one, figures=replace(one.figures, notes=math.log10(1 + count))))
    return counted


def rerank(ranked: Iterable[Ranked], weights: Mapping[str, float]) -> list[Ranked]:
    """Give candidates the support that these weights make of their figures, and sort them."""
    weighed = [replace(one, support=weigh(one.figures.known(), weights)) for one in ranked]
    return sorted(weighed, key=lambda one: -one.support)


def best_of_each(ranked: Iterable[Ranked]) -> list[Ranked]:
    """Keep the best candidate of each piece in each key."""
    best: dict[tuple[int, int], Ranked] = {}
    for one in ranked:
        best.setdefault((one.candidate.piece, one.candidate.transpose), one)
    return list(best.values())


def _measure(
    candidates: Sequence[Candidate], result: SearchResult, index: Library, params: FeatureParams
) -> list[Ranked]:
    """Gather the figures of candidates; what they weigh comes later."""
    known = result.compared
    new = list({one.position: one for one in candidates if one.position not in known}.values())
    if result.gains and new:
        parts = [explained_as_read(part, new, index, params) for part in result.gains]
        for one, share in zip(new, np.max(parts, axis=0).tolist(), strict=True):
            known[one.position] = {"explained": share}
    return [
        Ranked(one, replace(_figures(one), **known.get(one.position, {})), 0.0)
        for one in candidates
    ]


def _compare_wholly(
    ranked: Sequence[Ranked], result: SearchResult, index: Library, params: FeatureParams
) -> list[Ranked]:
    """Add what takes longer to find out; of excerpts the best claimed one counts."""
    candidates = [one.candidate for one in ranked if one.figures.claimed is None]
    excerpts = zip(result.gains, result.melody, strict=True)
    parts = [compare_notes(*part, candidates, index, params) for part in excerpts]
    best = np.argmax([part.claimed for part in parts], axis=0)
    for number, (candidate, part) in enumerate(zip(candidates, best, strict=True)):
        result.compared[candidate.position] |= parts[part].of(number)
    known = (result.compared[one.candidate.position] for one in ranked)
    return [
        replace(one, figures=replace(one.figures, **figures))
        for one, figures in zip(ranked, known, strict=True)
    ]


def _figures(candidate: Candidate) -> Figures:
    return Figures(
        votes=candidate.share,
        triples=candidate.triples,
        tune=candidate.tune,
        correlation=candidate.correlation,
        tempo_cost=math.log2(candidate.tempo_ratio) ** 2,
        key_cost=float(candidate.transpose != 0),
    )


def _compare_closely(
    ranked: Sequence[Ranked],
    result: SearchResult,
    gains: Gains,
    index: Library,
    params: FeatureParams,
) -> list[Ranked]:
    known, candidates = result.closely, [one.candidate for one in ranked]
    new = list({one.position: one for one in candidates if one.position not in known}.values())
    shares = explained_as_read(gains, new, index, params).tolist()
    known.update(zip((one.position for one in new), shares, strict=True))
    return [
        replace(one, figures=replace(one.figures, explained=known[one.candidate.position]))
        for one in ranked
    ]


def first_of_each_piece(ranked: Iterable[Ranked]) -> list[Ranked]:
    """Keep the best candidate of each piece, whatever its key."""
    best: dict[int, Ranked] = {}
    for one in ranked:
        best.setdefault(one.candidate.piece, one)
    return list(best.values())


def group_same_music(ranked: Sequence[Ranked], index: Library, among: int) -> list[list[Ranked]]:
    """Group the best so many files by the music they hold; any other is a group of its own."""
    files = first_of_each_piece(ranked)
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
