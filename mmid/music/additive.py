"""A synthesiser of harmonics: no instrument in particular, another one for each draw.

Conventions: sound is mono float32, full scale 1; times in seconds; every draw comes from the
generator given.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmid.music.grid import CONCERT_A

HARMONICS, HIGHEST = 24, 9_500.0
"""Harmonics of a note at most, none above so many Hz."""

LEVEL = 0.2
A4 = 69


@dataclass(frozen=True, eq=False)
class Timbre:
    """How notes sound.

    Parameters
    ----------
    strengths : np.ndarray [HARMONICS] float
        Of the harmonics; unit power together.
    attack, release : float
        Seconds.
    decay : float
        Of a note held, nepers a second at 440 Hz; 0 of what is blown or bowed.
    vibrato, rate : float
        Its depth either way, cents, and Hz.
    breath : float
        Noise in the sound, of its level.
    """

    strengths: np.ndarray
    attack: float
    release: float
    decay: float
    vibrato: float
    rate: float
    breath: float


def draw_timbre(rng: np.random.Generator) -> Timbre:
    """Draw a timbre: struck or blown, bright or dull, some with few even harmonics."""
    number = np.arange(1, HARMONICS + 1)
    strengths = number ** -rng.uniform(0.3, 2.2) * np.exp(rng.normal(0, 0.5, HARMONICS))
    if rng.random() < 0.25:
        strengths[1::2] *= rng.uniform(0.02, 0.4)
    struck = rng.random() < 0.4
    return Timbre(
        strengths=strengths / np.sqrt((strengths**2).sum()),
        attack=float(np.exp(rng.uniform(np.log(0.003), np.log(0.09)))),
        release=rng.uniform(0.02, 0.25),
        decay=rng.uniform(0.4, 3.0) if struck else 0.0,
        vibrato=0.0 if struck or rng.random() < 0.4 else rng.uniform(5, 50),
        rate=rng.uniform(4, 7),
        breath=rng.uniform(0, 0.05) if rng.random() < 0.4 else 0.0,
    )


def synthesize(
    notes: np.ndarray,
    seconds: float,
    sample_rate: int,
    rng: np.random.Generator,
    timbre: Timbre | None = None,
) -> np.ndarray:
    """Play notes, all with one timbre.

    Parameters
    ----------
    notes : np.ndarray [n] of mmid.music.notes.NOTE_DTYPE
        Programs are ignored.
    seconds : float
        Length of the sound.
    sample_rate : int
        Hz.
    rng : np.random.Generator
    timbre : Timbre, optional
        Drawn, too, if not given.

    Returns
    -------
    np.ndarray [samples] float32
        Mono.
    """
    timbre = timbre or draw_timbre(rng)
    sound = np.zeros(int(seconds * sample_rate), np.float32)
    for note in notes:
        begin = int(note["onset"] * sample_rate)
        lasting = float(note["offset"] - note["onset"])
        samples = min(int((lasting + timbre.release) * sample_rate), len(sound) - begin)
        if samples > 0:
            time = np.arange(samples) / sample_rate
            loud = LEVEL * (float(note["velocity"]) / 127) ** 1.5
            hertz = CONCERT_A * 2 ** ((float(note["pitch"]) - A4) / 12)
            tone = _tone(hertz, time, timbre, rng) * _envelope(hertz, time, lasting, timbre)
            sound[begin : begin + samples] += loud * tone
    return sound


def _tone(hertz: float, time: np.ndarray, timbre: Timbre, rng: np.random.Generator) -> np.ndarray:
    phase = 2 * np.pi * hertz * time
    if timbre.vibrato:
        depth = hertz * (2 ** (timbre.vibrato / 1_200) - 1) / timbre.rate
        swing = np.sin(2 * np.pi * timbre.rate * time + rng.uniform(0, 2 * np.pi))
        phase += depth * swing * np.minimum(time / 0.3, 1)
    first = np.exp(1j * phase).astype(np.complex64)
    turning, tone = np.ones_like(first), np.zeros(len(time), np.float32)
    for strength in timbre.strengths[: max(1, int(HIGHEST / hertz))].astype(np.float32):
        turning *= first
        tone += strength * turning.imag
    if timbre.breath:
        tone += timbre.breath * rng.standard_normal(len(time), np.float32)
    return tone


def _envelope(hertz: float, time: np.ndarray, lasting: float, timbre: Timbre) -> np.ndarray:
    rise = np.minimum(time / timbre.attack, 1)
    fall = (1 - (time - lasting) / timbre.release).clip(0, 1)
    return np.asarray(rise * fall * np.exp(-timbre.decay * (hertz / CONCERT_A) ** 0.3 * time))
