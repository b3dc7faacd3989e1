"""Standard MIDI files byte by byte: what notes need of one, within bounds, before it is trusted.

Conventions: times are ticks from the start of the file. A message is packed into one integer:
``tick << 24 | status << 16 | first data byte << 8 | last data byte``. `mmid.midi` states the rules.
"""

from __future__ import annotations

import os
import re
import stat
import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

from mmid.errors import MidiError

OPEN_BEATS = 4
TITLE_CHARS = 200
DEFAULT_TEMPO = 500_000  # microseconds a beat: 120 bpm

_MIN_TEMPO = 100  # anything faster is a broken file
_DRUMS = 9
_SYSTEM_LENGTHS = {0xF1: 1, 0xF2: 2, 0xF3: 1, 0xF6: 0, 0xF8: 0, 0xFA: 0, 0xFB: 0, 0xFC: 0, 0xFE: 0}
_TRACK_NAME, _END_OF_TRACK, _SET_TEMPO = 0xFF03, 0xFF2F, 0xFF51
_NOT_A_TITLE = re.compile(
    r"((midi|new|tempo|control|conductor|meta|master) ?)?track|untitled|unnamed|no ?name|conductor"
    r"|tempo|staff|((grand|acoustic|electric) )*piano|((right|left) )?hand|[rl]\.?h\.?|up(per)?"
    r"|down|lower|violin|viola|cello|flute|voices?|vocals?|melody|soprano|alto|tenor|bass|guitar",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class MidiLimits:
    """What a file may ask for before it is refused.

    Parameters
    ----------
    bytes : int
        Size of the file.
    seconds : float
        Time of the last note's end.
    ticks : int
        Length of a track; of all tracks together in format 2.
    notes : int
        Note-ons, drums included.
    tracks, tempos : int
        Tracks and tempo changes.
    """

    bytes: int = 16 * 2**20
    seconds: float = 6 * 3600.0
    ticks: int = 100_000_000
    notes: int = 300_000
    tracks: int = 1_000
    tempos: int = 100_000


@dataclass
class Song:
    """What the walk keeps of a file, on absolute ticks."""

    division: int
    tracks: list[tuple[array[int], int]] = field(default_factory=list)  # packed messages, end
    tempos: list[tuple[int, int]] = field(default_factory=list)  # tick, microseconds a beat
    notes: int = 0
    drums: int = 0
    title: str | None = None

    @property
    def end(self) -> int:
        """Tick after the last that a note can end on."""
        return 1 + max(end for _, end in self.tracks)

    @property
    def seconds(self) -> float:
        """Time of `end`."""
        total, start, tempo = 0, 0, DEFAULT_TEMPO
        for tick, following in [*self.tempos, (self.end, 0)]:
            tick = min(tick, self.end)
            total += (tick - start) * tempo
            start, tempo = tick, following
        return total / (1e6 * self.division)


def read_bytes(path: str | os.PathLike[str], limit: int) -> bytes:
    """Read a regular file of at most `limit` bytes; nothing else is even opened.

    Raises
    ------
    MidiError
        The reason, without the file's name.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            folder = stat.S_ISDIR(status.st_mode)
            raise MidiError("a folder, not a MIDI file" if folder else "not a regular file")
        with open(path, "rb") as file:
            data = file.read(min(status.st_size, limit) + 1)
    except OSError as error:
        raise MidiError(f"cannot be read ({error.strerror})") from None
    except ValueError:
        raise MidiError("not a file name") from None
    if len(data) > limit:
        raise MidiError(f"larger than {limit} bytes")
    return data


def walk(data: bytes, limits: MidiLimits) -> Song:
    """Keep what the notes of a file need, within the limits.

    Raises
    ------
    MidiError
        The reason, without the file's name.
    """
    if data[:4] == b"RIFF" and data[8:12] == b"RMID":
        data = data[max(0, data.find(b"MThd")) :]
    if data[:4] != b"MThd":
        raise MidiError("not a MIDI file" if data else "empty file")
    if len(data) < 14:
        raise MidiError("truncated header")
    size, form, count, division = struct.unpack_from(">IHHH", data, 4)
    if size < 6 or form > 2:
        raise MidiError(f"unknown MIDI header (length {size}, format {form})")
    if division == 0 or division & 0x8000:
        raise MidiError("SMPTE time is not supported" if division else "time division of zero")
    if count > limits.tracks:
        raise MidiError(f"{count} tracks, more than {limits.tracks}")
    song, start = Song(division), 0
    for chunk in _track_chunks(data, 8 + size, count):
        if form == 2:
            song.tempos.append((start, DEFAULT_TEMPO))
        end = _walk_track(song, chunk, start, limits)
        start = end if form == 2 else 0
    if song.notes == song.drums:
        raise MidiError("no notes but drums" if song.drums else "no notes")
    song.tempos.sort(key=lambda change: change[0])
    return song


def _track_chunks(data: bytes, pos: int, count: int) -> Iterator[bytes]:
    """Yield the contents of `count` track chunks, stepping over chunks of other kinds."""
    found = 0
    while found < count:
        if pos + 8 > len(data):
            raise MidiError(f"truncated after {found} of {count} tracks")
        name, size = struct.unpack_from(">4sI", data, pos)
        pos += 8 + size
        if pos > len(data):
            raise MidiError(f"truncated: {pos - len(data)} bytes are missing")
        if name == b"MTrk":
            found += 1
            yield data[pos - size : pos]


def _walk_track(song: Song, chunk: bytes, start: int, limits: MidiLimits) -> int:
    """Add a track that begins at tick `start`, and return the tick it ends on."""
    kept, tick, named = array("q"), start, not song.tracks
    for tick, status, pos, length in _messages(chunk, start):
        if tick > limits.ticks:
            raise MidiError(f"longer than {limits.ticks} ticks")
        if 0x80 <= status < 0xA0 or 0xC0 <= status < 0xD0:  # note-off, note-on, program
            value = chunk[pos + length - 1]
            if status & 0xF0 == 0x90 and value:
                song.notes += 1
                song.drums += status & 0xF == _DRUMS
                if song.notes > limits.notes:
                    raise MidiError(f"more than {limits.notes} notes")
            if status & 0xF != _DRUMS:
                kept.append(tick << 24 | status << 16 | chunk[pos] << 8 | value)
        elif status == _SET_TEMPO and length == 3:
            tempo = int.from_bytes(chunk[pos : pos + 3], "big")
            song.tempos.append((tick, tempo))
            if tempo < _MIN_TEMPO:
                raise MidiError(f"a tempo of {tempo} microseconds a beat")
            if len(song.tempos) > limits.tempos:
                raise MidiError(f"more than {limits.tempos} tempo changes")
        elif status == _TRACK_NAME and named and not song.title:
            song.title = _title(chunk[pos : pos + length])
    # what follows the last message is no music, however long
    last = kept[-1] >> 24 if kept else start
    song.tracks.append((kept, min(tick, last + OPEN_BEATS * song.division)))
    return tick


def _messages(chunk: bytes, tick: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield (tick, status, position and length of the data); 0xFF00 + type for a meta message."""
    pos = running = 0
    try:
        while pos < len(chunk):
            delta, pos = _varlen(chunk, pos)
            tick += delta
            status = chunk[pos]
            if status < 0x80:
                status = running
            else:
                pos += 1
            if status < 0xF0:
                running, length = status, 1 if 0xC0 <= status < 0xE0 else 2
                if not status or chunk[pos] > 127 or chunk[pos + length - 1] > 127:
                    raise MidiError("a broken message in a track")
            elif status == 0xFF:
                status = 0xFF00 | chunk[pos]
                length, pos = _varlen(chunk, pos + 1)
            elif status in (0xF0, 0xF7):
                length, pos = _varlen(chunk, pos)
            elif status in _SYSTEM_LENGTHS:
                length = _SYSTEM_LENGTHS[status]
            else:
                raise MidiError(f"an unknown message 0x{status:02x} in a track")
            if pos + length > len(chunk):
                raise IndexError
            yield tick, status, pos, length
            if status == _END_OF_TRACK:
                return
            pos += length
    except IndexError:
        raise MidiError("a track ends inside a message") from None


def _varlen(data: bytes, pos: int) -> tuple[int, int]:
    """Read a number of one to four bytes; return it and the position after it."""
    value = 0
    for after in range(pos + 1, pos + 5):
        byte = data[after - 1]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, after
    raise MidiError("a number of more than four bytes in a track")


def _title(data: bytes) -> str | None:
    """Decode a track's name, if it reads like the name of a piece."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    text = "".join(c if c.isprintable() else " " for c in text[: 2 * TITLE_CHARS])
    name = " ".join(text.split())[:TITLE_CHARS].strip()
    letters = "".join(c for c in name if c.isalpha() or c in " .").strip(" .")
    return name if letters and not _NOT_A_TITLE.fullmatch(letters) else None
