"""Bars of ABC tunes: marked in the text so that abc2midi says when each sounds.

Conventions: bars are known by their place in the text; before each, a tune has two controllers that
mean nothing to players. What is short after a repeat sign or a double bar line is an upbeat, or the
rest of the bar before it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from mmid.music.bars import NO_BARS, Mark, bars_of, full_bar
from mmid.music.midi_chunks import Damage, read_header, read_tracks
from mmid.music.midi_parser import Song

_HIGH, _LOW = 102, 103  # controllers without a meaning
_MOST = 1 << 14
_CONTROLLER = 0xB0
_FIELD, _KEY, _VOICE = re.compile(rb"[A-Za-z+]:|%"), b"K:", re.compile(rb"\[?V:[ \t]*([^\]\s]+)")
_TOKEN = re.compile(  # what may hold bar lines that are none, or a bar line, or an ending
    rb'"[^"]{0,200}"|![^!]{0,40}!|%.*|\[[A-Za-z]:[^\]]{0,200}\]'
    rb"|(?P<line>[|:\[\]]{0,4}\|[|:\]]{0,4}|::)(?P<ending>\s*\[?\d[\d,.-]*)?"
    rb"|(?P<alone>\[\d[\d,.-]*)"
)
_PLAIN = b"|"
_BAR, _SECTION, _ENDING = range(3)
"""What begins at a mark; where several are at one place, the last one counts if it is an ending."""

_NEARLY, _LEAST = 0.99, 8  # of a bar that is whole; of a quarter, the shortest bar


def marked(text: bytes) -> bytes:
    """Mark the bars of a tune's first voice."""
    return b"\n".join(line for line, _ in _marked_lines(text))


def _marked_lines(text: bytes) -> Iterator[tuple[bytes, list[int]]]:
    """Yield lines with their marks, and what begins at each."""
    count, in_music, first, voice = 0, False, None, None
    for line in text.split(b"\n"):
        if found := _VOICE.match(line):
            voice = found[1]
            first = first or voice
        if not in_music or _FIELD.match(line) or voice != first or count >= _MOST - len(line):
            in_music = in_music or line.startswith(_KEY)
            yield line, []
            continue
        line, begins = _marked_line(line, count)
        count += len(begins)
        yield line, begins


def _marked_line(line: bytes, count: int) -> tuple[bytes, list[int]]:
    begins: list[int] = []

    def mark(what: int) -> bytes:
        begins.append(what)
        high, low = divmod(count + len(begins) - 1, 128)
        return b"[I:MIDI control %d %d][I:MIDI control %d %d]" % (_HIGH, high, _LOW, low)

    def with_mark(found: re.Match[bytes]) -> bytes:
        line = found["line"]
        if line is None and found["alone"] is None:
            return found[0]
        ending = line is None or found["ending"]
        return found[0] + mark(_ENDING if ending else _BAR if line == _PLAIN else _SECTION)

    start = mark(_SECTION) if count == 0 and line.strip() else b""
    return start + _TOKEN.sub(with_mark, line), begins


def tune_bars(text: bytes, midi: bytes, song: Song, notes: np.ndarray) -> str:
    """Keep the bars of a tune.

    Parameters
    ----------
    text : bytes
        As `marked` was given it.
    midi : bytes
        What abc2midi made of it.
    song : Song
        The same.
    notes : np.ndarray
        Not looked at.
    """
    end = song.end - song.division // _LEAST  # behind which nothing sounds any more
    sounded = [(tick, place) for tick, place in _sounded(midi) if tick < end]
    if not sounded:
        return NO_BARS
    begins = [what for _, line in _marked_lines(text) for what in line]
    numbers = _numbers(sounded, begins, song)
    return bars_of(
        song, [Mark(tick, numbers[place]) for tick, place in sounded if place in numbers]
    )


def _sounded(midi: bytes) -> Iterator[tuple[int, int]]:
    """Yield the ticks of marks, and which bar begins there."""
    damage, high = Damage(), 0
    for track in read_tracks(midi, read_header(midi, damage), damage):
        for tick, status, position, _ in track.messages(0):
            if status == _CONTROLLER and midi[position] == _HIGH:
                high = midi[position + 1]
            elif status == _CONTROLLER and midi[position] == _LOW:
                yield tick, high << 7 | midi[position + 1]


def _numbers(
    sounded: list[tuple[int, int]], begins: list[int], song: Song
) -> dict[int, int | None]:
    """Return the number of each bar, counted in the text by how long it first lasts."""
    ends = [tick for tick, _ in sounded[1:]]
    lasting: dict[int, tuple[int, int]] = {}
    for (tick, place), end in zip(sounded, [*ends, song.end - 1], strict=True):
        if end > tick:
            lasting.setdefault(place, (tick, end - tick))
    numbers: dict[int, int | None] = {}
    number, section = 0, False
    for place, what in enumerate(begins):
        section = what == _SECTION or (section and what == _BAR)
        if place in lasting:
            tick, ticks = lasting[place]
            upbeat = section and ticks < _NEARLY * full_bar(song, tick)
            number += not upbeat
            numbers[place] = None if upbeat else number
            section = False
    return numbers
