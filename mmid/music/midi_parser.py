"""Standard MIDI files byte by byte: what notes need of one, within bounds, before it is trusted.

Conventions: times are ticks from the start of the file. A message is packed into one integer:
``tick << 24 | status << 16 | first data byte << 8 | last data byte``. `mmid.music.midi` states the
rules.
"""

from __future__ import annotations

import os
import re
import stat
from array import array
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from mmid.errors import MidiError
from mmid.music.midi_chunks import Damage, Track, read_header, read_tracks

if TYPE_CHECKING:
    from mmid.music.tempo_map import TempoMap

OPEN_BEATS = 4
TITLE_CHARS = 200
DEFAULT_TEMPO = 500_000  # microseconds a beat: 120 bpm

_SHORTEST_BEAT = 6  # a 64th, as a power of two
_MIN_TEMPO = 100  # anything faster is a broken message
_DRUMS = 9
_LINE_END, _LINES = re.compile(rb"\r\n"), 8  # fewer may be there by chance
_DIVISION = 480  # where a file says none
_SECOND, _DROP_SECOND, _DROP_FRAMES = 1_000_000, 1_001_000, 29  # SMPTE's 29 are 30 in 1.001 s
_TRACK_NAME, _SET_TEMPO, _SIGNATURE = 0xFF03, 0xFF51, 0xFF58
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
        Tracks and tempo changes; of time signatures, later ones than so many do not count.
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
    damage: Damage
    tempo: int = DEFAULT_TEMPO  # until the first change
    on_beats: bool = True  # else SMPTE time, which has no tempo
    tracks: list[tuple[array[int], int]] = field(default_factory=list)  # packed messages, end
    tempos: list[tuple[int, int]] = field(default_factory=list)  # tick, microseconds a beat
    signatures: list[tuple[int, int, int]] = field(default_factory=list)  # tick, beats, their unit
    names: list[str] = field(default_factory=list)  # of the tracks
    notes: int = 0
    drums: int = 0
    title: str | None = None

    @property
    def end(self) -> int:
        """Tick after the last that a note can end on."""
        return 1 + max(end for _, end in self.tracks)

    @cached_property
    def tempo_map(self) -> TempoMap:
        """Its changes of tempo, once they are known."""
        from mmid.music.tempo_map import TempoMap  # NumPy, which finding files does without

        return TempoMap.of(self.division, self.tempo, self.tempos)

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
    try:
        song = _walk(data, limits, Damage())
    except MidiError as error:
        if (mended := _as_text(data, limits)) is None:
            raise error from None
        return mended
    return (_as_text(data, limits, song.damage) or song) if song.damage else song


def _as_text(data: bytes, limits: MidiLimits, damage: Damage | None = None) -> Song | None:
    r"""Read a file copied as text, every ``\n`` as ``\r\n``; None if that mends nothing."""
    if len(_LINE_END.findall(data)) != data.count(b"\n") or data.count(b"\n") < _LINES:
        return None
    mended = Damage(remarks=["line ends mended"])
    with suppress(MidiError):
        song = _walk(data.replace(b"\r\n", b"\n"), limits, mended)
        if damage is None or len(mended) < len(damage):
            return song
    return None


def _walk(data: bytes, limits: MidiLimits, damage: Damage) -> Song:
    header = read_header(data, damage)
    song, start = _empty_song(header.division, damage), 0
    for track in read_tracks(data, header, damage):
        if len(song.tracks) == limits.tracks:
            raise MidiError(f"more than {limits.tracks} tracks")
        if header.form == 2:
            song.tempos.append((start, song.tempo))
        end = _walk_track(song, data, track, start, limits)
        start = end if header.form == 2 else 0
    if song.notes == song.drums:
        reason = "no notes but drums" if song.drums else "no notes"
        raise MidiError(f"{reason}; {damage}" if damage else reason)
    song.tempos.sort(key=lambda change: change[0])
    song.signatures = sorted({signature[0]: signature for signature in song.signatures}.values())
    return song


def _empty_song(division: int, damage: Damage) -> Song:
    """Begin a song, on beats or on the seconds of SMPTE time."""
    if not division & 0x8000:
        if not division:
            damage.remarks.append(f"time division of zero read as {_DIVISION}")
        return Song(division or _DIVISION, damage)
    frames, parts = 0x100 - (division >> 8), division & 0xFF
    if not parts:
        raise MidiError("SMPTE time of zero parts a frame")
    drop = frames == _DROP_FRAMES
    tempo = _DROP_SECOND if drop else _SECOND
    return Song((frames + drop) * parts, damage, tempo, False, tempos=[(0, tempo)])


def _walk_track(song: Song, data: bytes, track: Track, start: int, limits: MidiLimits) -> int:
    """Add a track that begins at tick `start`, and return the tick it ends on."""
    kept, tick, name = array("q"), start, b""
    for tick, status, pos, length in track.messages(start):
        if tick > limits.ticks:
            raise MidiError(f"longer than {limits.ticks} ticks")
        if 0x80 <= status < 0xA0 or 0xC0 <= status < 0xD0:  # note-off, note-on, program
            number, value = data[pos], data[pos + length - 1]
            value = value if value < 128 else 127
            if number > 127:
                continue
            if value and status >> 4 == 0x9:
                _count_note(song, status, limits)
            if status & 0xF != _DRUMS:
                kept.append(tick << 24 | status << 16 | number << 8 | value)
        elif status == _SET_TEMPO and length == 3:
            _add_tempo(song, tick, int.from_bytes(data[pos : pos + 3], "big"), limits)
        elif status == _SIGNATURE and length >= 2:
            _add_signature(song, tick, data[pos], data[pos + 1], limits)
        elif status == _TRACK_NAME:
            if not (song.tracks or song.title):
                song.title = _title(data[pos : pos + length])
            name = name or data[pos : pos + min(length, 2 * TITLE_CHARS)]
    # what follows the last message is no music, however long
    last = kept[-1] >> 24 if kept else start
    song.tracks.append((kept, min(tick, last + OPEN_BEATS * song.division)))
    song.names.append(_text(name))
    return tick


def _count_note(song: Song, status: int, limits: MidiLimits) -> None:
    song.notes += 1
    song.drums += status & 0xF == _DRUMS
    if song.notes > limits.notes:
        raise MidiError(f"more than {limits.notes} notes")


def _add_tempo(song: Song, tick: int, tempo: int, limits: MidiLimits) -> None:
    """Take a change of tempo, unless time does not go by beats."""
    if tempo < _MIN_TEMPO:
        song.damage.add("message", "mended")
    elif song.on_beats:
        song.tempos.append((tick, tempo))
        if len(song.tempos) > limits.tempos:
            raise MidiError(f"more than {limits.tempos} tempo changes")


def _add_signature(song: Song, tick: int, beats: int, power: int, limits: MidiLimits) -> None:
    """Take a time signature, if there may be such a one."""
    if beats and power <= _SHORTEST_BEAT and len(song.signatures) < limits.tempos:
        song.signatures.append((tick, beats, 1 << power))


def _title(data: bytes) -> str | None:
    """Decode a track's name, if it reads like the name of a piece."""
    text = "".join(c if c.isprintable() else " " for c in _text(data)[: 2 * TITLE_CHARS])
    name = " ".join(text.split())[:TITLE_CHARS].strip()
    letters = "".join(c for c in name if c.isalpha() or c in " .").strip(" .")
    return name if letters and not _NOT_A_TITLE.fullmatch(letters) else None


def _text(data: bytes) -> str:
    """Decode what a file says, in either of the usual ways."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")
