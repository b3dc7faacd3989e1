"""Recordings whose pieces are known, to ask about: real ones with their scores, or renderings.

Conventions: audio is mono float32 at the grid's rate; a piece is known by its file's SHA-256.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmid.audio import read_audio
from mmid.corpus import Recipe, performed
from mmid.errors import MmidError
from mmid.library import Piece, group_duplicates, read_library, read_piece, split_library
from mmid.params import FeatureParams
from mmid.render import Synthesizer, find_soundfont


def held_out(library: Path, side: str, seed: int, jobs: int | None = None) -> list[Piece]:
    """Read a library and return one side of its split; ``all`` is everything."""
    pieces, _ = read_library([library], jobs=jobs)
    return pieces if side == "all" else split_library(pieces, seed)[side]


@dataclass(frozen=True)
class Source:
    """A recording whose piece is known.

    Parameters
    ----------
    name : str
    samples : np.ndarray [n] float32
        At the grid's rate.
    right : frozenset of str
        SHA-256 of the MIDI files that hold its music.
    tempo_ratio : float or None
        Its speed against the score where it is constant and known.
    """

    name: str
    samples: np.ndarray
    right: frozenset[str]
    tempo_ratio: float | None


def rendered_sources(
    pieces: Sequence[Piece],
    everything: Sequence[Piece],
    soundfont: Path,
    params: FeatureParams,
    *,
    tempo: tuple[float, float] = (1.0, 1.0),
    seed: int = 0,
) -> Iterator[Source]:
    """Render each piece at a tempo drawn from a range, log-uniformly (benchmark B2).

    Parameters
    ----------
    pieces : sequence of Piece
    everything : sequence of Piece
        Their library: other files of the same music in it are right answers too.
    soundfont : Path
    params : FeatureParams
    tempo : tuple of float
        Slowest and fastest speed against the score.
    seed : int
    """
    right = _same_music(everything)
    rng = np.random.default_rng(seed)
    with Synthesizer(soundfont, params.sample_rate) as synthesizer:
        for piece in pieces:
            ratio = float(np.exp(rng.uniform(*np.log(tempo))))
            _, played = performed(piece.midi.notes, Recipe(str(soundfont), tempo=ratio, seed=seed))
            yield Source(piece.name, synthesizer.render(played), right[piece.digest], ratio)


def _same_music(pieces: Sequence[Piece]) -> dict[str, frozenset[str]]:
    labels = group_duplicates([piece.midi.notes for piece in pieces])
    members: dict[int, set[str]] = {}
    for piece, label in zip(pieces, labels, strict=True):
        members.setdefault(int(label), set()).add(piece.digest)
    return {p.digest: frozenset(members[int(x)]) for p, x in zip(pieces, labels, strict=True)}


def recorded_sources(folder: Path, params: FeatureParams) -> Iterator[Source]:
    """Read the recordings that a folder's ``pairs.csv`` lists (columns id, audio, midi).

    Rows that name the same ``piece``, an optional column, are right answers for each other.

    Raises
    ------
    MmidError
        If the list or one of its files is missing or unreadable.
    """
    rows = _read_pairs(folder / "pairs.csv")
    pieces = []
    for row in rows:
        piece = read_piece(folder / row["midi"], folder)
        if not isinstance(piece, Piece):
            raise MmidError(piece.reason)
        pieces.append(piece)
    right = _same_music(pieces)
    for row, piece in zip(rows, pieces, strict=True):
        alike = (p for r, p in zip(rows, pieces, strict=True) if _name(r) == _name(row))
        digests = right[piece.digest].union(*(right[other.digest] for other in alike))
        samples = read_audio(folder / row["audio"], params.sample_rate)
        yield Source(row["id"], samples, digests, None)


def _name(row: dict[str, str]) -> str:
    return row.get("piece") or row["id"]


def open_sources(
    folder: Path,
    soundfont: str | None,
    params: FeatureParams,
    tempo: tuple[float, float],
    side: str,
    seed: int,
    jobs: int | None = None,
) -> tuple[int, Iterator[Source]]:
    """Return the recordings of a folder: those its ``pairs.csv`` lists, or renderings of its MIDI.

    Returns
    -------
    int, iterator of Source
        How many there are, and each as it is read or rendered.

    Raises
    ------
    MmidError
        If the folder has no ``pairs.csv`` and no soundfont is given.
    """
    if soundfont is None:
        return len(_read_pairs(folder / "pairs.csv")), recorded_sources(folder, params)
    everything = held_out(folder, "all", seed, jobs)
    pieces = everything if side == "all" else split_library(everything, seed)[side]
    font = find_soundfont(soundfont)
    rendered = rendered_sources(pieces, everything, font, params, tempo=tempo, seed=seed)
    return len(pieces), rendered


def _read_pairs(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise MmidError(f"{path}: cannot read the list of pairs ({error})") from error
    if not rows or not {"id", "audio", "midi"} <= set(rows[0]):
        raise MmidError(f"{path}: needs a header with the columns id, audio and midi, and rows")
    return rows
