"""How an index grows with its library (benchmark B7): time, size, memory and recall.

Conventions: what users run is measured as they run it, each command in a process of its own; a
process's peak memory is what the system counted for it. A library larger than what is at hand is
filled up with copies in other keys and at other tempi. A size has a folder: its library, its index,
and ``steps.json`` with what each step showed, so that what was cut off goes on from there.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from threading import Event, Thread

import numpy as np
from rich.table import Table

from mmid.errors import MmidError, label
from mmid.identify.identifier import Identifier
from mmid.identify.search_options import KEYS, SearchOptions
from mmid.index.folder import LibraryIndex
from mmid.index.maintenance import describe, search_recall
from mmid.model.checkpoint import Checkpoint
from mmid.music.folders import find_midi
from mmid.music.midi import read_midi, write_midi
from mmid.music.notes import stretched, transposed_within
from mmid.system.files import read_json, written_whole
from mmid.system.tables import FittingTable

ADDED = 100
"""Files added to a built index."""

STEPS, ASKED = "steps.json", "measured.json"
"""What is kept beside an index, and what for: another library or recording has another folder."""

NOTED_EVERY = 5.0
"""Seconds after which a build's time is kept again; of a killed one, so much is not counted."""

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
    "changing_seconds": "s",
    "removing_seconds": "s",
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
    build_seconds, again_seconds, adding_seconds, changing_seconds : float
        ``mmid build-index``: the first time, with nothing changed, with a folder of `ADDED` files
        more, and with one file changed.
    removing_seconds : float
        ``mmid index remove`` of one piece.
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
    changing_seconds: float
    removing_seconds: float
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
        A folder for the library, its index and what they showed; new, or of such a measurement,
        which then goes on.
    model : Checkpoint
        The packaged one.
    progress : callable
        Gets a line on what is being measured.

    Raises
    ------
    MmidError
        If the size is too small, the folder is of something else, or a command fails.
    """
    if size < 2 * ADDED:
        raise MmidError(f"{size} pieces are too few to measure; give {2 * ADDED} or more")
    _claim(work, library, recording, size, model)
    measured = _Measurement(library, recording, size, work, model)
    steps, found = _Steps(work / STEPS), dict[str, float]()
    for what, measure in measured.steps(steps).items():
        if what not in steps.done:
            progress(f"{size} pieces: {what}")
            steps.keep(what, measure())
        found |= steps.done[what]
    return Growth(pieces=size, **found)  # type: ignore[arg-type]


def _claim(
    work: Path, library: Sequence[Path], recording: Path, size: int, model: Checkpoint
) -> None:
    """Say in a folder what is measured there; refuse one where it is something else."""
    folders = [os.path.abspath(path) for path in library]
    asked = {"library": folders, "query": os.path.abspath(recording), "pieces": size}
    asked["model"] = model.fingerprint
    try:
        if work.is_dir() and any(work.iterdir()):
            if not (work / ASKED).is_file() or read_json(work / ASKED) != asked:
                raise MmidError(f"{label(work)}: holds something else; give another folder")
            return
        work.mkdir(parents=True, exist_ok=True)
        _store_json(work / ASKED, asked)
    except (OSError, ValueError) as error:
        raise MmidError(f"{label(work)}: cannot be used ({error})") from error


def _store_json(path: Path, content: object) -> None:
    with written_whole(path) as part:
        part.write_text(json.dumps(content, indent=1))


class _Steps:
    """What the steps of a measurement showed, kept in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.done: dict[str, dict[str, float]] = read_json(path) if path.is_file() else {}

    def keep(self, what: str, found: dict[str, float]) -> None:
        """Keep what a step showed."""
        self.done[what] = found
        _store_json(self._path, self.done)


