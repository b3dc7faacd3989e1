"""Standard MIDI files as tracks of messages, damaged ones too: what can be read of them is.

Conventions: positions are bytes from the start of the file, times ticks. A file is read as players
read it: what is broken is clipped or passed over and goes into a `Damage`; what is sound is read
to the letter. Lengths and counts are believed where what follows them fits.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from mmid.errors import MidiError
from mmid.music.file_types import name_kind

Message = tuple[int, int, int, int]
"""Tick, status (0xFF00 + type of a meta message), position and length of the data."""

END_OF_TRACK = 0xFF2F

_HEADER = 14
_SEARCHED = 1_024  # bytes before a header, such as a Mac's own 128
_LONGEST_NUMBER = 4, 8  # bytes: as the standard says, and as they are read
_LARGEST_NUMBER = 2**28
_LONG_WAIT = 2**14  # ticks between messages that a damaged track is not believed unseen
_MOST_MISSING = 2**24  # more than that is no truncation but a wrong length
_SYSTEM_LENGTHS = {0xF1: 1, 0xF2: 2, 0xF3: 1, 0xF6: 0, 0xF8: 0, 0xFA: 0, 0xFB: 0, 0xFC: 0, 0xFE: 0}
_NEXT_TRACK = re.compile(rb"MTrk|MThd")
_TRACK_END = b"\xff\x2f\x00"
_DELTA = rb"[\x80-\xff]{0,1}[\x00-\x7f]"
_CHANNEL = rb"(?:[\x80-\xbf\xe0-\xef][\x00-\x7f]{2}|[\xc0-\xdf][\x00-\x7f])"
_RUNNING = rb"(?:%b|[\x00-\x7f]{2})" % _CHANNEL
_SOUND = re.compile(  # a message with its status and three more, or one that is unmistakable
    rb"%(d)s%(m)s(?:(?:%(d)s%(r)s){3}|(?:%(d)s%(r)s){0,2}%(d)s\xff[\x00-\x7f])"
    rb"|%(d)s\xff(?:\x2f\x00|\x51\x03)" % {b"d": _DELTA, b"m": _CHANNEL, b"r": _RUNNING}
)
_AFTER_WAIT = re.compile(  # the same from the status on, which may be that of the last message
    rb"%(r)s(?:(?:%(d)s%(r)s){3}|(?:%(d)s%(r)s){0,2}%(d)s\xff[\x00-\x7f])"
    rb"|\xff[\x00-\x7f]|[\xf0\xf7]" % {b"d": _DELTA, b"r": _RUNNING}
)
_MESSAGE = (  # its last byte may be as broken as that of the one before
    rb"[\x80-\xff]{0,3}[\x00-\x7f]"
    rb"(?:[\x80-\xbf\xe0-\xef]?[\x00-\x7f].|[\x80-\xbf\xe0-\xef].[\x00-\x7f]|[\xc0-\xdf]."
    rb"|\xff[\x00-\x7f]|[\xf0\xf7])"
)
_READS_ON = re.compile(rb"\Z|(?:%b)(?:\Z|%b)" % (_MESSAGE, _MESSAGE), re.DOTALL)


@dataclass
class Damage:
    """What was broken in a file, and how much of it."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    remarks: list[str] = field(default_factory=list)

    def add(self, noun: str, what: str, count: int = 1) -> None:
        """Count something, as ``("message", "mended")``."""
        self.counts[noun, what] += count

    def __len__(self) -> int:
        return self.counts.total() + len(self.remarks)

    def __str__(self) -> str:
        counted = [f"{n} {noun}{'s'[: n != 1]} {what}" for (noun, what), n in self.counts.items()]
        said = [*self.remarks, *counted]
        return f"damaged: {', '.join(said)}" if said else ""


@dataclass(frozen=True)
class Header:
    """What a file says of itself.

    Parameters
    ----------
    form : int
        0, 1 or 2.
    tracks : int
        How many there should be.
    division : int
        Ticks a beat, or as of SMPTE time.
    start, stop : int
        Where the chunks after it begin, and where the file ends.
    """

    form: int
    tracks: int
    division: int
    start: int
    stop: int


