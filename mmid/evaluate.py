"""How good the answers are: pieces named from clips.

Conventions: shares are 0 to 1, times in seconds. Every draw depends on the seed alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeAlias
from zlib import crc32

import numpy as np
import torch

from mmid.answer import Identification, Match
from mmid.baselines import Baseline
from mmid.bootstrap import mean_interval
from mmid.confidence import Evidence, fit_confidence
from mmid.errors import MmidError
from mmid.features import frame_count, piano_roll
from mmid.identify import Identifier
from mmid.lookup import FEW_KEYS, NEIGHBOURS
from mmid.params import DEFAULT
from mmid.retrieval import SAME_ROLL
from mmid.sources import Source

NO_MATCH = Match("", 0.0, 0.0, None, 0.0, 0.0, None, None, 1.0, 0)
"""Stands for the first match of an answer without any, as for silence."""

MMID = "mmid"
"""Told apart from the baselines by this name."""


@dataclass(frozen=True)
class ClipResult:
    """One clip and how it fared.

    Parameters
    ----------
    source : str
    start, seconds : float
        Where in the recording or score the clip lies.
    rank : int or None
        Of the first right match; None if there is none.
    matched : bool
        Whether the first match was sure enough.
    answer : str
        The name of the first match.
    confidence, votes : float
        Of the first match.
    position_error : float or None
        Seconds between the start told and the nearest right one, where both are known: the true
        one, or where the same bars are repeated.
    evidence : Evidence
        Of the first match.
    absent_confidence : float or None
    absent_evidence : Evidence or None
        Of the first match once everything right is taken out of the library.
    piece : str
        One of the SHA-256 that are right: the same for every clip of the piece.
    """

    source: str
    start: float
    seconds: float
    rank: int | None
    matched: bool
    answer: str
    confidence: float
    votes: float
    position_error: float | None
    evidence: Evidence
    absent_confidence: float | None = None
    absent_evidence: Evidence | None = None
    piece: str = ""


@dataclass(frozen=True)
class ClipScores:
    """The clips of one length, summed up.

    Parameters
    ----------
    seconds : float or None
        Clip length; None is the whole recording or score.
    clips : int
    top1, top5, mrr : float
    matched : float
        Share of clips whose first match was sure enough.
    median_position_error, position_error_95 : float or None
        Seconds, over the right answers.
    auroc : float or None
        How well confidence tells clips whose match is there from the same clips without it.
    falsely_matched : float or None
        Share of clips without their match that are matched all the same.
    false_accepts : float or None
        The same at the confidence that accepts 95 % of the clips whose match is there.
    results : tuple of ClipResult
    system : str
        What was asked: mmid, or a baseline, which has scores but no confidence and matches nothing.
    top1_interval : tuple of float or None
        95 % bootstrap interval of `top1`, over pieces.
    lead, lead_interval : float or None, tuple of float or None
        Of a baseline: by how much mmid's `top1` on the same clips is higher, and its interval.
    """

    seconds: float | None
    clips: int
    top1: float
    top5: float
    mrr: float
    matched: float
    median_position_error: float | None
    position_error_95: float | None
    auroc: float | None
    falsely_matched: float | None
    false_accepts: float | None
    results: tuple[ClipResult, ...]
    system: str = MMID
    top1_interval: tuple[float, float] | None = None
    lead: float | None = None
    lead_interval: tuple[float, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the scores and every clip as JSON-ready names and values."""
        return asdict(self)


def evaluate_pieces(
    sources: Iterable[Source],
    identifier: Identifier,
    digests: Sequence[str],
    *,
    lengths: Sequence[float | None],
    clips: int = 3,
    absent: bool = False,
    baselines: Sequence[Baseline] = (),
    seed: int = 0,
    progress: Callable[[str], None] = lambda name: None,
    keep: Callable[[list[ClipScores]], None] = lambda scores: None,
) -> list[ClipScores]:
    """Identify clips of recordings or scores whose matches are known (benchmarks B2 to B4).

    Parameters
    ----------
    sources : iterable of Source
    identifier : Identifier
        Over the library.
    digests : sequence of str
        SHA-256 of everything in the index.
    lengths : sequence of float or None
        Clip lengths, seconds; None is the whole source.
    clips : int
        Clips of each length from a source, at random places.
    absent : bool
        Ask about each clip once more with all that is right taken out of the library (benchmark
        B5).
    baselines : sequence of Baseline
        Asked about the same clips.
    seed : int
    progress : callable
        Told each source's name once it is done.
    keep : callable
        Told the scores of the sources that are done if it is stopped, by Ctrl-C for instance.

    Returns
    -------
    list of ClipScores
        One a length; then as many of each baseline.

    Raises
    ------
    MmidError
        If baselines are asked about scores.
    """
    trial = _Trial(identifier, digests, lengths, clips, absent, baselines, seed)
    done: list[_Answers] = []
    try:
        for source in sources:
            done.append(trial.ask(source))
            progress(source.name)
    except KeyboardInterrupt:
        if done:
            keep(trial.sum_up(done))
        raise
    return trial.sum_up(done)


