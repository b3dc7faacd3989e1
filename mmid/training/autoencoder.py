"""Each modality by itself: a pathway of Dorfer et al. that learns to give its input back.

Conventions: inputs are ``[batch, channels, rows, frames]`` like the pathways'. The trunk has the
name it has in `mmid.model.encoders.Encoders`, so that a trained one can start a pathway.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mmid.model.pathways import DorferConfig, dorfer_trunk
from mmid.music.grid import FeatureParams
from mmid.system.files import written_whole

Side = Literal["audio", "roll"]

HIDDEN = {"audio": (128,), "roll": (256, 128)}
"""Widths of the linear layers between the flattened maps and the code."""


@dataclass(frozen=True)
class AutoencoderConfig:
    """What shapes an autoencoder's weights.

    Parameters
    ----------
    side : {"audio", "roll"}
        The modality it reads and writes.
    features : FeatureParams
    trunk : DorferConfig
        Its ``embedding`` is the width of the code, too.
    """

    side: Side
    features: FeatureParams
    trunk: DorferConfig = field(default_factory=DorferConfig)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, rows and frames of a snippet."""
        params = self.features
        if self.side == "audio":
            return 1, params.bands, params.snippet
        return params.roll_channels, params.pitches, params.snippet

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as JSON-ready names and values."""
        return asdict(self)


def _linear_stack(widths: list[int]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ELU()]
    return layers[:-1]


def _rising_block(before: int, after: int) -> list[nn.Module]:
    """Mirror a block of the trunk: one step of two in size, two transposed convolutions."""
    return [
        nn.ConvTranspose2d(before, before, 3, stride=2, bias=False),
        nn.BatchNorm2d(before),
        nn.ELU(),
        nn.ConvTranspose2d(before, after, 3, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.ELU(),
    ]


class Autoencoder(nn.Module):
    """Encoder and mirrored decoder around a code of 32 dimensions.

    The trunk's maps are flattened (320 values of a spectrogram, 512 of a roll), linear layers take
    them to the code and back, so that no convolution squeezes through a tight bottleneck at once.
    Transposed convolutions of stride two give slightly more than was there; it is cropped.

    Parameters
    ----------
    config : AutoencoderConfig
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        channels, rows, frames = config.shape
        trunk, depth = config.trunk, len(config.trunk.blocks)
        self._small = trunk.embedding, rows >> depth, frames >> depth
        flat = self._small[0] * self._small[1] * self._small[2]
        widths = [flat, *HIDDEN[config.side], trunk.embedding]
        encoder = nn.ModuleDict({"trunk": dorfer_trunk(channels, trunk)})
        self.add_module(config.side, encoder)
        self.to_code = nn.Sequential(*_linear_stack(widths))
        self.from_code = nn.Sequential(*_linear_stack(widths[::-1]), nn.ELU())
        filters = [trunk.embedding, *trunk.blocks[::-1]]
        layers: list[nn.Module] = []
        for before, after in pairwise(filters):
            layers += _rising_block(before, after)
        self.decoder = nn.Sequential(*layers, nn.Conv2d(filters[-1], channels, 1))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def encode(self, x: Tensor) -> Tensor:
        """Return the codes ``[batch, embedding]`` of snippets."""
        trunk = self.get_submodule(f"{self.config.side}.trunk")
        code: Tensor = self.to_code(trunk(x).flatten(1))
        return code

    def forward(self, x: Tensor) -> Tensor:
        """Return the reconstructions of snippets, of their shape."""
        maps = self.from_code(self.encode(x)).unflatten(1, self._small)
        whole: Tensor = self.decoder(maps)
        return whole[..., : x.shape[2], : x.shape[3]]


def draw_reconstructions(path: Path, inputs: Tensor, outputs: Tensor) -> None:
    """Save a picture of snippets above their reconstructions, first channel, low pitch below.

    Parameters
    ----------
    path : Path
        A PNG file.
    inputs, outputs : Tensor [n, channels, rows, frames]
    """
    from PIL import Image

    strips = [nn.functional.pad(side[:, 0], (1, 1, 1, 1), value=0.5) for side in (inputs, outputs)]
    rows = [torch.cat(list(strip.flip(1)), 1) for strip in strips]
    grey = (torch.cat(rows).clamp(0, 1) * 255).byte().cpu().numpy()
    with written_whole(path) as part:
        Image.fromarray(grey).resize((grey.shape[1] * 3, grey.shape[0] * 3), 0).save(part, "PNG")