@dataclass(frozen=True, eq=False)
class _Measurement:
    """What `measure_growth` does, step by step; every step can be begun again."""

    library: Sequence[Path]
    recording: Path
    size: int
    work: Path
    model: Checkpoint

    def steps(self, kept: _Steps) -> dict[str, Callable[[], dict[str, float]]]:
        """Return the steps in their order, by what they do."""
        return {
            "gathering": self._gather,
            "building": lambda: self._build(kept),
            "building again": lambda: self._update("again_seconds"),
            f"adding {ADDED} files": self._add,
            "changing a file": self._change,
            "removing a piece": self._remove,
            "importing PyTorch": _import,
            "querying": self._query,
            "querying warm": self._query_warm,
            "comparing every snippet": lambda: {"recall": search_recall(self._opened)},
        }

    @property
    def _files(self) -> Path:
        return self.work / "library"

    @property
    def _index(self) -> list[str]:
        return ["--index", str(self.work / "index")]

    @cached_property
    def _opened(self) -> LibraryIndex:
        return LibraryIndex(self.work / "index", self.model)

    def _gather(self) -> dict[str, float]:
        """Gather the library, and beside it `ADDED` files more."""
        more = self.work / "more"
        gather(self.library, self._files, self.size + ADDED)
        more.mkdir(exist_ok=True)
        for path in sorted(self._files.iterdir())[self.size :]:
            path.replace(more / path.name)
        return {}

    def _build(self, kept: _Steps) -> dict[str, float]:
        """Build the index; one that was cut off goes on, and its seconds count."""
        what = "of the build until now"
        before = kept.done.get(what, {}).get("seconds", 0.0)
        seconds, megabytes = run_command(
            ["build-index", str(self._files), *self._index],
            lambda until_now: kept.keep(what, {"seconds": before + until_now}),
        )
        info = describe(LibraryIndex(self.work / "index", None))
        return {
            "hours": info.hours,
            "snippets": info.snippets,
            "build_seconds": before + seconds,
            "music_per_second": 3600 * info.hours / (before + seconds),
            "build_megabytes": megabytes,
            "megabytes_per_hour": info.bytes / 1e6 / info.hours,
        }

    def _update(self, name: str, *folders: str) -> dict[str, float]:
        """Bring the index up to date, and return how long that took by some name."""
        return {name: run_command(["build-index", *folders, *self._index])[0]}

    def _add(self) -> dict[str, float]:
        return self._update("adding_seconds", str(self.work / "more"))

    def _change(self) -> dict[str, float]:
        """Put a copy of the first file that differs in its place."""
        first = self._files / f"{0:06}.mid"
        _vary(first.resolve(), first, np.random.default_rng(self.size))
        return self._update("changing_seconds")

    def _remove(self) -> dict[str, float]:
        name = LibraryIndex(self.work / "index", None).entries[0].name
        return {"removing_seconds": run_command(["index", "remove", name, *self._index])[0]}

    def _query(self) -> dict[str, float]:
        """Query with 30 s of the recording, the whole command."""
        command = ["query", str(self.recording), "--duration", "30", *self._index]
        cold = [run_command(command) for _ in range(REPEATS + 1)][1:]
        return {
            "cold_seconds": median(seconds for seconds, _ in cold),
            "query_megabytes": max(megabytes for _, megabytes in cold),
        }

    def _query_warm(self) -> dict[str, float]:
        """Query with 30 s of the recording in this process."""
        lookup, warm = _warm(self.model, self._opened, self.recording, (0,))
        keys = _warm(self.model, self._opened, self.recording, KEYS)[1]
        return {"lookup_seconds": lookup, "warm_seconds": warm, "keys_seconds": keys}


def _import() -> dict[str, float]:
    command = [sys.executable, "-c", "import torch"]
    return {"import_seconds": median(_timed(command)[0] for _ in range(REPEATS))}


def gather(library: Sequence[Path], folder: Path, count: int) -> None:
    """Link so many MIDI files into a folder, in an order drawn once; then copies that differ.

    What is there already stays.
    """
    files = [path.absolute() for part in library for path in find_midi(part)]
    rng = np.random.default_rng(0)
    files = [files[i] for i in rng.permutation(len(files))]
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        target, source = folder / f"{number:06}.mid", files[number % len(files)]
        if target.is_symlink() or target.exists():
            continue
        if number < len(files):
            os.symlink(source, target)
        else:
            _vary(source, target, np.random.default_rng(number))


def _vary(source: Path, target: Path, rng: np.random.Generator) -> None:
    """Write a copy in another key and at another tempo; as it is where it cannot be read."""
    semitones = int(rng.choice([s for s in range(-6, 7) if s]))
    stretch = float(2 ** rng.uniform(-0.5, 0.5))
    try:
        notes = read_midi(source).notes
    except MmidError:
        with suppress(FileExistsError):
            os.symlink(source, target)
        return
    with written_whole(target) as part:
        write_midi(stretched(transposed_within(notes, semitones), stretch), part)


def run_command(
    arguments: Sequence[str], keep: Callable[[float], None] | None = None
) -> tuple[float, float]:
    """Run mmid with arguments in a process of its own; return its seconds and peak megabytes.

    An exit status of 1 of a build is let pass: files that cannot be read are part of large
    libraries.

    Parameters
    ----------
    arguments : sequence of str
    keep : callable, optional
        Gets the seconds until now, again and again, and when the command ends or is stopped.

    Raises
    ------
    MmidError
        If it fails otherwise.
    """
    command, started = [sys.executable, "-m", "mmid", *arguments], time.perf_counter()
    if not keep:
        return _timed(command)
    with _again_and_again(lambda: keep(time.perf_counter() - started)):
        return _timed(command)


@contextmanager
def _again_and_again(call: Callable[[], None]) -> Iterator[None]:
    """Call something every `NOTED_EVERY` seconds, and at last."""
    over = Event()

    def go_on() -> None:
        while not over.wait(NOTED_EVERY):
            call()

    calling = Thread(target=go_on, daemon=True)
    calling.start()
    try:
        yield
    finally:
        over.set()
        calling.join()
        call()


def _timed(command: Sequence[str]) -> tuple[float, float]:
    started = time.perf_counter()
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MMID_")}
    silent = subprocess.DEVNULL
    process = subprocess.Popen(
        command, stdout=silent, stderr=silent, env=plain, start_new_session=True
    )
    try:
        _, status, usage = os.wait4(process.pid, 0)
    except KeyboardInterrupt:  # which the command, in a session of its own, did not get
        process.send_signal(signal.SIGINT)
        process.wait()
        raise
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1 if "build-index" in command else 0):
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
