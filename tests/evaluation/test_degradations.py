"""`degradations`: each effect does to samples what its name says, and the same each time."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from mmid.evaluation.degradations import MP3_RATE, ROOM_SECONDS, degrade_samples
from mmid.options import Damage

RATE = 22_050


@pytest.fixture
def tones() -> np.ndarray:
    """Return two seconds of 100, 1,000 and 5,000 Hz."""
    time = np.arange(2 * RATE) / RATE
    return sum(0.2 * np.sin(2 * np.pi * hertz * time) for hertz in (100, 1_000, 5_000)).astype(
        np.float32
    )


def level(samples: np.ndarray, hertz: float) -> float:
    """Return the amplitude of a tone."""
    turning = np.exp(-2j * np.pi * hertz * np.arange(len(samples)) / RATE)
    return float(2 * np.abs(np.mean(samples * turning)))


@pytest.mark.parametrize("how", get_args(Damage))
def test_every_effect_is_the_same_for_a_seed(how, tones):
    once = degrade_samples(tones, how, RATE, seed=3)
    assert once.dtype == np.float32 and np.isfinite(once).all()
    assert np.array_equal(once, degrade_samples(tones, how, RATE, seed=3))
    assert not np.array_equal(once[: len(tones)], tones[: len(once)])
    random = not np.array_equal(once, degrade_samples(tones, how, RATE, seed=4))
    assert random == (how in ("noise-10", "noise-0", "room"))


@pytest.mark.parametrize(("how", "decibels"), [("noise-10", 10), ("noise-0", 0)])
def test_noise_is_as_loud_as_told(how, decibels, tones):
    noise = degrade_samples(tones, how, RATE) - tones
    assert 10 * np.log10(np.mean(tones**2) / np.mean(noise**2)) == pytest.approx(decibels, abs=0.1)


def test_a_room_rings_on():
    clap = np.zeros(2 * RATE, np.float32)
    clap[0] = 1.0
    heard = degrade_samples(clap, "room", RATE)
    assert np.sum(heard**2) == pytest.approx(1.0, abs=0.1)
    tail = np.sum(heard[RATE // 10 :] ** 2)
    assert 0.01 < tail < 0.3
    assert np.abs(heard[int((ROOM_SECONDS + 0.01) * RATE) :]).max() < 1e-6


def test_a_telephone_passes_only_its_band(tones):
    heard = degrade_samples(tones, "phone", RATE)
    assert level(heard, 1_000) == pytest.approx(0.2, rel=0.02)
    assert level(heard, 100) < 0.01 and level(heard, 5_000) < 0.05


def test_mp3_is_smaller_and_much_the_same(tones):
    heard = degrade_samples(tones, "mp3", RATE)
    assert len(heard) == len(tones) and MP3_RATE < 16 * RATE
    assert level(heard, 1_000) == pytest.approx(0.2, rel=0.1)


@pytest.mark.parametrize(("how", "cents"), [("flat", -50), ("sharp", 50)])
def test_a_tape_off_speed_moves_pitch_and_time(how, cents, tones):
    heard = degrade_samples(tones, how, RATE)
    moved = 2 ** (cents / 1200)
    assert len(heard) == pytest.approx(len(tones) / moved, rel=1e-3)
    assert level(heard, 1_000 * moved) > 0.15 > 10 * level(heard, 1_000)
