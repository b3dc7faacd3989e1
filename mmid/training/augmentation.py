"""What rooms, microphones, tuning and players do to a spectrogram, drawn at random in training.

Conventions: spectrograms are ``[batch, bands, frames]``, compressed as `mmid.music.spectrogram`
gives them; every effect acts on linear band magnitudes and draws from the torch generator it is
given.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mmid.music.grid import FeatureParams
from mmid.music.spectrogram import band_centres, log_compress, log_expand, shift_bands

HISTORY = 16
"""Frames kept before a window so that reverberation has a past."""


@dataclass(frozen=True)
class Augmentation:
    """How strongly the audio snippets are varied; zero switches an effect off.

    Parameters
    ----------
    stretch : float
        Widest tempo change shared by audio and roll, as a factor minus 1.
    mismatch : float
        Widest tempo difference between audio and roll (the report: 0.05).
    shift : float
        Widest offset between audio and roll, frames.
    semitones : int
        Widest transposition, which the notes follow.
    cents : float
        Widest detuning.
    equalizer : float
        Standard deviation of the band gains, dB.
    gain : float
        Widest change of level, dB.
    noise : float
        Share of snippets with noise, 0 to 40 dB below the music.
    reverb : float
        Share of snippets with a reverberant tail.
    telephone : float
        Share of snippets cut to 300 to 3,400 Hz.
    """

    stretch: float = 0.25
    mismatch: float = 0.05
    shift: float = 0.0
    semitones: int = 4
    cents: float = 35.0
    equalizer: float = 4.0
    gain: float = 10.0
    noise: float = 0.6
    reverb: float = 0.5
    telephone: float = 0.05

    @classmethod
    def only(cls, names: Iterable[str]) -> Augmentation:
        """Switch the named effects on and all others off.

        Examples
        --------
        >>> Augmentation.only(["noise"]).noise, Augmentation.only(["noise"]).stretch
        (0.6, 0)
        """
        wanted = set(names)
        return cls(**{n: getattr(cls, n) if n in wanted else 0 for n in EFFECTS})


EFFECTS = tuple(Augmentation.__dataclass_fields__)
"""What can be switched on or off."""

USUAL = tuple(name for name in EFFECTS if name != "semitones")
"""What is on unless a preset or an option says otherwise: pathways need no other keys, as queries
are transposed where that is asked for."""


def _uniform(size: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    return torch.rand(size, generator=generator) * (high - low) + low


def _smooth_curves(count: int, params: FeatureParams, generator: torch.Generator) -> Tensor:
    """Draw smooth random functions of the band, of unit variance: ``[count, bands, 1]``."""
    place = torch.linspace(0, 1, params.bands // params.halves)
    waves = torch.stack([torch.cos(torch.pi * k * place) / k for k in range(1, 6)])
    curves = torch.randn(count, 5, generator=generator) @ waves
    curves = (curves / waves.square().sum(0).mean().sqrt()).repeat(1, params.halves)
    return curves.unsqueeze(-1)


def _reverberate(
    magnitudes: Tensor, share: float, params: FeatureParams, g: torch.Generator
) -> Tensor:
    """Add an exponentially decaying tail of the past's power."""
    count = len(magnitudes)
    seconds = torch.exp(_uniform(count, np.log(0.2), np.log(2.0), g))
    decay = 10 ** (-6 / (seconds * params.frame_rate))
    lag = torch.arange(HISTORY)
    tail = decay[:, None] ** lag * (1 - decay[:, None])
    wet = _uniform(count, 0.0, 1.0, g) * (torch.rand(count, generator=g) < share)
    kernel = (wet[:, None] * tail).flip(-1)[:, None]
    kernel[..., -1] += 1 - wet[:, None]
    power = torch.nn.functional.pad(magnitudes.square(), (HISTORY - 1, 0))
    power = power.permute(1, 0, 2)
    mixed = torch.nn.functional.conv1d(power, kernel, groups=count)
    return mixed.permute(1, 0, 2).sqrt()


def _add_noise(
    magnitudes: Tensor, share: float, params: FeatureParams, g: torch.Generator
) -> Tensor:
    count = len(magnitudes)
    decibels = _uniform(count, -40, 0, g)[:, None, None] + 6 * _smooth_curves(count, params, g)
    level = magnitudes.amax(1).mean(-1)[:, None, None] * 10 ** (decibels / 20) * 0.5
    level = level * (torch.rand(count, generator=g) < share)[:, None, None]
    grain = torch.rand(magnitudes.shape, generator=g).clamp_min(1e-6).log().neg()
    return (magnitudes.square() + level.square() * grain).sqrt()


def _equalize(
    magnitudes: Tensor, a: Augmentation, params: FeatureParams, g: torch.Generator
) -> Tensor:
    count = len(magnitudes)
    decibels = a.equalizer * _smooth_curves(count, params, g)
    decibels = decibels + _uniform(count, -a.gain, a.gain, g)[:, None, None]
    centres = torch.from_numpy(band_centres(params))
    outside = ((centres < 300) | (centres > 3_400))[None, :, None]
    phone = (torch.rand(count, generator=g) < a.telephone)[:, None, None]
    return magnitudes * 10 ** ((decibels - 60 * (outside & phone)) / 20)


def roughen(
    spectrograms: Tensor,
    augmentation: Augmentation,
    params: FeatureParams,
    generator: torch.Generator,
    semitones: Tensor | None = None,
) -> Tensor:
    """Transpose, detune, reverberate, equalise and add noise to a batch.

    Parameters
    ----------
    spectrograms : Tensor [batch, bands, frames] float32
        Compressed, the first `HISTORY` frames being the past.
    semitones : Tensor [batch], optional
        To transpose each by.

    Returns
    -------
    Tensor [batch, bands, frames] float32
        Compressed, same shape.
    """
    linear = log_expand(spectrograms, params)
    raised = torch.zeros(len(linear)) if semitones is None else semitones
    if augmentation.cents:
        cents = augmentation.cents
        raised = raised + _uniform(len(linear), -cents, cents, generator) / 100
    if raised.any():
        linear = shift_bands(linear, raised, params)
    if augmentation.reverb:
        linear = _reverberate(linear, augmentation.reverb, params, generator)
    if augmentation.equalizer or augmentation.gain or augmentation.telephone:
        linear = _equalize(linear, augmentation, params, generator)
    if augmentation.noise:
        linear = _add_noise(linear, augmentation.noise, params, generator)
    return log_compress(linear, params)
