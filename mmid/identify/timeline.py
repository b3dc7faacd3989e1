"""A long recording cut at its pieces: what was played from when to when.

A window is identified; its piece is followed back and on as far as its score goes on explaining the
transcribed notes; the next window begins where it ends. So most of a recording is transcribed but
not looked up, and a piece begins and ends where its own notes do. What windows leave over, each
half a window on, are gaps: applause, speech, music that is not in the library.

Conventions: times in seconds; those of the recording count from where it was cut. Inside, frames
of the model's grid.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from mmid.errors import MmidError
from mmid.identify.answer import Identification, Match
from mmid.identify.identifier import Identifier
from mmid.identify.matches import passage_bars
from mmid.identify.note_stream import QueryInput, Tape, length_of, transcribe_stretches
from mmid.identify.score_following import PieceTrack, part, track_piece
from mmid.model.embedding import Transcribed
from mmid.music.folders import BadFile
from mmid.system.console import ProgressCallback, quiet

WINDOW_SECONDS = 30.0
"""Length of the windows that are looked up, seconds."""

LEAST_EVERY = 6.0
"""Of shorter windows too few are named right."""

LEAST_SECONDS = 5.0
"""What a piece is followed for less than is taken for chance; shorter rests are not looked up."""

TOLL = 0.25
"""Where a piece explains less than so much of the share that its window did, others are sought."""

ALMOST = 0.9
"""A piece is still itself, not another version, if it explains so much of what that one does."""

GOING_ON = 0.1
"""Confidence from which the piece just played is taken to go on: no other is as likely."""

SLOWEST = 0.5
"""Of the tempo voted for: a window that holds an end of a piece may give its tempo as near 0."""

LEAST_GAP = 1.0
"""A shorter one, seconds, is not reported."""

REMEMBERED = 6.0
"""How far back from a window a piece may turn out to have begun, in windows."""

BREATH_SECONDS = 3.0
"""A piece that begins anew after a longer pause is played twice."""

ANEW_SECONDS = 10.0
"""It does if it comes again this near to where it began, or before; else it goes on."""


@dataclass(frozen=True)
class Played:
    """A piece, from when to when.

    Parameters
    ----------
    start, end : float
        In the recording, seconds.
    match : Match
        The piece, with the start and the end in it, the share of the transcribed notes it explains
        and the tempo, all over the whole stretch; confidence and votes are those of its most
        confident window.
    """

    start: float
    end: float
    match: Match


@dataclass(frozen=True)
class Timeline:
    """What was played in a recording.

    Parameters
    ----------
    query : str
        What was result about.
    seconds : float
        Its length.
    played : tuple of Played
        In order, never two at once.
    error : str or None
        Why it could not be processed.
    """

    query: str
    seconds: float
    played: tuple[Played, ...] = ()
    error: str | None = None

    @property
    def gaps(self) -> tuple[tuple[float, float], ...]:
        """Start and end of what lies between, before and after the pieces."""
        starts = [0.0, *(one.end for one in self.played)]
        ends = [*(one.start for one in self.played), self.seconds]
        between = zip(starts, ends, strict=True)
        return tuple(gap for gap in between if gap[1] - gap[0] >= LEAST_GAP)

    def to_dict(self) -> dict[str, Any]:
        """Return the timeline as JSON-ready names and values."""
        return {**asdict(self), "gaps": self.gaps}


@dataclass(frozen=True, eq=False)
class _Found:
    """A piece along one track, as the window named it."""

    track: PieceTrack
    match: Match


def follow(
    identifier: Identifier,
    source: QueryInput,
    every: float = WINDOW_SECONDS,
    start: float = 0.0,
    duration: float | None = None,
    progress: ProgressCallback = quiet,
) -> Timeline:
    """Find what is played in a long recording from when to when.

    Parameters
    ----------
    identifier : Identifier
        Over an index of MIDI files, with a model that transcribes.
    source : path or Query
        A recording or a MIDI file; memory does not grow with the length of a recording.
    every : float
        Length of the windows that are looked up, seconds: shorter ones find shorter pieces, longer
        ones are named with more confidence.
    start, duration : float
        The span of a file, seconds; to the end by default.
    progress : callable
        Called with the seconds done and the seconds there are, where the file says so.

    Returns
    -------
    Timeline

    Raises
    ------
    MmidError
        If the file cannot be read, or this index and model cannot follow.
    """
    _check(identifier, every)
    rate, total = identifier.params.frame_rate, length_of(source, start, duration)
    tape = Tape(transcribe_stretches(identifier.model.encoders, source, start, duration))
    follower = _Follower(identifier, every, lambda frame: progress("Following", frame, total))
    performances = _joined(follower.found(tape), every, rate)
    name = os.fspath(source) if isinstance(source, (str, os.PathLike)) else ""
    played = (_in_bars(identifier, _played(parts, rate)) for parts in performances)
    return Timeline(name, tape.end / rate, tuple(played))


def _in_bars(identifier: Identifier, played: Played) -> Played:
    """Return a performance with the bars of all that was followed, not of its window."""
    match = played.match
    entry = identifier.index.entries[identifier.names.index(match.piece)]
    return replace(played, match=replace(match, **passage_bars(entry.bars, match.start, match.end)))


def _check(identifier: Identifier, every: float) -> None:
    if not every >= LEAST_EVERY:
        raise MmidError(f"windows of {every:g} s say too little: at least {LEAST_EVERY:g} s")
    if identifier.kind != "midi":
        raise MmidError("an index of recordings names no pieces to follow: query one of MIDI files")


def follow_files(
    identifier: Identifier,
    files: Sequence[Path | BadFile],
    every: float = WINDOW_SECONDS,
    start: float = 0.0,
    duration: float | None = None,
    progress: ProgressCallback = quiet,
) -> Iterator[Timeline]:
    """Follow recordings one by one, as `follow` does; one that fails says so in its timeline.

    Raises
    ------
    MmidError
        If this index and model cannot follow any.
    """
    _check(identifier, every)
    for file in files:
        if isinstance(file, BadFile):
            yield Timeline(os.fspath(file.path), 0.0, error=file.reason)
            continue
        try:
            yield follow(identifier, file, every, start, duration, progress)
        except MmidError as error:
            yield Timeline(os.fspath(file), 0.0, error=str(error))


class _Follower:
    """Finds pieces along a tape.

    Parameters
    ----------
    identifier : Identifier
    every : float
        Length of a window, seconds.
    passed : callable
        Called with the second that was reached.
    """

    def __init__(self, identifier: Identifier, every: float, passed: Callable[[int], None]) -> None:
        self._identifier, self._passed, self._reached = identifier, passed, 0
        self._rate = identifier.params.frame_rate
        self._window, self._least = (round(s * self._rate) for s in (every, LEAST_SECONDS))

    def found(self, tape: Tape) -> list[_Found]:
        """Return what is played on a tape, in order, and no two at once."""
        found: list[_Found] = []
        frame = since = tape.first
        while True:
            ahead = tape.between(since, frame + self._window)
            end = since + ahead.shape[-1]
            if end - frame < self._least:
                return found
            self._pass(tape, frame)
            recent = found and frame - found[-1].track.end <= self._window
            here = self._look_up(tape, frame, end, found[-1].match if recent else None)
            if here is None:
                since, frame = frame, frame + self._window // 2
                continue
            first, last = here.track.likely_span(TOLL * (here.match.explained or 0.0))
            for one in (*self._within(ahead[..., : max(0, first - since)], since), here):
                self._add(found, one)
            since = frame = max(last, frame + self._least, tape.first)

    def _pass(self, tape: Tape, frame: int) -> None:
        tape.forget(frame - int(REMEMBERED * self._window))
        self._reached = max(self._reached, int(frame / self._rate))
        self._passed(self._reached)

    def _look_up(self, tape: Tape, first: int, last: int, before: Match | None) -> _Found | None:
        """Identify a window, perhaps as what was played before, and follow its piece both ways."""
        identifier = self._identifier
        params = identifier.params
        result = identifier.search(Transcribed(tape.between(first, last), params))
        answer = identifier.decide(result)
        match = window_match(answer, before)
        if match is None:
            return None
        voted = identifier.trace(result, match).candidate
        sloped = max(match.tempo_ratio, SLOWEST * voted.tempo_ratio)
        tempi = [voted, replace(voted, tempo_ratio=sloped)]
        notes, passed = (lambda one: identifier.notes(one.piece)), partial(self._pass, tape)
        track = track_piece(tape, (first, last), tempi, notes, params, passed)
        return _Found(track, match) if len(track.gained) >= self._least else None

    def _within(self, skipped: Tensor, frame: int) -> list[_Found]:
        """Return what is played in a rest before the piece that its window was named after."""
        if skipped.shape[-1] < self._least:
            return []
        found = self.found(Tape(iter([skipped])))
        return [replace(one, track=one.track.moved(frame)) for one in found]

    def _add(self, found: list[_Found], new: _Found) -> None:
        """Put a piece after those found before; what two claim is shared out."""
        while found:
            same = _alike(found[-1].match, new.match)
            earlier, later = part(found[-1].track, new.track, same=same)
            if len(earlier.gained) >= self._least:
                found[-1] = replace(found[-1], track=earlier)
                new = replace(new, track=later)
                break
            found.pop()
        if len(new.track.gained) >= self._least:
            found.append(new)


def window_match(answer: Identification, before: Match | None) -> Match | None:
    """Return what a window is named after, if anything; rather the piece before than another."""
    best = answer.matches[0] if answer.matches else None
    if best is None or before is None:
        return best if answer.matched else None
    if not answer.matched and not (best.confidence >= GOING_ON and _alike(before, best)):
        return None
    enough = ALMOST * (best.explained or 0.0)
    same = [match for match in answer.matches if match.piece == before.piece]
    return next((match for match in same if (match.explained or 0.0) >= enough), best)


def _alike(one: Match, other: Match) -> bool:
    """Say whether both are the same music in the same key."""
    names = [{match.piece, *match.also} for match in (one, other)]
    return one.transpose == other.transpose and not names[0].isdisjoint(names[1])


def _joined(found: Sequence[_Found], every: float, frame_rate: float) -> list[list[_Found]]:
    """Join what is one performance: the same piece after a breath, or farther on."""
    performances: list[list[_Found]] = []
    for one in found:
        if performances and _goes_on(performances[-1], one, every, frame_rate):
            performances[-1].append(one)
        else:
            performances.append([one])
    return performances


def _goes_on(performance: Sequence[_Found], later: _Found, every: float, frame_rate: float) -> bool:
    first, last = performance[0], performance[-1]
    if not _alike(last.match, later.match):
        return False
    pause = (later.track.first - last.track.end) / frame_rate
    anew = later.track.positions[0] <= first.track.positions[0] + ANEW_SECONDS
    return pause <= (BREATH_SECONDS if anew else every)


def _played(parts: Sequence[_Found], frame_rate: float) -> Played:
    """Join the parts of a performance."""
    tracks = [one.track for one in parts]
    best = max((one.match for one in parts), key=lambda match: match.confidence)
    longest = max(tracks, key=lambda track: len(track.gained))
    weights = np.array([track.possible[-1] for track in tracks])
    match = replace(
        best,
        explained=float(np.average([track.share for track in tracks], weights=weights)),
        start=float(tracks[0].positions[0]),
        end=float(tracks[-1].positions[-1]),
        tempo_ratio=longest.tempo_ratio(frame_rate),
    )
    return Played(tracks[0].first / frame_rate, tracks[-1].end / frame_rate, match)
