"""What an index's files hold, checked before anything relies on it.

Conventions: a hash tells damage from what was written, not who wrote it: whoever shares an index
writes its hashes, too. So every file is looked through once after its hash, with memory that does
not grow with it. A `ValueError` says what is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmid.arrays import find_array, map_array, read_blocks
from mmid.midi import NOTE_DTYPE
from mmid.packed import unpack
from mmid.pieces import Entry

MOST_SECONDS = 1e6
"""No note is later; twelve days, which float32 still tells to a tenth of a second."""

LONGEST = 1.2
"""Square of a vector's length: what rounding a unit vector's coordinates may make of it."""


def check_vectors(path: Path) -> None:
    """Look for vectors that are longer than unit vectors."""
    for block in read_blocks(path, np.int8, 2):
        lengths = np.square(unpack(block)).sum(1)
        if not (lengths < LONGEST).all():
            raise ValueError("holds no unit vectors")


def check_centroids(path: Path) -> None:
    """Look for centroids that are no numbers or longer than unit vectors."""
    for block in read_blocks(path, np.float32, 2):
        if not (np.square(block, dtype=np.float64).sum(1) < LONGEST).all():
            raise ValueError("holds no unit vectors")


def check_rows(path: Path, rows: int) -> None:
    """Make sure that cells list no vectors that are not there."""
    for block in read_blocks(path, np.uint32):
        if (block >= rows).any():
            raise ValueError("lists what is not there")


def check_bounds(path: Path, rows: int) -> None:
    """Make sure that cells follow one another from the first vector to the last."""
    bounds = map_array(path, np.int64)
    if not len(bounds) or bounds[0] != 0 or bounds[-1] != rows or (np.diff(bounds) < 0).any():
        raise ValueError("counts do not agree")


def check_places(path: Path) -> None:
    """Make sure that it holds places."""
    find_array(path, np.uint32)


def check_notes(path: Path) -> None:
    """Look for notes that no MIDI file has."""
    for block in read_blocks(path, NOTE_DTYPE):
        onset, offset = block["onset"], block["offset"]
        late = (onset >= 0) & (offset >= onset) & (offset < MOST_SECONDS)
        small = [(block[name] < 128).all() for name in ("pitch", "velocity", "program")]
        if not (late.all() and all(small)):
            raise ValueError("holds notes out of MIDI's range")


def check_sorted(path: Path) -> None:
    """Make sure that tokens, or the fences of their pages, are sorted."""
    last = np.uint64(0)
    for block in read_blocks(path, np.uint64):
        if block[0] < last or (block[1:] < block[:-1]).any():
            raise ValueError("is not sorted")
        last = block[-1]


def check_table(entries: Sequence[Entry], rows: int, notes: int) -> None:
    """Make sure that items follow one another and point at vectors and notes that there are.

    Parameters
    ----------
    entries : sequence of Entry
    rows, notes : int
        How many vectors and notes there are.

    Raises
    ------
    ValueError
        If not.
    """
    row = note = 0
    for entry in entries:
        if entry.first < row or entry.count < 0 or entry.notes < 0 or entry.first_note != note:
            raise ValueError("counts do not agree")
        row, note = entry.first + entry.count, note + entry.notes
    if row > rows or note > notes:
        raise ValueError("counts do not agree")
