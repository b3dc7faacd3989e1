"""The model: two pathways from snippets to a shared unit sphere, a transcriber before one of them.

Conventions: audio input is ``[batch, 1, bands, frames]``, roll input ``[batch, channels, pitches,
frames]``. Time is never padded inside a pathway, so one pass over a whole recording gives the
same embeddings as a pass over each snippet; they lie `stride` frames apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from mmid.errors import MmidError
from mmid.model.batching import in_parts
from mmid.model.harmonic import MEMORY, HarmonicConfig, HarmonicTranscriber
from mmid.model.pathways import (
    ACTIVATIONS,
    DorferConfig,
    EncoderConfig,
    PathwayConfig,
    Projected,
    build_pathway,
)
from mmid.model.precision import Network, Precision, settle
from mmid.model.transcriber import (
    CHANNELS,
    SHORTEST,
    Transcriber,
    TranscriberConfig,
    layer_shapes,
    transcribe,
    transcribed_rolls,
)
from mmid.music.grid import FeatureParams
from mmid.music.log_frequency import HALVES

TranscriberShape: TypeAlias = TranscriberConfig | HarmonicConfig

BLOCK = 2_048
"""Embeddings computed in one pass over a long recording; bounds memory. Less where it is short."""

LENGTH_BITS = 4
"""Binary digits of a pass's length: eight lengths an octave, a twentieth more to compute."""


def _pathway_config(values: dict[str, Any]) -> PathwayConfig:
    parts = layer_shapes({name: value for name, value in values.items() if name != "activation"})
    if "blocks" in parts:
        return DorferConfig(**parts)
    activation = values.get("activation", "elu")
    if activation not in ACTIVATIONS:
        raise ValueError(f"no activation {activation!r}")
    return EncoderConfig(**parts, activation=activation)


