"""The table of an index's items, in SQLite.

Conventions: rows come in the order of their vectors; a row's position is the item's number.
"""

from __future__ import annotations

import errno
import math
import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, fields
from itertools import islice
from operator import attrgetter
from pathlib import Path
from types import NoneType
from typing import Any

from mmid.errors import LibraryIndexError


@dataclass(frozen=True)
class Entry:
    """A MIDI file or a recording of the index.

    Parameters
    ----------
    name : str
        Path relative to the library folder.
    title : str or None
        Of a MIDI file that has one.
    seconds : float
    digest : str
        SHA-256 of the file.
    first, count : int
        Its vectors.
    first_note, notes : int
        Its notes; none of a recording.
    size, changed : int
        Bytes of the file, and nanoseconds since 1970 when it was last changed; 0 if not known.
    bars : str
        Which bar each moment is in (`mmid.music.bars`); empty if not known, as of a recording.
    """

    name: str
    title: str | None
    seconds: float
    digest: str
    first: int
    count: int
    first_note: int
    notes: int
    size: int = 0
    changed: int = 0
    bars: str = ""


@dataclass(frozen=True)
class LeftOut:
    """A file of the library that the index does not hold, and why.

    Parameters
    ----------
    name : str
        As of an `Entry`.
    reason : str
        Without the name.
    """

    name: str
    reason: str


COLUMNS = {
    "name": "TEXT",
    "title": "TEXT",
    "seconds": "REAL",
    "digest": "TEXT",
    "first": "INTEGER",
    "count": "INTEGER",
    "first_note": "INTEGER",
    "notes": "INTEGER",
    "size": "INTEGER",
    "changed": "INTEGER",
    "bars": "TEXT",
}
VALUES = attrgetter(*COLUMNS)
OLDER = 10
"""Columns of tables written before mmid kept bars."""


def _table(columns: int) -> str:
    named = (f"{name} {kind}" for name, kind in islice(COLUMNS.items(), columns))
    return f"CREATE TABLE pieces ({', '.join(named)})"


TABLES = {_table(columns): columns for columns in (OLDER, len(COLUMNS))}
"""The tables that are read, and how many columns each has."""

assert list(COLUMNS) == [field.name for field in fields(Entry)]


def write_pieces(path: Path, entries: Sequence[Entry]) -> None:
    """Write the table to a new file.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    rows = [(_storable(entry.name), *VALUES(entry)[1:]) for entry in entries]
    try:
        with closing(sqlite3.connect(path)) as table, table:
            table.execute(_table(len(COLUMNS)))
            table.executemany(f"INSERT INTO pieces VALUES ({', '.join('?' * len(COLUMNS))})", rows)
    except sqlite3.OperationalError as error:
        raise OSError(errno.EIO, str(error), os.fspath(path)) from None


def read_pieces(path: Path) -> list[Entry]:
    """Read the table.

    Raises
    ------
    LibraryIndexError
        If it is no such table.
    """
    try:
        uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
        with closing(sqlite3.connect(uri, uri=True)) as table:
            [(made,)] = table.execute("SELECT sql FROM sqlite_master").fetchall()
            names = ", ".join(islice(COLUMNS, TABLES[made]))  # a view may never end
            rows = table.execute(f"SELECT {names} FROM pieces ORDER BY rowid")
            return _entries(rows.fetchall())
    except (sqlite3.Error, KeyError, TypeError, ValueError, OverflowError) as error:
        raise LibraryIndexError(f"{path}: damaged; run mmid build-index again") from error


KINDS = ((str, bytes), (str, NoneType), (float,), (str,), *[(int,)] * (OLDER - 4), (str,))
"""What the values of each column are written as."""


def _entries(rows: Sequence[Sequence[Any]]) -> list[Entry]:
    """Take rows whose values are of their kinds."""
    for kinds, column in zip(KINDS, zip(*rows, strict=True), strict=False):
        if not {*map(type, column)} <= {*kinds}:
            raise ValueError("a column of another kind")
    entries = [Entry(_stored(row[0]), *row[1:]) for row in rows]
    if not all(0 <= entry.seconds < math.inf for entry in entries):
        raise ValueError("a length that is none")
    return entries


def _storable(name: str) -> str | bytes:
    """Keep a name that is not Unicode as the bytes it is on disk."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return name.encode("utf-8", "surrogateescape")
    return name


def _stored(name: str | bytes) -> str:
    return name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name
