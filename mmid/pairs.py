"""Recordings listed with their scores, in a folder's ``pairs.csv``."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from mmid.errors import MmidError
from mmid.library import Piece, read_piece

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
    """

    name: str
    piece: str
    audio: Path
    score: Piece


def read_pairs(folder: Path) -> list[Pair]:
    """Read the list ``pairs.csv`` of a folder (columns id, audio, midi), and its scores.

    Rows that name the same ``piece``, an optional column, are right answers for each other.

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
        name = row["id"]
        pairs.append(Pair(name, row.get("piece") or name, folder / row["audio"], score))
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
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise MmidError(f"{path}: cannot read the list of pairs ({error})") from error
    if not rows or not {"id", "audio", "midi"} <= set(rows[0]):
        raise MmidError(f"{path}: needs a header with the columns id, audio and midi, and rows")
    return rows
