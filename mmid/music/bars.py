"""Bars of a piece: which bar and beat a moment of it is.

Conventions: a moment is in seconds from the start of the file; where repeats are unfolded, a bar
bears its number again, as printed. A beat is the one that the time signature names, so that 6/8 has
six. Bars are kept as text, so that they go wherever a title goes: runs of bars that are alike, set
apart by ``;``, each ``onset number beat beats seconds``: when its first bar begins, its number, the
beat it begins with, how many beats a bar of it has, and how long it lasts.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from mmid.music.midi_parser import DEFAULT_TEMPO, Song
from mmid.music.moment import Moment

NO_BARS = ""
"""What is kept of a piece whose bars are not known."""

MOST_BARS = 20_000
MOST_CHARS = 40_000
"""Of a piece with more, bars are not kept."""

LEAST_ON_GRID = 0.25
"""How well onsets must keep to halves, thirds or quarters of beats: 0 is by chance, 1 exactly."""

_WITHOUT_BARS = (220, 500)
"""Ticks a beat of files made of seconds, by pretty_midi and `mmid.music.midi.write_midi`: they say
4/4 at 120, whatever the music is."""

_SAME = 0.002  # seconds; such differences come from rounding ticks
_FEW_BEATS = 1e-3
_SILENT = 8  # of a quarter: what may follow the last bar
_NUMBER = r"\d{1,7}(?:\.\d{1,4})?"
_RUN = re.compile(rf"({_NUMBER}) (\d{{1,6}}) ({_NUMBER}) ({_NUMBER}) ({_NUMBER})")


class Mark(NamedTuple):
    """Where a bar begins.

    Parameters
    ----------
    tick : int
    number : int or None
        As printed; None of one that bears none: an upbeat, or the rest of the bar before it.
    """

    tick: int
    number: int | None


@dataclass(frozen=True)
class _Run:
    """Bars that are alike and follow one another."""

    onset: float
    number: int
    beat: float
    beats: float
    seconds: float

    def __str__(self) -> str:
        beats = f"{_plain(self.beat)} {_plain(self.beats)}"
        return f"{_plain(self.onset)} {self.number} {beats} {_plain(self.seconds)}"

    def goes_on(self, other: _Run, bars: int) -> bool:
        """Return whether a bar is the next of a run that has so many."""
        alike = (self.number + bars, self.beats) == (other.number, other.beats)
        late = self.onset + bars * self.seconds - other.onset, self.seconds - other.seconds
        return alike and self.beat == other.beat == 1 and max(map(abs, late)) < _SAME


def _plain(number: float) -> str:
    return f"{number:.4f}".rstrip("0").rstrip(".")


def moment(bars: str, seconds: float | None) -> Moment | None:
    """Return the bar and the beat nearest to a moment; None where they are not known.

    Parameters
    ----------
    bars : str
        As kept of a piece.
    seconds : float or None

    Examples
    --------
    >>> str(moment("0 0 4 1 0.5;0.5 1 1 4 2", 4.9))
    'bar 3, beat 2'
    """
    runs = _runs(bars)
    if seconds is None or not runs or seconds < runs[0].onset - _SAME:
        return None
    run = _run_at(runs, seconds)
    run = _run_at(runs, nearest := seconds + run.seconds / run.beats / 2)
    bar, part = divmod(max(nearest - run.onset, 0.0) / run.seconds, 1)
    return Moment(run.number + int(bar), int(run.beat + part * run.beats))


def _run_at(runs: Sequence[_Run], seconds: float) -> _Run:
    return runs[max(0, bisect_right([run.onset for run in runs], seconds) - 1)]


@lru_cache(maxsize=64)
def _runs(bars: str) -> tuple[_Run, ...]:
    """Read what is kept; of what is damaged, nothing is known."""
    found = [_RUN.fullmatch(text) for text in bars.split(";")]
    runs = [_Run(float(r[1]), int(r[2]), *map(float, r.groups()[2:])) for r in found if r]
    sound = len(runs) == len(found) and all(run.beats > 0 and run.seconds > 0 for run in runs)
    return tuple(runs) if sound else ()


def counted_bars(song: Song, notes: np.ndarray) -> str:
    """Count the bars of a MIDI file by its time signatures, from 1 on.

    Not of a file without signatures, nor of one whose notes keep to no beat of it, as those of a
    recorded performance, nor of one that was made of seconds.

    Parameters
    ----------
    song : Song
    notes : np.ndarray [n] of mmid.music.notes.NOTE_DTYPE
    """
    seconds = not song.on_beats or (song.division in _WITHOUT_BARS and _says_nothing(song))
    if not song.signatures or seconds or _on_grid(song, notes) < LEAST_ON_GRID:
        return NO_BARS
    return bars_of(song, list(_count(song)))


def _says_nothing(song: Song) -> bool:
    """Return whether time goes as in a file that says nothing of it."""
    as_usual = {tempo for _, tempo in song.tempos} <= {DEFAULT_TEMPO}
    return as_usual and song.signatures == [(0, 4, 4)]


def _count(song: Song) -> Iterator[Mark]:
    """Yield as many bars as are kept, and one more."""
    number = 0
    ends = [tick for tick, _, _ in song.signatures[1:]]
    for (start, beats, unit), end in zip(song.signatures, [*ends, song.end], strict=True):
        for k in range(MOST_BARS + 1):
            tick = start + 4 * song.division * beats * k // unit
            if tick >= end or number > MOST_BARS:
                break
            number += 1
            yield Mark(tick, number)


def _on_grid(song: Song, notes: np.ndarray) -> float:
    """Return how well the onsets of notes keep to the beats' even parts, 0 to 1."""
    ticks = ticks_at(song, np.unique(notes["onset"]).astype(float))
    angles = 2 * np.pi * ticks / song.division
    return max(float(abs(np.exp(1j * parts * angles).mean())) for parts in (2, 3, 4))


