"""What notes a recording holds, frame by frame: the log-odds that each is sounding or begins.

Conventions: input is ``[batch, 1, bands, frames]`` as for the pathways. Output is ``[batch, 2,
PITCHES, frames]``: sounding notes, then onsets; row 0 is MIDI pitch `LOWEST`. Time is padded, so
the frames are those of the input.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmid.model.batching import in_parts
from mmid.music.notes import NOTE_DTYPE

LOWEST, PITCHES = 21, 88
"""The piano's compass; notes outside it are not looked for."""

CHANNELS = 2
"""Notes sounding, and notes beginning."""


@dataclass(frozen=True)
class TranscriberConfig:
    """Shape of the transcriber.

    Parameters
    ----------
    widths : tuple of int
        Filters of each two-dimensional convolution.
    rows, times : tuple of int
        Kernel sizes of each along bands and time.
    row_strides : tuple of int
        Strides of each along bands.
    mixed : int
        Channels once all bands are mixed.
    dilation : int
        Of the one-dimensional convolution over time that follows.
    """

    widths: tuple[int, ...] = (32, 32, 32, 48, 48)
    rows: tuple[int, ...] = (5, 3, 3, 5, 3)
    times: tuple[int, ...] = (5, 3, 3, 3, 3)
    row_strides: tuple[int, ...] = (1, 1, 1, 2, 1)
    mixed: int = 384
    dilation: int = 2

    @property
    def reach(self) -> int:
        """Frames on either side that a frame's notes depend on."""
        return sum(time // 2 for time in self.times) + self.dilation

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as JSON-ready names and values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TranscriberConfig:
        """Rebuild a configuration that `to_dict` gave."""
        return cls(**layer_shapes(values))


SHORTEST = 4
"""Frames that do to compare its precision; it takes any number of them."""

MOST_LAYERS, LARGEST = 32, 1 << 16
"""What a file's configuration of a network may need."""


def layer_shapes(values: dict[str, Any]) -> dict[str, Any]:
    """Return the shapes of layers that a file gives, each a number or a tuple of numbers.

    Raises
    ------
    ValueError
        If one is no positive whole number, or absurdly large, or there are too many layers.
    """
    parts = {n: tuple(v) if isinstance(v, list) else v for n, v in values.items()}
    for part in parts.values():
        layers = part if isinstance(part, tuple) else (part,)
        sound = all(type(size) is int and 0 < size <= LARGEST for size in layers)
        if not sound or len(layers) > MOST_LAYERS:
            raise ValueError("absurd layers")
    return parts


class Transcriber(nn.Module):
    """A small convolutional transcriber, after the frame and onset heads of Hawthorne et al.

    Parameters
    ----------
    bands : int
        Of the spectrogram.
    config : TranscriberConfig

    References
    ----------
    .. [1] C. Hawthorne et al., "Onsets and frames: dual-objective piano transcription", ISMIR 2018.
    """

    def __init__(self, bands: int, config: TranscriberConfig) -> None:
        super().__init__()
        self.level = nn.BatchNorm1d(bands)
        layers: list[nn.Module] = []
        channels, rows = 1, bands
        shapes = zip(config.widths, config.rows, config.times, config.row_strides, strict=True)
        for width, height, time, stride in shapes:
            kernel, padding = (height, time), (height // 2, time // 2)
            convolution = nn.Conv2d(channels, width, kernel, (stride, 1), padding, bias=False)
            layers += [convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            channels, rows = width, (rows - 1) // stride + 1
        self.convolutions = nn.Sequential(*layers)
        reach = config.dilation
        self.mix = nn.Sequential(
            nn.Conv1d(channels * rows, config.mixed, 1, bias=False),
            nn.BatchNorm1d(config.mixed),
            nn.ReLU(inplace=True),
            nn.Conv1d(config.mixed, config.mixed, 3, padding=reach, dilation=reach, bias=False),
            nn.BatchNorm1d(config.mixed),
            nn.ReLU(inplace=True),
            nn.Conv1d(config.mixed, CHANNELS * PITCHES, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the log-odds of notes.

        Parameters
        ----------
        x : Tensor [batch, 1, bands, frames]

        Returns
        -------
        Tensor [batch, 2, PITCHES, frames] float32
        """
        batch, _, _, frames = x.shape
        x = self.level(x[:, 0])[:, None]
        x = self.convolutions(x.contiguous(memory_format=torch.channels_last))
        log_odds: Tensor = self.mix(x.flatten(1, 2)).float()
        return log_odds.view(batch, CHANNELS, PITCHES, frames)


def transcribed_rolls(log_odds: Tensor, pitches: int) -> Tensor:
    """Return the probabilities of notes as a roll.

    Parameters
    ----------
    log_odds : Tensor [..., PITCHES, frames]
    pitches : int
        Rows of the roll, MIDI pitch 0 first.

    Returns
    -------
    Tensor [..., pitches, frames] float32
    """
    above = pitches - LOWEST - PITCHES
    return nn.functional.pad(log_odds.sigmoid(), (0, 0, LOWEST, above))


def highest(log_odds: Tensor) -> Tensor:
    """Return the log-odds of notes that nothing higher sounds with.

    Parameters
    ----------
    log_odds : Tensor [CHANNELS, PITCHES, frames]

    Returns
    -------
    Tensor [CHANNELS, PITCHES, frames] float32
    """
    nothing_above = nn.functional.logsigmoid(-log_odds[0]).flip(0).cumsum(0).flip(0)
    nothing_above = nn.functional.pad(nothing_above[1:], (0, 0, 0, 1))
    probability = (nn.functional.logsigmoid(log_odds) + nothing_above).exp()
    return probability.clamp(1e-5, 1 - 1e-4).logit()


ONSET_THRESHOLD = 0.2
"""A note begins where two neighbouring frames say so with this probability together."""


def transcribed_notes(log_odds: Tensor, frame_rate: float) -> np.ndarray:
    """Return the notes that begin, at times finer than frames.

    Training spreads an onset over the two frames it lies between, so the centre of a peak gives
    where between them.

    Parameters
    ----------
    log_odds : Tensor [CHANNELS, PITCHES, frames]
    frame_rate : float
        Hz.

    Returns
    -------
    np.ndarray [n] of mmid.music.notes.NOTE_DTYPE
        Sorted by onset; they end a frame later, as only their beginnings are transcribed.
    """
    begins = nn.functional.pad(log_odds[1].float().sigmoid().cpu(), (1, 1)).numpy()
    before, here, after = begins[:, :-2], begins[:, 1:-1], begins[:, 2:]
    peak = (here >= before) & (here > after) & (here + np.maximum(before, after) > ONSET_THRESHOLD)
    row, frame = np.nonzero(peak)
    left, middle, right = (part[row, frame] for part in (before, here, after))
    notes = np.zeros(len(row), NOTE_DTYPE)
    notes["onset"] = (frame + (right - left) / (left + middle + right)) / frame_rate
    notes["offset"] = notes["onset"] + 1 / frame_rate
    notes["pitch"] = row + LOWEST
    return notes[np.lexsort((notes["pitch"], notes["onset"]))]


FRAMES_AT_ONCE = 4_096
"""Frames transcribed in one pass; bounds memory."""


@torch.no_grad()
def transcribe(
    transcriber: Callable[[Tensor], Tensor],
    spectrograms: Tensor,
    reach: int,
    share: int = 1,
    steps: int = 1,
) -> Tensor:
    """Return the log-odds of notes in recordings of any length.

    Parameters
    ----------
    transcriber : Transcriber, or anything of the same input and output
    spectrograms : Tensor [batch, 1, bands, frames]
    reach : int
        Of its configuration.
    share : int
        How much more memory it needs than a `Transcriber`.
    steps : int
        Frames of its output for each of its input.

    Returns
    -------
    Tensor [batch, channels, PITCHES, steps * frames] float32
        `CHANNELS` of a `Transcriber`.
    """
    frames = spectrograms.shape[-1]
    at_once = FRAMES_AT_ONCE // share

    def transcribe_part(first: int, count: int) -> Tensor:
        begin = max(0, first - reach)
        posteriorgram: Tensor = transcriber(spectrograms[..., begin : first + count + reach])
        return posteriorgram[..., steps * (first - begin) :][..., : steps * count]

    parts = [
        part
        for first in range(0, frames, at_once)
        for part in in_parts(transcribe_part, min(at_once, frames - first), first)
    ]
    return torch.cat(parts, -1)
