"""MIDI files as note arrays.

Conventions: times are seconds from the start of the file, pitches are MIDI numbers (60 is middle
C), programs are 0 to 127. Channel 10 (drums) is left out, all other instruments are stacked.

`mmid.music.midi_parser` walks a file once, within `MidiLimits`, before anything is allocated for
it. Only its notes, programs and tempos go on to `pretty_midi`, which pairs note-ons with note-offs
and turns ticks into seconds: a broken lyric or key signature costs nothing, and no hostile value
gets that far. Rules:

- Tempo changes count on whichever track they stand, as they do in players.
- Format 2 holds independent patterns: they follow one another, each from 120 bpm.
- One note-off ends every open note of its pitch, channel and track.
- No note is shorter than `MIN_SECONDS`; one released and struck again on its first tick goes on.
- A note never released ends after `OPEN_BEATS` beats or with its track, whichever comes first.
- SMPTE time goes by seconds, whatever the tempo. A RIFF wrapper (RMID) is taken off.
- What is broken is mended or skipped, as players do (`mmid.music.midi_chunks`), and `Midi.damage`
says so.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmid.errors import MidiError, label
from mmid.music.bars import NO_BARS, counted_bars
from mmid.music.melody import find_melody
from mmid.music.midi_parser import (
    DEFAULT_TEMPO,
    OPEN_BEATS,
    MidiLimits,
    Song,
    read_bytes,
    walk,
)
from mmid.music.notes import NOTE_DTYPE, last_offset

MIN_SECONDS = 0.01

_READER_TICKS = 9_999_990  # pretty_midi keeps a float per tick and refuses more than 10^7
_WRITE_RESOLUTION = 500  # ticks a beat: 1 ms a tick at 120 bpm


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
    melody : ndarray, shape (n,), bool
        Which notes are the melody's (`mmid.music.melody`).
    damage : str or None
        What was broken, such as ``damaged: 2 messages mended, 12 bytes skipped``; None of a sound
        file.
    bars : str
        Which bar each moment is in, as `mmid.music.bars` keeps it.
    """

    notes: np.ndarray
    seconds: float
    title: str | None
    melody: np.ndarray
    damage: str | None = None
    bars: str = NO_BARS


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
    name: str = ""


def read_midi(path: str | os.PathLike[str], limits: MidiLimits = MidiLimits()) -> Midi:
    """Read the notes of a MIDI file.

    Parameters
    ----------
    path : str or PathLike
        A standard MIDI file of format 0, 1 or 2; a damaged one is read as far as it can be.
    limits : MidiLimits
        Bounds checked before anything is allocated.

    Returns
    -------
    Midi
        At least one note.

    Raises
    ------
    MidiError
        The file cannot be read, is no MIDI file, exceeds a limit, or has no notes but drums.
        The message is one line, ``<file name>: <reason>``.
    """
    try:
        return midi_of(read_bytes(path, limits.bytes), limits)
    except MidiError as error:
        raise _error(path, str(error)) from None


def midi_of(
    data: bytes,
    limits: MidiLimits = MidiLimits(),
    title: str | None = None,
    bars: Callable[[Song, np.ndarray], str] = counted_bars,
) -> Midi:
    """Read the notes of a MIDI file's bytes, as `read_midi` does.

    Parameters
    ----------
    data : bytes
    limits : MidiLimits
    title : str, optional
        By default that of the file.
    bars : callable
        Gives what is kept of the bars, as `mmid.music.bars.counted_bars` does.

    Raises
    ------
    MidiError
        As of `read_midi`, without a file's name.
    """
    song = walk(data, limits)
    if song.seconds > limits.seconds:
        damage = f"; {song.damage}" if song.damage else ""
        raise MidiError(f"lasts {song.seconds:.0f} s, more than {limits.seconds:.0f} s{damage}")
    notes, melody = _note_array(song)
    named, where = title or song.title, bars(song, notes)
    return Midi(notes, last_offset(notes), named, melody, str(song.damage) or None, where)


def _error(path: str | os.PathLike[str], reason: str) -> MidiError:
    return MidiError(f"{label(Path(path).name or path)}: {reason}")


def _note_array(song: Song) -> tuple[np.ndarray, np.ndarray]:
    """Pair and time the notes by `pretty_midi`, several ticks as one where it allows no more.

    Also mark the melody's.
    """
    import mido
    import pretty_midi

    shrink = 1 + song.end // _READER_TICKS
    tempos = [(0, DEFAULT_TEMPO), *(change for change in song.tempos if change[0] < song.end)]
    tracks = [[_Event(tick // shrink, "set_tempo", tempo=us * shrink) for tick, us in tempos]]
    for (messages, end), name in zip(song.tracks, song.names, strict=True):
        events = _events(messages, end, shrink, OPEN_BEATS * song.division)
        tracks.append([_Event(0, "track_name", name=name), *events] if events else [])
    tracks = [track for track in tracks if track]
    for track in tracks:  # from ticks to distances
        before = 0
        for event in track:
            event.time, before = event.time - before, event.time
    file = mido.MidiFile(type=1, ticks_per_beat=song.division, tracks=tracks)
    parts = pretty_midi.PrettyMIDI(mido_object=file).instruments
    rows = [
        (
            note.start,
            max(note.end, note.start + MIN_SECONDS),
            note.pitch,
            note.velocity,
            part.program,
        )
        for part in parts
        for note in part.notes
    ]
    notes = np.array(rows, dtype=NOTE_DTYPE)
    order = np.lexsort((notes["pitch"], notes["onset"]))
    played_by = np.repeat(np.arange(len(parts)), [len(part.notes) for part in parts])
    names = [part.name for part in parts]
    return notes[order], find_melody(notes[order], played_by[order], names)


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
        raise _error(path, "a note is out of MIDI's range")
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
        raise _error(path, f"cannot be written ({error.strerror})") from None