@dataclass(frozen=True)
class ModelConfig:
    """Everything that shapes the weights.

    Parameters
    ----------
    features : FeatureParams
    audio, roll : PathwayConfig
    cca : bool
        Whether a projection follows both pathways.
    transcriber : TranscriberConfig, HarmonicConfig or None
        Whether the audio pathway takes the transcribed notes rather than the spectrogram. One of
        harmonics goes with the grid `mmid.music.grid.FINE`, another with none of its scale.
    """

    features: FeatureParams = field(default_factory=FeatureParams)
    audio: PathwayConfig = field(default_factory=EncoderConfig)
    roll: PathwayConfig = field(default_factory=EncoderConfig)
    cca: bool = False
    transcriber: TranscriberShape | None = None

    def __post_init__(self) -> None:
        fine = self.features.scale == "fine"
        if fine != isinstance(self.transcriber, HarmonicConfig):
            raise ValueError("a transcriber and a spectrogram that do not go together")

    @property
    def reach(self) -> int:
        """Frames on either side of an audio snippet that its embedding depends on."""
        return self.transcriber.reach if self.transcriber else 0

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as JSON-ready names and values."""
        return {
            "features": self.features.to_dict(),
            "audio": self.audio.to_dict(),
            "roll": self.roll.to_dict(),
            "cca": self.cca,
            "transcriber": self.transcriber.to_dict() if self.transcriber else None,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelConfig:
        """Rebuild a configuration that `to_dict` gave."""
        transcriber = values.get("transcriber")
        return cls(
            FeatureParams.from_dict(values["features"]),
            _pathway_config(values["audio"]),
            _pathway_config(values["roll"]),
            values.get("cca", False),
            _transcriber_config(transcriber) if transcriber else None,
        )


def _transcriber_config(values: dict[str, Any]) -> TranscriberShape:
    if "dilations" in values:
        return HarmonicConfig.from_dict(values)
    return TranscriberConfig.from_dict(values)


def build_transcriber(
    params: FeatureParams, config: TranscriberShape
) -> Transcriber | HarmonicTranscriber:
    """Make a transcriber of spectrograms, with random weights."""
    if isinstance(config, HarmonicConfig):
        return HarmonicTranscriber(config)
    return Transcriber(params.bands, config)


class Encoders(nn.Module):
    """Both pathways, the temperature they were trained with, and maybe a transcriber."""

    def __init__(self, config: ModelConfig | None = None) -> None:
        super().__init__()
        self.config = config or ModelConfig()
        self.fingerprint: str | None = None
        self._precision: Precision | None = None
        self._learning = False
        self._roll_frozen = False
        params = self.config.features
        self.transcriber: Transcriber | HarmonicTranscriber | None = None
        channels, rows = 1, params.bands
        if self.config.transcriber:
            self.transcriber = build_transcriber(params, self.config.transcriber)
            channels, rows = CHANNELS, params.pitches
        self.audio = build_pathway(channels, rows, params.snippet, self.config.audio)
        self.roll = build_pathway(
            params.roll_channels, params.pitches, params.snippet, self.config.roll
        )
        if self.config.cca:
            self.audio = Projected(self.audio, self.config.audio.embedding)
            self.roll = Projected(self.roll, self.config.roll.embedding)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.train()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.log_scale.device

    def networks(self) -> list[Network]:
        """Return its networks, with the smallest input of each."""
        params, transcriber = self.config.features, self.transcriber
        sound = (CHANNELS, params.pitches) if transcriber else (1, params.bands)
        found = [
            Network(self.audio, *sound, params.snippet),
            Network(self.roll, params.roll_channels, params.pitches, params.snippet),
        ]
        return found + ([Network(transcriber, 1, params.bands, SHORTEST)] if transcriber else [])

    @property
    def precision(self) -> Precision:
        """How it is computed where it is; found out when first needed, and before it learns.

        Raises
        ------
        MmidError
            If the device computes it wrongly.
        """
        learning = self.training or self._learning
        wanted = (self.device.type, learning)
        if self._precision is None or wanted != (self._precision.device, self._learning):
            self._learning = learning
            self._precision = settle(
                self.networks(), self.device, self.fingerprint, learning=learning
            )
        return self._precision

    def autocast(self) -> torch.autocast:
        """Return the context to compute it in."""
        return self.precision.autocast()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_precision": None}  # of this process, on this machine

    def train(self, mode: bool = True) -> Encoders:
        """Set the mode of both pathways; the transcriber is learned before them, by itself."""
        super().train(mode)
        if self.transcriber:
            self.transcriber.eval()
        if self._roll_frozen:
            self.roll.eval()
        return self

    def freeze_roll(self) -> None:
        """Leave the roll pathway as it is, whatever is trained."""
        self._roll_frozen = True
        self.roll.requires_grad_(False)

    def transcribe(self, spectrograms: Tensor) -> Tensor | None:
        """Return the log-odds of notes, as `transcriber.transcribe`, where the model can."""
        if self.transcriber is None:
            return None
        share = MEMORY if isinstance(self.transcriber, HarmonicTranscriber) else 1
        return transcribe(self.transcriber, spectrograms, self.config.reach, share)

    def transcribe_finely(self, spectrograms: Tensor) -> Tensor:
        """Return all that each pitch does, as `HarmonicTranscriber.outputs`, where it is one."""
        assert isinstance(self.transcriber, HarmonicTranscriber)
        outputs = self.transcriber.outputs
        return transcribe(outputs, spectrograms, self.config.reach, MEMORY, HALVES)

    def audio_input(self, spectrograms: Tensor) -> Tensor:
        """Turn spectrograms into what the audio pathway takes.

        Parameters
        ----------
        spectrograms : Tensor [batch, 1, bands, frames]

        Returns
        -------
        Tensor [batch, channels, rows, frames]
            The note posteriorgrams, or the spectrograms themselves.
        """
        log_odds = self.transcribe(spectrograms)
        if log_odds is None:
            return spectrograms
        return transcribed_rolls(log_odds, self.config.features.pitches)

    def embed_audio(self, spectrograms: Tensor) -> Tensor:
        """Embed one snippet each, given with as many frames beside it on either side.

        Parameters
        ----------
        spectrograms : Tensor [batch, 1, bands, snippet + 2 * margin]
            A margin of `ModelConfig.reach` gives what a whole recording's pass gives.

        Returns
        -------
        Tensor [batch, embedding] float32
        """
        length = self.config.features.snippet
        margin = (spectrograms.shape[-1] - length) // 2
        with self.autocast():
            cut_out = self.audio_input(spectrograms)[..., margin : margin + length]
            embedded: Tensor = self.audio(cut_out)[:, 0]
        return embedded

    def embed_rolls(self, rolls: Tensor) -> Tensor:
        """Embed one snippet each: ``[batch, channels, pitches, snippet]``."""
        with self.autocast():
            embedded: Tensor = self.roll(rolls)[:, 0]
        return embedded


def pick_device(name: str = "auto") -> torch.device:
    """Return the device of a name; ``auto`` is CUDA, else MPS, else the CPU.

    Raises
    ------
    MmidError
        If the device is unknown or not present.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        raise MmidError(f"device {name!r} is not available here; try --device auto") from error
    return device


