"""MIDI files as note arrays.

Conventions: times are seconds from the start of the file, pitches are MIDI numbers (60 is middle
C), programs are 0 to 127. Channel 10 (drums) is left out, all other instruments are stacked.

A file is walked once, within `MidiLimits`, before anything is allocated for it. Only its notes,
programs and tempos go on to `pretty_midi`, which pairs note-ons with note-offs and turns ticks into
seconds: a broken lyric or key signature costs nothing, and no hostile value gets that far. Rules:

- Tempo changes count on whichever track they stand, as they do in players.
- Format 2 holds independent patterns: they follow one another, each from 120 bpm.
- One note-off ends every open note of its pitch, channel and track.
- No note is shorter than `MIN_SECONDS`; one released and struck again on its first tick goes on.
- A note never released ends after `OPEN_BEATS` beats or with its track, whichever comes first.
- SMPTE time divisions are refused. A RIFF wrapper (RMID) is taken off.
"""

from __future__ import annotations

import os
import re
import stat
import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mmid.errors import MidiError

NOTE_DTYPE = np.dtype(
    [("onset", "<f4"), ("offset", "<f4"), ("pitch", "u1"), ("velocity", "u1"), ("program", "u1")]
)
MIN_SECONDS = 0.01
OPEN_BEATS = 4
TITLE_CHARS = 200

_DEFAULT_TEMPO = 500_000  # microseconds a beat: 120 bpm
_MIN_TEMPO = 100  # anything faster is a broken file
_DRUMS = 9
_READER_TICKS = 9_999_990  # pretty_midi keeps a float per tick and refuses more than 10^7
_WRITE_RESOLUTION = 500  # ticks a beat: 1 ms a tick at 120 bpm
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
    notes: int = 1_000_000
    tracks: int = 1_000
    tempos: int = 100_000


@dataclass(frozen=True, eq=False)
class Midi:
    """The notes of a MIDI file.

    Parameters
    ----------
    notes : ndarray, shape (n,), dtype `NOTE_DTYPE`
        Onset and offset in seconds, pitch, velocity, program; sorted by (onset, pitch).
    seconds : float
        End of the last note.
    title : str or None
        Name of the first track, unless it is that of an instrument or a placeholder.
    """

    notes: np.ndarray
    seconds: float
    title: str | None


@dataclass(slots=True)
class _Event:
    """A message as `pretty_midi` reads it, at a fraction of the cost of mido's own."""

    time: int
    type: str
    channel: int = 0
    note: int = 0
    velocity: int = 0
    program: int = 0
    tempo: int = 0


@dataclass
class _Song:
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
        total, start, tempo = 0, 0, _DEFAULT_TEMPO
        for tick, following in [*self.tempos, (self.end, 0)]:
            tick = min(tick, self.end)
            total += (tick - start) * tempo
            start, tempo = tick, following
        return total / (1e6 * self.division)


def read_midi(path: str | os.PathLike[str], limits: MidiLimits = MidiLimits()) -> Midi:
    """Read the notes of a MIDI file.

    Parameters
    ----------
    path : str or PathLike
        A standard MIDI file of format 0, 1 or 2.
    limits : MidiLimits
        Bounds checked before anything is allocated.

    Returns
    -------
    Midi
        At least one note.

    Raises
    ------
    MidiError
        The file cannot be read, is no sound MIDI file, exceeds a limit, or has no notes but drums.
        The message is one line, ``<file name>: <reason>``.
    """
    try:
        song = _walk(_read_bytes(path, limits.bytes), limits)
        if song.seconds > limits.seconds:
            raise MidiError(f"lasts {song.seconds:.0f} s, more than {limits.seconds:.0f} s")
    except MidiError as error:
        raise MidiError(f"{_label(path)}: {error}") from None
    notes = _note_array(song)
    return Midi(notes, float(notes["offset"].max()), song.title)


