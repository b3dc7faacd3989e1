"""What a run learns: to bring matching snippets together, to transcribe, or to give snippets back.

Conventions: a task owns its network, says the loss of a batch, and judges the network on
validation snippets; a higher score is better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mmid.errors import ModelError
from mmid.model.checkpoint import load_tensors, save_checkpoint, save_tensors
from mmid.model.encoders import Encoders, build_transcriber
from mmid.model.harmonic import HarmonicTranscriber, fine_notes
from mmid.model.loading import load_model
from mmid.model.metrics import Retrieval, onset_f1, ranks, summarize
from mmid.model.precision import Network, Precision, settle
from mmid.model.transcriber import LOWEST, PITCHES, SHORTEST
from mmid.training.autoencoder import Autoencoder, AutoencoderConfig, Side, draw_reconstructions
from mmid.training.distributed import gathered
from mmid.training.experiment import Experiment
from mmid.training.losses import info_nce, pairwise_ranking, triplet_ranking
from mmid.training.note_targets import target_loss
from mmid.training.snippet_pairs import Batch, PairSource

MAX_SCALE = 100.0
PICTURE_NAME, PICTURED = "reconstructions.png", 12

WITH_TRANSCRIBERS = (None, "mmid-3")
"""Packaged models with a transcriber: the default one, and that of log spectrograms."""


@dataclass(frozen=True)
class Verdict:
    """A network's figures on validation snippets.

    Parameters
    ----------
    score : float
        The best epoch has the highest.
    loss : float
    audio_to_midi, midi_to_audio : Retrieval or None
        Of the snippets in a fixed pool, where they are retrieved.
    onset_f1 : dict of str to float
        Of the notes transcribed in renderings of each kind, where they are.
    """

    score: float
    loss: float
    audio_to_midi: Retrieval | None = None
    midi_to_audio: Retrieval | None = None
    onset_f1: dict[str, float] = field(default_factory=dict)

    def scalars(self) -> dict[str, float]:
        """Return the figures by the names TensorBoard shows."""
        figures = {"loss/valid": self.loss}
        for name, way in (
            ("audio to midi", self.audio_to_midi),
            ("midi to audio", self.midi_to_audio),
        ):
            if way:
                figures |= {f"mrr/{name}": way.mrr, f"recall@1/{name}": way.recall[1]}
        return figures | {f"onset F1/{kind}": f1 for kind, f1 in self.onset_f1.items()}


class Task(Protocol):
    """What the training loop needs of a task."""

    @property
    def network(self) -> nn.Module:
        """The network to train."""

    @property
    def precision(self) -> Precision:
        """How it is computed, found out before it is trained."""

    def loss(self, batch: Batch) -> Tensor:
        """Return the loss of a batch."""

    def judge(self, source: PairSource) -> Verdict:
        """Return the figures on validation snippets, the same ones every time."""

    def save(self, path: Path, facts: dict[str, Any]) -> None:
        """Write the weights, and what else shows how good they are."""


class Matching:
    """Both pathways, trained to put matching snippets side by side.

    Parameters
    ----------
    experiment : Experiment
    device : torch.device
    """

    def __init__(self, experiment: Experiment, device: torch.device) -> None:
        self._experiment = experiment
        self.network = Encoders(experiment.model).to(device)
        if experiment.learn == "audio":
            self.network.freeze_roll()

    @property
    def precision(self) -> Precision:
        """How both pathways are computed, and the transcriber before them."""
        return self.network.precision

    def _hear(self, batch: Batch) -> Tensor:
        return self.network.embed_audio(batch.audio.to(self.network.device))

    def _read(self, batch: Batch) -> Tensor:
        return self.network.embed_rolls(batch.rolls.to(self.network.device))

    def _embed_both(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return self._hear(batch), self._read(batch)

    def loss(self, batch: Batch) -> Tensor:
        """Return the loss of a batch."""
        return self._loss(batch, *self._embed_both(batch))

    def _loss(self, batch: Batch, sound: Tensor, read: Tensor) -> Tensor:
        if self.network.training and batch.contrast is None:  # the others' rows are negatives, too
            batch = replace(batch, rolls=gathered(batch.rolls.to(sound.device)))
            sound, read = gathered(sound), gathered(read)
        if self._experiment.loss == "info-nce":
            scale = self.network.log_scale.exp().clamp_max(MAX_SCALE)
            return info_nce(sound, read, scale, batch.repeats().to(sound.device))
        loss = self._ranking(batch, read, sound, "audio")
        if self._experiment.loss == "ranking":
            return loss
        return (loss + self._ranking(batch, sound, read, "roll")) / 2

    def _ranking(self, batch: Batch, anchor: Tensor, match: Tensor, side: Side) -> Tensor:
        """Rank the snippets of one side for each anchor of the other."""
        margin, contrast = self._experiment.margin, batch.contrast
        if contrast is None:
            return pairwise_ranking(anchor, match, margin, batch.repeats().to(anchor.device))
        other = self._hear(contrast) if side == "audio" else self._read(contrast)
        return triplet_ranking(anchor, match, other, margin)

    @torch.inference_mode()
    def judge(self, source: PairSource) -> Verdict:
        """Rank a fixed pool of plain pairs in both directions: audio to MIDI, MIDI to audio."""
        self.network.eval()
        pairs = self._experiment.validation_pairs
        sound, read, losses = [], [], []
        for batch in validation_batches(source, self._experiment):
            sides = self._embed_both(batch)
            losses.append(self._loss(batch, *sides).item())
            sound.append(sides[0])
            read.append(sides[1])
        scores = torch.cat(sound)[:pairs] @ torch.cat(read)[:pairs].T
        ways = summarize(ranks(scores)), summarize(ranks(scores.T))
        return Verdict((ways[0].mrr + ways[1].mrr) / 2, sum(losses) / len(losses), *ways)

    def save(self, path: Path, facts: dict[str, Any]) -> None:
        """Write the weights as a checkpoint."""
        save_checkpoint(path, self.network, facts)


def validation_batches(source: PairSource, experiment: Experiment) -> list[Batch]:
    """Return the same plain batches every time: the validation pool, or the grid if it is less."""
    pairs = min(experiment.validation_pairs, source.labels or experiment.validation_pairs)
    count = -(-pairs // experiment.batch)
    return list(source.batches(-(-pairs // count), count, seed=0))


class Transcription:
    """The transcriber that a model's audio pathway takes its notes from, learned before it.

    Parameters
    ----------
    experiment : Experiment
    device : torch.device
    """

    def __init__(self, experiment: Experiment, device: torch.device) -> None:
        self._experiment, self._device = experiment, device
        self._config = experiment.transcriber
        transcriber = build_transcriber(experiment.features, self._config)
        self.network = nn.ModuleDict({"transcriber": transcriber}).to(device)

    @cached_property
    def precision(self) -> Precision:
        """How the transcriber is computed."""
        bands = self._experiment.features.bands
        transcriber = Network(self.network["transcriber"], 1, bands, SHORTEST)
        return settle([transcriber], self._device, learning=True)

    def loss(self, batch: Batch) -> Tensor:
        """Return the cross-entropy of the notes sounding and beginning, nats a pitch and frame."""
        with self.precision.autocast():
            log_odds = self.network["transcriber"](batch.audio.to(self._device))
        written = batch.rolls[:, :, LOWEST : LOWEST + PITCHES].to(self._device)
        return nn.functional.binary_cross_entropy_with_logits(log_odds, written)

    @torch.inference_mode()
    def judge(self, source: PairSource) -> Verdict:
        """Return the loss on the validation snippets."""
        self.network.eval()
        batches = validation_batches(source, self._experiment)
        loss = sum(self.loss(batch).item() for batch in batches) / len(batches)
        return Verdict(-loss, loss)

    def save(self, path: Path, facts: dict[str, Any]) -> None:
        """Write the weights, for a run of the pathways to begin with."""
        header = {"config": self._config.to_dict(), "facts": facts}
        save_tensors(path, self.network.state_dict(), header)


CLIPS, CLIP_FRAMES = 16, 512
"""Renderings of each kind whose notes are compared, and how much of each."""


class HarmonicTranscription(Transcription):
    """The transcriber of harmonics, which also learns offsets and melodies, all twice a frame.

    Parameters
    ----------
    experiment : Experiment
    device : torch.device
    """

    def __init__(self, experiment: Experiment, device: torch.device) -> None:
        super().__init__(experiment, device)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _outputs(self, spectrograms: Tensor) -> Tensor:
        transcriber = self.network["transcriber"]
        assert isinstance(transcriber, HarmonicTranscriber)
        with self.precision.autocast():
            return transcriber.outputs(spectrograms.to(self._device))

    def loss(self, batch: Batch) -> Tensor:
        """Return the weighted cross-entropy of its outputs, nats a pitch and half frame."""
        assert batch.targets is not None and batch.melody_known is not None
        log_odds = self._outputs(batch.audio)
        known = batch.melody_known.to(self._device)
        return target_loss(log_odds, batch.targets.to(self._device), known)

    @torch.inference_mode()
    def judge(self, source: PairSource) -> Verdict:
        """Return the loss on the validation snippets, and how many notes of each kind it finds."""
        verdict = super().judge(source)
        found: dict[str, list[float]] = {}
        for clip in source.clips(CLIPS, CLIP_FRAMES):
            transcribed = fine_notes(self._outputs(clip.bands[None, None])[0])
            pitch = clip.notes["pitch"]
            written = clip.notes[(pitch >= LOWEST) & (pitch < LOWEST + PITCHES)]
            found.setdefault(clip.kind or "other", []).append(onset_f1(written, transcribed))
        means = {kind: sum(values) / len(values) for kind, values in sorted(found.items())}
        return replace(verdict, onset_f1=means)


class Reconstruction:
    """One modality's autoencoder.

    Parameters
    ----------
    experiment : Experiment
    device : torch.device
    """

    def __init__(self, experiment: Experiment, device: torch.device) -> None:
        self._experiment = experiment
        audio = experiment.task == "audio-autoencoder"
        config = AutoencoderConfig("audio" if audio else "roll", experiment.features)
        self.network = Autoencoder(config).to(device)
        self._pictured: tuple[Tensor, Tensor] | None = None

    @cached_property
    def precision(self) -> Precision:
        """How the autoencoder is computed."""
        whole = Network(self.network, *self.network.config.shape, grows=False)
        return settle([whole], self.network.device, learning=True)

    def _run(self, batch: Batch) -> tuple[Tensor, Tensor]:
        device, audio = self.network.device, self.network.config.side == "audio"
        snippets = (batch.audio if audio else batch.rolls).to(device)
        with self.precision.autocast():
            return snippets, self.network(snippets).float()

    def loss(self, batch: Batch) -> Tensor:
        """Return the mean squared error of a batch."""
        return nn.functional.mse_loss(*self._run(batch))

    @torch.inference_mode()
    def judge(self, source: PairSource) -> Verdict:
        """Return the mean squared error of the validation snippets."""
        self.network.eval()
        losses = []
        for batch in validation_batches(source, self._experiment):
            snippets, outputs = self._run(batch)
            losses.append(nn.functional.mse_loss(snippets, outputs).item())
        self._pictured = snippets[:PICTURED], outputs[:PICTURED]
        loss = sum(losses) / len(losses)
        return Verdict(-loss, loss)

    def save(self, path: Path, facts: dict[str, Any]) -> None:
        """Write the weights, and a picture of snippets and their reconstructions beside them."""
        header = {"config": self.network.config.to_dict(), "facts": facts}
        save_tensors(path, self.network.state_dict(), header)
        if self._pictured:
            draw_reconstructions(path.with_name(PICTURE_NAME), *self._pictured)


def _matching(experiment: Experiment, device: torch.device, init: Sequence[Path]) -> Matching:
    """Make pathways; those that take notes get a trained transcriber: init's or a packaged one.

    Raises
    ------
    ModelError
        If none is of the experiment's spectrograms.
    """
    task = Matching(experiment, device)
    transcriber = task.network.transcriber
    if transcriber and not any(_brings(path, transcriber) for path in init):
        packaged = _packaged_transcriber(experiment, device)
        transcriber.load_state_dict(packaged.state_dict())
    return task


def _packaged_transcriber(experiment: Experiment, device: torch.device) -> nn.Module:
    """Return the first packaged transcriber of an experiment's spectrograms."""
    for name in WITH_TRANSCRIBERS:
        packaged = load_model(name, device).encoders
        grid = packaged.config.features
        if packaged.transcriber and (
            grid.spectrogram_values == experiment.features.spectrogram_values
        ):
            return packaged.transcriber
    raise ModelError(
        "pathways that take notes need a transcriber of these spectrograms: train one"
        " with --preset transcription and give it with --init, or choose --encoder conv"
    )


