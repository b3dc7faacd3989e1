"""Whether a GPU computes what the CPU does, and how much faster.

``python -m mmid.research.gpu_check`` embeds, indexes, queries and trains on the GPU and on the CPU,
with the packaged model and with a small transcriber of harmonics, and prints both side by side. It
needs nothing but the package: music is the demo's, and what is trained on are its tunes as plain
tones. Where the two differ by more than rounding, it says by how much, and exits with status 1.

Conventions: a device is compared with the CPU as the CPU is used, in bf16 where it has it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory, mkdtemp
from typing import Annotated, TypeVar

import numpy as np
import torch
import typer
from rich.markup import escape
from torch import nn

from mmid.api import Embedding, Index, embed_audio, embed_midi
from mmid.errors import MmidError, label
from mmid.identify.answer import Identification
from mmid.model.checkpoint import Checkpoint, save_checkpoint
from mmid.model.encoders import Encoders, pick_device
from mmid.model.harmonic import HarmonicConfig, HarmonicTranscriber
from mmid.model.loading import load_model
from mmid.model.registry import ASSETS
from mmid.music.audio import stream_audio
from mmid.music.grid import CONCERT_A, FINE, FeatureParams
from mmid.music.log_frequency import A4
from mmid.music.midi import read_midi
from mmid.music.notes import clipped, last_offset
from mmid.music.spectrogram import recording_spectrogram, spectrogram
from mmid.system.console import ProgressCallback, progress, quiet, stdout
from mmid.system.tables import FittingTable
from mmid.training.corpus import feature_arrays, write_features
from mmid.training.experiment import PRESETS, Experiment
from mmid.training.loop import Step, Trainer
from mmid.training.snippet_pairs import PairSource
from mmid.training.tasks import make_task

CPU = torch.device("cpu")

LEAST_COSINE = 0.999
"""Embeddings of one snippet on two devices are at least as near as this."""

SHARED = 0.99
"""Share of snippets in which both devices find something to recognise, at least."""

CONFIDENCE_APART, LOSS_APART = 0.02, 0.01
"""How far confidences may differ, and losses, as a share of the CPU's."""

SECONDS = 60.0
"""Of music embedded at once, made of the demo's recording over and over."""

HARMONIC = "a small transcriber of harmonics"

SMALL = HarmonicConfig(stem=4, fine=12, width=24, again=4)

SPREAD = 8.0
"""How much a random transcriber's log-odds are drawn apart, so that it reports some notes."""

STEPS, WARM = 10, 5
"""Steps trained, and those before speed counts."""

RATE = 2e-4
"""Learning rate: at ten times that, rounding alone sets losses 2 % apart in ten steps."""

QUERIES = 3
"""Tunes whose passages are identified, beside the recording."""

TUNES, TONE_SECONDS, PARTIALS, FADING = 8, 30.0, 4, 3.0
"""Tunes to train on and their length; harmonics of a tone, and how fast it dies away, 1/s."""

Made = TypeVar("Made")


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a device makes of a model.

    Parameters
    ----------
    precision : str
        As of `mmid.model.precision`.
    embeddings : dict of str to Embedding
    answers : dict of str to Identification
    losses : dict of str to float
        Of training.
    speeds : dict of str to float
    """

    precision: str
    embeddings: dict[str, Embedding]
    answers: dict[str, Identification]
    losses: dict[str, float]
    speeds: dict[str, float]


@dataclass(frozen=True)
class Finding:
    """A row of the comparison: what the CPU gave, what the device did, and whether they agree."""

    what: str
    cpu: str
    device: str
    agrees: bool = True


@dataclass(frozen=True)
class Material:
    """The music to try a device with.

    Parameters
    ----------
    folder : Path
        To write to.
    library : Path
        Folder of MIDI files.
    recording : Path
        Of one of them.
    seconds : float
        Of music to embed at once.
    """

    folder: Path
    library: Path
    recording: Path
    seconds: float = SECONDS

    @property
    def tunes(self) -> list[Path]:
        """The MIDI files."""
        return sorted(self.library.iterdir())


def lay_out(folder: Path, seconds: float, tunes: int | None = None) -> Material:
    """Copy the demo's recording and its first so many tunes, and the recorded one, to a folder."""
    demo, library = ASSETS / "demo", folder / "library"
    library.mkdir(parents=True)
    for number, tune in enumerate(sorted((demo / "library").iterdir(), key=_recorded_first)):
        if tunes is None or number < tunes:
            copyfile(tune, library / tune.name)
    return Material(folder, library, demo / "recording.ogg", seconds)