def _label(path: str | os.PathLike[str]) -> str:
    """Name a file in a message: no folders, nothing a terminal would act on."""
    name = Path(path).name or str(path)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def _read_bytes(path: str | os.PathLike[str], limit: int) -> bytes:
    """Read a regular file of at most `limit` bytes; nothing else is even opened."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise MidiError("not a regular file")
        with open(path, "rb") as file:
            data = file.read(min(status.st_size, limit) + 1)
    except OSError as error:
        raise MidiError(f"cannot be read ({error.strerror})") from None
    except ValueError:
        raise MidiError("not a file name") from None
    if len(data) > limit:
        raise MidiError(f"larger than {limit} bytes")
    return data


def _walk(data: bytes, limits: MidiLimits) -> _Song:
    """Keep what the notes of a file need, within the limits."""
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
    song, start = _Song(division), 0
    for chunk in _track_chunks(data, 8 + size, count):
        if form == 2:
            song.tempos.append((start, _DEFAULT_TEMPO))
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


def _walk_track(song: _Song, chunk: bytes, start: int, limits: MidiLimits) -> int:
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


def _note_array(song: _Song) -> np.ndarray:
    """Pair and time the notes by `pretty_midi`, several ticks as one where it allows no more."""
    import mido
    import pretty_midi

    shrink = 1 + song.end // _READER_TICKS
    tempos = [(0, _DEFAULT_TEMPO), *(change for change in song.tempos if change[0] < song.end)]
    tracks = [[_Event(tick // shrink, "set_tempo", tempo=us * shrink) for tick, us in tempos]]
    for messages, end in song.tracks:
        tracks.append(_events(messages, end, shrink, OPEN_BEATS * song.division))
    tracks = [track for track in tracks if track]
    for track in tracks:  # from ticks to distances
        before = 0
        for event in track:
            event.time, before = event.time - before, event.time
    file = mido.MidiFile(type=1, ticks_per_beat=song.division, tracks=tracks)
    rows = [
        (
            note.start,
            max(note.end, note.start + MIN_SECONDS),
            note.pitch,
            note.velocity,
            part.program,
        )
        for part in pretty_midi.PrettyMIDI(mido_object=file).instruments
        for note in part.notes
    ]
    notes = np.array(rows, dtype=NOTE_DTYPE)
    return notes[np.lexsort((notes["pitch"], notes["onset"]))]


def _events(messages: array[int], end: int, shrink: int, open_ticks: int) -> list[_Event]:
    """Unpack messages into events in which every note has a length and an end."""
    events: list[_Event] = []
    programs, current = [0] * 16, [0] * 16  # as set by the file, and by the events so far
    opened: dict[tuple[int, int], tuple[int, int]] = {}  # first and last onset of open notes
    instant: dict[tuple[int, int], tuple[int, _Event]] = {}  # onset and the later end given to it
    for packed in messages:
        tick, status = (packed >> 24) // shrink, packed >> 16 & 0xFF
        channel, note, value = status & 0xF, packed >> 8 & 0xFF, packed & 0xFF
        key = (channel, note)
        if status >= 0xC0:
            programs[channel] = note
        elif status >= 0x90 and value:
            if programs[channel] != current[channel]:
                current[channel] = programs[channel]
                events.append(_Event(tick, "program_change", channel, program=current[channel]))
            if key in instant and instant[key][0] == tick:  # struck again: the note goes on
                instant.pop(key)[1].type = "void"
            else:
                events.append(_Event(tick, "note_on", channel, note, value))
            opened[key] = (opened.get(key, (tick, 0))[0], tick)
        elif key in opened:
            first, last = opened.pop(key)
            off = _Event(tick + (first == tick), "note_off", channel, note)
            if first == tick:
                instant[key] = (tick, off)
            elif last == tick:  # pretty_midi ends the earlier notes only
                opened[key] = (tick, tick)
            events.append(off)
    for (channel, note), (_, last) in opened.items():
        tick = max(last + 1, min(end // shrink, last + open_ticks // shrink))
        events.append(_Event(tick, "note_off", channel, note))
    return sorted(events, key=lambda event: event.time)


def write_midi(notes: np.ndarray, path: str | os.PathLike[str]) -> None:
    """Write notes as a MIDI file of format 1 on ticks of 1 ms.

    There is one instrument per program, and another where notes of one pitch overlap, so that
    every note keeps its end. Notes last at least `MIN_SECONDS` and have a velocity of at least 1.

    Parameters
    ----------
    notes : ndarray, shape (n,), dtype `NOTE_DTYPE`
        Times in seconds.
    path : str or PathLike
        File to write, replaced if there is one.

    Raises
    ------
    MidiError
        A value is out of MIDI's range, or the file cannot be written.
    """
    import pretty_midi

    times = np.stack([notes["onset"], notes["offset"]])
    values = np.stack([notes["pitch"], notes["velocity"], notes["program"]])
    if not np.isfinite(times).all() or (times < 0).any() or (values > 127).any():
        raise MidiError(f"{_label(path)}: a note is out of MIDI's range")
    song = pretty_midi.PrettyMIDI(resolution=_WRITE_RESOLUTION, initial_tempo=120.0)
    voices: dict[tuple[int, int], pretty_midi.Instrument] = {}  # by program and voice
    free: dict[tuple[int, int, int], float] = {}  # when a pitch of a voice is free again
    for onset, offset, pitch, velocity, program in np.sort(notes, order=["onset"]).tolist():
        voice, end = 0, max(offset, onset + MIN_SECONDS)
        while free.get((program, voice, pitch), 0.0) > onset:
            voice += 1
        free[program, voice, pitch] = end
        instrument = voices.setdefault((program, voice), pretty_midi.Instrument(program))
        instrument.notes.append(pretty_midi.Note(max(1, velocity), pitch, onset, end))
    song.instruments.extend(voices[key] for key in sorted(voices))
    try:
        song.write(os.fspath(path))
    except OSError as error:
        raise MidiError(f"{_label(path)}: cannot be written ({error.strerror})") from None