_Answers: TypeAlias = list[list[list[ClipResult]]]
"""About a source: of mmid and then each baseline, of each length, each clip's."""


@dataclass(frozen=True, eq=False)
class _Trial:
    """What `evaluate_pieces` asks about every source."""

    identifier: Identifier
    digests: Sequence[str]
    lengths: Sequence[float | None]
    clips: int
    absent: bool
    baselines: Sequence[Baseline]
    seed: int

    def ask(self, source: Source) -> _Answers:
        """Ask about clips of a source."""
        params = self.identifier.params
        rng = np.random.default_rng([self.seed, crc32(source.name.encode())])
        right = frozenset(i for i, digest in enumerate(self.digests) if digest in source.right)
        answers: _Answers = [[[] for _ in self.lengths] for _ in (MMID, *self.baselines)]
        for column, length in enumerate(self.lengths):
            whole = source.size(params)
            size = whole if length is None else int(length * params.sample_rate)
            for first in _places(whole - size, self.clips, rng):
                result = self._ask_mmid(source, first, size, right)
                answers[0][column].append(result)
                for baseline, of in zip(self.baselines, answers[1:], strict=True):
                    sound = source.sound(first, size)
                    names = self.identifier.names
                    of[column].append(_ask(baseline, sound, result, right, names))
        return answers

    def _ask_mmid(self, source: Source, first: int, size: int, right: frozenset[int]) -> ClipResult:
        identifier, params = self.identifier, self.identifier.params
        names = {identifier.names[i] for i in right}
        clip, spare = source.clip(first, size, params), NEIGHBOURS if self.absent else 0
        asked = identifier.ask(clip, spare)
        result = _judge(
            source, first / params.sample_rate, identifier.decide(asked), names, identifier
        )
        if self.absent:
            if len(identifier.lookup.keys) > FEW_KEYS:  # what is there would choose the keys
                asked = identifier.ask(clip, spare, right)
            other = identifier.decide(asked, without=right)
            result = replace(
                result,
                absent_confidence=_first(other).confidence,
                absent_evidence=_evidence(other, identifier.snippets),
            )
        return replace(result, piece=min(source.right, default=source.name))

    def sum_up(self, done: Sequence[_Answers]) -> list[ClipScores]:
        """Return mmid's scores of each length, then each baseline's."""

        def clips(system: int, column: int) -> list[ClipResult]:
            return [clip for answers in done for clip in answers[system][column]]

        sure = self.identifier.min_confidence
        scores = [_sum_up(length, clips(0, n), sure) for n, length in enumerate(self.lengths)]
        return scores + [
            _compare(_sum_up(mmid.seconds, clips(system, n), math.inf), mmid, baseline.name)
            for system, baseline in enumerate(self.baselines, 1)
            for n, mmid in enumerate(scores)
        ]


def _ask(
    baseline: Baseline,
    samples: np.ndarray,
    clip: ClipResult,
    right: frozenset[int],
    names: Sequence[str],
) -> ClipResult:
    """Ask a baseline about a clip; once more with the right pieces left out if mmid was, too."""
    ranking = baseline.rank(samples)
    ranks = [rank for rank, (piece, _) in enumerate(ranking, 1) if piece in right]
    score = ranking[0][1] if ranking else 0.0
    other = None
    if clip.absent_confidence is not None:
        left = baseline.rank(samples, right)
        other = left[0][1] if left else 0.0
    return replace(
        clip,
        rank=ranks[0] if ranks else None,
        matched=False,
        answer=names[ranking[0][0]] if ranking else "",
        confidence=score,
        votes=score,
        position_error=None,
        absent_confidence=other,
    )


def _compare(scores: ClipScores, mmid: ClipScores, name: str) -> ClipScores:
    """Name a baseline's scores, and tell how far mmid is ahead on the same clips."""
    both = zip(mmid.results, scores.results, strict=True)
    leads = [(ours.rank == 1) - (theirs.rank == 1) for ours, theirs in both]
    pieces = [clip.piece for clip in scores.results]
    return replace(
        scores,
        falsely_matched=None,
        system=name,
        lead=mmid.top1 - scores.top1,
        lead_interval=mean_interval(leads, pieces),
    )


def _places(room: int, clips: int, rng: np.random.Generator) -> list[int]:
    """Draw where clips begin; a source no longer than a clip is one clip."""
    return [0] if room <= 0 else [int(first) for first in rng.integers(0, room, clips)]


def _first(answer: Identification) -> Match:
    return answer.matches[0] if answer.matches else NO_MATCH


def _evidence(answer: Identification, snippets: int) -> Evidence:
    best = _first(answer)
    share = best.explained or 0.0
    return Evidence(best.votes, share, best.lead, best.above, answer.seconds, snippets)