def _recorded_first(tune: Path) -> tuple[bool, str]:
    return tune.stem != "swallowtail-jig", tune.name


def harmonic_model(packaged: Checkpoint, recording: Path, target: Path, seed: int = 0) -> Path:
    """Write a model with a random transcriber of harmonics before the pathways of another.

    Its layers are levelled by a recording, so that what it reports depends on what it is given.
    """
    params = replace(FINE, snippet=packaged.encoders.config.features.snippet)
    config = replace(packaged.encoders.config, features=params, transcriber=SMALL)
    torch.manual_seed(seed)
    encoders = Encoders(config)
    known = encoders.state_dict()
    for name, tensor in packaged.encoders.state_dict().items():
        if name in known and known[name].shape == tensor.shape:
            known[name].copy_(tensor)
    assert isinstance(encoders.transcriber, HarmonicTranscriber)
    _level(encoders.transcriber, recording, params)
    save_checkpoint(target, encoders, packaged.facts)
    return target


@torch.no_grad()
def _level(transcriber: HarmonicTranscriber, recording: Path, params: FeatureParams) -> None:
    """Set the statistics of a transcriber by a recording, and draw what it reports apart."""
    for layer in transcriber.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None  # the mean of all it has seen
    transcriber.train()
    transcriber(recording_spectrogram(recording, params)[None, None])
    transcriber.eval()
    transcriber.head.weight *= SPREAD


def try_model(model: Checkpoint, material: Material) -> Outcome:
    """Embed, index and query with a model, where it is; each once before it is timed."""
    rate = model.encoders.config.features.sample_rate
    sound = np.concatenate(list(stream_audio(material.recording, rate)))
    sound = np.resize(sound, round(material.seconds * rate))
    embedded, heard = _timed(lambda: embed_audio(sound, rate, model), material.seconds)
    folder, tunes = Path(mkdtemp(dir=material.folder)), material.tunes
    midi = [read_midi(tune).seconds for tune in tunes]
    read, written = _timed(lambda: [embed_midi(tune, model) for tune in tunes], sum(midi))
    index = Index.build(folder, material.library, model, replace=True)
    answers, asked = _timed(lambda: _answers(index, material), 1 + QUERIES)
    scores = {tune.stem: one for tune, one in zip(tunes, read, strict=True)}
    speeds = {
        "sound embedded, s/s": heard,
        "MIDI embedded, s/s": written,
        "queries/s": asked,
    }
    embeddings = {"the recording": embedded} | scores
    return Outcome(model.encoders.precision.name, embeddings, answers, {}, speeds)


def _answers(index: Index, material: Material) -> dict[str, Identification]:
    """Identify the recording, and passages of some of the tunes."""
    found = {"the recording": index.identify(material.recording)}
    for tune in material.tunes[:QUERIES]:
        found[tune.stem] = index.identify(tune, start=2.0, duration=10.0)
    return found


def _timed(run: Callable[[], Made], amount: float) -> tuple[Made, float]:
    """Return what a function gives the second time, and how much of its work it does a second."""
    run()
    began = time.perf_counter()
    made = run()
    return made, amount / (time.perf_counter() - began)


def tones(notes: np.ndarray, sample_rate: int) -> np.ndarray:
    """Play notes as tones of a few harmonics that die away.

    Returns
    -------
    np.ndarray [samples] float32
    """
    sound = np.zeros(round((last_offset(notes) + 1) * sample_rate), np.float32)
    for row in notes:
        first, last = round(row["onset"] * sample_rate), round(row["offset"] * sample_rate)
        times = np.arange(last - first) / sample_rate
        hertz = CONCERT_A * 2 ** ((float(row["pitch"]) - A4) / 12)
        for harmonic in range(1, PARTIALS + 1):
            wave = np.sin(2 * np.pi * harmonic * hertz * times) / harmonic
            sound[first:last] += (wave * np.exp(-FADING * times)).astype(np.float32)
    return sound