def bars_of(song: Song, marks: Sequence[Mark]) -> str:
    """Return what is kept of the bars of a piece.

    Parameters
    ----------
    song : Song
        Its ticks, tempi and time signatures; without any, 4/4 is meant.
    marks : sequence of Mark
        In the order in which they sound.
    """
    marks = [a for a, b in pairwise([*marks, Mark(song.end, None)]) if b.tick > a.tick]
    in_order = all(a.tick < b.tick for a, b in pairwise(marks))
    if not in_order or not 0 < len(marks) <= MOST_BARS:
        return NO_BARS
    text = ";".join(map(str, _joined(_bars(song, marks))))
    return text if len(text) <= MOST_CHARS else NO_BARS


def _bars(song: Song, marks: Sequence[Mark]) -> Iterator[_Run]:
    """Yield every bar by itself."""
    last = marks[-1].tick
    end = max(song.end - song.division // _SILENT, last + full_bar(song, last))
    ticks = [*(mark.tick for mark in marks), end]
    onsets = _seconds(song, np.array(ticks)).round(4).tolist()
    number = max(next((m.number for m in marks if m.number is not None), 1) - 1, 0)
    counts = all(mark.number is None for mark in marks)
    played = 0.0  # of the bar before, in beats
    for place, (mark, (start, end)) in enumerate(zip(marks, pairwise(ticks), strict=True)):
        _, full, unit = _signature_at(song, start)
        beats = (end - start) * unit / (4 * song.division)
        rest = mark.number is None and place > 0 and played + beats < full + _FEW_BEATS
        upbeat = mark.number in (None, 0) or place == 0
        before = played if rest else max(full - beats, 0.0) if upbeat else 0.0
        if mark.number is not None:
            number = mark.number
        elif counts and not rest and before == 0:
            number += 1
        played = before + beats
        seconds = round(onsets[place + 1] - onsets[place], 4)
        if seconds > 0:
            yield _Run(onsets[place], number, round(1 + before, 4), round(beats, 4), seconds)


def _joined(bars: Iterator[_Run]) -> Iterator[_Run]:
    """Join bars that are alike to runs."""
    run, count = None, 0
    for bar in bars:
        if run is None or not run.goes_on(bar, count):
            if run is not None:
                yield run
            run, count = bar, 0
        count += 1
    if run is not None:
        yield run


def _signature_at(song: Song, tick: int) -> tuple[int, int, int]:
    place = bisect_right(song.signatures, (tick, 1 << 16, 0)) - 1
    return song.signatures[max(place, 0)] if song.signatures else (0, 4, 4)


def full_bar(song: Song, tick: int) -> int:
    """Return how many ticks a whole bar has there."""
    _, beats, unit = _signature_at(song, tick)
    return 4 * song.division * beats // unit


def _tempo_map(song: Song) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the ticks of tempo changes, their seconds, and the seconds a tick from each on."""
    changes = dict([(0, song.tempo), *song.tempos])
    ticks = np.array(list(changes), dtype=np.int64)
    pace = np.array(list(changes.values())) / (1e6 * song.division)
    return ticks, np.concatenate([[0.0], np.cumsum(np.diff(ticks) * pace[:-1])]), pace


def _seconds(song: Song, ticks: np.ndarray) -> np.ndarray:
    starts, seconds, pace = _tempo_map(song)
    place = np.searchsorted(starts, ticks, "right") - 1
    return np.asarray(seconds[place] + (ticks - starts[place]) * pace[place])


def ticks_at(song: Song, seconds: np.ndarray) -> np.ndarray:
    """Return the ticks of moments, seconds, as floats."""
    starts, changed, pace = _tempo_map(song)
    place = np.searchsorted(changed, seconds, "right") - 1
    return np.asarray(starts[place] + (seconds - changed[place]) / pace[place])
