"""MIDI files for tests, byte by byte."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

from mmid.music.midi import Midi, read_midi
from mmid.music.midi_parser import MidiLimits

DIVISION = 480
LONGEST = 0x0FFFFFFF


def varlen(value: int) -> bytes:
    """Encode a number seven bits a byte."""
    out = [value & 0x7F]
    while value := value >> 7:
        out.append(value & 0x7F | 0x80)
    return bytes(reversed(out))


def at(delta: int, *data: int) -> bytes:
    """Write a message after `delta` ticks."""
    return varlen(delta) + bytes(data)


def on(delta: int, pitch: int, velocity: int = 80, channel: int = 0) -> bytes:
    return at(delta, 0x90 | channel, pitch, velocity)


def off(delta: int, pitch: int, channel: int = 0) -> bytes:
    return at(delta, 0x80 | channel, pitch, 64)


def program(delta: int, number: int, channel: int = 0) -> bytes:
    return at(delta, 0xC0 | channel, number)


def meta(delta: int, kind: int, data: bytes) -> bytes:
    return at(delta, 0xFF, kind) + varlen(len(data)) + data


def tempo(delta: int, microseconds: int) -> bytes:
    return meta(delta, 0x51, microseconds.to_bytes(3, "big"))


def track(*messages: bytes, end: int = 0) -> bytes:
    data = b"".join(messages) + at(end, 0xFF, 0x2F, 0)
    return b"MTrk" + struct.pack(">I", len(data)) + data


def smf(*tracks: bytes, form: int = 1, division: int = DIVISION, count: int | None = None) -> bytes:
    count = len(tracks) if count is None else count
    return b"MThd" + struct.pack(">IHHH", 6, form, count, division) + b"".join(tracks)


SCALE = smf(
    track(meta(0, 3, b"A scale"), tempo(0, 400_000), tempo(960, 600_000)),
    track(program(0, 40), *(on(0, p) + off(240, p) for p in range(60, 72))),
    track(*(on(10, p, channel=3) + at(200, 0x93, p, 0) for p in range(48, 60))),
)


def reader(folder: Path) -> Callable[..., Midi]:
    """Return a function from a file's bytes to `Midi`."""

    def parse(data: bytes, **limits: float) -> Midi:
        path = folder / "song.mid"
        path.write_bytes(data)
        return read_midi(path, MidiLimits(**limits))

    return parse


def spans(midi: Midi) -> list[tuple[float, float, int]]:
    """List (onset, offset, pitch) of the notes, to 10 microseconds."""
    notes = midi.notes.tolist()
    return [(round(on, 5), round(off, 5), pitch) for on, off, pitch, _, _ in notes]


NOTE = on(0, 60) + off(480, 60)
