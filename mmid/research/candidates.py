"""Candidates of queries whose piece is known, with all their figures, kept in a file.

Each clip is queried twice: with its piece in the library, and with all that is its music taken out.
A file holds a line of JSON a query, so that what is done when a run breaks off stays done; the
figures are all that `mmid.research.calibrate` needs to fit a ranking and a confidence again.

Conventions: a candidate's music is the number of the first candidate that is the same music; the
right ones are those of the clip's piece, in any file, key or position.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from mmid.errors import MmidError, label
from mmid.evaluation.pieces import clip_starts, search_without
from mmid.evaluation.sources import Source
from mmid.identify.identifier import Identifier
from mmid.identify.ranking import Ranked, compare, first_of_each_piece
from mmid.identify.search import NEIGHBOURS, SearchResult
from mmid.identify.voting import Candidate
from mmid.model.evidence import FIGURES, Figures
from mmid.music.duplicates import group_duplicates

SAME_AMONG = 20
"""Best files of a query among which those of the same music are looked for."""

DIGITS = 5
"""Of a figure, after the point."""


@dataclass(frozen=True)
class Compared:
    """A candidate that was compared, and the name of its file."""

    ranked: Ranked
    music: int
    right: bool
    name: str = ""


@dataclass(frozen=True)
class Trial:
    """A query and its candidates.

    Parameters
    ----------
    clip, kind, piece : str
        The clip, its kind of music, and one of the SHA-256 of its piece.
    seconds : float
        Length of the query.
    snippets : int
        Size of the library.
    present : bool
        Whether the piece was in the library.
    model : str
        Fingerprint of the model.
    candidates : tuple of Compared
        Best first, by the ranking of the day.
    """

    clip: str
    kind: str
    piece: str
    seconds: float
    snippets: int
    present: bool
    model: str
    candidates: tuple[Compared, ...]

    @property
    def key(self) -> tuple[object, ...]:
        """What sets it apart from the other queries of a file."""
        return self.clip, round(self.seconds), self.snippets, self.present

    def to_json(self) -> str:
        """Return it as a line: the candidates as a list a column."""
        figures = [one.ranked.figures for one in self.candidates]
        columns = {name: [getattr(one, name) for one in figures] for name in FIGURES}
        known = {
            name: [None if value is None else round(value, DIGITS) for value in column]
            for name, column in columns.items()
            if any(value is not None for value in column)
        }
        placed = [one.ranked.candidate for one in self.candidates]
        own = {name: value for name, value in vars(self).items() if name != "candidates"}
        columns_too = {
            "item": [one.piece for one in placed],
            "transpose": [one.transpose for one in placed],
            "music": [one.music for one in self.candidates],
            "right": [one.right for one in self.candidates],
            "name": [one.name for one in self.candidates],
            "figures": known,
        }
        return json.dumps(own | columns_too, allow_nan=False)

    @classmethod
    def from_json(cls, line: str) -> Trial:
        """Read what `to_json` wrote; figures that are no more are ignored."""
        row: dict[str, Any] = json.loads(line)
        columns = [row.pop(name) for name in ("item", "transpose", "music", "right", "name")]
        figures = {name: row["figures"][name] for name in FIGURES if name in row["figures"]}
        del row["figures"]
        compared = []
        for number, (item, transpose, *rest) in enumerate(zip(*columns, strict=True)):
            own = Figures(**{name: column[number] for name, column in figures.items()})
            candidate = Candidate(item, own.votes, 1.0, None, transpose, own.triples)
            compared.append(Compared(Ranked(candidate, own, 0.0), *rest))
        return cls(**row, candidates=tuple(compared))


def read_trials(path: Path) -> list[Trial]:
    """Read the queries of a file, each once; a last line that broke off is left out.

    Raises
    ------
    MmidError
        If it cannot be read, or is no such file.
    """
    try:
        lines = path.read_text().split("\n")
        trials = [Trial.from_json(line) for line in lines[:-1]]
        return list({trial.key: trial for trial in trials}.values())
    except OSError as error:
        raise MmidError(f"{label(path)}: cannot be read ({error.strerror})") from error
    except (ValueError, LookupError, TypeError) as error:
        raise MmidError(f"{label(path)}: not a file of mmid.research.calibrate") from error


def add_trials(path: Path, trials: Iterable[Trial]) -> None:
    """Add queries to a file one by one, after its last whole line.

    Raises
    ------
    MmidError
        If it cannot be written.
    """
    try:
        with path.open("a+b") as file:
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
            for trial in trials:
                file.write(f"{trial.to_json()}\n".encode())
                file.flush()
    except OSError as error:
        raise MmidError(f"{label(path)}: cannot be written ({error.strerror})") from error


def try_clips(
    sources: Iterable[Source],
    identifier: Identifier,
    lengths: Sequence[float],
    done: frozenset[tuple[object, ...]] = frozenset(),
) -> Iterator[list[Trial]]:
    """Query one clip of each length of each source, with and without its piece.

    Parameters
    ----------
    sources : iterable of Source
    identifier : Identifier
    lengths : sequence of float
        Seconds; where a source is shorter, all of it.
    done : frozenset
        Keys of queries not to make again.

    Yields
    ------
    list of Trial
        Of each source; nothing of one that is done.
    """
    digests = [entry.digest for entry in identifier.index.entries]
    for source in sources:
        right = frozenset(n for n, digest in enumerate(digests) if digest in source.right)
        yield [
            trial
            for length in lengths
            for trial in _try_clip(source, identifier, length, right, done)
        ]


def _try_clip(
    source: Source,
    identifier: Identifier,
    length: float,
    right: frozenset[int],
    done: frozenset[tuple[object, ...]],
) -> list[Trial]:
    """Query a clip, unless that is done or there is nothing right in the library."""
    params = identifier.params
    size = int(length * params.sample_rate)
    room = source.size(params) - size
    [first] = clip_starts(room, 1, np.random.default_rng([0, crc32(source.name.encode())]))
    of_clip: dict[str, Any] = {
        "clip": source.name,
        "kind": source.kind,
        "piece": min(source.right, default=source.name),
        "snippets": identifier.snippets,
        "model": identifier.model.fingerprint,
    }
    expected = min(length, source.size(params) / params.sample_rate)
    keys = {(source.name, round(expected), identifier.snippets, here) for here in (True, False)}
    if not right or keys <= done:
        return []
    clip = identifier.listen(source.clip(first, size, params))
    found = identifier.search(clip, NEIGHBOURS)
    others = search_without(identifier, clip, found, right, NEIGHBOURS)
    present = _compared(identifier, found, right, frozenset())
    absent = [one for one in _compared(identifier, others, right, right) if not one.right]
    seconds = round(expected, 3)
    return [
        Trial(**of_clip, seconds=seconds, present=True, candidates=tuple(present)),
        Trial(**of_clip, seconds=seconds, present=False, candidates=tuple(absent)),
    ]


def _compared(
    identifier: Identifier,
    result: SearchResult,
    right: frozenset[int],
    excluded: frozenset[int],
) -> list[Compared]:
    """Compare a query's candidates, and say which of them are the same music."""
    candidates = identifier.lookup.candidates(result, excluded)
    ranked = compare(candidates, result, identifier.index, identifier.params, identifier.weights)
    best = [one.candidate.piece for one in first_of_each_piece(ranked)[:SAME_AMONG]]
    items = list(dict.fromkeys([*sorted(right), *best]))
    labels = group_duplicates([identifier.notes(item) for item in items])
    music = {item: items[label] for item, label in zip(items, labels.tolist(), strict=True)}
    same = {music[item] for item in right}
    musics = [music.get(one.candidate.piece, one.candidate.piece) for one in ranked]
    names = [identifier.names[one.candidate.piece] for one in ranked]
    each = zip(ranked, musics, names, strict=True)
    return [Compared(one, own, own in same, name) for one, own, name in each]
