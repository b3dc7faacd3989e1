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
        typer.Option(help="More MIDI to train on, never to test; may be repeated."),
    ] = None
    out: Annotated[Path, typer.Option(help="Folder of the run; a run there goes on.")] = Path(
        "mmid-run"
    )
    preset: Annotated[
        Preset, typer.Option(help="A way to train; the options below replace parts of it.")
    ] = "default"
    init: Annotated[
        list[Path] | None,
        typer.Option(help="A checkpoint to begin with, also an autoencoder's; may be repeated."),
    ] = None
    soundfont: Soundfonts = None
    validation_soundfont: Annotated[
        list[str] | None,
        typer.Option(help="Renders what is validated on, and nothing else; may be repeated."),
    ] = None
    extra_copies: Annotated[int, typer.Option(min=1, help="Renderings of each extra piece.")] = 1
    excerpt: Annotated[
        float | None,
        typer.Option(
            min=4, help="Longest part rendered, seconds.", show_default="90, of mixtures 15"
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class PresetGroup:
    """Parts of the preset that are replaced; None leaves the preset's."""

    task: Annotated[Task | None, _option("network", "What is learned.")] = None
    encoder: Annotated[Encoder | None, _option("network", "Whose pathways.")] = None
    spectrogram: Annotated[Scale | None, _option("features", "Spacing of the bands.")] = None
    roll_rate: Annotated[
        RollRate | None,
        _option("features", "Frame rate: the audio's, or the 2020 report's."),
    ] = None
    onsets: Annotated[
        bool | None, _option("features", "A channel of onsets.", "--onsets/--no-onsets")
    ] = None
    unstacked: Annotated[
        bool | None,
        _option("features", "Channels for each instrument family.", "--unstacked/--stacked"),
    ] = None
    snippet: Annotated[
        int | None, _option("features", "Snippet length, frames.", min=10, max=200)
    ] = None
    performance: Annotated[
        Performance | None,
        _option("data", "Renderings of many kinds, as written, or mixtures with drums and voices."),
    ] = None
    copies: Annotated[int | None, _option("data", "Renderings of each piece.", min=1)] = None
    augment: Annotated[
        str | None,
        _option("data", "Effects: all, none, or some of them, such as noise,mismatch."),
    ] = None
    sampling: Annotated[Sampling | None, _option("data", "Where snippets begin.")] = None
    neighbours: Annotated[
        int | None, _option("data", "Snippets of a batch from one rendering.", min=1)
    ] = None
    learn: Annotated[
        Learn | None,
        _option("network", "Both pathways, or the audio one, which leaves indexes as they are."),
    ] = None
    loss: Annotated[Loss | None, _option("loss", "What is minimised.")] = None
    negatives: Annotated[
        Negatives | None, _option("loss", "What a match is compared with, in a ranking.")
    ] = None
    margin: Annotated[float | None, _option("loss", "Of the ranking loss.", min=0, max=2)] = None
    cca: Annotated[
        bool | None,
        _option("loss", "Project the best embeddings by CCA in the end.", "--cca/--no-cca"),
    ] = None
    batch: Annotated[int | None, _option("loss", "Pairs a step.", min=2)] = None
    learning_rate: Annotated[float | None, _option("loss", "Peak learning rate.", min=0)] = None
    epochs: Annotated[int | None, _option("length", "Epochs at most.", min=1)] = None
    epoch_pairs: Annotated[
        int | None, _option("length", "Pairs an epoch; 0 is a sweep of the grid.", min=0)
    ] = None
    patience: Annotated[int | None, _option("length", "Epochs without progress.", min=1)] = None

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
