"""The ``mmid train`` command: a preset, and options that replace parts of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmid.cli.options import Device, Folders, Jobs, Soundfonts
from mmid.options import (
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
from mmid.settings import default_cache
from mmid.system.console import note, progress, remark, set_loudness

if TYPE_CHECKING:
    from mmid.training.corpus import Corpus
    from mmid.training.experiment import Experiment


PRESET = "the preset's"


def _option(panel: str, text: str, *names: str, **bounds: Any) -> Any:
    return typer.Option(
        *names, help=text, show_default=PRESET, rich_help_panel=f"The preset's {panel}", **bounds
    )


@dataclass(frozen=True, kw_only=True)
class RunGroup:
    """What a run begins with, and what it learns from besides its library."""

    extra: Annotated[
        list[Path] | None,
        typer.Option(help="Train on this folder, too, and never test on it; repeatable."),
    ] = None
    out: Annotated[
        Path, typer.Option(help="Write the run to this folder; continue a run that is there.")
    ] = Path("mmid-run")
    preset: Annotated[
        Preset, typer.Option(help="Use this preset; the options below replace parts of it.")
    ] = "default"
    init: Annotated[
        list[Path] | None,
        typer.Option(help="Start from this model, run or autoencoder; repeatable."),
    ] = None
    soundfont: Soundfonts = None
    validation_soundfont: Annotated[
        list[str] | None,
        typer.Option(
            help="Validate on renderings with this soundfont, used for nothing else; repeatable."
        ),
    ] = None
    extra_copies: Annotated[
        int, typer.Option(min=1, help="Render each extra piece this many times.")
    ] = 1
    excerpt: Annotated[
        float | None,
        typer.Option(
            min=4,
            help="Render at most this many seconds of a piece.",
            show_default="90, of mixtures 15",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class PresetGroup:
    """Parts of the preset that are replaced; None leaves the preset's."""

    task: Annotated[Task | None, _option("network", "Choose what the network learns.")] = None
    encoder: Annotated[
        Encoder | None,
        _option(
            "network", "Embed notes (notes), or spectrograms (conv; dorfer, as Dorfer et al.)."
        ),
    ] = None
    spectrogram: Annotated[
        Scale | None,
        _option(
            "features", "Space bands 16 an octave (log), as mels (mel), or 3 a semitone (fine)."
        ),
    ] = None
    roll_rate: Annotated[
        RollRate | None,
        _option("features", "Draw rolls at the audio's frame rate (exact), or the 2020 report's."),
    ] = None
    onsets: Annotated[
        bool | None, _option("features", "Give rolls a channel of onsets.", "--onsets/--no-onsets")
    ] = None
    unstacked: Annotated[
        bool | None,
        _option(
            "features", "Give each instrument family its own channels.", "--unstacked/--stacked"
        ),
    ] = None
    snippet: Annotated[
        int | None,
        _option("features", "Set the length of a snippet, frames of 46 ms.", min=10, max=200),
    ] = None
    performance: Annotated[
        Performance | None,
        _option(
            "data",
            "Render varied performances, files as written, or mixtures with drums and voices.",
        ),
    ] = None
    copies: Annotated[int | None, _option("data", "Render each piece this many times.", min=1)] = (
        None
    )
    augment: Annotated[
        str | None,
        _option("data", "Apply these effects: all, none, or some of them, such as noise,mismatch."),
    ] = None
    sampling: Annotated[
        Sampling | None, _option("data", "Begin snippets anywhere (random), or end to end (grid).")
    ] = None
    neighbours: Annotated[
        int | None, _option("data", "Take this many snippets of a batch from one rendering.", min=1)
    ] = None
    learn: Annotated[
        Learn | None,
        _option(
            "network",
            "Train both encoders, or only that of recordings, so that indexes stay valid.",
        ),
    ] = None
    loss: Annotated[
        Loss | None,
        _option("loss", "Learn by InfoNCE, or by ranking audio for MIDI (ranking) or both ways."),
    ] = None
    negatives: Annotated[
        Negatives | None,
        _option("loss", "Compare a match with its batch, or with snippets from outside it."),
    ] = None
    margin: Annotated[
        float | None, _option("loss", "Set the margin of the ranking loss.", min=0, max=2)
    ] = None
    cca: Annotated[
        bool | None,
        _option("loss", "Project the embeddings by CCA after training.", "--cca/--no-cca"),
    ] = None
    batch: Annotated[int | None, _option("loss", "Use this many pairs in a step.", min=2)] = None
    learning_rate: Annotated[
        float | None, _option("loss", "Set the peak learning rate.", min=0)
    ] = None
    epochs: Annotated[int | None, _option("length", "Stop after this many epochs.", min=1)] = None
    epoch_pairs: Annotated[
        int | None,
        _option(
            "length", "Use this many pairs in an epoch; 0 takes every snippet of the grid.", min=0
        ),
    ] = None
    patience: Annotated[
        int | None, _option("length", "Stop after this many epochs without progress.", min=1)
    ] = None

    def applied_to(self, preset: Experiment, seed: int) -> Experiment:
        """Return a preset with these parts and the seed."""
        from mmid.training.augmentation import EFFECTS

        parts = {name: value for name, value in asdict(self).items() if value is not None}
        if self.augment is not None:
            named = {"all": EFFECTS, "none": ()}
            parts["augment"] = named.get(self.augment, tuple(self.augment.split(",")))
        return replace(preset, seed=seed, **parts)


def train(
    library: Folders,
    *,
    run: RunGroup,
    parts: PresetGroup,
    seed: Annotated[int, typer.Option(help="Seed the split and every draw.")] = 0,
    cache: Annotated[
        Path | None,
        typer.Option(help="Cache features in this folder.", show_default="the user's cache folder"),
    ] = None,
    device: Device = "auto",
    jobs: Jobs = None,
) -> None:
    """Train a model on folders of MIDI files.

    Recordings beside MIDI files of the same name and length are used as well.
    torchrun --nproc-per-node 2 -m mmid train ... trains with several processes.
    """
    from mmid.model.encoders import pick_device
    from mmid.training.distributed import one_first, process_group, rank
    from mmid.training.experiment import preset
    from mmid.training.loop import BEST_NAME, describe_epoch, start_run

    experiment = parts.applied_to(preset(run.preset, parts.spectrogram), seed)
    with process_group(pick_device(device)) as own:
        if rank():
            set_loudness(silent=True)
        with one_first():
            corpus = _corpus(experiment, library, run, cache or default_cache(), jobs)
        with progress() as advance:
            for epoch in start_run(run.out, corpus, experiment, own, advance, run.init or []):
                remark(describe_epoch(epoch))
        if not rank():
            typer.echo(run.out / BEST_NAME)


def _corpus(
    experiment: Experiment, library: list[Path], run: RunGroup, cache: Path, jobs: int | None
) -> Corpus:
    from mmid.music.synthesizer import pick_soundfonts
    from mmid.training.corpus import EXCERPTS, prepare_corpus

    held = pick_soundfonts(run.validation_soundfont) if run.validation_soundfont else []
    with progress() as advance:
        corpus = prepare_corpus(
            library,
            run.extra or [],
            pick_soundfonts(run.soundfont),
            cache,
            experiment.features,
            validation_soundfonts=held,
            copies=experiment.copies,
            extra_copies=run.extra_copies,
            performance=experiment.performance,
            excerpt=run.excerpt or EXCERPTS[experiment.performance],
            seed=experiment.seed,
            workers=jobs,
            progress=advance,
        )
    for fault in corpus.faults:
        note(f"left out: {fault}")
    return corpus