def _judge(
    source: Source,
    start: float,
    answer: Identification,
    names: set[str],
    identifier: Identifier,
) -> ClipResult:
    right = [bool(names & {match.piece, *match.also}) for match in answer.matches]
    rank = right.index(True) + 1 if any(right) else None
    best = _first(answer)
    error = None
    span = source.span(start, start + answer.seconds) if rank == 1 else None
    if span is not None and best.start is not None:
        begin, end = span
        notes = identifier.notes(identifier.names.index(best.piece))
        places = same_bars(notes, begin, end - begin)
        error = float(np.abs(places - best.start).min())
    return ClipResult(
        source.name,
        start,
        answer.seconds,
        rank,
        answer.matched,
        best.piece,
        best.confidence,
        best.votes,
        error,
        _evidence(answer, identifier.snippets),
    )


def same_bars(notes: np.ndarray, start: float, seconds: float) -> np.ndarray:
    """Return where in a score the bars of a span are played, its own place first.

    Parameters
    ----------
    notes : np.ndarray [n] of mmid.midi.NOTE_DTYPE
    start, seconds : float
        The span, seconds.

    Returns
    -------
    np.ndarray [places] float64
        Seconds; wherever the roll's cosine with the span's is `SAME_ROLL` or more.
    """
    rate = DEFAULT.frame_rate
    begin = max(start, 0.0)  # a recording may begin before its score
    first, length = round(begin * rate), max(1, round((start + seconds - begin) * rate))
    frames = frame_count(max(begin, float(notes["offset"].max(initial=0)))) + length
    roll = piano_roll(notes, frames)[0].double()  # so that silence correlates with nothing
    span = roll[:, first : first + length]
    spectrum = torch.fft.rfft(roll) * torch.fft.rfft(span, frames).conj()
    product = torch.fft.irfft(spectrum.sum(0), frames)[: frames - length + 1]
    energy = torch.nn.functional.avg_pool1d(roll.square().sum(0)[None], length, 1)[0] * length
    cosine = product / (span.norm() * energy.sqrt()).clamp_min(1e-6)
    repeats = torch.nonzero(cosine >= SAME_ROLL)[:, 0].numpy() / rate
    return np.concatenate([[start], repeats + start - begin])


def _sum_up(length: float | None, results: Sequence[ClipResult], sure: float) -> ClipScores:
    errors = [r.position_error for r in results if r.position_error is not None]
    count = max(1, len(results))
    auroc, falsely, accepts = _rejection(results, sure)
    return ClipScores(
        length,
        len(results),
        sum(r.rank == 1 for r in results) / count,
        sum(r.rank is not None and r.rank <= 5 for r in results) / count,
        sum(1 / r.rank for r in results if r.rank) / count,
        sum(r.matched for r in results) / count,
        float(np.median(errors)) if errors else None,
        float(np.quantile(errors, 0.95)) if errors else None,
        auroc,
        falsely,
        accepts,
        tuple(results),
        top1_interval=mean_interval([r.rank == 1 for r in results], [r.piece for r in results]),
    )


TRUE_ACCEPTS = 0.95


def _rejection(
    results: Sequence[ClipResult], sure: float
) -> tuple[float, float, float] | tuple[None, None, None]:
    """Return AUROC, absent clips matched, and those accepted where 95 % of the others are."""
    absent = np.array([r.absent_confidence for r in results if r.absent_confidence is not None])
    if not len(absent):
        return None, None, None
    present = np.array([r.confidence for r in results])
    above = present[:, None] > absent
    level = present[:, None] == absent
    threshold = np.quantile(present, 1 - TRUE_ACCEPTS, method="lower")
    auroc = float(above.mean() + level.mean() / 2)
    return auroc, float(np.mean(absent >= sure)), float(np.mean(absent >= threshold))


def calibrate(scores: Sequence[dict[str, Any]]) -> list[float]:
    """Fit the confidence to the results of `evaluate_pieces` with ``absent``.

    Parameters
    ----------
    scores : sequence of dict
        From `ClipScores.to_dict`, of any clip lengths.

    Returns
    -------
    list of float
        For `mmid.identify.confidence`.

    Raises
    ------
    MmidError
        If the results are of another kind, or were made without asking for absent pieces.
    """
    try:
        rows = [row for row in scores if row.get("system", MMID) == MMID]
        clips = [clip for row in rows for clip in row["results"]]
        if not clips:
            raise KeyError("results")
        present = [(Evidence(**c["evidence"]), c["rank"] == 1) for c in clips]
        absent = [(Evidence(**c["absent_evidence"]), False) for c in clips]
    except (AttributeError, KeyError, TypeError) as error:
        raise MmidError("not the results of mmid eval pieces --absent") from error
    answers, right = zip(*present + absent, strict=True)
    return fit_confidence(answers, right)
