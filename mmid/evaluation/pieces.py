"""How good the answers are: pieces named from clips.

Conventions: shares are 0 to 1, times in seconds. Every draw depends on the seed alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TypeAlias
from zlib import crc32

import numpy as np
import torch

from mmid.evaluation.baselines.methods import Baseline
from mmid.evaluation.scores import MMID, ClipResult, ClipScores, compare, sum_up
from mmid.evaluation.snippets import SAME_ROLL
from mmid.evaluation.sources import Source
from mmid.evaluation.variants import Variants
from mmid.identify.answer import Identification, Match
from mmid.identify.identifier import Identifier
from mmid.identify.search import FEW_KEYS, NEIGHBOURS, SearchResult
from mmid.model.embedding import Query
from mmid.model.evidence import Evidence
from mmid.music.grid import DEFAULT
from mmid.music.notes import last_offset
from mmid.music.piano_roll import piano_roll
from mmid.music.spectrogram import frame_count
from mmid.system.forks import ForkKilledError, in_forks
from mmid.system.threads import in_threads

NO_MATCH = Match("", 0.0, 0.0, None, 0.0, 0.0, None, None, 1.0, 0)
"""Stands for the first match of an answer without any, as for silence."""


def evaluate_pieces(
    sources: Iterable[Source],
    identifier: Identifier,
    digests: Sequence[str],
    *,
    lengths: Sequence[float | None],
    clips: int = 3,
    absent: bool = False,
    baselines: Sequence[Baseline] = (),
    variants: Variants | None = None,
    seed: int = 0,
    jobs: int = 1,
    progress: Callable[[str], None] = lambda name: None,
    keep: Callable[[list[ClipScores]], None] = lambda scores: None,
) -> list[ClipScores]:
    """Identify clips of recordings or scores whose matches are known (benchmarks B2 to B4).

    Parameters
    ----------
    sources : iterable of Source
    identifier : Identifier
    digests : sequence of str
        SHA-256 of everything in its index.
    lengths : sequence of float or None
        Clip lengths, seconds; None is the whole source.
    clips : int
        Clips of each length from a source, at random places.
    absent : bool
        Query each clip again with all that is right taken out of the library (benchmark B5).
    baselines : sequence of Baseline
        Queried with the same clips.
    variants : Variants, optional
        Of the library; files that hold a variant of the right tune are right, too.
    seed, jobs : int
        Of the draws; sources queried at once, in forks where that can be, or in threads.
    progress, keep : callable
        Called with each source's name once it is done, in their order; and with the scores so far
        if it is stopped, by Ctrl-C for instance.

    Returns
    -------
    list of ClipScores
        One a length, then as many of each baseline, each with those of every kind.

    Raises
    ------
    MmidError
        If baselines are queried with scores, or a fork is killed.
    """
    trial = _Trial(identifier, digests, lengths, clips, absent, baselines, variants, seed)
    done: list[_Answers] = []
    try:
        for name, answers in trial.query_all(sources, jobs):
            done.append(answers)
            progress(name)
    except (KeyboardInterrupt, ForkKilledError):
        if done:
            keep(trial.sum_up(done))
        raise
    return trial.sum_up(done)


_Answers: TypeAlias = list[list[list[ClipResult]]]
"""About a source: of mmid and then each baseline, of each length, each clip's."""


