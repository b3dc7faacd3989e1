"""The convolutional networks that take snippets to a unit sphere: mmid's and Dorfer's.

Conventions: input is ``[batch, channels, rows, frames]``. Time is never padded inside mmid's
pathway, so one pass over a whole recording gives the same embeddings as a pass over each snippet;
they lie `stride` frames apart.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn


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
    activation : {"elu", "relu"}
        What follows each convolution.
    """

    widths: tuple[int, ...] = (32, 32, 64, 64, 96, 128)
    times: tuple[int, ...] = (4, 3, 4, 3, 3, 3)
    strides: tuple[int, ...] = (2, 1, 2, 1, 1, 1)
    rows: tuple[int, ...] = (5, 3, 3, 3, 3, 3)
    row_strides: tuple[int, ...] = (2, 2, 1, 2, 1, 1)
    collapsed: int = 256
    embedding: int = 32
    activation: str = "elu"

    def remaining(self, frames: int) -> int:
        """Return the frames left of a snippet before the last layer."""
        for kernel, stride in zip(self.times, self.strides, strict=True):
            frames = (frames - kernel) // stride + 1
        return frames

    def seen(self, frames: int) -> int:
        """Return how many of a snippet's frames its embedding depends on."""
        reach, step = 1, 1
        for kernel, stride in zip(self.times, self.strides, strict=True):
            reach, step = reach + (kernel - 1) * step, step * stride
        return reach + (self.remaining(frames) - 1) * step

    @property
    def stride(self) -> int:
        """Frames between neighbouring embeddings of a recording."""
        return math.prod(self.strides)

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as JSON-ready names and values."""
        return asdict(self)


LIGHT = EncoderConfig(
    widths=(16, 32, 48, 64, 64, 96),
    times=(4, 4, 3, 3, 3, 2),
    strides=(2, 2, 1, 1, 1, 1),
    row_strides=(2, 2, 2, 2, 1, 1),
    collapsed=192,
    activation="relu",
)
"""A pathway that takes a fifth of the default one's time; `training.distillation` teaches it."""

ACTIVATIONS: dict[str, type[nn.Module]] = {"elu": nn.ELU, "relu": nn.ReLU}

SHORT_SNIPPET = 42
"""Shorter snippets leave too few frames for two strides of two."""