def read_header(data: bytes, damage: Damage) -> Header:
    """Read the header, wherever in the front of the file it lies.

    Raises
    ------
    MidiError
        If there is none; the reason, without the file's name.
    """
    begin, stop = _find_header(data, damage)
    if stop - begin < _HEADER:
        raise MidiError("truncated header")
    size, form, tracks, division = struct.unpack_from(">IHHH", data, begin + 4)
    if form > 2:
        damage.remarks.append(f"format {form} read as 1")
        form = 1
    start = begin + 8 + size
    if size < 6 or not (start == stop or _chunk_at(data, start, stop)):
        start = begin + _HEADER
        if size != 6:
            damage.add("length", "mended")
    return Header(form, tracks, division, start, stop)


def _find_header(data: bytes, damage: Damage) -> tuple[int, int]:
    """Return where the header begins and where the file ends, out of its RIFF wrapper."""
    if not data:
        raise MidiError("empty file")
    riff = data[:4] == b"RIFF" and data[8:12] == b"RMID"
    kind = None if riff else name_kind(data, "a MIDI file")
    begin = -1 if kind else data.find(b"MThd", 0, None if riff else _SEARCHED)
    if begin < 0:
        raise MidiError(kind or "not a MIDI file")
    if riff and data[begin - 8 : begin - 4] == b"data":
        size = int.from_bytes(data[begin - 4 : begin], "little")
        return begin, min(len(data), begin + size) if size > _HEADER else len(data)
    if begin and not riff:
        damage.add("byte", "skipped", begin)
    return begin, len(data)


def _chunk_at(data: bytes, pos: int, stop: int) -> bool:
    """Return whether a chunk begins here: a track, or another that fits into the file."""
    name, size = data[pos : pos + 4], data[pos + 4 : pos + 8]
    if pos + 8 > stop or name == b"MTrk":
        return name == b"MTrk" and pos + 8 <= stop
    return all(32 <= byte < 127 for byte in name) and pos + 8 + int.from_bytes(size, "big") <= stop


class Track:
    """The messages of a track; read once, from its first to its last.

    Parameters
    ----------
    data : bytes
    start, stop : int
        Where its messages begin, and must have ended.
    damage : Damage
        Takes what is broken.
    """

    def __init__(self, data: bytes, start: int, stop: int, damage: Damage) -> None:
        self._data, self._stop, self._damage = data, stop, damage
        self.position = start
        self.ended = self.hurt = False

    def messages(self, tick: int) -> Iterator[Message]:
        """Yield the messages from a tick on.

        A channel message's data may be above 127: that is counted, and left to who takes it.
        """
        data, stop, pos, running = self._data, self._stop, self.position, 0
        while pos < stop:
            first = pos
            try:
                delta, pos = data[pos], pos + 1
                if delta > 127:  # more than one byte
                    delta, pos = self._number(first)
                if delta >= _LONG_WAIT and self.hurt and not _AFTER_WAIT.match(data, pos, stop):
                    raise IndexError
                status = data[pos]
                if status < 0x80:
                    status = running
                else:
                    pos += 1
                if status < 0xF0:
                    running, length = status, 1 if 0xC0 <= status < 0xE0 else 2
                    broken = data[pos] > 127 or data[pos + length - 1] > 127
                    if broken and not self._mends(pos + length):
                        status = 0
                else:
                    status, length, pos = self._other(status, pos)
            except IndexError:
                status = 0
            if not status or pos + length > stop:
                pos, running = self._resume(first), 0
                continue
            tick += delta
            yield tick, status, pos, length
            pos += length
            if status == END_OF_TRACK and not self._goes_on(pos):
                self.ended = True
                break
        self.position = min(pos, stop)

    def _other(self, status: int, pos: int) -> tuple[int, int, int]:
        """Return status, length and position of the data of what is no channel message."""
        if status == 0xFF:
            length, after = self._number(pos + 1)
            return 0xFF00 | self._data[pos], length, after
        if status in (0xF0, 0xF7):
            length, after = self._number(pos)
            return status, length, after
        known = status in _SYSTEM_LENGTHS or self._mends(pos)
        return status if known else 0, _SYSTEM_LENGTHS.get(status, 0), pos

    def _mends(self, after: int) -> bool:
        """Return whether messages follow a broken one, which is then the only one that is."""
        mends = _READS_ON.match(self._data, after, self._stop) is not None
        if mends:
            self._mended()
        return mends

    def _mended(self) -> None:
        self.hurt = True
        self._damage.add("message", "mended")

    def _goes_on(self, after: int) -> bool:
        """Return whether an end of track came too early: another is just where it should be."""
        last = self._stop - len(_TRACK_END)
        early = after < last - 1 and self._data.startswith(_TRACK_END, last)
        if early:
            self._mended()
        return early

    def _number(self, pos: int) -> tuple[int, int]:
        """Read a number of seven bits a byte; return it and the position after it."""
        value, (most, read) = 0, _LONGEST_NUMBER
        for after in range(pos + 1, pos + read + 1):
            byte = self._data[after - 1]
            value = value << 7 | byte & 0x7F
            if byte < 0x80:
                if value >= _LARGEST_NUMBER:
                    break
                if after - pos > most:
                    self._mended()
                return value, after
        raise IndexError

    def _resume(self, broken: int) -> int:
        """Return where messages begin again after a broken one."""
        found = _SOUND.search(self._data, broken + 1, self._stop)
        place = found.start() if found else self._stop
        self._damage.add("byte", "skipped", place - broken)
        self.hurt = True
        return place


