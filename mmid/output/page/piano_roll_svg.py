"""The passage found as a piano roll for a page: notes as one line drawing, and the way through it.

Conventions: times in seconds. The drawing's units are hundredths of a second to the right, from
the beginning of the passage, and semitones downwards, from its highest row; shares of its width
and height are percent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmid.output.evidence import Passage
from mmid.system.tables import clock

UNITS = 100
"""Of the drawing in a second."""

MARGIN = 2
"""Empty rows above and below the notes."""

LEAST_ROWS = 24
"""Fewer rows would draw the notes as slabs."""

MOST_NOTES = 5_000
"""Notes drawn at most: those that begin first."""

MOST_TICKS = 12
"""Times given along the passage; of more, the names would touch."""

EDGE = 2.0
"""Percent of the width at either end where a name would be cut off."""

STEPS = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1_800, 3_600)
"""Seconds between ticks."""

OCTAVE = 12
"""Semitones."""


@dataclass(frozen=True)
class Tick:
    """A name beside the drawing.

    Parameters
    ----------
    at : float
        Where, percent of the width or height.
    name : str
    """

    at: float
    name: str


@dataclass(frozen=True)
class Roll:
    """A passage as it is drawn.

    Parameters
    ----------
    start : float
        Where in the piece the drawing begins, seconds.
    width, height : int
        In the drawing's units.
    notes : str
        An SVG path, a line a note.
    count, left_out : int
        Notes drawn, and those too many.
    times, octaves : tuple of Tick
        Along the drawing, and down it; every C is named.
    query, piece : list of float
        The path: matching times of the query and of the piece, seconds.
    """

    start: float
    width: int
    height: int
    notes: str
    count: int
    left_out: int
    times: tuple[Tick, ...]
    octaves: tuple[Tick, ...]
    query: list[float]
    piece: list[float]


def draw_roll(passage: Passage, seconds: float) -> Roll | None:
    """Draw what the first seconds of a query were found to be.

    Parameters
    ----------
    passage : Passage
    seconds : float
        How much of the query, from its beginning.

    Returns
    -------
    Roll or None
        None where no notes are known, as of recordings.
    """
    sounded = passage.query <= seconds
    query, piece = passage.query[sounded], passage.piece[sounded]
    start = max(float(piece.min()), passage.start)
    end = max(min(float(piece.max()), passage.end), start + 1 / UNITS)
    sounding = (passage.notes["offset"] > start) & (passage.notes["onset"] < end)
    notes = passage.notes[sounding]
    if not len(notes):
        return None
    drawn = notes[:MOST_NOTES]
    top, rows = _rows(drawn["pitch"].astype(int))
    return Roll(
        start,
        round((end - start) * UNITS),
        rows,
        _lines(drawn, start, end, top),
        len(drawn),
        len(notes) - len(drawn),
        _times(start, end),
        _octaves(top, rows),
        query.round(2).tolist(),
        piece.round(2).tolist(),
    )


def _rows(pitches: np.ndarray) -> tuple[int, int]:
    """Return the highest pitch to draw, and how many from there down."""
    top, bottom = int(pitches.max()) + MARGIN, int(pitches.min()) - MARGIN
    extra = max(0, LEAST_ROWS - (top - bottom + 1))
    return top + extra // 2, top - bottom + 1 + extra


def _lines(notes: np.ndarray, start: float, end: float, top: int) -> str:
    begins = ((notes["onset"].clip(start, end) - start) * UNITS).round().astype(int)
    ends = ((notes["offset"].clip(start, end) - start) * UNITS).round().astype(int)
    rows = top - notes["pitch"].astype(int)
    return "".join(
        f"M{begin} {row}h{max(1, length)}"
        for begin, row, length in zip(begins, rows, ends - begins, strict=True)
    )


def _times(start: float, end: float) -> tuple[Tick, ...]:
    step = next((step for step in STEPS if (end - start) / step <= MOST_TICKS), STEPS[-1])
    times = np.arange(np.ceil(start / step), np.floor(end / step) + 1) * step
    ticks = [Tick(_percent(time - start, end - start), clock(time)) for time in times]
    return tuple(tick for tick in ticks if EDGE <= tick.at <= 100 - EDGE)


def _octaves(top: int, rows: int) -> tuple[Tick, ...]:
    notes = [pitch for pitch in range(top - rows + 1, top + 1) if pitch % OCTAVE == 0]
    return tuple(
        Tick(_percent(top - pitch + 0.5, rows), f"C{pitch // OCTAVE - 1}") for pitch in notes
    )


def _percent(part: float, whole: float) -> float:
    return round(100 * float(part) / whole, 2)