def fit_config(snippet: int) -> EncoderConfig:
    """Return the default pathway, with smaller kernels and strides for short snippets.

    The first kernel is as long as it takes for an embedding to see its whole snippet.

    Examples
    --------
    >>> fit_config(42) == EncoderConfig()
    True
    >>> fit_config(21).times
    (5, 2, 2, 2, 1, 1)
    """
    config = EncoderConfig()
    if snippet < SHORT_SNIPPET:
        config = replace(config, times=(4, 2, 2, 2, 1, 1), strides=(2, 1, 1, 1, 1, 1))
    unseen = snippet - config.seen(snippet)
    return replace(config, times=(config.times[0] + unseen, *config.times[1:]))


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
        activation = ACTIVATIONS[config.activation]
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
                activation(inplace=True),
            ]
            channels, rows = width, (rows - 1) // row_stride + 1
        self.convolutions = nn.Sequential(*layers)
        self.collapse = nn.Sequential(
            nn.Conv2d(channels, config.collapsed, (rows, 1), bias=False),
            nn.BatchNorm2d(config.collapsed),
            activation(inplace=True),
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
        x = convolved(self.convolutions, x.contiguous(memory_format=torch.channels_last))
        x = self.project(convolved(self.collapse, x).squeeze(2))
        return nn.functional.normalize(x.float().transpose(1, 2), dim=-1)


def convolved(layers: nn.Sequential, x: Tensor) -> Tensor:
    """Run convolutions, each with its norm and activation; what a norm has learned is folded in."""
    parts: list[Any] = list(layers)
    for convolution, norm, activation in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        x = activation(norm(convolution(x)) if norm.training else _folded(convolution, norm, x))
    return x


def _folded(convolution: nn.Conv2d, norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Return ``norm(convolution(x))`` of a norm that learns no more, in one pass over ``x``."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    bias = norm.bias - norm.running_mean * scale
    weight = convolution.weight * scale[:, None, None, None]
    folded: Tensor = convolution._conv_forward(x, weight, bias)
    return folded


@dataclass(frozen=True)
class DorferConfig:
    """Shape of a pathway of Dorfer et al. 2017.

    Parameters
    ----------
    blocks : tuple of int
        Filters of each block: two 3 x 3 convolutions and a pooling by two.
    embedding : int
        Dimensions of the shared space.
    stride : int
        Frames between neighbouring embeddings of a recording.
    """

    blocks: tuple[int, ...] = (24, 48, 96, 96)
    embedding: int = 32
    stride: int = 10

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as JSON-ready names and values."""
        return asdict(self)


PathwayConfig: TypeAlias = EncoderConfig | DorferConfig


def dorfer_trunk(channels: int, config: DorferConfig) -> nn.Sequential:
    """Build the convolutions of a pathway, from a snippet to ``embedding`` small maps.

    References
    ----------
    .. [1] M. Dorfer, A. Arzt, G. Widmer, "Learning audio-sheet music correspondences for score
       identification and offline alignment", ISMIR 2017.
    """
    layers: list[nn.Module] = []
    for width in config.blocks:
        for _ in range(2):
            layers += [
                nn.Conv2d(channels, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ELU(inplace=True),
            ]
            channels = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Conv2d(channels, config.embedding, 1))


WINDOWS = 256
"""Snippets the Dorfer pathway takes at once; bounds memory."""


class DorferPathway(nn.Module):
    """One modality's encoder after Dorfer et al. 2017: pools over the whole snippet.

    Time is padded inside, so a recording is cut into snippets first.

    Parameters
    ----------
    channels, snippet : int
        Of the input.
    config : DorferConfig
    """

    def __init__(self, channels: int, snippet: int, config: DorferConfig) -> None:
        super().__init__()
        self.trunk = dorfer_trunk(channels, config)
        self._snippet, self._stride = snippet, config.stride

    def forward(self, x: Tensor) -> Tensor:
        """Embed every snippet of the input, like `Pathway.forward`."""
        windows = x.unfold(3, self._snippet, self._stride).permute(0, 3, 1, 2, 4)
        flat = windows.flatten(0, 1)
        maps = [self.trunk(part).float().mean((2, 3)) for part in torch.split(flat, WINDOWS)]
        pooled = torch.cat(maps).view(*windows.shape[:2], -1)
        return nn.functional.normalize(pooled, dim=-1)


class Projected(nn.Module):
    """A pathway whose embeddings are mapped linearly afterwards; the identity until it is fitted.

    Parameters
    ----------
    pathway : nn.Module
    size : int
        Dimensions of its embeddings.
    """

    mean: Tensor
    matrix: Tensor

    def __init__(self, pathway: nn.Module, size: int) -> None:
        super().__init__()
        self.pathway = pathway
        self.register_buffer("mean", torch.zeros(size))
        matrix = torch.zeros(size, size)
        matrix.diagonal().fill_(1)  # torch.eye of shapes alone takes PyTorch's compiler to load
        self.register_buffer("matrix", matrix)

    def project(self, mean: Tensor, matrix: Tensor) -> None:
        """Set the map."""
        self.load_state_dict({"mean": mean, "matrix": matrix}, strict=False)

    def forward(self, x: Tensor) -> Tensor:
        """Embed every snippet of the input, like `Pathway.forward`."""
        embedded = self.pathway(x)
        with torch.autocast(x.device.type, enabled=False):
            return nn.functional.normalize((embedded - self.mean) @ self.matrix, dim=-1)


def build_pathway(channels: int, rows: int, snippet: int, config: PathwayConfig) -> nn.Module:
    """Build the encoder of a modality that has so many channels and rows."""
    if isinstance(config, DorferConfig):
        return DorferPathway(channels, snippet, config)
    return Pathway(channels, rows, snippet, config)
