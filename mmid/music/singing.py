"""A singer by source and filter: pulses at the pitch of a line, shaped by the formants of vowels.

Conventions: a singer sings one note at a time, so a later note cuts an earlier one short; curves
of pitch, loudness and formants have a value every `STEP` samples; every draw comes from the
generator given.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

VOWELS = {
    "a": (730, 1090, 2440, 3300),
    "ae": (660, 1720, 2410, 3400),
    "e": (530, 1840, 2480, 3400),
    "er": (490, 1350, 1690, 3000),
    "i": (300, 2290, 3010, 3600),
    "o": (500, 850, 2410, 3200),
    "oo": (440, 1020, 2240, 3100),
    "u": (320, 800, 2240, 3100),
}
"""Formants, Hz, of a voice of size 1 (after Peterson and Barney, 1952)."""

BANDWIDTHS = np.array((80.0, 100.0, 140.0, 200.0))
FORMANT_GAINS = (1.0, 0.6, 0.3, 0.2)
FLOOR = 0.03
"""What the filter lets through between formants."""

STEP = 128
"""Samples between two values of the curves."""

MOST_HARMONICS = 40
HIGHEST = 9_000.0
"""Hz: no harmonic sounds above it, nor above 0.45 of the sample rate."""

SHORTEST = 0.02
"""A note that the next one follows sooner is not sung, seconds."""

LEVEL = 0.3


@dataclass(frozen=True)
class Voice:
    """How somebody sings.

    Parameters
    ----------
    size : float
        Factor of the formants: large for small heads.
    vibrato : float
        Its depth either way, cents.
    rate : float
        Of the vibrato, Hz.
    glide : float
        From note to note, seconds.
    drift : float
        How far the intonation wanders, cents.
    scoop : float
        Standard deviation of how far off a note begins, semitones.
    tilt : float
        Harmonic k is ``k ** -tilt`` as strong before the filter.
    breath : float
        Noise in the voice, of full scale.
    consonants : float
        Share of notes that begin with one.
    """

    size: float = 1.0
    vibrato: float = 50.0
    rate: float = 5.5
    glide: float = 0.06
    drift: float = 15.0
    scoop: float = 0.2
    tilt: float = 1.2
    breath: float = 0.02
    consonants: float = 0.5


def draw_voice(rng: np.random.Generator) -> Voice:
    """Draw a singer, from a choirboy to a crooner."""
    return Voice(
        size=rng.uniform(0.85, 1.25),
        vibrato=rng.uniform(0, 100) if rng.random() < 0.8 else 0.0,
        rate=rng.uniform(4, 7),
        glide=rng.uniform(0.015, 0.12),
        drift=rng.uniform(3, 30),
        scoop=rng.uniform(0, 0.3),
        tilt=rng.uniform(0.6, 1.8),
        breath=rng.uniform(0, 0.06),
        consonants=rng.uniform(0.2, 0.8),
    )


def sing(
    notes: np.ndarray,
    seconds: float,
    sample_rate: int,
    rng: np.random.Generator,
    voice: Voice | None = None,
) -> np.ndarray:
    """Sing a line.

    Parameters
    ----------
    notes : np.ndarray [n] of NOTE_DTYPE
        From second 0 on; of notes that overlap, the later one is sung.
    seconds : float
        Length of the sound.
    sample_rate : int
        Hz.
    rng : np.random.Generator
        Vowels, consonants and everything that wavers are drawn from it.
    voice : Voice, optional
        Drawn, too, if not given.

    Returns
    -------
    np.ndarray [samples] float32
        Mono, full scale 1.
    """
    voice = voice or draw_voice(rng)
    samples = int(seconds * sample_rate)
    times = np.arange(samples // STEP + 2) * STEP / sample_rate
    sung = _one_at_a_time(notes[notes["onset"] < seconds])
    if not len(sung):
        return np.zeros(samples, np.float32)
    line = _Line(times, voice, rng)
    for note in sung:
        line.add(note)
    line.join()
    hertz = _frequency(line, rng)
    strengths = _strengths(hertz, line, min(HIGHEST, 0.45 * sample_rate))
    sound = _harmonics(hertz, strengths, samples, sample_rate)
    return np.asarray(LEVEL * (sound + _noise(line, sound, rng)), np.float32)


def _one_at_a_time(notes: np.ndarray) -> np.ndarray:
    """Sort notes, highest last where they begin together, and end each where the next begins."""
    line = np.sort(notes, order=["onset", "pitch"])
    following = np.append(line["onset"][1:], np.inf)
    line["offset"] = np.minimum(line["offset"], following)
    return np.asarray(line[following - line["onset"] >= SHORTEST])


class _Line:
    """The curves of a line: pitch, loudness, vibrato, consonants, formants."""

    def __init__(self, times: np.ndarray, voice: Voice, rng: np.random.Generator) -> None:
        self.times, self.voice, self._rng = times, voice, rng
        self.pitch = np.full(len(times), np.nan)
        self.loudness, self.vibrato, self.consonants = np.zeros((3, len(times)))
        self.formants = np.zeros((len(times), len(BANDWIDTHS)))
        self._vowel = rng.choice(list(VOWELS))

    def add(self, note: np.void) -> None:
        """Sing a note from its onset to its offset."""
        rng, onset, offset = self._rng, float(note["onset"]), float(note["offset"])
        first, last = np.searchsorted(self.times, [onset, offset])
        since = self.times[first:last] - onset
        if rng.random() < 0.6:
            self._vowel = rng.choice(list(VOWELS))
        self.formants[first:last] = np.array(VOWELS[self._vowel]) * self.voice.size
        bend = rng.normal(0, self.voice.scoop) * np.exp(-since / 0.06)
        self.pitch[first:last] = float(note["pitch"]) + bend
        self.vibrato[first:last] = ((since - rng.uniform(0.05, 0.35)) / 0.25).clip(0, 1)
        rise = ((since + 0.005) / rng.uniform(0.01, 0.08)).clip(0, 1)
        fall = ((offset - onset - since) / 0.04).clip(0, 1)
        strength = float(note["velocity"]) / 127 * rng.uniform(0.8, 1.2)
        self.loudness[first:last] = strength * np.minimum(rise, fall)
        if rng.random() < self.voice.consonants:
            self._add_consonant(int(first), onset)

    def _add_consonant(self, first: int, onset: float) -> None:
        """Hiss just before a note, the voice held back meanwhile."""
        begin = int(np.searchsorted(self.times, onset - self._rng.uniform(0.03, 0.1)))
        self.consonants[begin : first + 1] += self._rng.uniform(0.05, 0.6)
        self.loudness[begin:first] *= 0.15

    def join(self) -> None:
        """Hold pitch and formants through rests, and glide from note to note."""
        sung = np.flatnonzero(~np.isnan(self.pitch))
        latest = np.searchsorted(sung, np.arange(len(self.pitch)), "right") - 1
        held = sung[latest.clip(0)]
        self.pitch = self._smoothed(self.pitch[held], self.voice.glide)
        columns = self.formants[held].T
        self.formants = np.stack([self._smoothed(column, 0.06) for column in columns], 1)

    def _smoothed(self, curve: np.ndarray, seconds: float) -> np.ndarray:
        reach = max(1, round(seconds / 2 / self.times[1]))
        weights = np.hanning(2 * reach + 3)[1:-1]
        padded = np.pad(curve, reach, mode="edge")
        return np.asarray(np.convolve(padded, weights / weights.sum(), "valid"))


def _wander(times: np.ndarray, every: float, spread: float, rng: np.random.Generator) -> np.ndarray:
    """Draw a slow curve, with a new value every so many seconds."""
    knots = np.arange(0, times[-1] + 2 * every, every)
    return np.asarray(np.interp(times, knots, rng.normal(0, spread, len(knots))))


def _frequency(line: _Line, rng: np.random.Generator) -> np.ndarray:
    """Return what is sung, Hz: the line's pitch with vibrato and drift."""
    voice, times = line.voice, line.times
    rate = voice.rate * (1 + _wander(times, 1.0, 0.1, rng))
    swing = np.sin(2 * np.pi * np.cumsum(rate) * times[1])
    cents = voice.vibrato * line.vibrato * swing + _wander(times, 1.5, voice.drift / 2, rng)
    return np.asarray(440 * 2 ** ((line.pitch - 69) / 12 + cents / 1200))


