"""Sound to a spectrogram of three bins a semitone, fine enough to tell a note from its neighbours.

Conventions: mono float32 samples at `SAMPLE_RATE`; a spectrogram is ``[BINS, frames]``, frame ``i``
centred on second ``i / FRAME_RATE``, twice as many frames a second as `mmid.params.DEFAULT`. Bin
``BINS_PER_SEMITONE * n + 1`` is the centre of MIDI pitch ``LOWEST_PITCH + n``.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from mmid.features import CONCERT_A, LOUD_QUANTILE, SILENCE
from mmid.params import DEFAULT

SAMPLE_RATE = DEFAULT.sample_rate
HOP = DEFAULT.hop // 2
FRAME_RATE = SAMPLE_RATE / HOP

BINS_PER_SEMITONE = 3
LOWEST_PITCH = 21
SEMITONES = 104
"""From the piano's lowest key to 10.5 kHz, so that high notes have harmonics, too."""

BINS = SEMITONES * BINS_PER_SEMITONE
A4 = 69
"""MIDI pitch of `CONCERT_A`."""

WINDOWS = (4_096, 2_048)
"""Of the STFT for the bins below and above `SPLIT`: low notes need long windows, onsets short."""

SPLIT = 600.0
"""Hz."""

COMPRESSION = DEFAULT.compression


def bin_frequencies() -> np.ndarray:
    """Return the centre of every bin, Hz.

    Returns
    -------
    np.ndarray [BINS] float64

    Examples
    --------
    >>> round(bin_frequencies()[3 * (69 - 21) + 1])
    440
    """
    pitch = LOWEST_PITCH + (np.arange(BINS) - 1) / BINS_PER_SEMITONE
    return np.asarray(CONCERT_A * 2 ** ((pitch - A4) / 12))


@lru_cache
def bin_filters() -> tuple[Tensor, Tensor]:
    """Return the triangles that gather each bin from the bins of its STFT.

    A triangle reaches as far as the neighbouring bins do, or to the next bin of the STFT where
    that is farther. Its weights are scaled half way between those of a mean and of a sum.

    Returns
    -------
    tuple of Tensor [bins, STFT bins] float32
        For the first and the second of `WINDOWS`; STFT bins above the highest used are left out.
    """
    frequencies = bin_frequencies()
    below = frequencies < SPLIT
    long, short = (
        _triangles(frequencies[part], SAMPLE_RATE / window)
        for part, window in zip((below, ~below), WINDOWS, strict=True)
    )
    return long, short


def _triangles(centres: np.ndarray, resolution: float) -> Tensor:
    reach = np.maximum(centres * (2 ** (1 / (12 * BINS_PER_SEMITONE)) - 1), resolution)
    frequencies = np.arange(int((centres + reach).max() / resolution) + 2) * resolution
    weights = 1 - np.abs(frequencies - centres[:, None]) / reach[:, None]
    weights = weights.clip(min=0)
    return torch.from_numpy((weights / np.sqrt(weights.sum(1, keepdims=True))).astype(np.float32))


def bin_magnitudes(samples: Tensor) -> Tensor:
    """Return how loud each bin is in each frame.

    Parameters
    ----------
    samples : Tensor [n] float32

    Returns
    -------
    Tensor [BINS, n // HOP + 1] float32
        Linear; silence is assumed around the samples.
    """
    parts = []
    for size, filters in zip(WINDOWS, bin_filters(), strict=True):
        window = torch.hann_window(size, device=samples.device)
        transform = torch.stft(
            samples, size, HOP, size, window, pad_mode="constant", return_complex=True
        )
        used = transform[: filters.shape[1]].abs() * (2 / window.sum())
        parts.append(filters.to(samples.device) @ used)
    return torch.cat(parts)


def log_frequency_spectrogram(samples: Tensor) -> Tensor:
    """Return the levelled, log-compressed spectrogram of a recording.

    Its loud passages set the level, as in `mmid.features.compress`.

    Parameters
    ----------
    samples : Tensor [n] float32
        Mono, at `SAMPLE_RATE`.

    Returns
    -------
    Tensor [BINS, n // HOP + 1] float32
        About 0 to 1.
    """
    magnitudes = bin_magnitudes(samples)
    loudest = magnitudes.amax(0)
    kept = loudest[:: max(1, len(loudest) // 100_000)]
    level = kept.quantile(LOUD_QUANTILE).clamp_min(SILENCE)
    return torch.log1p(COMPRESSION * magnitudes / level) / math.log1p(COMPRESSION)
