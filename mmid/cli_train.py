"""The ``mmid train`` command: a preset, and options that replace parts of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmid.choices import (
    Encoder,
    Learn,
    Loss,
    Negatives,
    Performance,
    Preset,
    RollRate,
    Sampling,
    Scale,
    Task,
)
from mmid.cli_options import Device, Folders, Jobs, Soundfonts
from mmid.console import note, progress, remark, set_loudness
from mmid.defaults import default_cache

if TYPE_CHECKING:
    from mmid.corpus import Corpus
    from mmid.experiment import Experiment


PRESET = "the preset's"


def _option(panel: str, text: str, *names: str, **bounds: Any) -> Any:
    return typer.Option(
        *names, help=text, show_default=PRESET, rich_help_panel=f"The preset's {panel}", **bounds
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
    preset: Annotated[
        Preset, typer.Option(help="A way to train; the options below replace parts of it.")
    ] = "default",
    init: Annotated[
        list[Path] | None,
        typer.Option(help="A checkpoint to begin with, also an autoencoder's; may be repeated."),
    ] = None,
    soundfont: Soundfonts = None,
    extra_copies: Annotated[int, typer.Option(min=1, help="Renderings of each extra piece.")] = 1,
    excerpt: Annotated[float, typer.Option(min=4, help="Longest part rendered, seconds.")] = 90.0,
    task: Annotated[Task | None, _option("network", "What is learned.")] = None,
    encoder: Annotated[Encoder | None, _option("network", "Whose pathways.")] = None,
    spectrogram: Annotated[Scale | None, _option("features", "Spacing of the bands.")] = None,
    roll_rate: Annotated[
        RollRate | None,
        _option("features", "Frame rate: the audio's, or the 2020 report's."),
    ] = None,
    onsets: Annotated[
        bool | None, _option("features", "A channel of onsets.", "--onsets/--no-onsets")
    ] = None,
    unstacked: Annotated[
        bool | None,
        _option("features", "Channels for each instrument family.", "--unstacked/--stacked"),
    ] = None,
    snippet: Annotated[
        int | None, _option("features", "Snippet length, frames.", min=10, max=200)
    ] = None,
    performance: Annotated[
        Performance | None, _option("data", "Renderings of many kinds, or as written.")
    ] = None,
    copies: Annotated[int | None, _option("data", "Renderings of each piece.", min=1)] = None,
    augment: Annotated[
        str | None,
        _option("data", "Effects: all, none, or some of them, such as noise,mismatch."),
    ] = None,
    sampling: Annotated[Sampling | None, _option("data", "Where snippets begin.")] = None,
    neighbours: Annotated[
        int | None, _option("data", "Snippets of a batch from one rendering.", min=1)
    ] = None,
    learn: Annotated[
        Learn | None,
        _option("network", "Both pathways, or the audio one, which leaves indexes as they are."),
    ] = None,
    loss: Annotated[Loss | None, _option("loss", "What is minimised.")] = None,
    negatives: Annotated[
        Negatives | None, _option("loss", "What a match is told from, in a ranking.")
    ] = None,
    margin: Annotated[float | None, _option("loss", "Of the ranking loss.", min=0, max=2)] = None,
    cca: Annotated[
        bool | None,
        _option("loss", "Project the best embeddings by CCA in the end.", "--cca/--no-cca"),
    ] = None,
    batch: Annotated[int | None, _option("loss", "Pairs a step.", min=2)] = None,
    learning_rate: Annotated[float | None, _option("loss", "Peak learning rate.", min=0)] = None,
    epochs: Annotated[int | None, _option("length", "Epochs at most.", min=1)] = None,
    epoch_pairs: Annotated[
        int | None, _option("length", "Pairs an epoch; 0 is a sweep of the grid.", min=0)
    ] = None,
    patience: Annotated[int | None, _option("length", "Epochs without progress.", min=1)] = None,
    seed: Annotated[int, typer.Option(help="Of the split and every draw.")] = 0,
    cache: Annotated[
        Path | None, typer.Option(help="Feature cache.", show_default="the user's cache folder")
    ] = None,
    device: Device = "auto",
    jobs: Jobs = None,
) -> None:
    """Train encoders on a folder of MIDI files (and recordings beside them).

    torchrun --nproc-per-node 2 -m mmid train ... shares each batch out among processes.
    """
    chosen = {k: v for k, v in locals().items() if v is not None}
    from mmid.encoders import pick_device
    from mmid.ranks import joined, one_first, rank
    from mmid.report import describe_epoch
    from mmid.train import BEST_NAME, start_run

    experiment = _experiment(chosen)
    with joined(pick_device(device)) as own:
        if rank():
            set_loudness(silent=True)
        with one_first():
            corpus = _corpus(
                experiment,
                library,
                extra or [],
                soundfont,
                cache or default_cache(),
                extra_copies,
                excerpt,
                jobs,
            )
        with progress() as tell:
            for epoch in start_run(out, corpus, experiment, own, tell, init or []):
                remark(describe_epoch(epoch))
        if not rank():
            typer.echo(out / BEST_NAME)


def _experiment(chosen: dict[str, Any]) -> Experiment:
    """Replace the parts of the preset that were chosen."""
    from mmid.augment import EFFECTS
    from mmid.experiment import PRESETS

    preset = PRESETS[chosen["preset"]]
    parts = {name: chosen[name] for name in preset.__dataclass_fields__ if name in chosen}
    if "augment" in parts:
        named = {"all": EFFECTS, "none": ()}
        parts["augment"] = named.get(parts["augment"], tuple(parts["augment"].split(",")))
    return replace(preset, **parts)


def _corpus(
    experiment: Experiment,
    library: list[Path],
    extra: list[Path],
    soundfont: list[str] | None,
    cache: Path,
    extra_copies: int,
    excerpt: float,
    jobs: int | None,
) -> Corpus:
    from mmid.corpus import prepare_corpus
    from mmid.render import pick_soundfonts

    with progress() as tell:
        corpus = prepare_corpus(
            library,
            extra,
            pick_soundfonts(soundfont),
            cache,
            experiment.features,
            copies=experiment.copies,
            extra_copies=extra_copies,
            performance=experiment.performance,
            excerpt=excerpt,
            seed=experiment.seed,
            workers=jobs,
            progress=tell,
        )
    for fault in corpus.faults:
        note(f"left out: {fault}")
    return corpus
