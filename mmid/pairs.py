"""Recordings listed with their scores, in a folder's ``pairs.csv``."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from mmid.errors import MmidError, label
from mmid.library import Piece, read_piece
from mmid.regular import read_regular

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


def read_pairs(folder: Path) -> list[Pair]:
    """Read the list ``pairs.csv`` of a folder (columns id, audio, midi), and its scores.

    Rows that name the same ``piece``, an optional column, are right answers for each other; another
    one is ``kind``, of music.

    Raises
    ------
    MmidError
        If the list or one of its scores is missing or unreadable.
    """
    pairs = []
    for row in read_pairs_list(folder):
        score = read_piece(folder / row["midi"], folder)
        if not isinstance(score, Piece):
            raise MmidError(score.reason)
        name, kind = row["id"], row.get("kind") or ""
        pairs.append(Pair(name, row.get("piece") or name, folder / row["audio"], score, kind))
    return pairs


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
