"""What distinguishes training runs: a flat record, and the presets that have names.

Conventions: every field is an option of ``mmid train`` of the same name; a preset is a record.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from mmid.errors import MmidError
from mmid.model.encoders import ModelConfig, TranscriberShape
from mmid.model.harmonic import HarmonicConfig
from mmid.model.pathways import DorferConfig, fit_config
from mmid.model.transcriber import TranscriberConfig
from mmid.music.grid import FINE, FeatureParams
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
from mmid.training.augmentation import EFFECTS, USUAL, Augmentation


@dataclass(frozen=True)
class Experiment:
    """How to train.

    Parameters
    ----------
    task : {"retrieval", "transcription", "audio-autoencoder", "midi-autoencoder"}
        Both pathways together, the notes that sound, or one modality by itself.
    encoder : {"notes", "conv", "dorfer"}
        mmid's pathways, the audio one taking the notes that a transcriber gives or the spectrogram
        itself; or those of Dorfer et al. 2017.
    spectrogram : {"log", "mel", "fine"}
        Spacing of the spectrogram's bands; on the fine ones the transcriber is that of harmonics.
    roll_rate : {"exact", "adaptive"}
        Frame rate of the piano roll.
    onsets, unstacked : bool
        Whether the roll has a channel of onsets, and channels of its own for every family.
    snippet : int
        Frames a snippet spans.
    performance : {"varied", "plain", "mixed"}
        Renderings in other tempi, keys, instruments and rooms, just as written, or as mixtures.
    copies : int
        Renderings of each piece, each with the next soundfont.
    augment : tuple of str
        Effects on the snippets, from `mmid.training.augmentation.EFFECTS`.
    sampling : {"random", "grid"}
        Where snippets begin: anywhere, or end to end.
    neighbours : int
        Snippets a batch takes from one rendering.
    loss : {"info-nce", "ranking", "ranking-both"}
        Symmetric InfoNCE, or pairwise ranking from MIDI to audio alone or both ways.
    negatives : {"batch", "sampled"}
        What a match is compared with: the rest of the batch, or as many snippets from outside it.
    margin : float
        Of the ranking loss.
    learn : {"both", "audio"}
        Both pathways, or the audio pathway alone, so that indexes stay as they are.
    cca : bool
        Whether the best embeddings are projected by canonical correlation analysis.
    optimizer : {"adamw", "adam"}
    learning_rate, weight_decay : float
    schedule : {"decay", "hold", "constant"}
        A short rise and a linear fall of the rate, which may begin late, or none.
    clip : float
        Longest gradient that is not shortened to it; 0 for none.
    average : float
        What a step leaves of the mean weights, which are judged and stored; 0 for no mean.
    batch : int
        Pairs a step.
    epochs, epoch_pairs : int
        Length of the run: epochs of so many pairs; 0 is one sweep through the grid.
    patience : int
        Epochs without a better validation before the run stops.
    validation_pairs : int
        Size of the validation pool.
    seed : int
        Of the split and every draw.

    Raises
    ------
    MmidError
        If choices do not go together.
    """

    task: Task = "retrieval"
    encoder: Encoder = "notes"
    spectrogram: Scale = "log"
    roll_rate: RollRate = "exact"
    onsets: bool = True
    unstacked: bool = False
    snippet: int = 42
    performance: Performance = "varied"
    copies: int = 4
    augment: tuple[str, ...] = USUAL
    sampling: Sampling = "random"
    neighbours: int = 4
    loss: Loss = "info-nce"
    negatives: Negatives = "batch"
    margin: float = 0.7
    learn: Learn = "both"
    cca: bool = True
    optimizer: Literal["adamw", "adam"] = "adamw"
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    schedule: Literal["decay", "hold", "constant"] = "decay"
    clip: float = 0.0
    average: float = 0.0
    batch: int = 512
    epochs: int = 40
    epoch_pairs: int = 50_000
    patience: int = 10
    validation_pairs: int = 1_000
    seed: int = 0

    def __post_init__(self) -> None:
        unknown = sorted(set(self.augment) - set(EFFECTS))
        if unknown:
            raise MmidError(f"no effect {unknown[0]!r}: give some of {', '.join(EFFECTS)}, or none")
        if self.loss == "info-nce" and self.negatives == "sampled":
            raise MmidError("InfoNCE needs negatives from the batch: give --loss ranking")
        if self.sampling == "random" and not self.epoch_pairs:
            raise MmidError("random snippets have no end: give --epoch-pairs")
        if self.spectrogram == "fine" and not (
            self.task == "transcription" or (self.task == "retrieval" and self.encoder == "notes")
        ):
            raise MmidError(
                "the fine spectrogram is a transcriber's: leave --encoder and --task out"
            )
        if self.encoder == "dorfer" and self.snippet < 2**4:
            raise MmidError("four poolings by two need snippets of at least 16 frames")

    @property
    def features(self) -> FeatureParams:
        """The grid."""
        grid = FINE if self.spectrogram == "fine" else FeatureParams(scale=self.spectrogram)
        return replace(
            grid,
            onsets=self.onsets,
            unstacked=self.unstacked,
            roll_rate=self.roll_rate,
            snippet=self.snippet,
        )

    @property
    def model(self) -> ModelConfig:
        """The grid and both pathways."""
        pathway = DorferConfig() if self.encoder == "dorfer" else fit_config(self.snippet)
        transcriber = self.transcriber if self.encoder == "notes" else None
        return ModelConfig(self.features, pathway, pathway, self.cca, transcriber)

    @property
    def transcriber(self) -> TranscriberShape:
        """The transcriber of the spectrogram."""
        return HarmonicConfig() if self.spectrogram == "fine" else TranscriberConfig()

    @property
    def augmentation(self) -> Augmentation:
        """The effects on the snippets."""
        return Augmentation.only(self.augment)


PRESETS: dict[Preset, Experiment] = {
    "default": Experiment(),
    "transcription": Experiment(
        task="transcription",
        snippet=128,
        augment=tuple(effect for effect in USUAL if effect not in ("mismatch", "shift")),
        neighbours=1,
        cca=False,
        batch=24,
        epochs=20,
        epoch_pairs=4_800,
        validation_pairs=192,
    ),
    "report-2020": Experiment(
        encoder="dorfer",
        spectrogram="mel",
        roll_rate="adaptive",
        onsets=False,
        performance="plain",
        copies=1,
        augment=(),
        sampling="grid",
        neighbours=1,
        loss="ranking",
        negatives="sampled",
        cca=False,
        optimizer="adam",
        weight_decay=1e-5,
        schedule="constant",
        batch=64,
        epochs=200,
        epoch_pairs=0,
        patience=200,
    ),
}
"""mmid's own ways to train pathways and their transcriber, and that of the 2020 report."""

FINE_TRANSCRIPTION = replace(
    PRESETS["transcription"],
    spectrogram="fine",
    snippet=72,
    performance="mixed",
    augment=("semitones", "equalizer", "gain", "noise"),
    weight_decay=1e-3,
    schedule="hold",
    clip=1.0,
    average=0.998,
    batch=4,
)
"""How a transcriber of harmonics learns: from mixtures, in many small steps."""


def preset(name: Preset, spectrogram: Scale | None = None) -> Experiment:
    """Return the experiment of a name; how to transcribe is learned depends on the spectrogram."""
    if name == "transcription" and spectrogram == "fine":
        return FINE_TRANSCRIPTION
    return PRESETS[name]
