"""The command line: parse, call the library, print."""

from __future__ import annotations

import json
import os
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmid import __version__
from mmid.console import note, progress, stdout
from mmid.errors import MmidError

if TYPE_CHECKING:
    from rich.table import Table

    from mmid.identify import Identifier
    from mmid.index import LibraryIndex

app = typer.Typer(
    name="mmid",
    help="Name the MIDI file in your library that a recording is a performance of.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

Folders = Annotated[list[Path], typer.Argument(help="Folders of MIDI files.", show_default=False)]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.", rich_help_panel="Machine")]
Jobs = Annotated[
    int | None,
    typer.Option(min=1, help="Worker processes; all cores by default.", rich_help_panel="Machine"),
]
Soundfonts = Annotated[
    list[str] | None,
    typer.Option(
        "--soundfont",
        help="An .sf2 or .sf3 file, or the first letters of an installed one; may be repeated.",
        show_default="those installed",
    ),
]


Index = Annotated[
    Path | None,
    typer.Option(
        envvar="MMID_INDEX", help="The index folder.", show_default="in the user's data folder"
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        envvar="MMID_MODEL",
        help="A model's name or .safetensors file.",
        show_default="the packaged one",
        rich_help_panel="Machine",
    ),
]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
OutFile = Annotated[Path | None, typer.Option(help="Write every result to this JSON file.")]


class Searching(str, Enum):
    """Ways to find the nearest snippets."""

    auto = "auto"
    exact = "exact"
    hnsw = "hnsw"


class Voting(str, Enum):
    """Ways to count votes."""

    consistent = "consistent"
    majority = "majority"


class Sides(str, Enum):
    """Parts of a split."""

    test = "test"
    valid = "valid"
    train = "train"
    all = "all"


SearchMode = Annotated[
    Searching, typer.Option(help="Compare every snippet, or search the graph; auto by size.")
]
VoteMode = Annotated[Voting, typer.Option(help="Votes that agree on the place, or all votes.")]
Side = Annotated[Sides, typer.Option(help="Part of the 75/5/20 split to use.")]


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mmid {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show version.")
    ] = False,
) -> None:
    pass


def _default_cache() -> Path:
    from platformdirs import user_cache_path

    return Path(os.environ.get("MMID_CACHE") or user_cache_path("mmid")) / "features"


def _default_index() -> Path:
    from platformdirs import user_data_path

    return user_data_path("mmid") / "index"


