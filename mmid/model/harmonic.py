"""A transcriber that knows where a note's harmonics lie: what each pitch does in each frame.

Conventions: input is ``[batch, 1, bands, frames]`` on the grid `mmid.music.grid.FINE`; output as of
`mmid.model.transcriber`, or, twice as fine in time, the log-odds ``[batch, len(OUTPUTS), PITCHES,
half frames]`` in the order of `OUTPUTS`. Row 0 is MIDI pitch `LOWEST`. Time is padded, so the
frames are those of the input.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmid.model.transcriber import LOWEST, PITCHES, layer_shapes
from mmid.music.log_frequency import BINS_PER_SEMITONE, HALF_FRAME_RATE, HALVES, half_frames
from mmid.music.notes import NOTE_DTYPE

OUTPUTS = ("onset", "sustain", "offset", "melody")
"""That a note begins, sounds or ends, and that it sounds and is the leading voice's."""

HARMONICS = (-24, -19, -12, 0, 12, 19, 24, 28, 31, 34, 36)
"""Semitones from a pitch to its harmonics 1/4 to 1/2 and 1 to 8."""

EDGE_REACH = 1.5
"""An onset or offset is written as a triangle that falls to nothing in so many half frames."""

EDGE_WEIGHT = 3.0
"""What a half frame with an onset or offset counts in training, against one without."""

AT_FIRST = (-4.0, -3.0, -4.0, -4.0)
"""Log-odds that training begins with: notes are rare."""

MEMORY = 8
"""How much more memory a frame takes than `mmid.model.transcriber`'s."""

AROUND = 25
"""Bins about each whose mean is what its contrast is measured against."""


@dataclass(frozen=True)
class HarmonicConfig:
    """Shape of the transcriber.

    Parameters
    ----------
    stem : int
        Filters on bins.
    fine : int
        Filters a semitone, of which each pitch sees those at its harmonics.
    width : int
        Channels a pitch.
    again : int
        Channels of each pitch that the others see at their harmonics: what is a note already need
        not be a harmonic.
    dilations : tuple of int
        Of the convolutions over time.
    """

    stem: int = 8
    fine: int = 32
    width: int = 48
    again: int = 8
    dilations: tuple[int, ...] = (1, 2, 4, 8)

    @property
    def reach(self) -> int:
        """Frames on either side that a frame's notes may depend on."""
        first, *others = self.dilations
        return 3 + first + 2 * sum(others)

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as JSON-ready names and values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> HarmonicConfig:
        """Rebuild a configuration that `to_dict` gave.

        Raises
        ------
        ValueError
            If a size is no positive whole number, or absurdly large, or there are too many.
        """
        return cls(**layer_shapes(values))


def at_harmonics(x: Tensor, rows: int = PITCHES) -> Tensor:
    """Give each pitch the channels of its harmonics and subharmonics.

    Parameters
    ----------
    x : Tensor [batch, channels, semitones, frames]
        Row 0 is that of `LOWEST`.
    rows : int
        Pitches to return.

    Returns
    -------
    Tensor [batch, channels * len(HARMONICS), rows, frames]
        Zero where a harmonic lies outside.
    """
    below, above = -min(HARMONICS), max(0, rows + max(HARMONICS) - x.shape[2])
    padded = nn.functional.pad(x, (0, 0, below, above))
    return torch.cat([padded[:, :, below + shift :][:, :, :rows] for shift in HARMONICS], 1)


def _layer(channels: int, filters: int, kernel: tuple[int, int], **options: Any) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, filters, kernel, bias=False, **options),
        nn.BatchNorm2d(filters),
        nn.ReLU(),
    )


