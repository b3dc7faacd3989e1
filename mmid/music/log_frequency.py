"""Sound to magnitudes at three bins a semitone, fine enough to separate a note from its neighbours.

Conventions: mono samples at `SAMPLE_RATE`. A frame is as long as `mmid.music.grid.DEFAULT`'s
and holds two half frames, one centred with it, the next half a frame later: rows are the `BINS` of
the first, then those of the second. Bin ``BINS_PER_SEMITONE * n + 1`` is the centre of MIDI pitch
``LOWEST_PITCH + n``.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from mmid.music.grid import CONCERT_A, FINE

SAMPLE_RATE = FINE.sample_rate
HALVES = FINE.halves
HALF_HOP = FINE.hop // HALVES
HALF_FRAME_RATE = SAMPLE_RATE / HALF_HOP

BINS = FINE.bands // HALVES
BINS_PER_SEMITONE = 3
SEMITONES = BINS // BINS_PER_SEMITONE
LOWEST_PITCH = 21
"""The piano's lowest key; the highest semitone is that of 10 kHz, so high notes have harmonics."""

A4 = 69
"""MIDI pitch of `CONCERT_A`."""

WINDOWS = (4_096, 2_048)
"""Of the STFT for the bins below and above `SPLIT`: low notes need long windows, onsets short."""

SPLIT = 600.0
"""Hz."""


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


def half_frame_magnitudes(padded: Tensor) -> Tensor:
    """Return how loud each bin is in the half frames of each frame.

    Parameters
    ----------
    padded : Tensor [..., n] float32
        The first frame is centred ``FINE.window // 2`` samples from the beginning, the last as far
        from the end.

    Returns
    -------
    Tensor [..., HALVES * BINS, frames] float32
        Linear.
    """
    frames = (padded.shape[-1] - FINE.window) // FINE.hop + 1
    bins = torch.cat([_magnitudes(padded, i, frames * HALVES) for i in range(len(WINDOWS))], -2)
    apart = bins.reshape(*bins.shape[:-1], frames, HALVES).movedim(-1, -3)
    return apart.flatten(-3, -2)


def _magnitudes(padded: Tensor, number: int, count: int) -> Tensor:
    """Return one window's bins in so many half frames: ``[..., bins, count]``."""
    size, filters = WINDOWS[number], bin_filters()[number].to(padded.device)
    first = (FINE.window - size) // 2
    window = torch.hann_window(size, device=padded.device)
    used = padded[..., first : first + (count - 1) * HALF_HOP + size]
    transform = torch.stft(used, size, HALF_HOP, size, window, center=False, return_complex=True)
    bins: Tensor = filters @ transform[..., : filters.shape[1], :].abs()
    return bins * (2 / window.sum())


def half_frames(spectrograms: Tensor) -> Tensor:
    """Return the half frames of spectrograms one after another.

    Parameters
    ----------
    spectrograms : Tensor [..., HALVES * BINS, frames]

    Returns
    -------
    Tensor [..., BINS, HALVES * frames]
    """
    *batch, _, frames = spectrograms.shape
    return spectrograms.reshape(*batch, HALVES, BINS, frames).movedim(-3, -1).flatten(-2)


def raise_bins(spectrograms: Tensor, bins: int) -> Tensor:
    """Move spectrograms up by bins, a third of a semitone each; what moves beyond an end is lost.

    Parameters
    ----------
    spectrograms : Tensor [..., HALVES * BINS, frames]
    bins : int
        Down where negative.

    Returns
    -------
    Tensor [..., HALVES * BINS, frames]
    """
    *batch, _, frames = spectrograms.shape
    apart = spectrograms.reshape(*batch, HALVES, BINS, frames)
    moved = torch.zeros_like(apart)
    low, high = max(0, bins), BINS + min(0, bins)
    moved[..., low:high, :] = apart[..., low - bins : high - bins, :]
    return moved.flatten(-3, -2)


def tuning(magnitudes: Tensor) -> float:
    """Return how far the loudest partials lie above the centres of semitones.

    Parameters
    ----------
    magnitudes : Tensor [HALVES * BINS, frames]
        Linear.

    Returns
    -------
    float
        Cents, from -50 to 50; 0 in silence.
    """
    power = half_frames(magnitudes).cpu().double().square().sum(1).numpy()
    turns = (np.arange(BINS) - 1) / BINS_PER_SEMITONE
    return float(np.angle((power * np.exp(2j * np.pi * turns)).sum()) / (2 * np.pi) * 100)
