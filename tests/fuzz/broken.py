"""Sound songs, broken in each of the ways in which files that players play are broken.

Conventions: a way takes a `Draft`, which it may change, and a generator, and returns the bytes of a
file. Messages are ``(delta, bytes)``, the delta as it is written.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from fuzz.mutators import Rng, varlen

Message = tuple[bytes, bytes]

END = (b"\0", b"\xff\x2f\0")
NOTES = 40
"""Of each of a song's tracks."""


@dataclass
class Draft:
    """A song before it is written."""

    tracks: list[list[Message]]
    form: int = 1
    division: int = 96
    count: int | None = None
    size: int = 6
    more: bytes = b""
    sizes: dict[int, int] = field(default_factory=dict)
    between: bytes = b""

    def write(self) -> bytes:
        """Return the file."""
        count = len(self.tracks) if self.count is None else self.count
        head = b"MThd" + struct.pack(">IHHH", self.size, self.form, count, self.division)
        chunks = [chunk(track, self.sizes.get(i)) for i, track in enumerate(self.tracks)]
        return head + self.more + self.between.join(chunks)

    def place(self, rng: Rng) -> tuple[list[Message], int]:
        """Return a track with notes, and a place in the midst of it."""
        track = self.tracks[int(rng.integers(1, len(self.tracks)))]
        return track, int(rng.integers(4, len(track) - 4))


def chunk(track: list[Message], size: int | None = None) -> bytes:
    """Write a track, with its length or another."""
    body = b"".join(delta + data for delta, data in track)
    return b"MTrk" + struct.pack(">I", len(body) if size is None else size) + body


def draft(rng: Rng) -> Draft:
    """Draw a song of three tracks: tempo and title, and two with notes."""
    front = [(b"\0", b"\xff\x03\4Song"), (b"\0", b"\xff\x51\3" + bytes([6, 0x1A, 0x80])), END]
    return Draft([front, *(_part(rng, channel) for channel in range(2))])


def _part(rng: Rng, channel: int) -> list[Message]:
    """Draw a track of notes, one after another, without running status."""
    part = [(b"\0", bytes([0xC0 | channel, int(rng.integers(128))]))]
    for pitch in rng.integers(40, 90, NOTES).tolist():
        part.append((varlen(int(rng.integers(0, 20))), bytes([0x90 | channel, pitch, 90])))
        part.append((varlen(int(rng.integers(30, 200))), bytes([0x80 | channel, pitch, 64])))
    return [*part, END]


Way = Callable[[Draft, Rng], bytes]
WAYS: dict[str, tuple[Way, float, bool | None]] = {}
"""How a file is broken, the share of its notes that is read at least, and whether that is said:
always, never, or at times."""


def way(name: str, share: float = 1.0, told: bool | None = True) -> Callable[[Way], Way]:
    """Take a function as one of `WAYS`."""

    def take(function: Way) -> Way:
        WAYS[name] = function, share, told
        return function

    return take


def _insert(*data: bytes) -> Way:
    """Put messages into the midst of a track."""

    def broken(song: Draft, rng: Rng) -> bytes:
        track, place = song.place(rng)
        track[place:place] = [(b"\0", one) for one in data]
        return song.write()

    return broken


def _values(**values: object) -> Way:
    """Change what a song says of itself."""

    def broken(song: Draft, rng: Rng) -> bytes:
        for name, value in values.items():
            setattr(song, name, value)
        return song.write()

    return broken