class _Residual(nn.Module):
    """A convolution that adds to what it is given."""

    def __init__(self, channels: int, kernel: tuple[int, int], dilation: int = 1) -> None:
        super().__init__()
        height, time = kernel
        padding = (height // 2, time // 2 * dilation)
        self.layer = _layer(channels, channels, kernel, padding=padding, dilation=(1, dilation))

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.layer(x)
        return x + added


class HarmonicTranscriber(nn.Module):
    """A small convolutional transcriber for instruments and voices of all kinds.

    Two layers find partials, one gathers those of each pitch, another parts notes from the
    harmonics of other notes, and dilated ones follow each pitch through time.

    Parameters
    ----------
    config : HarmonicConfig

    References
    ----------
    .. [1] W. Wei, P. Li, Y. Yu, W. Li, "HPPNet: modeling the harmonic structure and pitch
       invariance in piano transcription", ISMIR 2022.
    .. [2] R. Bittner, J. Bosch, D. Rubinstein, G. Meseguer-Brocal, S. Ewert, "A lightweight
       instrument-agnostic model for polyphonic note transcription and multipitch estimation",
       ICASSP 2022.
    """

    def __init__(self, config: HarmonicConfig) -> None:
        super().__init__()
        c = config
        self.partials = nn.Sequential(
            _layer(2, c.stem, (5, 3), padding=(2, 1)),
            _layer(c.stem, c.fine, (5, 4), stride=(BINS_PER_SEMITONE, HALVES), padding=(1, 1)),
        )
        self.harmonics = _layer(c.fine * len(HARMONICS), c.width, (1, 1))
        self.local = _Residual(c.width, (3, 3))
        self.reduced = _layer(c.width, c.again, (1, 1))
        self.explained = _layer(c.width + c.again * len(HARMONICS), c.width, (1, 1))
        first, *others = c.dilations
        times = [
            _Residual(c.width, (3, 3), first),
            *(_Residual(c.width, (1, 5), d) for d in others),
        ]
        self.times = nn.Sequential(*times)
        self.head = nn.Conv2d(c.width, len(OUTPUTS) * HALVES, 1)
        self.head.bias = nn.Parameter(torch.tensor(AT_FIRST).repeat_interleave(HALVES))

    def forward(self, spectrograms: Tensor) -> Tensor:
        """Return the log-odds of notes on the frames of piano rolls, as a `Transcriber` does.

        Parameters
        ----------
        spectrograms : Tensor [batch, 1, bands, frames]

        Returns
        -------
        Tensor [batch, 2, PITCHES, frames] float32
        """
        return on_roll_grid(self.outputs(spectrograms))

    def outputs(self, spectrograms: Tensor) -> Tensor:
        """Return the log-odds of all that each pitch does.

        Parameters
        ----------
        spectrograms : Tensor [batch, 1, bands, frames]

        Returns
        -------
        Tensor [batch, len(OUTPUTS), PITCHES, HALVES * frames] float32
        """
        x = self.partials(_with_contrast(half_frames(spectrograms)))
        x = self.local(self.harmonics(at_harmonics(x)))
        others = at_harmonics(self.reduced(x))
        x = self.times(x + self.explained(torch.cat([x, others], 1)))
        log_odds: Tensor = self.head(x).float()
        batch, _, pitches, frames = log_odds.shape
        apart = log_odds.view(batch, len(OUTPUTS), HALVES, pitches, frames)
        return apart.movedim(2, -1).flatten(-2)


def _with_contrast(x: Tensor) -> Tensor:
    """Return ``[batch, 2, BINS, half frames]``: the bins, and how far each stands out."""
    mean = nn.functional.avg_pool2d(x, (AROUND, 1), 1, (AROUND // 2, 0), count_include_pad=False)
    return torch.cat([x, 2 * (x - mean)], 1).contiguous(memory_format=torch.channels_last)


def on_roll_grid(log_odds: Tensor) -> Tensor:
    """Return what `HarmonicTranscriber.outputs` says of notes, on the frames of piano rolls.

    Parameters
    ----------
    log_odds : Tensor [..., len(OUTPUTS), PITCHES, HALVES * frames]

    Returns
    -------
    Tensor [..., 2, PITCHES, frames] float32
        Log-odds that notes sound and begin.
    """
    onset, sustain = log_odds.sigmoid().unbind(-3)[:2]
    return _drawn(onset, sustain)


def melody_on_roll_grid(log_odds: Tensor) -> Tensor:
    """Return the same of the melody's notes alone, as `on_roll_grid` does of all.

    Where a note begins, what follows says whether it is the melody's.
    """
    onset, _, _, melody = log_odds.sigmoid().unbind(-3)
    ahead = nn.functional.pad(melody, (0, SETTLED - 1)).unfold(-1, SETTLED, 1).amax(-1)
    return _drawn(onset * ahead, melody)


def _drawn(onset: Tensor, sustain: Tensor) -> Tensor:
    """Return log-odds on the frames of piano rolls, for probabilities on half frames."""
    onset = onset / (onset + EDGE_WEIGHT * (1 - onset))
    sounding = _pairwise(sustain, (0.25, 0.5, 0.25))
    beginning = _pairwise(onset, (0.5 / EDGE_REACH, 1 / EDGE_REACH, 0.5 / EDGE_REACH))
    return torch.stack([sounding, beginning], -3).clamp(1e-5, 1 - 1e-4).logit()


def _pairwise(x: Tensor, weights: tuple[float, float, float]) -> Tensor:
    """Weigh each frame's first half frame with its neighbours."""
    before, here, after = weights
    first, second = x[..., ::HALVES], x[..., 1::HALVES]
    previous = nn.functional.pad(second, (1, 0))[..., :-1]
    return before * previous + here * first + after * second


SETTLED = 6
"""Half frames from its onset on within which a note is known to be the melody's or not."""

CONFIDENT = 0.5
"""Of an onset, as `EDGE_WEIGHT` raises it, and of sustain: from this probability up it is one."""


def fine_notes(log_odds: Tensor, threshold: float = CONFIDENT) -> np.ndarray:
    """Return the notes of a recording, at times finer than frames.

    A note begins where the onset peaks, and ends where it stops sounding or begins again.

    Parameters
    ----------
    log_odds : Tensor [len(OUTPUTS), PITCHES, half frames]
        Of `HarmonicTranscriber.outputs`.
    threshold : float
        Of the onset's probability.

    Returns
    -------
    np.ndarray [notes] of mmid.music.notes.NOTE_DTYPE
        Sorted by onset and pitch; velocity and program are 0.
    """
    onset, sustain = log_odds[:2].sigmoid().cpu().numpy()
    padded = np.pad(onset, ((0, 0), (1, 1)))
    before, after = padded[:, :-2], padded[:, 2:]
    row, frame = np.nonzero((onset >= before) & (onset > after) & (onset > threshold))
    left, middle, right = (part[row, frame] for part in (before, onset, after))
    notes = np.zeros(len(row), NOTE_DTYPE)
    notes["onset"] = (
        np.maximum(frame + (right - left) / (left + middle + right), 0) / HALF_FRAME_RATE
    )
    notes["offset"] = _ends(sustain < CONFIDENT, row, frame) / HALF_FRAME_RATE
    notes["pitch"] = row + LOWEST
    return notes[np.lexsort((notes["pitch"], notes["onset"]))]


def _ends(silent: np.ndarray, row: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """Return the frames in which notes end, given by row and first frame in that order."""
    frames = silent.shape[1]
    again = np.full(len(row), frames)
    same = row[1:] == row[:-1]
    again[:-1][same] = frame[1:][same]
    following = np.where(silent, np.arange(frames), frames)
    following = np.minimum.accumulate(following[:, ::-1], 1)[:, ::-1]
    following = np.concatenate([following, np.full((len(silent), 1), frames)], 1)
    return np.asarray(np.minimum(again, np.maximum(following[row, frame + 1], frame + 1)))
