"""MIDI files as note arrays.

Conventions: times are seconds from the start of the file, pitches are MIDI numbers (60 is middle
C), programs are 0 to 127. Channel 10 (drums) is left out, all other instruments are stacked.

`mmid.music.midi_parser` walks a file once, within `MidiLimits`, before anything is allocated for
it. Only its notes, programs and tempos go on, to be paired (`mmid.music.note_pairs`) and timed
(`mmid.music.tempo_map`): a broken lyric or key signature costs nothing, and no hostile value gets
that far. Rules, those of `pretty_midi` where it has any:

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
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from mmid.errors import MidiError, label
from mmid.music.bars import NO_BARS, counted_bars
from mmid.music.melody import find_melody
from mmid.music.midi_parser import OPEN_BEATS, MidiLimits, Song, read_bytes, walk
from mmid.music.note_pairs import pair_notes
from mmid.music.notes import NOTE_DTYPE, last_offset

MIN_SECONDS = 0.01

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
    """Pair and time the notes; also mark the melody's."""
    open_ticks = OPEN_BEATS * song.division
    tracks = [list(pair_notes(messages, end, open_ticks)) for messages, end in song.tracks]
    rows = np.array(list(chain.from_iterable(tracks)), np.int64)
    notes = np.zeros(len(rows), NOTE_DTYPE)
    onset, offset = song.tempo_map.seconds_at(rows[:, :2].T)
    notes["onset"], notes["offset"] = onset, np.maximum(offset, onset + MIN_SECONDS)
    notes["pitch"], notes["velocity"], notes["program"] = rows[:, 2:].T
    order = np.lexsort((notes["pitch"], notes["onset"]))
    played_by = np.repeat(np.arange(len(tracks)), [len(track) for track in tracks])
    return notes[order], find_melody(notes[order], played_by[order], song.names)


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
