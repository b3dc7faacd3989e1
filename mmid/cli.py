"""The command line: parse, call the library, print."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from mmid import __version__
from mmid.cli_eval import evaluation
from mmid.cli_options import (
    Device,
    Folders,
    Index,
    Jobs,
    Model,
    Searching,
    SearchMode,
    Soundfonts,
    VoteMode,
    Voting,
    default_cache,
    default_index,
    open_identifier,
)
from mmid.console import note, progress, stdout
from mmid.errors import MmidError

app = typer.Typer(
    name="mmid",
    help="Name the MIDI file in your library that a recording is a performance of.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.add_typer(evaluation, name="eval")


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
            cache or default_cache(),
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
    """Embed every MIDI file below the folders and write the index.

    Files that cannot be read are left out and reported; the exit status is then 1.
    """
    from mmid.encoders import pick_device
    from mmid.index import build_index as build
    from mmid.library import scan
    from mmid.pretrained import load_model

    loaded = load_model(model, pick_device(device))
    count, pieces = scan(library, jobs)
    folder = index or default_index()
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
        raise typer.Exit(1)


@app.command(epilog="Example: mmid query recording.wav --start 30 --duration 20 --json")
def query(
    recordings: Annotated[
        list[Path], typer.Argument(help="Recordings: wav, flac, ogg, mp3, m4a, opus.")
    ],
    index: Index = None,
    top: Annotated[int, typer.Option(min=1, help="Matches to show.")] = 5,
    start: Annotated[float, typer.Option(min=0, help="Skip so many seconds.")] = 0.0,
    duration: Annotated[
        float | None,
        typer.Option(min=0.1, help="Use so many seconds.", show_default="to the end"),
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
    """Name the piece that each recording is a performance of.

    The exit status is 0 when every recording was processed, found or not, and 1 when any failed.
    """
    from mmid.report import answer_table

    identifier, _ = open_identifier(index, model, device, search, vote, top, min_confidence)
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
    identifier, _ = open_identifier(folder / "index")
    from mmid.report import answer_table

    stdout.print(answer_table(identifier.identify_file(recording)))


def main() -> None:
    """Run the command line; what a user can mend is one line on stderr and exit status 1."""
    try:
        app()
    except MmidError as error:
        note(f"mmid: {error}")
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
