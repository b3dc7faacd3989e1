"""How files are changed: bytes, JSON values, and MIDI written from its grammar.

Conventions: every draw comes from the generator given, so a case is told by its seed.
"""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np

Rng = np.random.Generator

ODD_BYTES = bytes([0, 1, 0x7F, 0x80, 0xFF])
ODD_NUMBERS = [b"\0" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x01"]


def mutate_bytes(data: bytes, rng: Rng, other: bytes = b"", head: int = 200) -> bytes:
    """Flip, overwrite, cut out, repeat, splice or truncate; half of the time near the front."""
    out = bytearray(data)
    for _ in range(int(rng.choice([1, 1, 2, 5, 20]))):
        end = min(len(out), head) if rng.random() < 0.5 else len(out)
        place = int(rng.integers(end)) if end else 0
        kind = rng.integers(8)
        if kind == 0 and out:
            out[place] ^= 1 << int(rng.integers(8))
        elif kind == 1 and out:
            out[place] = ODD_BYTES[rng.integers(len(ODD_BYTES))]
        elif kind == 2:
            del out[place : place + int(rng.integers(1, 40))]
        elif kind == 3:
            out[place:place] = out[place : place + int(rng.integers(1, 400))]
        elif kind == 4:
            out[place : place + 4] = ODD_NUMBERS[rng.integers(len(ODD_NUMBERS))]
        elif kind == 5:
            out[place : place + 8] = rng.bytes(8)
        elif kind == 6 and other:
            out[place:] = other[int(rng.integers(len(other))) :]
        elif rng.random() < 0.3:
            del out[place:]
    return bytes(out)


HOSTILE: list[Any] = [
    *(0, -1, 1, 2**31, 2**63, 2**64, 10**30, 0.5, 1e308, float("nan"), float("inf")),
    *("", "x", "../../etc/passwd", "\x1b[31m\n::error::x", "[red]", "\0", "\ud800", "x" * 10_000),
    *(None, True, [], {}, [0], {"x": 0}, [[[[]]]], list(range(1_000))),
]
"""Values that no reader hopes for."""


def mutate_json(tree: Any, rng: Rng) -> Any:
    """Replace, drop or double one value somewhere in a tree."""
    tree = json.loads(json.dumps(tree))
    places = [(tree, key) for tree in _nodes(tree) for key in _keys(tree)]
    node, key = places[rng.integers(len(places))]
    kind = rng.integers(4)
    if kind == 0:
        del node[key]
    elif kind == 1 and isinstance(node, dict):
        node[str(HOSTILE[rng.integers(len(HOSTILE))])] = node[key]
    else:
        node[key] = HOSTILE[rng.integers(len(HOSTILE))]
    return tree


def _nodes(tree: Any) -> list[Any]:
    found = [tree] if isinstance(tree, (dict, list)) else []
    for part in list(tree.values()) if isinstance(tree, dict) else tree if found else []:
        found += _nodes(part)
    return found


def _keys(node: Any) -> list[Any]:
    return list(node) if isinstance(node, dict) else list(range(len(node)))


def mutate_text(text: str, rng: Rng) -> bytes:
    """Change the JSON of a text, or its bytes, or make it something else altogether."""
    kind = rng.integers(5)
    if kind == 0:
        return mutate_bytes(text.encode(), rng)
    if kind == 1:
        return [b"", b"[" * 100_000, b"\xff\xfe", b"null", b"{}", b"9" * 5_000][rng.integers(6)]
    tree = json.loads(text)
    for _ in range(int(rng.choice([1, 1, 3]))):
        tree = mutate_json(tree, rng) if tree else tree
    return json.dumps(tree).encode()


# ---- MIDI


def varlen(value: int) -> bytes:
    """Write a number as MIDI does, however large."""
    parts = [value & 0x7F]
    while value := value >> 7:
        parts.append(value & 0x7F | 0x80)
    return bytes(reversed(parts))


LONG = [2**28 - 1, 2**28, 10**8, 2**31]
TEMPOS = [0, 1, 99, 100, 500_000, 0xFFFFFF]
TEXTS = [
    b"\x1b[31mred",
    b"::error::x",
    "\u202eabc".encode(),
    b"\xff\xfe\xfd",
    b"[red]x[/]",
    b"a\nb",
]


def midi_event(rng: Rng) -> bytes:
    """Write an event, mostly a sound one."""
    delta = int(rng.choice(LONG)) if rng.random() < 0.0005 else int(rng.integers(0, 480))
    channel, kind = int(rng.integers(16)), rng.random()
    if kind < 0.8:
        status = int(rng.choice([0x90, 0x80, 0x90, 0x80, 0xC0, 0xB0, 0xE0, 0xA0])) | channel
        size = 1 if 0xC0 <= status < 0xE0 else 2
        body = bytes([status] * int(rng.random() < 0.8)) + bytes(
            rng.integers(0, 128, size).tolist()
        )
    elif kind < 0.9:
        tempo = int(rng.choice(TEMPOS)) if rng.random() < 0.3 else int(rng.integers(2e5, 1e6))
        body = b"\xff\x51\x03" + tempo.to_bytes(3, "big")
    elif kind < 0.97:
        text = TEXTS[rng.integers(len(TEXTS))]
        body = bytes([0xFF, int(rng.integers(128))]) + varlen(len(text)) + text
    elif kind < 0.998:
        body = b"\xf0" + varlen(4) + rng.bytes(4)
    else:
        body = rng.bytes(int(rng.integers(1, 8)))
    return varlen(delta) + body


def midi_song(rng: Rng) -> bytes:
    """Write a file from MIDI's grammar, with absurd values here and there."""
    tracks = []
    for _ in range(int(rng.choice([1, 1, 2, 5, 40]))):
        body = b"".join(midi_event(rng) for _ in range(int(rng.integers(0, 200))))
        body += b"\0\xff\x2f\0" * int(rng.random() < 0.9)
        size = len(body) if rng.random() < 0.97 else int(rng.choice([0, len(body) * 2, 2**32 - 1]))
        tracks.append(
            (b"MTrk" if rng.random() < 0.98 else b"XFIH") + struct.pack(">I", size) + body
        )
    form = int(rng.choice([0, 1, 1, 1, 2, 3, 65_535], p=[0.2, 0.3, 0.2, 0.1, 0.16, 0.02, 0.02]))
    counted = len(tracks) if rng.random() < 0.95 else int(rng.choice([0, 1, 1_001, 65_535]))
    division = int(rng.choice([480, 96, 1, 0, 0xE728, 32_767], p=[0.6, 0.2, 0.1, 0.03, 0.03, 0.04]))
    song = b"MThd" + struct.pack(">IHHH", 6, form, counted, division) + b"".join(tracks)
    if rng.random() < 0.05:
        song = b"RIFF" + struct.pack("<I", len(song) + 12) + b"RMIDdata" + song
    return song
