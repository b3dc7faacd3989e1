"""Many recordings or MIDI files, one answer each, whatever becomes of the others."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmid.answer import Identification
from mmid.errors import MmidError
from mmid.identify import Asked, Identifier
from mmid.query import Query


@dataclass(frozen=True, eq=False)
class Answered:
    """An answer with what it was found from.

    Parameters
    ----------
    answer : Identification
    query : Query or None
        As it was read; None of a file that failed.
    asked : Asked or None
        What the library has near it; None of a file that failed.
    """

    answer: Identification
    query: Query | None = None
    asked: Asked | None = None


def answer_files(
    identifier: Identifier, paths: Sequence[Path], start: float = 0.0, duration: float | None = None
) -> Iterator[Answered]:
    """Identify recordings and MIDI files one by one; one that fails says so in its answer.

    Parameters
    ----------
    identifier : Identifier
    paths : sequence of Path
    start, duration : float
        The span of each, seconds; to the end by default.
    """
    for path in paths:
        try:
            query = identifier.open(path, start, duration)
            asked = identifier.ask(query)
            yield Answered(identifier.decide(asked, os.fspath(path)), query, asked)
        except MmidError as error:
            yield Answered(Identification(os.fspath(path), 0.0, False, (), error=str(error)))
