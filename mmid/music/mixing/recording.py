"""What a recording adds to what is played: tuning, wow, a room, a crowd, noise, a codec.

Conventions: audio is mono float32 at `SAMPLE_RATE` and full scale 1; times in seconds; gains in dB;
every draw comes from the generator given.
"""

from __future__ import annotations

import numpy as np

from mmid.music.acoustics import coded, convolved, decaying_noise, pink_noise
from mmid.music.notes import NOTE_DTYPE
from mmid.music.singing import Voice, sing

SAMPLE_RATE = 22_050

TUNED, TUNING = 0.3, 50.0
"""Share of clips in tune; the others' cents at most."""

WOW, WOW_DEPTH, WOW_RATE = 0.12, (5e-5, 1.5e-3), (0.3, 2.0)
"""Share of clips whose speed wavers, how far that shifts them in time (seconds), and Hz."""

TALKED_OVER, TALKERS, TALK_GAIN = 0.12, 3, (-25.0, -5.0)
"""Share of clips in which people talk, how many at most, and how loud they are."""

IN_A_ROOM, NOISY, CODED = 0.65, 0.45, 0.25
COMPRESSED, RATIO, BLOCK, QUIET = 0.35, (0.2, 0.7), 256, 0.3
"""Share of clips whose level is evened out, by which power of it, samples at a time, and the level
below which that stops, of the mean."""

OVERDRIVEN, DRIVE = 0.15, (1.0, 5.0)
"""Share of clips that are clipped softly, and how far they are driven."""

BIT_RATES = (48_000, 64_000, 96_000, 128_000)
PEAK = 0.8


def loudness(sound: np.ndarray) -> float:
    """Return the root of the mean power."""
    return float(np.sqrt(np.mean(np.square(sound, dtype=np.float64))))


def at_level(sound: np.ndarray, level: float) -> np.ndarray:
    """Return sound of a loudness; silence stays silent."""
    return np.asarray(sound * (level / max(loudness(sound), 1e-6)), np.float32)


def factor(decibels: float) -> float:
    """Return the factor of an amplitude."""
    return float(10 ** (decibels / 20))


def off_pitch(audio: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Play at another speed, up to `TUNING` cents off, which may waver; return that speed, too."""
    cents = 0.0 if rng.random() < TUNED else float(rng.normal(0, TUNING / 3))
    speed = float(2 ** (np.clip(cents, -TUNING, TUNING) / 1_200))
    at = np.arange(len(audio)) * speed
    if rng.random() < WOW:
        turns = np.arange(len(audio)) / SAMPLE_RATE * rng.uniform(*WOW_RATE)
        at += rng.uniform(*WOW_DEPTH) * SAMPLE_RATE * np.sin(2 * np.pi * turns)
    moved = np.interp(at, np.arange(len(audio)), audio, right=0.0)
    return np.asarray(moved, np.float32), speed


def recorded(audio: np.ndarray, longest_room: float, rng: np.random.Generator) -> np.ndarray:
    """Record what is played in a room, with what else there is, and keep it as a file.

    Parameters
    ----------
    audio : np.ndarray [samples] float32
    longest_room : float
        Reverberation, seconds.
    rng : np.random.Generator

    Returns
    -------
    np.ndarray [samples] float32
        With a peak of `PEAK`, before a codec changes it.
    """
    if rng.random() < TALKED_OVER:
        audio = audio + at_level(babble(len(audio), rng), _beside(audio, *TALK_GAIN, rng))
    if rng.random() < IN_A_ROOM:
        audio = _in_a_room(audio, longest_room, rng)
    if rng.random() < COMPRESSED:
        audio = compressed(audio, rng.uniform(*RATIO))
    if rng.random() < OVERDRIVEN:
        drive = rng.uniform(*DRIVE) / max(float(np.abs(audio).max()), 1e-6)
        audio = np.tanh(audio * drive)
    if rng.random() < NOISY:
        noise = pink_noise(_power_of_two(len(audio)), rng)[: len(audio)]
        audio = audio + at_level(noise, _beside(audio, -50, -5, rng))
    audio = np.asarray(audio * (PEAK / max(float(np.abs(audio).max()), 1e-6)), np.float32)
    if rng.random() < CODED:
        encoding, rate = ("mp3", "adts")[rng.integers(2)], int(rng.choice(BIT_RATES))
        audio = coded(audio, SAMPLE_RATE, encoding, rate)
    return audio


def _beside(audio: np.ndarray, least: float, most: float, rng: np.random.Generator) -> float:
    """Draw a level by its gain against the audio's."""
    return loudness(audio) * factor(rng.uniform(least, most))


def _in_a_room(audio: np.ndarray, longest: float, rng: np.random.Generator) -> np.ndarray:
    seconds = float(np.exp(rng.uniform(np.log(0.2), np.log(longest))))
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    room = decaying_noise(time, seconds, factor(rng.uniform(-16, 2)) ** 2, rng)
    room[0] += 1
    room = np.pad(room, (0, _power_of_two(len(audio) + len(room)) - len(audio) - len(room)))
    return convolved(audio, room)


def _power_of_two(size: int) -> int:
    """Return the next, for Fourier transforms to be fast."""
    return 1 << (size - 1).bit_length()


def compressed(audio: np.ndarray, ratio: float) -> np.ndarray:
    """Even out the level: what is x dB above the mean comes out ``(1 - ratio) * x`` above it."""
    blocks = -(-len(audio) // BLOCK)
    power = np.pad(audio, (0, blocks * BLOCK - len(audio))).reshape(blocks, BLOCK)
    weights = np.hanning(19)[1:-1]
    smooth = np.convolve(np.pad((power**2).mean(1), 8, mode="edge"), weights, "valid")
    level = np.sqrt(smooth / weights.sum())
    mean = max(loudness(audio), 1e-6)
    gain = (np.maximum(level, QUIET * mean) / mean) ** -ratio
    middles = (np.arange(blocks) + 0.5) * BLOCK
    return np.asarray(audio * np.interp(np.arange(len(audio)), middles, gain))


def babble(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Let people talk: voices whose pitch falls and rises from syllable to syllable."""
    seconds, total = samples / SAMPLE_RATE, np.zeros(samples)
    for _ in range(int(rng.integers(1, TALKERS + 1))):
        count = int(seconds / 0.15)
        lengths = rng.uniform(0.1, 0.3, count) + 0.4 * (rng.random(count) < 0.1)
        syllables = np.zeros(count, NOTE_DTYPE)
        syllables["onset"] = np.cumsum(lengths) - lengths
        syllables["offset"] = syllables["onset"] + np.minimum(lengths, 0.25)
        syllables["pitch"] = (rng.uniform(43, 58) + rng.normal(0, 2.5, count)).clip(36, 70)
        syllables["velocity"] = rng.integers(50, 110, count)
        voice = Voice(
            size=rng.uniform(0.85, 1.25),
            vibrato=0.0,
            glide=0.1,
            drift=100.0,
            scoop=2.0,
            breath=0.04,
            consonants=0.8,
        )
        total += rng.uniform(0.3, 1) * sing(syllables, seconds, SAMPLE_RATE, rng, voice)[:samples]
    return total