MESSAGES = {
    "a controller's value over 127": (b"\xb0\x07\xc8",),
    "a controller over 127": (b"\xb0\xc8\x07",),
    "a program over 127": (b"\xc0\xff",),
    "a pitch bend over 127": (b"\xe0\x00\xff",),
    "a note over 127": (b"\x90\xc8\x40",),
    "an unknown status": (b"\xf4",),
    "a tempo of zero": (b"\xff\x51\3\0\0\0",),
}
HARMLESS = {
    "a key signature that is none": (b"\xff\x59\2\x20\x09",),
    "a tempo of two bytes": (b"\xff\x51\2\x07\xa1",),
    "a time signature of one byte": (b"\xff\x58\1\4",),
    "sysex spread over events": (b"\xf0\3\x7e\x7f\x09", b"\xf7\3\1\2\3", b"\xf7\2\1\xf7"),
    "sysex without an end": (b"\xf0\3\x7e\x7f\x09",),
    "clocks and active sensing": (b"\xf8", b"\xfe", b"\xfa"),
    "a song position": (b"\xf2\1\2",),
    "a note never released": (b"\x90\x7f\x40",),
    "a release of nothing": (b"\x80\x7f\x40",),
    "a text that is no text": (b"\xff\1\3\xff\xfe\x80",),
}
for _name, _data in MESSAGES.items():
    way(_name)(_insert(*_data))
for _name, _data in HARMLESS.items():
    way(_name, told=False)(_insert(*_data))

way("format 3")(_values(form=3))
way("format 29697")(_values(form=29_697))
way("format 0 with tracks", told=False)(_values(form=0))
way("format 2", told=False)(_values(form=2))
way("a track counted twice")(_values(count=4))
way("tracks not counted")(_values(count=1))
way("no track counted")(_values(count=0))
way("65535 tracks counted")(_values(count=65_535))
way("a header of 8 bytes", told=False)(_values(size=8, more=b"??"))
way("a header length of zero")(_values(size=0))
way("a header length beyond the file")(_values(size=2**31 + 6))
way("SMPTE time", told=False)(_values(division=0xE728))
way("time division of zero")(_values(division=0))
way("a zero between tracks")(_values(between=b"\0"))
way("junk between tracks")(_values(between=b"junk\xff\xfe\x80 more junk"))
way("a chunk of another kind", told=False)(_values(between=b"XFIH\0\0\0\5abcde"))
way("a chunk of another kind and a wrong length")(_values(between=b"XFIH\0\0\xff\xffabcde"))


@way("a velocity over 127")
def _velocity(song: Draft, rng: Rng) -> bytes:
    track, place = song.place(rng)
    delta, data = track[place]
    track[place] = delta, data[:2] + b"\xc8"
    return song.write()


@way("a byte too many", share=0.9, told=None)
def _junk(song: Draft, rng: Rng) -> bytes:
    track, place = song.place(rng)
    delta, data = track[place]
    track[place] = delta, data + rng.bytes(1)
    return song.write()


@way("a byte too few", share=0.9, told=None)
def _dropped(song: Draft, rng: Rng) -> bytes:
    track, place = song.place(rng)
    delta, data = track[place]
    track[place] = delta, data[:-1]
    return song.write()


@way("bytes of something else", share=0.8)
def _overwritten(song: Draft, rng: Rng) -> bytes:
    track, place = song.place(rng)
    track[place] = b"\0", b"\xff\xff" + bytes(rng.integers(128, 256, 20).tolist())
    return song.write()


@way("no status at first")
def _no_status(song: Draft, rng: Rng) -> bytes:
    song.tracks[1].insert(0, (b"\0", b"\x40\x40"))
    return song.write()


@way("a number padded to five bytes")
def _padded(song: Draft, rng: Rng) -> bytes:
    track, place = song.place(rng)
    delta, data = track[place]
    track[place] = b"\x80" * (5 - len(delta)) + delta, data
    return song.write()


@way("a text longer than the track", share=0.9)
def _long_text(song: Draft, rng: Rng) -> bytes:
    track, place = song.place(rng)
    track.insert(place, (b"\0", b"\xff\1\xff\xff\x7f"))
    return song.write()


@way("no end of track", told=False)
def _no_end(song: Draft, rng: Rng) -> bytes:
    for track in song.tracks:
        track.pop()
    return song.write()


@way("an end of track too early")
def _early_end(song: Draft, rng: Rng) -> bytes:
    track, place = song.place(rng)
    track.insert(place, END)
    return song.write()