def _strengths(hertz: np.ndarray, line: _Line, highest: float) -> np.ndarray:
    """Return how strong each harmonic is: `[frames, harmonics]`."""
    count = int(min(MOST_HARMONICS, highest / hertz.min()))
    number = np.arange(1, max(count, 1) + 1)
    partials = hertz[:, None] * number
    gain = np.full(partials.shape, FLOOR)
    for peak, width, formant in zip(FORMANT_GAINS, BANDWIDTHS, line.formants.T, strict=True):
        away = (partials - formant[:, None]) / (width * line.voice.size)
        gain += peak / np.sqrt(1 + away**2)
    audible = partials < highest
    return np.asarray(gain * number**-line.voice.tilt * audible * line.loudness[:, None])


def _harmonics(
    hertz: np.ndarray, strengths: np.ndarray, samples: int, sample_rate: int
) -> np.ndarray:
    """Sum harmonics whose frequency and strength change as the curves do."""
    phase = 2 * np.pi * np.cumsum(_between(hertz, samples)) / sample_rate
    first = np.exp(1j * phase).astype(np.complex64)
    turning, sound = np.ones(samples, np.complex64), np.zeros(samples, np.float32)
    for strength in strengths.T.astype(np.float32):
        turning *= first
        sound += _between(strength, samples) * turning.imag
    return sound


def _between(curve: np.ndarray, samples: int) -> np.ndarray:
    """Return a curve's values at so many samples, read on straight lines."""
    share = np.arange(STEP, dtype=curve.dtype) / STEP
    return np.asarray((curve[:-1, None] + np.diff(curve)[:, None] * share).ravel()[:samples])


def _noise(line: _Line, sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw the breath in the voice and the hiss of consonants."""
    white = rng.standard_normal(len(sound))
    hiss = np.diff(white, prepend=0) * np.sqrt(np.mean(sound**2)) / 4
    breath = line.voice.breath * white * _between(line.loudness, len(sound))
    return np.asarray(breath + hiss * _between(line.consonants, len(sound)))
