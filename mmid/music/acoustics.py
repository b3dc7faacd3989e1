"""What befalls sound on its way: rooms, noise and lossy encodings.

Conventions: samples are mono at full scale 1; every draw comes from the generator given.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from mmid.music.audio import read_audio
from mmid.music.audio_writer import AAC_DELAY, truncated, write_audio


def pink_noise(samples: int, rng: np.random.Generator, lowest: int = 0) -> np.ndarray:
    """Draw noise whose power falls with frequency, from so many turns within the whole on."""
    spectrum = np.fft.rfft(rng.normal(size=samples))
    spectrum[:lowest] = 0
    spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), 1))
    return np.asarray(np.fft.irfft(spectrum, samples))


def decaying_noise(
    time: np.ndarray, seconds: float, energy: float, rng: np.random.Generator
) -> np.ndarray:
    """Draw the reverberation of a room: noise that falls by 60 dB in so many seconds."""
    tail = rng.normal(size=len(time)) * 10 ** (-3 * time / seconds)
    return np.asarray(tail * np.sqrt(energy / np.sum(tail**2)))


def convolved(samples: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Return samples as a room's impulse response makes them, no longer than they were."""
    size = len(samples) + len(response)
    spectrum = np.fft.rfft(samples, size) * np.fft.rfft(response, size)
    return np.asarray(np.fft.irfft(spectrum, size)[: len(samples)])


def coded(samples: np.ndarray, sample_rate: int, encoding: str, bit_rate: int) -> np.ndarray:
    """Return samples as an encoding (of `CODECS`) with so many bits a second leaves them."""
    with TemporaryDirectory(prefix="mmid-") as folder:
        path = Path(folder) / f"clip.{encoding}"
        write_audio(path, [truncated(samples)], sample_rate, encoding, bit_rate)
        decoded = read_audio(path, sample_rate)[AAC_DELAY if encoding == "adts" else 0 :]
    return np.pad(decoded, (0, max(0, len(samples) - len(decoded))))[: len(samples)]