@app.command(
    epilog="Example: mmid train my-midi --soundfont TimGM --soundfont FluidR3 --out my-model",
)
def train(
    library: Folders,
    extra: Annotated[
        list[Path] | None,
        typer.Option(help="More MIDI to train on, never to test; may be repeated."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the run; a run there goes on.")] = Path(
        "mmid-run"
    ),
    soundfont: Soundfonts = None,
    copies: Annotated[int, typer.Option(min=1, help="Renderings of each piece.")] = 4,
    extra_copies: Annotated[int, typer.Option(min=1, help="Those of each extra piece.")] = 1,
    excerpt: Annotated[float, typer.Option(min=4, help="Longest part rendered, seconds.")] = 90.0,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs at most.")] = 40,
    epoch_pairs: Annotated[int, typer.Option(min=256, help="Pairs an epoch.")] = 50_000,
    batch: Annotated[int, typer.Option(min=2, help="Pairs a step.")] = 512,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 2e-3,
    patience: Annotated[int, typer.Option(min=1, help="Epochs without progress.")] = 10,
    seed: Annotated[int, typer.Option(help="Of the split and every draw.")] = 0,
    cache: Annotated[
        Path | None, typer.Option(help="Feature cache.", show_default="the user's cache folder")
    ] = None,
    device: Device = "auto",
    jobs: Jobs = None,
) -> None:
    """Train encoders on a folder of MIDI files (and recordings beside them)."""
    from mmid.corpus import prepare_corpus
    from mmid.encoders import ModelConfig, pick_device
    from mmid.render import pick_soundfonts
    from mmid.report import describe_epoch
    from mmid.train import BEST_NAME, TrainConfig, start_run

    model = ModelConfig()
    with progress() as tell:
        corpus = prepare_corpus(
            library,
            extra or [],
            pick_soundfonts(soundfont),
            cache or _default_cache(),
            model.features,
            copies=copies,
            extra_copies=extra_copies,
            excerpt=excerpt,
            seed=seed,
            workers=jobs,
            progress=tell,
        )
    for fault in corpus.faults:
        note(f"left out: {fault}")
    config = TrainConfig(
        epochs=epochs,
        epoch_pairs=epoch_pairs,
        batch=batch,
        learning_rate=learning_rate,
        patience=patience,
        seed=seed,
    )
    with progress() as tell:
        for epoch in start_run(out, corpus, model, config, pick_device(device), tell):
            note(describe_epoch(epoch))
    typer.echo(out / BEST_NAME)


@app.command("build-index", epilog="Example: mmid build-index ~/Music/midi --index ~/my-index")
def build_index(
    library: Folders,
    index: Index = None,
    model: Model = None,
    device: Device = "auto",
    jobs: Jobs = None,
) -> None:
    """Embed every MIDI file below the folders and write the index."""
    from mmid.encoders import pick_device
    from mmid.index import build_index as build
    from mmid.library import scan
    from mmid.pretrained import load_model

    loaded = load_model(model, pick_device(device))
    count, pieces = scan(library, jobs)
    folder = index or _default_index()
    with progress() as tell:
        report = build(folder, pieces, loaded, lambda done: tell("Indexing", done, count))
    for bad in report.bad:
        note(f"left out: {bad.reason}")
    note(
        f"{report.pieces} pieces, {report.seconds_of_music / 3600:.1f} hours of music,"
        f" {report.snippets} snippets in {folder}"
    )
    if report.bad:
        note(f"{len(report.bad)} of {count} files could not be read")


@app.command(epilog="Example: mmid query recording.wav --start 30 --duration 20 --json")
def query(
    recordings: Annotated[
        list[Path], typer.Argument(help="Recordings: wav, flac, ogg, mp3, m4a, opus.")
    ],
    index: Index = None,
    top: Annotated[int, typer.Option(min=1, help="Matches to show.")] = 5,
    start: Annotated[float, typer.Option(min=0, help="Skip so many seconds.")] = 0.0,
    duration: Annotated[
        float | None, typer.Option(help="Use so many seconds.", show_default="to the end")
    ] = None,
    json_lines: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a recording.")
    ] = False,
    search: SearchMode = Searching.auto,
    vote: VoteMode = Voting.consistent,
    min_confidence: Annotated[
        float, typer.Option(min=0, max=1, help="A match counts as found from here on.")
    ] = 0.5,
    model: Model = None,
    device: Device = "auto",
) -> None:
    """Name the piece that each recording is a performance of."""
    from mmid.report import answer_table

    identifier, _ = _open(index, model, device, search, vote, top, min_confidence)
    failed = False
    for answer in identifier.identify_files(recordings, start, duration):
        failed = failed or answer.error is not None
        if json_lines:
            typer.echo(json.dumps(answer.to_dict(), allow_nan=False))
        elif answer.error is None:
            stdout.print(answer_table(answer))
        if answer.error is not None:
            note(f"mmid: {answer.error}")
    raise typer.Exit(1 if failed else 0)


def _open(
    index: Path | None,
    model: str | None = None,
    device: str = "auto",
    search: Searching = Searching.auto,
    vote: Voting = Voting.consistent,
    top: int = 5,
    min_confidence: float = 0.5,
) -> tuple[Identifier, LibraryIndex]:
    from mmid.encoders import pick_device
    from mmid.identify import Identifier
    from mmid.index import LibraryIndex
    from mmid.pretrained import load_model

    loaded = load_model(model, pick_device(device))
    opened = LibraryIndex(index or _default_index(), loaded)
    identifier = Identifier(
        loaded,
        opened,
        search=search.value,
        vote=vote.value,
        top=top,
        min_confidence=min_confidence,
    )
    return identifier, opened


