"""How an index grows with its library (benchmark B7): time, size, memory and recall.

Conventions: what users run is measured as they run it, each command in a process of its own; a
process's peak memory is what the system counted for it. A library larger than what is at hand is
filled up with copies in other keys and at other tempi.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from rich.table import Table

from mmid.errors import MmidError
from mmid.identify.identifier import Identifier
from mmid.identify.search_options import KEYS, SearchOptions
from mmid.index.folder import LibraryIndex
from mmid.index.maintenance import describe, search_recall
from mmid.model.checkpoint import Checkpoint
from mmid.music.folders import find_midi
from mmid.music.midi import read_midi, write_midi
from mmid.music.notes import stretched, transposed_within
from mmid.system.tables import FittingTable

ADDED = 100
"""Files added to a built index."""

REPEATS = 5
"""Runs of a query, the median counts; the first, which warms up, does not."""

GROWTH_UNITS = {
    "hours": "h",
    "snippets": "",
    "build_seconds": "s",
    "music_per_second": "s/s",
    "build_megabytes": "MB",
    "megabytes_per_hour": "MB/h",
    "again_seconds": "s",
    "adding_seconds": "s",
    "import_seconds": "s",
    "cold_seconds": "s",
    "query_megabytes": "MB",
    "lookup_seconds": "s",
    "warm_seconds": "s",
    "keys_seconds": "s",
    "recall": "",
}
"""Rows of `growth_table`, and what they are measured in."""


@dataclass(frozen=True)
class Growth:
    """What a library of some size costs.

    Parameters
    ----------
    pieces, hours, snippets
        Of the library, without the files added later.
    build_seconds, again_seconds, adding_seconds : float
        ``mmid build-index``: the first time, with nothing changed, and with `ADDED` files more.
    music_per_second : float
        Seconds of music indexed in a second of the first build.
    build_megabytes, query_megabytes : float
        Peak memory of the first build's largest process and of a query.
    megabytes_per_hour : float
        Of the index on disk.
    import_seconds, cold_seconds : float
        ``python -c "import torch"``, and ``mmid query`` of 30 s, whole processes.
    lookup_seconds, warm_seconds, keys_seconds : float
        In a process that has answered before: a query's search and votes alone, all of it, and all
        of it in 13 keys.
    recall : float
        Of the search against comparing every snippet, ten neighbours.
    """

    pieces: int
    hours: float
    snippets: int
    build_seconds: float
    music_per_second: float
    build_megabytes: float
    megabytes_per_hour: float
    again_seconds: float
    adding_seconds: float
    import_seconds: float
    cold_seconds: float
    query_megabytes: float
    lookup_seconds: float
    warm_seconds: float
    keys_seconds: float
    recall: float

    def to_dict(self) -> dict[str, float]:
        """Return the row as JSON-ready names and values."""
        return asdict(self)


def measure_growth(
    library: Sequence[Path],
    recording: Path,
    size: int,
    work: Path,
    model: Checkpoint,
    progress: Callable[[str], None] = lambda what: None,
) -> Growth:
    """Index a library of so many pieces and query it with 30 s of a recording.

    Parameters
    ----------
    library : sequence of Path
        Folders of MIDI files to draw from.
    recording : Path
    size : int
        Pieces.
    work : Path
        An empty folder for the library and its index.
    model : Checkpoint
        The packaged one.
    progress : callable
        Gets a line on what is being measured.

    Raises
    ------
    MmidError
        If the size is too small, or a command fails.
    """
    if size < 2 * ADDED:
        raise MmidError(f"{size} pieces are too few to measure; give {2 * ADDED} or more")
    index = work / "index"
    builds = _measure_builds(library, size, work, index, progress)
    progress("querying")
    opened = LibraryIndex(index, model)
    return Growth(
        pieces=size,
        **builds,
        **_measure_queries(index, opened, recording, model),
        recall=search_recall(opened),
    )


def _measure_builds(
    library: Sequence[Path], size: int, work: Path, index: Path, progress: Callable[[str], None]
) -> dict[str, Any]:
    """Build an index, again without changes, and again with `ADDED` files more."""
    folder, more = work / "library", work / "more"
    progress(f"{size} pieces: gathering")
    gather(library, folder, size + ADDED)
    more.mkdir()
    for path in sorted(folder.iterdir())[size:]:
        path.rename(more / path.name)
    build = ["build-index", str(folder), "--index", str(index)]
    progress("building")
    first, built = run_command(build)
    info = describe(LibraryIndex(index, None))
    progress("building again")
    again, _ = run_command(build)
    for path in more.iterdir():
        path.rename(folder / path.name)
    progress(f"adding {ADDED} files")
    adding, _ = run_command(build)
    return {
        "hours": info.hours,
        "snippets": info.snippets,
        "build_seconds": first,
        "music_per_second": 3600 * info.hours / first,
        "build_megabytes": built,
        "megabytes_per_hour": info.bytes / 1e6 / info.hours,
        "again_seconds": again,
        "adding_seconds": adding,
    }


def _measure_queries(
    index: Path, opened: LibraryIndex, recording: Path, model: Checkpoint
) -> dict[str, Any]:
    """Query with 30 s of a recording, in a process of its own and in this one."""
    command = ["query", str(recording), "--duration", "30", "--index", str(index)]
    bare = [_timed([sys.executable, "-c", "import torch"])[0] for _ in range(REPEATS)]
    cold = [run_command(command) for _ in range(REPEATS + 1)][1:]
    lookup, warm = _warm(model, opened, recording, (0,))
    keys = _warm(model, opened, recording, KEYS)[1]
    return {
        "import_seconds": median(bare),
        "cold_seconds": median(seconds for seconds, _ in cold),
        "query_megabytes": max(megabytes for _, megabytes in cold),
        "lookup_seconds": lookup,
        "warm_seconds": warm,
        "keys_seconds": keys,
    }


def gather(library: Sequence[Path], folder: Path, count: int) -> None:
    """Link so many MIDI files into a folder, in an order drawn once; then copies that differ."""
    files = [path.absolute() for part in library for path in find_midi(part)]
    rng = np.random.default_rng(0)
    files = [files[i] for i in rng.permutation(len(files))]
    folder.mkdir(parents=True)
    for number in range(count):
        target, source = folder / f"{number:06}.mid", files[number % len(files)]
        if number < len(files):
            os.symlink(source, target)
        else:
            _vary(source, target, rng)


def _vary(source: Path, target: Path, rng: np.random.Generator) -> None:
    """Write a copy in another key and at another tempo; as it is where it cannot be read."""
    semitones = int(rng.choice([s for s in range(-6, 7) if s]))
    stretch = float(2 ** rng.uniform(-0.5, 0.5))
    try:
        notes = read_midi(source).notes
    except MmidError:
        os.symlink(source, target)
        return
    write_midi(stretched(transposed_within(notes, semitones), stretch), target)


def run_command(arguments: Sequence[str]) -> tuple[float, float]:
    """Run mmid with arguments in a process of its own; return its seconds and peak megabytes.

    An exit status of 1 is let pass: files that cannot be read are part of large libraries.

    Raises
    ------
    MmidError
        If it fails otherwise.
    """
    return _timed([sys.executable, "-m", "mmid", *arguments])


def _timed(command: Sequence[str]) -> tuple[float, float]:
    started = time.perf_counter()
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MMID_")}
    silent = subprocess.DEVNULL
    process = subprocess.Popen(command, stdout=silent, stderr=silent, env=plain)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1):
        raise MmidError(f"{' '.join(command)}: exit status {process.returncode}")
    unit = 1e6 if sys.platform == "darwin" else 1e3
    return seconds, usage.ru_maxrss / unit


def _warm(
    model: Checkpoint, index: LibraryIndex, recording: Path, keys: Sequence[int]
) -> tuple[float, float]:
    """Return the seconds of a query's search and votes, and of the whole answer."""
    identifier = Identifier(model, index, SearchOptions(keys=keys))
    lookup = identifier.lookup
    query = identifier.open(recording, 0.0, 30.0)
    looked_up, answered = [], []
    for _ in range(REPEATS + 1):
        embedded = lookup.embed(query)
        began = time.perf_counter()
        lookup.candidates(lookup.find(embedded))
        looked_up.append(time.perf_counter() - began)
        started = time.perf_counter()
        identifier.identify(query)
        answered.append(time.perf_counter() - started)
    return median(looked_up[1:]), median(answered[1:])


def growth_table(rows: Sequence[Growth]) -> Table:
    """Return what libraries of several sizes cost, a size a column."""
    table = FittingTable("", *(f"{row.pieces} pieces" for row in rows))
    for name, unit in GROWTH_UNITS.items():
        values = [getattr(row, name) for row in rows]
        table.add_row(name.replace("_", " "), *(f"{value:,.4g} {unit}" for value in values))
    return table
