"""The command line: parse, call the library, print."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Optional

import typer

from mmid import __version__
from mmid.console import note, progress
from mmid.errors import MmidError

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
    Optional[int],
    typer.Option(min=1, help="Worker processes; all cores by default.", rich_help_panel="Machine"),
]
Soundfonts = Annotated[
    Optional[list[str]],
    typer.Option(
        "--soundfont",
        help="An .sf2 or .sf3 file, or the first letters of an installed one; may be repeated.",
        show_default="those installed",
    ),
]


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


@app.command(
    epilog="Example: mmid train my-midi --soundfont TimGM --soundfont FluidR3 --out my-model",
)
def train(
    library: Folders,
    extra: Annotated[
        Optional[list[Path]],
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
    batch: Annotated[int, typer.Option(min=2, help="Pairs a step.")] = 256,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 2e-3,
    patience: Annotated[int, typer.Option(min=1, help="Epochs without progress.")] = 10,
    seed: Annotated[int, typer.Option(help="Of the split and every draw.")] = 0,
    cache: Annotated[
        Optional[Path], typer.Option(help="Feature cache.", show_default="the user's cache folder")
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


def main() -> None:
    """Run the command line; what a user can mend is one line on stderr and exit status 1."""
    try:
        app()
    except MmidError as error:
        note(f"mmid: {error}")
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