@dataclass(frozen=True, eq=False)
class _Trial:
    """What `evaluate_pieces` queries of every source."""

    identifier: Identifier
    digests: Sequence[str]
    lengths: Sequence[float | None]
    clips: int
    absent: bool
    baselines: Sequence[Baseline]
    variants: Variants | None
    seed: int

    def query_all(
        self, sources: Iterable[Source], jobs: int
    ) -> Generator[tuple[str, _Answers], None, None]:
        """Query clips of sources, so many at once, and give each one's name with the answers."""
        at_once = in_forks if jobs > 1 and self.identifier.forkable else in_threads
        return at_once(self.query_named, sources, jobs)

    def query_named(self, source: Source) -> tuple[str, _Answers]:
        """Query clips of a source, and return its name with the answers."""
        return source.name, self.query(source)

    def query(self, source: Source) -> _Answers:
        """Query clips of a source."""
        params = self.identifier.params
        rng = np.random.default_rng([self.seed, crc32(source.name.encode())])
        right = self._right(source)
        answers: _Answers = [[[] for _ in self.lengths] for _ in (MMID, *self.baselines)]
        for column, length in enumerate(self.lengths):
            whole = source.size(params)
            size = whole if length is None else int(length * params.sample_rate)
            for first in clip_starts(whole - size, self.clips, rng):
                result = self._by_mmid(source, first, size, right)
                answers[0][column].append(result)
                for baseline, of in zip(self.baselines, answers[1:], strict=True):
                    sound = source.sound(first, size)
                    names = self.identifier.names
                    of[column].append(_by_baseline(baseline, sound, result, right, names))
        return answers

    def _right(self, source: Source) -> frozenset[int]:
        """Return the pieces of the library that are right for a source."""
        own = frozenset(i for i, digest in enumerate(self.digests) if digest in source.right)
        return own.union(*map(self.variants.of, own)) if self.variants else own

    def _is_own(self, name: str, source: Source) -> bool:
        """Say whether a piece of the library is a source's match, rather than a variant of it."""
        names = self.identifier.names
        return name in names and self.digests[names.index(name)] in source.right

    def _by_mmid(self, source: Source, first: int, size: int, right: frozenset[int]) -> ClipResult:
        identifier, params = self.identifier, self.identifier.params
        names = {identifier.names[i] for i in right}
        clip = identifier.listen(source.clip(first, size, params))
        spare = NEIGHBOURS if self.absent else 0
        found = identifier.search(clip, spare)
        result = _judge(
            source, first / params.sample_rate, identifier.answer(found), names, identifier
        )
        if self.absent:
            others = search_without(identifier, clip, found, right, spare)
            other = identifier.answer(others, excluded=right)
            result = replace(
                result,
                absent_confidence=_first(other).confidence,
                absent_evidence=_evidence(other, identifier.snippets),
                absent_verdict=other.verdict,
            )
        if self.variants and not self._is_own(result.answer, source):
            result = replace(result, position_error=None)  # a variant begins elsewhere
        return replace(result, piece=min(source.right, default=source.name), kind=source.kind)

    def sum_up(self, done: Sequence[_Answers]) -> list[ClipScores]:
        """Return mmid's scores of each length, then each baseline's, with those of each kind."""
        scores = self._scores(done)
        kinds = dict.fromkeys(_kind(answers) for answers in done)
        if not any(kinds):
            return scores
        parts = [self._scores([a for a in done if _kind(a) == kind], kind) for kind in kinds]
        by_row = zip(scores, *parts, strict=True)
        return [
            replace(row, kinds=tuple(replace(part, results=()) for part in of_kinds))
            for row, *of_kinds in by_row
        ]

    def _scores(self, done: Sequence[_Answers], kind: str = "") -> list[ClipScores]:

        def clips(system: int, column: int) -> list[ClipResult]:
            return [clip for answers in done for clip in answers[system][column]]

        least = self.identifier.options.min_confidence
        scores = [sum_up(length, clips(0, n), least) for n, length in enumerate(self.lengths)]
        scores += [
            compare(sum_up(mmid.seconds, clips(system, n), math.inf), mmid, baseline.name)
            for system, baseline in enumerate(self.baselines, 1)
            for n, mmid in enumerate(scores)
        ]
        return [replace(row, kind=kind) for row in scores]


def _kind(answers: _Answers) -> str:
    """Return the kind of music that a source is."""
    return next((clip.kind for column in answers[0] for clip in column), "")


def _by_baseline(
    baseline: Baseline,
    samples: np.ndarray,
    clip: ClipResult,
    right: frozenset[int],
    names: Sequence[str],
) -> ClipResult:
    """Query a baseline with a clip; once more with the right pieces left out if mmid was, too."""
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
        verdict=None,
        absent_verdict=None,
    )


def search_without(
    identifier: Identifier,
    clip: Query,
    found: SearchResult,
    right: frozenset[int],
    spare: int,
) -> SearchResult:
    """Return what is found of a clip as if the right pieces were not there.

    With many keys it is searched again: what is there would have chosen them.
    """
    if len(identifier.options.keys) <= FEW_KEYS:
        return found
    return identifier.search(clip, spare, right)


def clip_starts(room: int, clips: int, rng: np.random.Generator) -> list[int]:
    """Draw where clips begin, in samples; a source no longer than a clip is one clip."""
    return [0] if room <= 0 else [int(first) for first in rng.integers(0, room, clips)]


def _first(answer: Identification) -> Match:
    return answer.matches[0] if answer.matches else NO_MATCH


def _evidence(answer: Identification, snippets: int) -> Evidence:
    best = _first(answer)
    first, last = answer.rests_on
    return Evidence(
        **asdict(best.figures),
        lead=best.lead,
        above=best.above,
        seconds=last - first,
        snippets=snippets,
    )


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
    first, last = answer.rests_on
    span = source.span(start + first, start + last) if rank == 1 else None
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
        verdict=answer.verdict,
    )


def same_bars(notes: np.ndarray, start: float, seconds: float) -> np.ndarray:
    """Return where in a score the bars of a span are played, its own place first.

    Parameters
    ----------
    notes : np.ndarray [n] of mmid.music.notes.NOTE_DTYPE
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
    frames = frame_count(max(begin, last_offset(notes))) + length
    roll = piano_roll(notes, frames)[0].double()  # so that silence correlates with nothing
    span = roll[:, first : first + length]
    spectrum = torch.fft.rfft(roll) * torch.fft.rfft(span, frames).conj()
    product = torch.fft.irfft(spectrum.sum(0), frames)[: frames - length + 1]
    energy = torch.nn.functional.avg_pool1d(roll.square().sum(0)[None], length, 1)[0] * length
    cosine = product / (span.norm() * energy.sqrt()).clamp_min(1e-6)
    repeats = torch.nonzero(cosine >= SAME_ROLL)[:, 0].numpy() / rate
    return np.concatenate([[start], repeats + start - begin])
