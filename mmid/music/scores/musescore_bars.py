"""Bars of MuseScore files: they sound when MuseScore says, and bear the numbers of the file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from mmid.music.bars import MOST_BARS, NO_BARS, Mark, bars_of
from mmid.music.midi_parser import Song

_SHORTEST, _NEAR = 16, 0.01  # of a quarter, between bar lines; quarters that milliseconds hide
_JOINED_RESTS = "<createMultiMeasureRests>1<"
_MEASURE, _END_OF_STAFF = re.compile(r"<Measure\b"), "</Staff>"
_MULTIPLE = "<multiMeasureRest>"  # a measure again, as it is drawn where rests are joined
_IRREGULAR = "<irregular>1<"
_OFFSET = re.compile(r"<noOffset>(-?\d{1,4})<")
_SECTION, _GOES_ON = "<subtype>section<", "<startWithMeasureOne>0<"
_ELEMENT, _EVENT = "<element ", re.compile(r'<event elid="(\d{1,6})" position="(\d{1,9})"')
_SIGNATURE = re.compile(r"<sigN>([1-9]\d{0,2})</sigN>\s*<sigD>([1-9]\d{0,2})<")
_LENGTH = re.compile(r'^[^>]{0,80}\blen="([1-9]\d{0,3})/([1-9]\d{0,3})"')
_COMMON = (4, 4)


class _Measure(NamedTuple):
    """What a file says of a measure: its number, None if it is not counted; beats, unit; length."""

    number: int | None
    signature: tuple[int, int]
    quarters: float


def with_every_measure(text: str) -> str:
    """Have every measure of a file laid out by itself, also where rests are joined."""
    return text.replace(_JOINED_RESTS, _JOINED_RESTS.replace("1", "0"))


def musescore_bars(text: str, positions: str, song: Song, notes: np.ndarray) -> str:
    """Keep the bars of a score.

    In MIDI, MuseScore makes pauses longer by ticks, which its positions in milliseconds know; these
    miss changes of tempo behind repeats. So bars are laid out by their lengths, or by the clock,
    as more of them begin with notes.

    Parameters
    ----------
    text : str
        The ``.mscx``.
    positions : str
        What MuseScore writes as ``.mpos``: measures, and when each begins, in milliseconds.
    song : Song
        The MIDI that it makes of the same.
    notes : np.ndarray [n] of mmid.music.notes.NOTE_DTYPE
    """
    measures = list(_measures(text))
    events = [(int(place), int(time)) for place, time in _EVENT.findall(positions)]
    if len(measures) != positions.count(_ELEMENT) or not 0 < len(events) <= MOST_BARS:
        return NO_BARS
    if max(place for place, _ in events) >= len(measures):
        return NO_BARS
    sounding = [measures[place] for place, _ in events]
    lengths = np.array([measure.quarters for measure in sounding]) * song.division
    by_length = np.concatenate([[0.0], np.cumsum(lengths)[:-1]])
    by_clock = _on_bar_lines(
        song.tempo_map.ticks_at(np.array([time for _, time in events]) / 1_000), song
    )
    onsets = np.sort(song.tempo_map.ticks_at(notes["onset"].astype(float)))
    ticks = max((by_length, by_clock), key=lambda ticks: _begun(ticks, onsets, song))
    lines = [round(tick) for tick in ticks.tolist()]
    signatures = [(tick, *m.signature) for tick, m in zip(lines, sounding, strict=True)]
    marks = [Mark(tick, m.number) for tick, m in zip(lines, sounding, strict=True)]
    return bars_of(replace(song, signatures=signatures), marks)


def _begun(ticks: np.ndarray, onsets: np.ndarray, song: Song) -> int:
    """Return how many bars begin with a note."""
    near = song.division / _SHORTEST
    first, last = (np.searchsorted(onsets, ticks + side) for side in (-near, near))
    return int((last > first).sum())


def _measures(text: str) -> Iterator[_Measure]:
    """Yield the measures of the first staff."""
    first = _MEASURE.search(text)
    staff = text[first.start() :].partition(_END_OF_STAFF)[0] if first else ""
    number, signature = 0, _COMMON
    for measure in _MEASURE.split(staff)[1:]:
        if _MULTIPLE in measure:
            continue
        if found := _SIGNATURE.search(measure):
            signature = int(found[1]), int(found[2])
        if offset := _OFFSET.search(measure):
            number += int(offset[1])
        counted = _IRREGULAR not in measure
        number += counted
        top, bottom = map(int, found.groups()) if (found := _LENGTH.match(measure)) else signature
        yield _Measure(max(number, 0) if counted else None, signature, 4 * top / bottom)
        if _SECTION in measure and _GOES_ON not in measure:
            number = 0


def _on_bar_lines(ticks: np.ndarray, song: Song) -> np.ndarray:
    """Return the nearest ticks where bars can begin, if milliseconds explain the difference."""
    step = song.division / _SHORTEST
    lines = np.round(ticks / step) * step
    return np.where(abs(ticks - lines) <= _NEAR * song.division, lines, ticks)