@way("cut off", share=0.5)
def _cut(song: Draft, rng: Rng) -> bytes:
    data = song.write()
    return data[: int(rng.integers(len(data) * 3 // 4, len(data) - 3))]


@way("cut off in the next track's header", share=0.5)
def _cut_header(song: Draft, rng: Rng) -> bytes:
    last = chunk(song.tracks[2])
    return song.write()[: 6 - len(last)]


@way("a track's length too short")
def _short(song: Draft, rng: Rng) -> bytes:
    song.sizes[int(rng.integers(1, 3))] = int(rng.integers(5, 200))
    return song.write()


@way("a track's length too long")
def _long(song: Draft, rng: Rng) -> bytes:
    song.sizes[1] = len(chunk(song.tracks[1])) - 8 + int(rng.integers(1, 200))
    return song.write()


@way("a track's length too long by a few bytes")
def _little_longer(song: Draft, rng: Rng) -> bytes:
    place = int(rng.integers(2))
    song.sizes[place] = len(chunk(song.tracks[place])) - 8 + int(rng.integers(1, 4))
    return song.write()


@way("a track's length beyond the file")
def _huge(song: Draft, rng: Rng) -> bytes:
    song.sizes[int(rng.integers(3))] = 0xFFFFFFFF
    return song.write()


@way("a track's length of zero")
def _zero(song: Draft, rng: Rng) -> bytes:
    song.sizes[int(rng.integers(1, 3))] = 0
    return song.write()


@way("empty tracks", told=False)
def _empty(song: Draft, rng: Rng) -> bytes:
    song.tracks[1:1] = [[], [END]]
    return song.write()


@way("bytes before the header")
def _late(song: Draft, rng: Rng) -> bytes:
    return bytes(128) + song.write()


@way("bytes after the last track", told=False)
def _trailing(song: Draft, rng: Rng) -> bytes:
    return song.write() + b"\x1a" + bytes(int(rng.integers(1, 200)))


@way("another song after it", told=False)
def _two(song: Draft, rng: Rng) -> bytes:
    return song.write() + draft(rng).write()


@way("in a RIFF file", told=False)
def _riff(song: Draft, rng: Rng) -> bytes:
    data = song.write()
    body = b"RMIDdata" + struct.pack("<I", len(data)) + data + b"LIST\4\0\0\0INFO"
    return b"RIFF" + struct.pack("<I", len(body)) + body


@way("in a RIFF file of wrong lengths", told=False)
def _bad_riff(song: Draft, rng: Rng) -> bytes:
    return b"RIFF\0\0\0\0RMIDdata\0\0\0\0" + song.write()


@way("copied as text", told=True)
def _as_text(song: Draft, rng: Rng) -> bytes:
    for track in song.tracks[1:]:
        track[5:5] = [(b"\x0a", b"\xb0\x0a\x0a")] * 4
    return song.write().replace(b"\n", b"\r\n")


@way("running status over meta messages", told=False)
def _running(song: Draft, rng: Rng) -> bytes:
    notes = [m for m in song.tracks[1] if m[1][0] == 0x90]
    shared = [notes[0], *((b"\x30", data[1:]) for _, data in notes[1:])]
    shared.insert(3, (b"\0", b"\xff\1\2ab"))
    song.tracks[1] = [*shared, END]
    return song.write()


def broken_song(name: str, rng: Rng) -> bytes:
    """Draw a song and break it."""
    return WAYS[name][0](draft(rng), rng)


def draw_broken(rng: Rng) -> tuple[str, bytes]:
    """Draw a way and a song broken so; at times one with random bytes in its messages, too."""
    name = list(WAYS)[rng.integers(len(WAYS))]
    data = bytearray(broken_song(name, rng))
    if rng.random() < 0.3:
        for place in rng.integers(40, len(data), 3).tolist():
            data[place] = int(rng.integers(256))
        name += " and random bytes"
    return name, bytes(data)


def count_notes(rows: np.ndarray) -> int:
    """Count the notes of a song's own range."""
    return int(((rows["pitch"] >= 40) & (rows["pitch"] < 90)).sum())
