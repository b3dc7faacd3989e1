"""The benchmarks of the documents, run one after the other, and their tables written.

``python -m mmid.research.benchmarks results --index INDEX --recordings FOLDER`` runs every
benchmark whose files are given, as a command of its own. What it measures is kept in
``results/NAME.json`` once it is complete, and is not measured again; a benchmark that is stopped
begins anew. Then tables made of all results in the folder replace those between
``<!-- table NAME -->`` and ``<!-- end -->`` in the documents, and a table without results says that
it was not measured. Remove a result to measure it again.

Conventions: ``results/about.json`` names the model. MMID_MODEL chooses another one, as for every
command; its results need a folder of their own. ``results/calibration.json`` is not run from here:
it is what ``python -m mmid.research.calibrate --json`` prints.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeAlias, get_args

import typer

from mmid.errors import MmidError, label
from mmid.model.registry import find_weights
from mmid.options import Damage, Form
from mmid.research.benchmark_tables import fill
from mmid.system.files import file_digest
from mmid.system.outputs import written_target

Values: TypeAlias = Mapping[str, Sequence[str]]
"""What stands for the names in braces; a command whose names are not all given is not run."""

_CLIPS = "--per-recording 1 --clips"
_PIECES = "mmid eval pieces"
_PIANISTS = f"{_PIECES} {{pianists}} --index {{index}} --soundfont {{soundfont}} {_CLIPS}"
_KINDS = f"{_PIECES} {{kinds}} --index {{index}} {_CLIPS}"
_BASELINES = "--baseline fingerprints --baseline chroma"
_PLAYED = {
    "half": "--tempo 0.5:0.5",
    "slower": "--tempo 0.8:0.8",
    "faster": "--tempo 1.25:1.25",
    "double": "--tempo 2:2",
    "down": "--semitones -2",
    "up": "--semitones 2",
}

COMMANDS = {
    "b1": "mmid eval snippets {tunes} --soundfont {soundfont} --pool 2000",
    "b2": f"{_PIECES} {{tunes}} --index {{tunes-index}} --soundfont {{soundfont}}"
    f" --tempo 0.8:1.25 {_CLIPS} 3,5,10,30 --absent",
    "b3": f"{_PIANISTS} 3,5,10,30 --absent",
    "b3-baselines": f"{_PIANISTS} 3,5,10 {_BASELINES}",
    "b4": f"{_PIECES} {{recordings}} --index {{index}} --clips 3,5,10 --absent",
    "b4-baselines": f"{_PIECES} {{recordings}} --index {{index}} {_CLIPS} 3,5,10 {_BASELINES}",
    **{f"b6-{how}": f"{_PIANISTS} 10 --rough {how}" for how in get_args(Damage)},
    **{f"b6-{how}": f"{_PIANISTS} 30 --rough {how}" for how in get_args(Form)},
    **{f"b6-{how}": f"{_PIANISTS} 10 {option}" for how, option in _PLAYED.items()},
    "b7": "mmid eval speed {library} --query {query} --sizes 1000,10000",
    "queries": "mmid.research.query_times {recordings} --index {index}",
    "b8-10": f"{_KINDS} 10 --variants",
    "b8-30": f"{_KINDS} 30 --absent --variants",
    "b8-whole": f"{_KINDS} whole --variants",
    "b8-own": f"{_KINDS} 30 --absent",
    "b8-baselines": f"{_KINDS} 30 --variants {_BASELINES}",
}
"""What follows ``python -m``, in the order of running (B5 is the ``--absent`` of the others)."""

ELSEWHERE = ("calibration",)
"""Results that other commands leave in the folder."""


def fill_in(command: str, values: Values) -> list[str] | None:
    """Return the words of a command; None if a value that it names is not given.

    Examples
    --------
    >>> fill_in("mmid eval pieces {kinds} --clips 10", {"kinds": ["b8"]})
    ['mmid', 'eval', 'pieces', 'b8', '--clips', '10']
    >>> fill_in("mmid eval pieces {kinds}", {})
    """
    parts = [values.get(w[1:-1], ()) if w.startswith("{") else [w] for w in command.split()]
    return [word for part in parts for word in part] if all(parts) else None


def run_command(words: Sequence[str], target: Path) -> None:
    """Run a command in a process of its own; keep its result if it is complete.

    Raises
    ------
    MmidError
        If the command fails.
    """
    part = target.with_suffix(".part")
    try:
        done = subprocess.run([sys.executable, "-m", *words, "--out", str(part)])
        if done.returncode:
            raise MmidError(f"{target.stem}: exit status {done.returncode}")
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def run_benchmarks(
    results: Path,
    values: Values,
    only: Collection[str] = (),
    run: Callable[[Sequence[str], Path], None] = run_command,
) -> Iterator[str]:
    """Run the benchmarks that are not done yet; yield a line on each as it begins.

    Parameters
    ----------
    results : Path
        Folder of the results, made if missing.
    values : dict of str to sequence of str
        What stands for the names in braces of `COMMANDS`.
    only : collection of str
        What the names of those that may run begin with; all if empty.
    run : callable
        Runs a command and writes its result.

    Raises
    ------
    MmidError
        If the folder holds results of another model, no benchmark has such a name, or one fails.
    """
    names = [name for name in COMMANDS if not only or name.startswith(tuple(only))]
    if not names:
        raise MmidError(f"no such benchmark: give one of {', '.join(COMMANDS)}")
    _keep_model(results)
    for name in names:
        target, words = results / f"{name}.json", fill_in(COMMANDS[name], values)
        if target.exists():
            yield f"{name}: done before"
        elif words is None:
            yield f"{name}: not run, as not all is given of: {COMMANDS[name]}"
        else:
            yield f"{name}: python -m {shlex.join(words)}"
            run(words, target)


def _keep_model(results: Path) -> None:
    """Write down which model is measured; refuse results of another one."""
    weights = find_weights(os.environ.get("MMID_MODEL") or None)
    path, model = results / "about.json", {"model": file_digest(weights)}
    with _readable(path):
        results.mkdir(parents=True, exist_ok=True)
        known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else model
    if known != model:
        raise MmidError(f"{label(results)}: holds results of another model; give another folder")
    with written_target(path) as part:
        part.write_text(json.dumps(model), encoding="utf-8")


def read_results(results: Path) -> dict[str, Any]:
    """Read the results there are, by the names of their benchmarks."""
    found = {}
    for path in (results / f"{name}.json" for name in (*COMMANDS, *ELSEWHERE)):
        if path.exists():
            with _readable(path):
                found[path.stem] = json.loads(path.read_text(encoding="utf-8"))
    return found


def write_tables(documents: Sequence[Path], found: Mapping[str, Any]) -> list[str]:
    """Write the tables of results into documents; return the names of those with results.

    Without any result, nothing is written.
    """
    written: list[str] = []
    if not found:
        return written
    for path in documents:
        with _readable(path):
            text = path.read_text(encoding="utf-8")
            new, names = fill(text, found)
        if new != text:
            with written_target(path) as part:
                part.write_text(new, encoding="utf-8")
        written += names
    return written


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, MmidError) as error:
        raise MmidError(f"{label(path)}: {error}") from error


DOCUMENTS = [Path("README.md"), Path("docs/benchmarks.md"), Path("docs/benchmarks-details.md")]


def main(
    results: Annotated[Path, typer.Argument(help="Keep the results in this folder.")],
    index: Annotated[str | None, typer.Option(help="Query this index (B3 to B8).")] = None,
    tunes: Annotated[Path | None, typer.Option(help="Folder of tunes (B1, B2).")] = None,
    tunes_index: Annotated[str | None, typer.Option(help="Index of the tunes (B2).")] = None,
    pianists: Annotated[Path | None, typer.Option(help="Folder with a pairs.csv (B3, B6).")] = None,
    recordings: Annotated[Path | None, typer.Option(help="Folder with a pairs.csv (B4).")] = None,
    kinds: Annotated[Path | None, typer.Option(help="Folder with a pairs.csv (B8).")] = None,
    library: Annotated[list[Path] | None, typer.Option(help="Folders of MIDI (B7).")] = None,
    query: Annotated[Path | None, typer.Option(help="A recording of 30 s or more (B7).")] = None,
    soundfont: Annotated[str, typer.Option(help="Render with this one.")] = "MuseScore",
    only: Annotated[list[str] | None, typer.Option(help="Run these, such as b4 or b8-30.")] = None,
    into: Annotated[list[Path] | None, typer.Option(help="Write the tables into these.")] = None,
) -> None:
    """Run the benchmarks whose files are given, and write their tables into the documents."""
    single = {
        **{"index": index, "tunes": tunes, "tunes-index": tunes_index, "pianists": pianists},
        **{"recordings": recordings, "kinds": kinds, "query": query, "soundfont": soundfont},
    }
    values = {name: [str(value)] for name, value in single.items() if value is not None}
    values["library"] = [str(folder) for folder in library or ()]
    try:
        for line in run_benchmarks(results, values, only or ()):
            typer.echo(line)
        tables = write_tables(into or DOCUMENTS, read_results(results))
    except MmidError as error:
        typer.echo(f"mmid: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"tables written: {', '.join(tables) or 'none'}")


if __name__ == "__main__":
    typer.run(main)
