"""Degradations that queries are tested with (benchmark B6): noise, a room, a telephone, mp3, tape.

Conventions: samples are mono float32 at full scale 1; every draw depends on the seed alone.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from mmid.music._torchaudio import functional
from mmid.music.acoustics import coded, convolved, decaying_noise, pink_noise
from mmid.options import Damage

ROOM_SECONDS, ROOM_WET = 0.8, 0.5
"""Time in which the room's sound falls by 60 dB, and its share of the power."""

PHONE_BAND, PHONE_ORDER = (300.0, 3_400.0), 4
"""A telephone's band, Hz, and the order of its Butterworth flanks."""

MP3_RATE = 64_000

SLOW, FAST = (34, 35), (35, 34)
"""How a tape that runs 3 % slow or fast, half a semitone flat or sharp, resamples."""


def degrade_samples(
    samples: np.ndarray, how: Damage, sample_rate: int, seed: int = 0
) -> np.ndarray:
    """Play samples through something that harms them.

    Parameters
    ----------
    samples : np.ndarray [n] float32
    how : {"noise-10", "noise-0", "room", "phone", "mp3", "flat", "sharp"}
        Pink noise 10 or 0 dB below the music, a reverberant room, a telephone's band, 64 kbit/s
        mp3, or a tape whose speed puts it 50 cents off concert pitch.
    sample_rate : int
    seed : int

    Returns
    -------
    np.ndarray [n] float32
        Longer or shorter by 3 % where a tape's speed is off.
    """
    rng = np.random.default_rng(seed)
    effects: dict[Damage, Callable[[], np.ndarray]] = {
        "noise-10": lambda: _add_noise(samples, 10.0, rng),
        "noise-0": lambda: _add_noise(samples, 0.0, rng),
        "room": lambda: _in_a_room(samples, sample_rate, rng),
        "phone": lambda: _by_phone(samples, sample_rate),
        "mp3": lambda: coded(samples, sample_rate, "mp3", MP3_RATE),
        "flat": lambda: _off_speed(samples, SLOW),
        "sharp": lambda: _off_speed(samples, FAST),
    }
    return effects[how]().astype(np.float32)


def _add_noise(samples: np.ndarray, decibels: float, rng: np.random.Generator) -> np.ndarray:
    noise = pink_noise(len(samples), rng)
    level = np.sqrt(np.mean(samples**2) / max(np.mean(noise**2), 1e-20))
    return np.asarray(samples + noise * level * 10 ** (-decibels / 20))


def _in_a_room(samples: np.ndarray, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    time = np.arange(int(ROOM_SECONDS * sample_rate)) / sample_rate
    response = decaying_noise(time, ROOM_SECONDS, ROOM_WET, rng)
    response[0] += np.sqrt(1 - ROOM_WET)
    return convolved(samples, response)


def _by_phone(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """Leave a telephone's band, with the flanks of Butterworth filters."""
    low, high = PHONE_BAND
    hertz = np.maximum(np.fft.rfftfreq(len(samples), 1 / sample_rate), 1e-3)
    power = 1 / (1 + (low / hertz) ** (2 * PHONE_ORDER)) / (1 + (hertz / high) ** (2 * PHONE_ORDER))
    return np.asarray(np.fft.irfft(np.fft.rfft(samples) * np.sqrt(power), len(samples)))


def _off_speed(samples: np.ndarray, rates: tuple[int, int]) -> np.ndarray:
    return np.asarray(functional.resample(torch.from_numpy(samples), *rates).numpy())
