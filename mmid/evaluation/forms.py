"""Forms that a clip may have and its score has not: an introduction, a skipped verse, a repeat.

Conventions: samples are mono float32; parts are joined with short fades; every draw depends on the
seed alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from mmid.music.additive import synthesize
from mmid.music.notes import NOTE_DTYPE
from mmid.options import Form

Sound: TypeAlias = Callable[[int, int], np.ndarray]
"""Gives the samples of a span, by its first sample and their count."""

INTRODUCED, LONGEST_INTRODUCTION = 1 / 3, 20.0
"""Share of a clip that its introduction is, and what it is at most, seconds."""

SKIPPED = 1 / 4
"""Share of what a clip spans that is skipped in its middle."""

FADE_SECONDS = 0.02
"""How long a part takes to come and to go."""

BEAT_SECONDS, CHORDS = 0.4, ((0, 4, 7), (5, 9, 12), (7, 11, 14), (9, 12, 16))
"""Of the music of introductions: a tune whose notes are drawn, over chords a bar each."""


def reshaped(
    sound: Sound, first: int, count: int, size: int, how: Form, sample_rate: int
) -> np.ndarray:
    """Return a clip of music in another form.

    Parameters
    ----------
    sound : callable
        Gives the samples of a recording.
    first, count : int
        The span that the clip would be of, samples.
    size : int
        Of the recording, samples.
    how : {"introduction", "skip", "repeat"}
        Other music before it; its middle skipped, so that it goes on farther; or its first third
        played twice.
    sample_rate : int

    Returns
    -------
    np.ndarray [n] float32
        As long as the clip would be; a skip is shorter where the recording is.
    """
    forms: dict[Form, Callable[[], list[np.ndarray]]] = {
        "introduction": lambda: _introduced(sound, first, count, sample_rate),
        "skip": lambda: _skipping(sound, first, count, size),
        "repeat": lambda: _repeating(sound, first, count),
    }
    return joined(forms[how](), sample_rate)


def _introduced(sound: Sound, first: int, count: int, sample_rate: int) -> list[np.ndarray]:
    length = min(int(count * INTRODUCED), int(LONGEST_INTRODUCTION * sample_rate))
    music = sound(first, count - length)
    before = introduction(length, sample_rate, np.random.default_rng(first))
    loud, level = (float(np.sqrt(np.mean(part**2))) for part in (before, music))
    return [before * np.float32(level / max(loud, 1e-6)), music]


def _skipping(sound: Sound, first: int, count: int, size: int) -> list[np.ndarray]:
    span = min(size, int(count / (1 - SKIPPED)))
    begin, side = min(first, size - span), int(span * (1 - SKIPPED) / 2)
    return [sound(begin, side), sound(begin + span - side, side)]


def _repeating(sound: Sound, first: int, count: int) -> list[np.ndarray]:
    third = count // 3
    return [sound(first, third), sound(first, count - third)]


def introduction(count: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Play music that is in no library: chords, and a tune of drawn notes.

    Parameters
    ----------
    count : int
        Samples.
    sample_rate : int
    rng : np.random.Generator

    Returns
    -------
    np.ndarray [count] float32
    """
    seconds = count / sample_rate
    beats = int(seconds / BEAT_SECONDS) + 1
    notes = np.zeros(4 * beats, NOTE_DTYPE)
    key = 48 + int(rng.integers(12))
    for beat in range(beats):
        chord = np.array(CHORDS[rng.integers(len(CHORDS))])
        tune = rng.choice(chord) + 12 * rng.integers(1, 3)
        notes["pitch"][4 * beat : 4 * beat + 4] = key + np.append(chord, tune)
        notes["onset"][4 * beat : 4 * beat + 4] = beat * BEAT_SECONDS
    notes["offset"], notes["velocity"] = notes["onset"] + BEAT_SECONDS, 80
    return np.asarray(np.resize(synthesize(notes, seconds + 1, sample_rate, rng), count))


def joined(parts: list[np.ndarray], sample_rate: int) -> np.ndarray:
    """Play parts one after the other."""
    ramp = np.linspace(0, 1, int(FADE_SECONDS * sample_rate), dtype=np.float32)
    faded = [part.astype(np.float32) for part in parts]
    for part in faded:
        length = min(len(ramp), len(part))
        part[:length] *= ramp[:length]
        part[len(part) - length :] *= ramp[:length][::-1]
    return np.concatenate(faded)