def render(material: Material, params: FeatureParams) -> list[Path]:
    """Write what is trained on: the beginnings of tunes as tones, and their notes."""
    written = []
    for tune in material.tunes[:TUNES]:
        notes = clipped(read_midi(tune).notes, 0.0, TONE_SECONDS)
        sound = torch.from_numpy(tones(notes, params.sample_rate))
        written.append(material.folder / f"{tune.stem} {params.scale}.safetensors")
        write_features(written[-1], feature_arrays(notes, spectrogram(sound, params)))
    return written


def try_training(
    experiment: Experiment, rendered: Sequence[Path], folder: Path, device: torch.device
) -> Outcome:
    """Train `STEPS` steps, and validate on what was trained on."""
    margin = experiment.model.reach if experiment.task == "retrieval" else 0
    targets = experiment.task == "transcription" and experiment.spectrogram == "fine"
    source = PairSource(rendered, experiment.features, None, margin=margin, targets=targets)
    task = make_task(experiment, device)
    trainer, at = Trainer(folder, task, experiment, {}), list[float]()

    def passed(step: Step) -> None:
        at.append(time.perf_counter())

    [epoch] = trainer.run(source, source, passed)
    speed = (STEPS - WARM) * experiment.batch / (at[-1] - at[WARM - 1])
    losses = {"loss": epoch.loss, "validation loss": epoch.valid.loss}
    return Outcome(task.precision.name, {}, {}, losses, {"pairs/s": speed})


def experiments(model: Checkpoint) -> dict[str, Experiment]:
    """Return what is trained: pathways like the model's from random weights, and a transcriber."""
    config = model.encoders.config
    pathways = Experiment(
        encoder="notes" if config.transcriber else "conv",
        spectrogram=config.features.scale,
        batch=16,
        validation_pairs=16,
    )
    transcriber = replace(PRESETS["transcription"], spectrogram="fine", batch=4, validation_pairs=8)
    return {
        title: replace(
            plan, epochs=1, epoch_pairs=STEPS * plan.batch, learning_rate=RATE, augment=()
        )
        for title, plan in (
            ("training pathways", pathways),
            ("training a transcriber", transcriber),
        )
    }


def compare(cpu: Outcome, other: Outcome) -> list[Finding]:
    """Set what a device gives beside what the CPU does."""
    found = [Finding("precision", cpu.precision, other.precision)]
    if cpu.embeddings:
        found.append(_nearness(cpu.embeddings, other.embeddings))
    found += [_answer(n, one, other.answers[n]) for n, one in cpu.answers.items()]
    for name, loss in cpu.losses.items():
        agrees = abs(other.losses[name] - loss) <= LOSS_APART * abs(loss)
        found.append(Finding(name, f"{loss:.4f}", f"{other.losses[name]:.4f}", agrees))
    for name, speed in cpu.speeds.items():
        found.append(Finding(name, f"{speed:.3g}", f"{other.speeds[name]:.3g}"))
    return found


def _nearness(cpu: dict[str, Embedding], other: dict[str, Embedding]) -> Finding:
    """Compare the embeddings of all music, snippet by snippet."""
    cosines, count = [], 0
    for name, one in cpu.items():
        _, mine, its = np.intersect1d(one.times, other[name].times, return_indices=True)
        cosines.append((one.vectors[mine] * other[name].vectors[its]).sum(1))
        count += max(len(one.times), len(other[name].times))
    shared, lowest = sum(map(len, cosines)), float(np.concatenate(cosines).min(initial=1.0))
    agrees = lowest >= LEAST_COSINE and shared >= SHARED * count
    return Finding(
        "lowest cosine", f"of {count} snippets", f"{lowest:.5f}, {shared} shared", agrees
    )


