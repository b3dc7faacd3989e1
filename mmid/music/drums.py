"""Drum grooves on given beats: what plays along in bands and songs and is in no score.

Conventions: times in seconds; drum notes are notes of `NOTE_DTYPE` whose pitch names the drum, as
General MIDI numbers them, and whose program is the kit; `Synthesizer.render` plays them with
``drums=True``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmid.music.notes import NOTE_DTYPE

BASS, STICK, SNARE, CLAP = 36, 37, 38, 39
LOW_TOM, CLOSED, HIGH_FLOOR, PEDAL, OPEN, CRASH, RIDE = 41, 42, 43, 44, 46, 49, 51
FILL_TOMS = (48, 48, 47, 47, 45, 45, 43, 43)

HALVES = (0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5)
SIXTEENTHS = tuple(n / 4 for n in range(16))


@dataclass(frozen=True)
class Groove:
    """What a bar holds.

    Parameters
    ----------
    beats : int
        In a bar.
    parts : dict of int to tuple of float
        Of each drum: where in the bar it is struck, beats.
    """

    beats: int
    parts: dict[int, tuple[float, ...]]


GROOVES = {
    "rock": Groove(4, {BASS: (0, 2, 2.5), SNARE: (1, 3), CLOSED: HALVES}),
    "four": Groove(4, {BASS: (0, 1, 2, 3), CLAP: (1, 3), OPEN: (0.5, 1.5, 2.5, 3.5)}),
    "half": Groove(4, {BASS: (0, 0.75, 2.75), SNARE: (2,), CLOSED: HALVES}),
    "shuffle": Groove(4, {BASS: (0, 2), SNARE: (1, 3), RIDE: (0, 0.67, 1, 1.67, 2, 2.67, 3, 3.67)}),
    "swing": Groove(4, {RIDE: (0, 1, 1.67, 2, 3, 3.67), PEDAL: (1, 3), BASS: (0,)}),
    "waltz": Groove(3, {BASS: (0,), SNARE: (1, 2), CLOSED: (0, 1, 2)}),
    "march": Groove(4, {BASS: (0, 2), SNARE: (0, 0.5, 1, 1.25, 1.5, 2, 2.5, 3, 3.5), CRASH: (0,)}),
    "reggae": Groove(4, {BASS: (2,), STICK: (2,), CLOSED: HALVES}),
    "sixteen": Groove(4, {BASS: (0, 1.5, 2.25), SNARE: (1, 3), CLOSED: SIXTEENTHS}),
    "bodhran": Groove(3, {LOW_TOM: (0, 1, 2), HIGH_FLOOR: (0.67, 1.67)}),
}

KITS = (0, 0, 0, 0, 8, 16, 24, 25, 32, 40, 48)
"""Standard, four times as often as each of room, power, electronic, TR-808, jazz, brush, hall."""

LOOSENESS = 0.006
"""Standard deviation of a stroke's time, seconds."""

STROKE = 0.1
"""Between note-on and note-off, seconds; drums ring on as they like."""

LEFT_OUT, FILLED = 0.05, 0.12
"""Shares of strokes that are missing, and of bars that end with a fill."""


def groove(beats: np.ndarray, rng: np.random.Generator, name: str | None = None) -> np.ndarray:
    """Play a groove along with beats.

    Parameters
    ----------
    beats : np.ndarray [n] float
        Times of beats, ascending, seconds; strokes between the first and the last.
    rng : np.random.Generator
    name : str, optional
        A key of `GROOVES`; drawn if not given, as is where in a bar the first beat is.

    Returns
    -------
    np.ndarray [strokes] of NOTE_DTYPE
        Sorted by onset, none before second 0; all of one kit.
    """
    pattern = GROOVES[name or str(rng.choice(list(GROOVES)))]
    kit = int(rng.choice(KITS))
    positions = []  # drum and beat, counted from the first
    for bar in range(-int(rng.integers(pattern.beats)), len(beats), pattern.beats):
        positions += [(drum, bar + at) for drum, place in pattern.parts.items() for at in place]
        if rng.random() < FILLED:
            last = bar + pattern.beats - 1
            positions += [(tom, last + n / len(FILL_TOMS)) for n, tom in enumerate(FILL_TOMS)]
            positions.append((CRASH, last + 1))
    inside = [(drum, at) for drum, at in positions if 0 <= at <= len(beats) - 1]
    struck = [stroke for stroke in inside if rng.random() >= LEFT_OUT]
    return _strokes(struck, np.asarray(beats, float), kit, rng)


def _strokes(
    struck: list[tuple[int, float]], beats: np.ndarray, kit: int, rng: np.random.Generator
) -> np.ndarray:
    """Turn drums and their beats into notes, a little loose and some louder than others."""
    strokes = np.zeros(len(struck), NOTE_DTYPE)
    if struck:
        drums, at = np.array(struck).T
        times = np.interp(at, np.arange(len(beats)), beats)
        strokes["onset"] = (times + rng.normal(0, LOOSENESS, len(times))).clip(0)
        strokes["offset"] = strokes["onset"] + STROKE
        strokes["pitch"], strokes["program"] = drums, kit
        loud = np.where(np.isin(drums, (BASS, SNARE)), 95, 70)
        strokes["velocity"] = (loud * rng.uniform(0.75, 1.15, len(loud))).clip(20, 127)
    return np.sort(strokes, order=["onset", "pitch"])