@app.command(epilog="Example: mmid demo")
def demo(
    folder: Annotated[
        Path | None,
        typer.Option(help="Keep its files there.", show_default="a temporary folder"),
    ] = None,
) -> None:
    """Index the packaged tunes and identify the packaged recording."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory(prefix="mmid-demo-") as temporary:
        _run_demo(folder or Path(temporary))
    stdout.print(
        "\nNow with your own files:\n"
        "  mmid build-index FOLDER-OF-MIDI-FILES\n"
        "  mmid query RECORDING.wav",
        markup=False,
    )


def _run_demo(folder: Path) -> None:
    from mmid.demo import prepare_demo

    library, recording = prepare_demo(folder)
    note(f"wrote a library of {len(list(library.iterdir()))} public-domain tunes")
    build_index([library], index=folder / "index")
    identifier, _ = _open(folder / "index")
    from mmid.report import answer_table

    stdout.print(answer_table(identifier.identify_file(recording)))


evaluation = typer.Typer(no_args_is_help=True, help="Measure how good the answers are.")
app.add_typer(evaluation, name="eval")


@evaluation.command(
    "snippets", epilog="Example: mmid eval snippets nottingham --soundfont MuseScore --pool 2000"
)
def eval_snippets(
    library: Annotated[Path, typer.Argument(help="Folder of MIDI files; its test part is used.")],
    soundfont: Annotated[str, typer.Option(help="A soundfont the model never heard.")],
    pool: Annotated[int, typer.Option(min=2, help="Snippets to tell apart.")] = 2_000,
    side: Side = Sides.test,
    seed: Annotated[int, typer.Option(help="Of the split and the pool.")] = 0,
    min_r1: Annotated[
        float | None, typer.Option(min=0, max=1, help="Fail below this R@1, either direction.")
    ] = None,
    json_lines: JsonFlag = False,
    out: OutFile = None,
    model: Model = None,
    device: Device = "auto",
    jobs: Jobs = None,
) -> None:
    """Retrieve snippets of rendered pieces from a pool, in both directions."""
    from mmid.encoders import pick_device
    from mmid.evaluate import evaluate_snippets, held_out
    from mmid.pretrained import load_model
    from mmid.render import find_soundfont
    from mmid.report import snippet_table

    loaded = load_model(model, pick_device(device))
    pieces = held_out(library, side.value, seed, jobs)
    with progress() as tell:
        result = evaluate_snippets(
            pieces, find_soundfont(soundfont), loaded, pool=pool, seed=seed, progress=tell
        )
    _deliver(result.to_dict(), [snippet_table(result)], json_lines, out)
    lowest = min(scores.recall[1] for scores in list(result.scores.values())[:2])
    _gate("R@1", lowest, min_r1)


@evaluation.command(
    "pieces",
    epilog="Example: mmid eval pieces my-recordings --index my-index --clips 10,30,whole",
)
def eval_pieces(
    source: Annotated[
        Path,
        typer.Argument(help="A folder with a pairs.csv (id, audio, midi), or one of MIDI files."),
    ],
    index: Index = None,
    soundfont: Annotated[
        str | None, typer.Option(help="Render the MIDI files with this one.")
    ] = None,
    tempo: Annotated[str, typer.Option(help="Speeds to render at, slowest:fastest.")] = "1:1",
    side: Side = Sides.test,
    lengths: Annotated[
        str, typer.Option("--clips", help="Clip lengths, seconds, or 'whole'.")
    ] = "3,5,10,30",
    clips: Annotated[int, typer.Option("--per-recording", min=1, help="Clips of each.")] = 3,
    absent: Annotated[
        bool, typer.Option("--absent", help="Ask again with the right piece taken out.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the split, the tempi and the clips.")] = 0,
    search: SearchMode = Searching.auto,
    vote: VoteMode = Voting.consistent,
    min_top1: Annotated[
        float | None, typer.Option(min=0, max=1, help="Fail if any length's top-1 is below.")
    ] = None,
    json_lines: JsonFlag = False,
    out: OutFile = None,
    model: Model = None,
    device: Device = "auto",
    jobs: Jobs = None,
) -> None:
    """Identify clips of recordings, or of rendered MIDI files, whose pieces are known."""
    from mmid.evaluate import evaluate_pieces, open_sources
    from mmid.report import clip_table, recording_table

    identifier, opened = _open(index, model, device, search, vote)
    count, sources = open_sources(
        source, soundfont, identifier.params, _parse_range(tempo), side.value, seed, jobs
    )
    done: list[str] = []
    with progress() as tell:

        def progressed(name: str) -> None:
            done.append(name)
            tell("Identifying", len(done), count)

        results = evaluate_pieces(
            sources,
            identifier,
            [entry.digest for entry in opened.entries],
            lengths=_parse_lengths(lengths),
            clips=clips,
            absent=absent,
            seed=seed,
            progress=progressed,
        )
    tables = [clip_table(results)] + ([recording_table(results)] if soundfont is None else [])
    _deliver([result.to_dict() for result in results], tables, json_lines, out)
    _gate("top-1", min(result.top1 for result in results), min_top1)


def _parse_range(text: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in text.split(":"))
    except ValueError:
        low, high = 0.0, 0.0
    if not 0.1 <= low <= high <= 10:
        raise typer.BadParameter(f"{text!r}: give slowest:fastest, such as 0.8:1.25")
    return low, high


def _parse_lengths(text: str) -> list[float | None]:
    try:
        lengths = [None if part == "whole" else float(part) for part in text.split(",")]
    except ValueError:
        lengths = [0.0]
    if not all(length is None or 0 < length < 86_400 for length in lengths):
        raise typer.BadParameter(f"{text!r}: give seconds, such as 3,10,30,whole")
    return lengths


def _deliver(data: object, tables: list[Table], json_lines: bool, out: Path | None) -> None:
    if json_lines:
        typer.echo(json.dumps(data))
    else:
        for table in tables:
            stdout.print(table)
    if out:
        out.write_text(json.dumps(data, indent=1))


def _gate(name: str, reached: float, wanted: float | None) -> None:
    if wanted is not None and reached < wanted:
        raise MmidError(f"{name} is {reached:.1%}, below the {wanted:.1%} asked for")


def main() -> None:
    """Run the command line; what a user can mend is one line on stderr and exit status 1."""
    try:
        app()
    except MmidError as error:
        note(f"mmid: {error}")
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