def _answer(name: str, cpu: Identification, other: Identification) -> Finding:
    """Compare two answers: what was found, and how confidently."""
    (piece, confidence), (its, others) = _first(cpu), _first(other)
    same = cpu.matched == other.matched and (piece == its or not cpu.matched)
    agrees = same and abs(confidence - others) <= CONFIDENCE_APART
    return Finding(name, f"{piece} {confidence:.3f}", f"{its} {others:.3f}", agrees)


def _first(answer: Identification) -> tuple[str, float]:
    if not answer.matches:
        return "nothing", 0.0
    best = answer.matches[0]
    return (best.piece if answer.matched else "not found"), best.confidence


def check(
    device: torch.device,
    material: Material,
    model: str | None = None,
    advance: ProgressCallback = quiet,
) -> dict[str, list[Finding]]:
    """Compare a device with the CPU.

    Parameters
    ----------
    device : torch.device
    material : Material
    model : str, optional
        As `mmid.model.loading.load_model` takes it.
    advance : callable
        Called with ``(what, done, total)``.

    Returns
    -------
    dict of str to list of Finding
        Of each model and each way to train.

    Raises
    ------
    MmidError
        If the device computes wrongly, or its memory does not do.
    """
    packaged, folder = load_model(model), material.folder
    harmonic = harmonic_model(packaged, material.recording, folder / "harmonic.safetensors")
    plans, found = experiments(load_model()), dict[str, list[Finding]]()
    named = {model or "the packaged model": model, HARMONIC: str(harmonic)}
    for title, name in named.items():
        sides = [try_model(load_model(name, at), material) for at in (CPU, device)]
        found[title] = compare(*sides)
        advance("Comparing", len(found), len(named) + len(plans))
    for title, plan in plans.items():
        rendered = render(material, plan.features)
        runs = {folder / f"{title} 1": CPU, folder / f"{title} 2": device}
        sides = [try_training(plan, rendered, run, at) for run, at in runs.items()]
        found[title] = compare(*sides)
        advance("Comparing", len(found), len(named) + len(plans))
    return found


def table(title: str, findings: Sequence[Finding], device: str) -> FittingTable:
    """Return findings, one a row; those that do not agree are marked."""
    shown = FittingTable(title=escape(label(title)))
    shown.add_name_column()
    shown.add_column("cpu", justify="right")
    shown.add_column(escape(device), justify="right")
    shown.add_column("")
    for one in findings:
        mark = "" if one.agrees else "differs"
        shown.add_row(escape(one.what), escape(one.cpu), escape(one.device), mark)
    return shown


def differences(found: dict[str, list[Finding]]) -> list[str]:
    """Return what differs, a line each."""
    return [
        f"{title}: {one.what} differs: {one.cpu} on the CPU, {one.device} on the device"
        for title, findings in found.items()
        for one in findings
        if not one.agrees
    ]


def main(
    device: Annotated[str, typer.Option(help="cuda, cuda:1, mps, or cpu.")] = "cuda",
    model: Annotated[str | None, typer.Option(help="Instead of the packaged one.")] = None,
    seconds: Annotated[float, typer.Option(min=10.0, help="Of sound embedded at once.")] = SECONDS,
    tunes: Annotated[
        int | None, typer.Option(min=TUNES, help="Of the demo; all by default.")
    ] = None,
) -> None:
    """Compare what a GPU computes with what the CPU does, and how fast."""
    try:
        chosen = _pick(device)
        with TemporaryDirectory() as folder, progress() as advance:
            material = lay_out(Path(folder), seconds, tunes)
            found = check(chosen, material, model, advance)
    except MmidError as error:
        typer.echo(f"mmid: {error}", err=True)
        raise typer.Exit(1) from None
    for title, findings in found.items():
        stdout.print(table(title, findings, device))
    differing = differences(found)
    for line in differing:
        typer.echo(f"mmid: {line}", err=True)
    raise typer.Exit(1 if differing else 0)


def _pick(name: str) -> torch.device:
    try:
        return pick_device(name)
    except MmidError as error:
        raise MmidError(
            f"PyTorch finds no device {name!r} here; --device cpu compares the CPU with itself"
        ) from error


if __name__ == "__main__":
    typer.run(main)
