"""Which note-off of a track ends which note-on, by the rules of `mmid.music.midi`.

Conventions: messages are packed as `mmid.music.midi_parser` packs them. A key is a channel and a
pitch: ``channel << 8 | pitch``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

_NOTE_ON, _PROGRAM = 0x9, 0xC


Struck = tuple[int, int]
"""A note-on: tick, velocity."""

Paired = tuple[int, int, int, int, int]
"""A note on ticks: onset, offset, pitch, velocity, program."""


@dataclass(slots=True)
class _Change:
    """What happens at a tick: notes of a key end, or a program is set."""

    tick: int
    key: int
    notes: list[Struck] = field(default_factory=list)
    sets_program: bool = False


def pair_notes(messages: Sequence[int], end: int, open_ticks: int) -> Iterator[Paired]:
    """Yield the notes of a track, those of each channel and program together, as they end.

    Parameters
    ----------
    messages : sequence of int
        Packed, in order.
    end : int
        Of the track.
    open_ticks : int
        How long a note lasts that is never released.
    """
    programs = [0] * 16
    parts: dict[tuple[int, int], list[Paired]] = {}
    for change in sorted(_changes(messages, end, open_ticks), key=attrgetter("tick")):
        channel, value = change.key >> 8, change.key & 0xFF
        if change.sets_program:
            programs[channel] = value
        elif change.notes:
            program = programs[channel]
            part = parts.setdefault((program, channel), [])
            part += [(on, change.tick, value, how, program) for on, how in change.notes]
    for part in parts.values():
        yield from part


def _changes(messages: Sequence[int], end: int, open_ticks: int) -> list[_Change]:
    """Return what ends and what is set, in the order of the messages."""
    changes: list[_Change] = []
    programs, current = [0] * 16, [0] * 16  # as set by the file, and by the notes so far
    opened: dict[int, list[Struck]] = {}
    instant: dict[int, _Change] = {}  # ends of notes that were released on their first tick
    for packed in messages:
        tick, key, value = packed >> 24, packed >> 8 & 0xFFF, packed & 0xFF
        kind, channel = packed >> 20 & 0xF, key >> 8
        if kind == _PROGRAM:
            programs[channel] = key & 0xFF
        elif kind == _NOTE_ON and value:
            if programs[channel] != current[channel]:
                current[channel] = programs[channel]
                changes.append(_Change(tick, channel << 8 | current[channel], sets_program=True))
            if key in instant and instant[key].tick == tick + 1:  # struck again: it goes on
                again = instant.pop(key)
                opened[key], again.notes = again.notes, []
            else:
                opened.setdefault(key, []).append((tick, value))
        elif key in opened:
            notes = opened.pop(key)
            if notes[0][0] == tick:
                instant[key] = _Change(tick + 1, key, notes)
                changes.append(instant[key])
                continue
            if notes[-1][0] == tick:  # the earlier ones end only
                opened[key] = [note for note in notes if note[0] == tick]
                notes = [note for note in notes if note[0] < tick]
            changes.append(_Change(tick, key, notes))
    for key, notes in opened.items():
        last = notes[-1][0]
        changes.append(_Change(max(last + 1, min(end, last + open_ticks)), key, notes))
    return changes
