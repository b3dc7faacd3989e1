"""How long queries take whose piece is in the library, and the same with it taken out.

``python -m mmid.research.query_times RECORDINGS --index INDEX`` queries the middle of recordings
that a ``pairs.csv`` lists with their scores, in all keys, one at a time. A query lasts from reading
the file to the answer; the model and the index are loaded, and one query has been answered before.

Conventions: times in seconds; of the processor, those of all threads together.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.table import Table

from mmid.errors import MmidError
from mmid.identify.identifier import Identifier
from mmid.identify.search_options import SearchOptions, keys_to_try
from mmid.index.store import store_at
from mmid.model.loading import load_model
from mmid.music.audio import sound_seconds
from mmid.music.pairs import Pair, read_pairs
from mmid.system.console import stdout
from mmid.system.outputs import written_target
from mmid.system.tables import FittingTable

LENGTHS = (10.0, 30.0)
"""Of clips, by default."""

CLIPS = 12
"""Recordings that are queried, by default."""

SLOW = 0.9
"""Share of queries that are faster than `QueryTimes.slow`."""


@dataclass(frozen=True)
class QueryTimes:
    """What queries of one length took.

    Parameters
    ----------
    seconds : float
        Length of the clips.
    present : bool
        Whether their pieces were in the library.
    clips : int
    median, slow : float
        Seconds: of half the queries at most, and of nine in ten.
    processor : float
        Median seconds of processor time.
    """

    seconds: float
    present: bool
    clips: int
    median: float
    slow: float
    processor: float


def time_queries(
    pairs: Sequence[Pair],
    identifier: Identifier,
    digests: Sequence[str],
    lengths: Sequence[float] = LENGTHS,
) -> list[QueryTimes]:
    """Time queries of clips from the middle of recordings.

    Parameters
    ----------
    pairs : sequence of Pair
        Those whose score is not in the library are left out.
    identifier : Identifier
        Over the library.
    digests : sequence of str
        SHA-256 of everything in the library.
    lengths : sequence of float
        Of the clips, seconds.

    Returns
    -------
    list of QueryTimes
        Of each length, with the piece in the library and without it.

    Raises
    ------
    MmidError
        If no score is in the library, or a recording cannot be read.
    """
    there = [
        (pair.audio, right)
        for pair in pairs
        if (right := frozenset(n for n, one in enumerate(digests) if one == pair.score.digest))
    ]
    if not there:
        raise MmidError("none of the scores is in the index: give the index of their library")
    _query(identifier, there[0][0], lengths[0])
    times = []
    for length in lengths:
        for present in (True, False):
            own = [
                _query(identifier, audio, length, frozenset() if present else right)
                for audio, right in there
            ]
            wall, processor = np.array(own).T
            summed = np.median(wall), np.quantile(wall, SLOW), np.median(processor)
            times.append(QueryTimes(length, present, len(own), *map(float, summed)))
    return times


def _query(
    identifier: Identifier, audio: Path, length: float, excluded: frozenset[int] = frozenset()
) -> tuple[float, float]:
    """Query the middle of a recording; return the seconds it took, and those of the processor."""
    start = max(0.0, (sound_seconds(audio) - length) / 2)
    began, computed = time.perf_counter(), time.process_time()
    found = identifier.search(identifier.open(audio, start, length), 0, excluded)
    identifier.answer(found, excluded=excluded)
    return time.perf_counter() - began, time.process_time() - computed


def times_table(times: Sequence[QueryTimes]) -> Table:
    """Return times as a table, a row each."""
    table = FittingTable("clip", "piece", "clips", "median", "9 in 10", "processor")
    for row in times:
        cells = (f"{value:.2f} s" for value in (row.median, row.slow, row.processor))
        there = "there" if row.present else "taken out"
        table.add_row(f"{row.seconds:g} s", there, str(row.clips), *cells)
    return table


def main(
    recordings: Annotated[Path, typer.Argument(help="Folder with a pairs.csv (id, audio, midi).")],
    index: Annotated[str | None, typer.Option(help="Query this index.")] = None,
    clips: Annotated[str, typer.Option(help="Clip lengths, seconds.")] = "10,30",
    most: Annotated[int, typer.Option(min=1, help="Query so many recordings at most.")] = CLIPS,
    model: Annotated[
        str | None, typer.Option(envvar="MMID_MODEL", help="A model's name or file.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Also write JSON to this file.")] = None,
) -> None:
    """Time queries whose piece is in the index, and the same with it taken out."""
    try:
        loaded = load_model(model)
        opened = store_at(index).open(loaded)
        identifier = Identifier(loaded, opened, SearchOptions(keys=keys_to_try("auto")))
        pairs = read_pairs(recordings)
        chosen = pairs[:: max(1, len(pairs) // most)][:most]
        digests = [entry.digest for entry in opened.entries]
        times = time_queries(chosen, identifier, digests, [float(p) for p in clips.split(",")])
        if out:
            with written_target(out) as part:
                part.write_text(json.dumps([asdict(row) for row in times], indent=1))
    except (MmidError, ValueError) as error:
        typer.echo(f"mmid: {error}", err=True)
        raise typer.Exit(1) from None
    stdout.print(times_table(times))


if __name__ == "__main__":
    typer.run(main)
