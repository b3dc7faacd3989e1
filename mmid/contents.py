"""What an index's files hold, checked before anything relies on it.

Conventions: a hash tells damage from what was written, not who wrote it: whoever shares an index
writes its hashes, too. So every file is looked through once after its hash, with memory that does
not grow with it. A `ValueError` says what is wrong.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmid.midi import NOTE_DTYPE
from mmid.pieces import Entry
from mmid.regular import open_regular

AT_ONCE = 1 << 18
"""Rows looked through at once."""

MOST_SECONDS = 1e6
"""No note is later; twelve days, which float32 still tells to a tenth of a second."""


def map_array(path: Path, dtype: np.dtype | type, dimensions: int = 1) -> np.ndarray:
    """Map an .npy file of a type and so many dimensions, as NumPy writes it in its first format.

    NumPy's own reader takes much more than that for a header.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it holds something else, or not as much as it says.
    """
    with open_regular(path) as file:
        start, size = file.read(len(MAGIC) + 2), path.stat().st_size
        header = file.read(int.from_bytes(start[len(MAGIC) :], "little"))
        first = file.tell()
    text = header.decode("latin-1").rstrip()
    shape = tuple(int(number) for number in NUMBER.findall(text.rpartition("'shape'")[2]))
    facts = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False}
    if start[: len(MAGIC)] != MAGIC or len(shape) != dimensions or text != _header(facts, shape):
        raise ValueError("holds another kind of array")
    if size - first != math.prod(shape) * np.dtype(dtype).itemsize:
        raise ValueError("is cut short")
    if not math.prod(shape):  # nothing can be mapped
        return np.zeros(shape, dtype)
    return np.memmap(path, dtype, "r", first, shape)


def _header(facts: dict[str, Any], shape: tuple[int, ...]) -> str:
    return repr(facts | {"shape": shape})[:-1] + ", }"


MAGIC = b"\x93NUMPY\x01\x00"
"""What an .npy file of NumPy's first format begins with; the header's length follows."""

NUMBER = re.compile(r"\d{1,15}")


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