def _brings(path: Path, transcriber: nn.Module) -> bool:
    """Return whether a checkpoint holds the weights of a transcriber of this shape."""
    held = load_tensors(path)[0]
    wanted = {f"transcriber.{name}": t.shape for name, t in transcriber.state_dict().items()}
    return all(name in held and held[name].shape == shape for name, shape in wanted.items())


def make_task(experiment: Experiment, device: torch.device, init: Sequence[Path] = ()) -> Task:
    """Make the task of an experiment, with fresh weights drawn by its seed.

    Parameters
    ----------
    experiment : Experiment
    device : torch.device
    init : sequence of Path
        Checkpoints, also of autoencoders, whose weights of the same name and shape are taken.
        Pathways that take notes get the transcriber of a packaged model if none brings one.

    Raises
    ------
    ModelError
        If a checkpoint cannot be read, or nothing in it fits.
    """
    torch.manual_seed(experiment.seed)
    if experiment.task == "transcription":
        fine = experiment.spectrogram == "fine"
        task: Task = (HarmonicTranscription if fine else Transcription)(experiment, device)
    elif experiment.task == "retrieval":
        task = _matching(experiment, device, init)
    else:
        task = Reconstruction(experiment, device)
    for path in init:
        start_from(task.network, path)
    return task


def start_from(network: nn.Module, path: Path) -> int:
    """Take over the weights of a checkpoint that fit; return how many tensors those are.

    An audio pathway that takes notes, as the roll's does, begins like the checkpoint's roll pathway
    if the checkpoint's own does not fit.
    """
    known, tensors = network.state_dict(), load_tensors(path)[0]

    def fits(name: str) -> bool:
        return name in known and known[name].shape == tensors[name].shape

    if not all(fits(name) for name in tensors if name.startswith("audio.") and name in known):
        rolls = {n.replace("roll.", "audio.", 1): t for n, t in tensors.items() if "roll." in n}
        tensors |= rolls
    fitting = {name: tensor for name, tensor in tensors.items() if fits(name)}
    if not any(tensor.ndim > 1 for tensor in fitting.values()):
        raise ModelError(f"{path}: none of its weights fit; was it trained with the same encoder?")
    network.load_state_dict(known | fitting)
    return len(fitting)