def round_up(count: int) -> int:
    """Round a number of snippets up: every length of input is prepared for, at some cost, once.

    Examples
    --------
    >>> [round_up(count) for count in (7, 100, 129, 2_048)]
    [7, 104, 144, 2048]
    """
    step = 1 << max(0, (count - 1).bit_length() - LENGTH_BITS)
    return -(-count // step) * step


def snippet_count(frames: int, params: FeatureParams, config: PathwayConfig) -> int:
    """Return how many snippets `embed_frames` makes of a recording of so many frames."""
    return max(1, (frames - params.snippet) // config.stride + 1)


@torch.inference_mode()
def embed_frames(
    pathway: nn.Module,
    config: PathwayConfig,
    params: FeatureParams,
    frames: int,
    draw: Callable[[int, int], Tensor],
) -> Iterator[Tensor]:
    """Embed a whole recording or roll in long fully convolutional passes.

    Parameters
    ----------
    pathway, config, params
        The encoder in evaluation mode, its shape and its grid.
    frames : int
        Length of the input; shorter than a snippet counts as one snippet.
    draw : callable
        ``draw(first, count)`` gives frames ``first`` to ``first + count`` as ``[channels, rows,
        count]``; beyond the end zeros or nothing.

    Yields
    ------
    Tensor [snippets, embedding] float32
        Snippet ``i`` begins at frame ``i * config.stride``.
    """
    total = snippet_count(frames, params, config)

    def embed(first: int, count: int) -> Tensor:
        span = (round_up(count) - 1) * config.stride + params.snippet
        drawn = draw(first * config.stride, span)
        if drawn.shape[-1] < span:
            drawn = nn.functional.pad(drawn, (0, span - drawn.shape[-1]))
        embedded: Tensor = pathway(drawn[None])[0, :count]
        return embedded

    for first in range(0, total, BLOCK):
        yield from in_parts(embed, min(BLOCK, total - first), first)


def cut(whole: Tensor, frames: Sequence[int], length: int) -> Tensor:
    """Cut windows of a length out of ``[..., frames]``, by their first frames."""
    return torch.stack([whole[..., first : first + length] for first in frames])


@torch.inference_mode()
def embed_positions(
    encoders: Encoders, bands: Tensor, roll: Tensor, frames: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Embed snippets of a recording and of its score, by their first frames.

    Parameters
    ----------
    encoders : Encoders
    bands : Tensor [bands, n]
    roll : Tensor [channels, pitches, n]
    frames : sequence of int

    Returns
    -------
    Tensor, Tensor [snippets, embedding] float32
    """
    length, reach = encoders.config.features.snippet, encoders.config.reach
    whole = nn.functional.pad(bands[None], (reach, reach))
    sound = cut(whole, frames, length + 2 * reach).to(encoders.device)
    written = cut(roll, frames, length).to(encoders.device)
    return encoders.embed_audio(sound).cpu(), encoders.embed_rolls(written).cpu()
