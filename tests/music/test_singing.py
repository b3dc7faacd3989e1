"""`mmid.music.singing`: a singer sings the line given, in tune and in time."""

from __future__ import annotations

import numpy as np
import pytest

from mmid.music.notes import NOTE_DTYPE
from mmid.music.singing import HIGHEST, Voice, draw_voice, sing

RATE = 22_050
STEADY = Voice(vibrato=0, drift=0, scoop=0, breath=0, consonants=0)
LINE = [(0.2, 1.2, 57), (1.2, 2.2, 64), (2.6, 3.6, 60), (3.6, 4.6, 72)]


def notes(*rows: tuple[float, float, int]) -> np.ndarray:
    return np.array([(*row, 100, 0) for row in rows], NOTE_DTYPE)


def sung_pitch(sound: np.ndarray, start: float, end: float) -> float:
    """Measure the pitch within a span by the period of its sound, MIDI numbers."""
    part = sound[int(start * RATE) : int(end * RATE)]
    size = 16 * len(part)
    power = np.abs(np.fft.rfft(part * np.hanning(len(part)), size)) ** 2
    correlation = np.fft.irfft(power, size * 4)  # four times as fine as samples
    lags = correlation[: 4 * RATE // 80]
    tops = np.flatnonzero((lags[1:-1] > lags[:-2]) & (lags[1:-1] > lags[2:])) + 1
    tops = tops[tops > 4 * RATE // 1_000]
    period = tops[lags[tops] > 0.95 * lags[tops].max()][0]  # not a multiple of it
    return float(69 + 12 * np.log2(4 * RATE / period / 440))


@pytest.mark.parametrize("seed", range(3))
def test_every_note_has_its_pitch_within_a_few_cents(seed):
    sound = sing(notes(*LINE), 5.0, RATE, np.random.default_rng(seed), STEADY)
    for onset, offset, pitch in LINE:
        assert sung_pitch(sound, onset + 0.2, offset - 0.2) == pytest.approx(pitch, abs=0.05)


def test_it_is_silent_where_nothing_is_sung():
    sound = sing(notes(*LINE), 5.0, RATE, np.random.default_rng(0), STEADY)
    assert len(sound) == 5 * RATE and sound.dtype == np.float32
    assert np.abs(sound[: int(0.18 * RATE)]).max() < 1e-3
    assert np.abs(sound[int(2.25 * RATE) : int(2.55 * RATE)]).max() < 1e-3
    assert np.abs(sound[int(0.5 * RATE) : int(1.0 * RATE)]).max() > 0.02
    assert not sing(notes(), 1.0, RATE, np.random.default_rng(0)).any()


def test_a_later_note_cuts_an_earlier_one():
    held = notes((0, 2, 57), (1, 2, 64))
    sound = sing(held, 2.0, RATE, np.random.default_rng(0), STEADY)
    assert sung_pitch(sound, 0.3, 0.9) == pytest.approx(57, abs=0.05)
    assert sung_pitch(sound, 1.2, 1.8) == pytest.approx(64, abs=0.05)


def test_vibrato_swings_as_far_as_asked_around_the_note():
    voice = Voice(vibrato=100, rate=5, drift=0, scoop=0, breath=0, consonants=0)
    sound = sing(notes((0, 3, 69)), 3.0, RATE, np.random.default_rng(0), voice)
    measured = [sung_pitch(sound, at, at + 0.05) for at in np.arange(1, 2.5, 0.025)]
    assert np.median(measured) == pytest.approx(69, abs=0.35)
    assert 1.2 < max(measured) - min(measured) < 2.4


def test_voices_differ_and_one_seed_sings_alike():
    line = notes(*LINE)
    first, again, other = (sing(line, 5.0, RATE, np.random.default_rng(n)) for n in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert abs(np.corrcoef(first, other)[0, 1]) < 0.9
    assert draw_voice(np.random.default_rng(1)) != draw_voice(np.random.default_rng(2))


def test_nothing_folds_back_at_low_sample_rates():
    sound = sing(notes((0, 1, 72)), 1.0, 8_000, np.random.default_rng(0), STEADY)
    spectrum = np.abs(np.fft.rfft(sound[2_000:6_000] * np.hanning(4_000)))
    between = spectrum[np.abs((np.arange(2_001) * 2 / 523.25) % 1 - 0.5) < 0.2]
    assert HIGHEST > 4_000 and between.max() < 0.01 * spectrum.max()
