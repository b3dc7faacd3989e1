"""Recordings listed with their scores, in a folder's ``pairs.csv``."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from mmid.errors import MmidError, label
from mmid.music.library import Piece, read_piece
from mmid.system.files import read_regular

ALIGNED_WITHIN = 3.0
"""A recording and its MIDI may differ by so many seconds in length to count as a pair."""

PAIRS_NAME = "pairs.csv"


@dataclass(frozen=True, eq=False)
class Pair:
    """A recording and its score.

    Parameters
    ----------
    name, piece : str
        Rows of one piece are right answers for each other.
    audio : Path
    score : Piece
    kind : str
        Of music, to report apart; nothing where the list does not say it.
    """

    name: str
    piece: str
    audio: Path
    score: Piece
    kind: str = ""


def read_pairs(folder: Path, leave_out: Callable[[str], None] | None = None) -> list[Pair]:
    """Read the list ``pairs.csv`` of a folder (columns id, audio, midi), and its scores.

    Rows that name the same ``piece``, an optional column, are right answers for each other; another
    one is ``kind``, of music.

    Parameters
    ----------
    folder : Path
    leave_out : callable, optional
        Gets a line on each row whose score cannot be read; the others are returned.

    Raises
    ------
    MmidError
        If the list is missing or unreadable, or one of its scores and there is no `leave_out`.
    """
    pairs = []
    for row in read_pairs_list(folder):
        score, name = read_piece(folder / row["midi"], folder), row["id"]
        kind = row.get("kind") or ""
        if isinstance(score, Piece):
            pairs.append(Pair(name, row.get("piece") or name, folder / row["audio"], score, kind))
        else:
            lose_row(name, MmidError(score.reason), leave_out)
    return pairs


def lose_row(name: str, error: MmidError, leave_out: Callable[[str], None] | None) -> None:
    """Report why a row cannot be used, or raise it where nobody wants to know."""
    if leave_out is None:
        raise error
    leave_out(f"row {label(name)}: {error}")


def read_pairs_list(folder: Path) -> list[dict[str, str]]:
    """Read the rows of the ``pairs.csv`` of a folder as they are.

    Raises
    ------
    MmidError
        If it is missing or unreadable.
    """
    path = folder / PAIRS_NAME
    try:
        text = StringIO(read_regular(path).decode(), newline="")
        rows = list(csv.DictReader(text, restval=""))
    except (OSError, ValueError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise MmidError(f"{label(path)}: cannot read the list of pairs ({reason})") from error
    if not rows or not {"id", "audio", "midi"} <= set(rows[0]):
        needed = "needs a header with the columns id, audio and midi, and rows"
        raise MmidError(f"{label(path)}: {needed}")
    return rows


def write_pairs_list(
    path: Path, rows: Iterable[tuple[str, ...]], more: tuple[str, ...] = ()
) -> None:
    """Write rows of id, audio, midi and more columns as `read_pairs_list` reads them."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("id", "audio", "midi", *more), *rows])
