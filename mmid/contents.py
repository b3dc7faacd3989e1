"""What an index's files hold, checked before anything relies on it.

Conventions: a hash tells damage from what was written, not who wrote it: whoever shares an index
writes its hashes, too. So every file is looked through once after its hash, with memory that does
not grow with it. A `ValueError` says what is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from mmid.midi import NOTE_DTYPE
from mmid.pieces import Entry

AT_ONCE = 1 << 20
"""Rows looked through at once."""

MOST_SECONDS = 1e6
"""No note is later; twelve days, which float32 still tells to a tenth of a second."""


def map_array(path: Path, dtype: np.dtype | type, dimensions: int = 1) -> np.ndarray:
    """Map an .npy file that holds an array of a type and so many dimensions, and nothing else.

    Raises
    ------
    ValueError
        If it holds another, or less than it says.
    """
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(array, np.ndarray) or array.dtype != dtype or array.ndim != dimensions:
        raise ValueError("holds another kind of array")
    return array


def _blocks(array: np.ndarray) -> Iterator[np.ndarray]:
    for first in range(0, len(array), AT_ONCE):
        yield array[first : first + AT_ONCE]


def check_vectors(path: Path) -> None:
    """Look for vectors that are no numbers or longer than unit vectors."""
    for block in _blocks(map_array(path, np.float16, 2)):
        lengths = np.square(block, dtype=np.float32).sum(1)
        if not (lengths < 1.1).all():
            raise ValueError("holds no unit vectors")


def check_places(path: Path) -> None:
    """Make sure that it holds places."""
    map_array(path, np.uint32)


def check_notes(path: Path) -> None:
    """Look for notes that no MIDI file has."""
    for block in _blocks(map_array(path, NOTE_DTYPE)):
        onset, offset = block["onset"], block["offset"]
        late = (onset >= 0) & (offset >= onset) & (offset < MOST_SECONDS)
        small = [(block[name] < 128).all() for name in ("pitch", "velocity", "program")]
        if not (late.all() and all(small)):
            raise ValueError("holds notes out of MIDI's range")


def check_triples(path: Path) -> None:
    """Make sure that tokens are sorted."""
    last = np.uint64(0)
    for block in _blocks(map_array(path, np.uint64)):
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