def read_tracks(data: bytes, header: Header, damage: Damage) -> Iterator[Track]:
    """Yield the tracks; the messages of each are to be read before the next."""
    found, place = 0, _next_track(data, header.start, header.stop, False, damage)
    while place is not None:
        begin = place + 8
        end = begin + int.from_bytes(data[place + 4 : begin], "big")
        track = Track(data, begin, _stop(data, begin, end, header.stop), damage)
        yield track
        found += 1
        after = _after(data, track, end, header.stop, damage)
        place = _next_track(data, after, header.stop, found >= header.tracks, damage)
    if found < header.tracks:
        damage.add("track", "missing", header.tracks - found)
    elif found > header.tracks:
        damage.add("uncounted track", "read", found - header.tracks)


def _next_track(data: bytes, pos: int, stop: int, all_found: bool, damage: Damage) -> int | None:
    """Find the next track's chunk, past chunks of other kinds and what is no chunk."""
    while _chunk_at(data, pos, stop) and data[pos : pos + 4] not in (b"MTrk", b"MThd"):
        pos += 8 + int.from_bytes(data[pos + 4 : pos + 8], "big")
    found = _NEXT_TRACK.search(data, pos, stop)
    if not found or found[0] == b"MThd" or found.end() + 4 > stop:
        if not all_found and pos < stop:
            damage.add("byte", "skipped", stop - pos)
        return None
    if found.start() > pos:
        damage.add("byte", "skipped", found.start() - pos)
    return found.start()


def _stop(data: bytes, begin: int, end: int, stop: int) -> int:
    """Return where the messages of a track must have ended: as its length says, if that fits."""
    if end == stop or (end < stop and _chunk_at(data, end, stop)):
        return end
    following = _NEXT_TRACK.search(data, begin, stop)
    limit = following.start() if following else stop
    if end > stop:
        return limit
    if data.find(_TRACK_END, begin, end) >= 0:
        return end
    last = data.find(_TRACK_END, max(begin, end - 2), limit)
    return last + len(_TRACK_END) if last >= 0 else end


def _after(data: bytes, track: Track, end: int, stop: int, damage: Damage) -> int:
    """Return where the next chunk is to be looked for, once a track was read."""
    reached = track.position
    if end > stop and not track.ended and reached == stop and end - stop < _MOST_MISSING:
        damage.add("byte", "missing", end - stop)
        return stop
    if reached < end:
        fits = end == stop or (end < stop and _chunk_at(data, end, stop))
        if fits and not _NEXT_TRACK.search(data, reached, end):
            return end  # what follows the last message is of no concern
    if reached != end:
        damage.add("length", "mended")
    return reached
