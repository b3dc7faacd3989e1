"""The two convolutional pathways from snippets to a shared unit sphere.

Conventions: audio input is ``[batch, 1, bands, frames]``, roll input ``[batch, channels, pitches,
frames]``. Time is never padded inside a pathway, so one pass over a whole recording gives the
same embeddings as a pass over each snippet; they lie `stride` frames apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from mmid.errors import MmidError
from mmid.params import FeatureParams

BLOCK = 2_048
"""Embeddings computed in one pass over a long recording; bounds memory."""


@dataclass(frozen=True)
class EncoderConfig:
    """Shape of a pathway: one entry a convolution.

    Parameters
    ----------
    widths : tuple of int
        Filters of each convolution.
    times, strides : tuple of int
        Kernel length and stride of each along time.
    rows, row_strides : tuple of int
        Kernel height and stride along bands or pitches.
    collapsed : int
        Channels after frequency is collapsed.
    embedding : int
        Dimensions of the shared space.
    """

    widths: tuple[int, ...] = (32, 32, 64, 64, 96, 128)
    times: tuple[int, ...] = (4, 3, 4, 3, 3, 3)
    strides: tuple[int, ...] = (2, 1, 2, 1, 1, 1)
    rows: tuple[int, ...] = (5, 3, 3, 3, 3, 3)
    row_strides: tuple[int, ...] = (2, 2, 1, 2, 1, 1)
    collapsed: int = 256
    embedding: int = 32

    def remaining(self, frames: int) -> int:
        """Return the frames left of a snippet before the last layer."""
        for kernel, stride in zip(self.times, self.strides, strict=True):
            frames = (frames - kernel) // stride + 1
        return frames

    @property
    def stride(self) -> int:
        """Frames between neighbouring embeddings of a recording."""
        return math.prod(self.strides)

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as JSON-ready names and values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> EncoderConfig:
        """Rebuild a configuration that `to_dict` gave, also after a trip through JSON."""
        parts: dict[str, Any] = {
            name: tuple(v) if isinstance(v, list) else v for name, v in values.items()
        }
        return cls(**parts)


class Pathway(nn.Module):
    """One modality's encoder.

    Parameters
    ----------
    channels, rows : int
        Of the input.
    snippet : int
        Frames a snippet spans.
    config : EncoderConfig
    """

    def __init__(self, channels: int, rows: int, snippet: int, config: EncoderConfig) -> None:
        super().__init__()
        self.level = nn.BatchNorm1d(channels * rows)
        layers: list[nn.Module] = []
        shapes = zip(
            config.widths,
            config.rows,
            config.times,
            config.row_strides,
            config.strides,
            strict=True,
        )
        for width, height, time, row_stride, stride in shapes:
            layers += [
                nn.Conv2d(
                    channels,
                    width,
                    (height, time),
                    (row_stride, stride),
                    (height // 2, 0),
                    bias=False,
                ),
                nn.BatchNorm2d(width),
                nn.ELU(inplace=True),
            ]
            channels, rows = width, (rows - 1) // row_stride + 1
        self.convolutions = nn.Sequential(*layers)
        self.collapse = nn.Sequential(
            nn.Conv2d(channels, config.collapsed, (rows, 1), bias=False),
            nn.BatchNorm2d(config.collapsed),
            nn.ELU(inplace=True),
        )
        self.project = nn.Conv1d(config.collapsed, config.embedding, config.remaining(snippet))

    def forward(self, x: Tensor) -> Tensor:
        """Embed every snippet of the input.

        Parameters
        ----------
        x : Tensor [batch, channels, rows, frames]
            At least one snippet long.

        Returns
        -------
        Tensor [batch, snippets, embedding] float32
            Unit vectors.
        """
        batch, _, _, frames = x.shape
        x = self.level(x.reshape(batch, -1, frames)).view_as(x)
        x = self.convolutions(x.contiguous(memory_format=torch.channels_last))
        x = self.project(self.collapse(x).squeeze(2))
        return nn.functional.normalize(x.float().transpose(1, 2), dim=-1)


@dataclass(frozen=True)
class ModelConfig:
    """Everything that shapes the weights: the grid and both pathways."""

    features: FeatureParams = field(default_factory=FeatureParams)
    audio: EncoderConfig = field(default_factory=EncoderConfig)
    roll: EncoderConfig = field(default_factory=EncoderConfig)

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as JSON-ready names and values."""
        return {
            "features": self.features.to_dict(),
            "audio": self.audio.to_dict(),
            "roll": self.roll.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelConfig:
        """Rebuild a configuration that `to_dict` gave."""
        return cls(
            FeatureParams.from_dict(values["features"]),
            EncoderConfig.from_dict(values["audio"]),
            EncoderConfig.from_dict(values["roll"]),
        )


class Encoders(nn.Module):
    """Both pathways and the temperature they were trained with."""

    def __init__(self, config: ModelConfig | None = None) -> None:
        super().__init__()
        self.config = config or ModelConfig()
        params = self.config.features
        self.audio = Pathway(1, params.bands, params.snippet, self.config.audio)
        self.roll = Pathway(params.roll_channels, params.pitches, params.snippet, self.config.roll)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.log_scale.device


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


def fast_autocast(device: torch.device) -> torch.autocast:
    """Return bf16 autocast where the device computes bf16 natively, else a no-op."""
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported()
    else:
        native = device.type == "cpu" and torch.backends.cpu.get_cpu_capability() == "AVX512"
        native = native and torch.cpu._is_avx512_bf16_supported()
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=native)


def snippet_count(frames: int, params: FeatureParams, config: EncoderConfig) -> int:
    """Return how many snippets `embed_frames` makes of a recording of so many frames."""
    return max(1, (frames - params.snippet) // config.stride + 1)


@torch.inference_mode()
def embed_frames(
    pathway: Pathway,
    config: EncoderConfig,
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
        count]``, zeros beyond the end.

    Yields
    ------
    Tensor [snippets, embedding] float32
        Snippet ``i`` begins at frame ``i * config.stride``.
    """
    total = snippet_count(frames, params, config)
    for first in range(0, total, BLOCK):
        count = min(BLOCK, total - first)
        span = (count - 1) * config.stride + params.snippet
        yield pathway(draw(first * config.stride, span)[None])[0]
