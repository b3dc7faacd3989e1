"""`forms`: clips with an introduction, a skip or a repeat that their scores do not have."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from mmid.evaluation.forms import introduction, reshaped
from mmid.evaluation.sources import DegradedSource, RecordedSource
from mmid.music.grid import DEFAULT
from mmid.options import Form

RATE = 1_000
SIZE = 90 * RATE


def ramp(first: int, count: int) -> np.ndarray:
    """Return samples that say where they lie in a recording, seconds."""
    return np.arange(first, min(first + count, SIZE), dtype=np.float32) / RATE


def shaped(how: Form, first: float = 20, seconds: float = 30) -> np.ndarray:
    return reshaped(ramp, int(first * RATE), int(seconds * RATE), SIZE, how, RATE)


def at(samples: np.ndarray, *seconds: float) -> list[float]:
    return [float(samples[int(second * RATE)]) for second in seconds]


@pytest.mark.parametrize("how", get_args(Form))
def test_every_form_is_as_long_as_the_clip_and_the_same_each_time(how):
    clip = shaped(how)
    assert clip.dtype == np.float32 and np.isfinite(clip).all()
    assert abs(len(clip) - 30 * RATE) <= 2
    assert np.array_equal(clip, shaped(how))


def test_an_introduction_comes_before_the_music():
    clip = shaped("introduction")
    assert at(clip, 15, 29) == pytest.approx([25, 39])
    loud, music = (np.sqrt(np.mean(part**2)) for part in np.split(clip, [10 * RATE]))
    assert loud == pytest.approx(music, rel=0.05)
    long = shaped("introduction", 0, 90)
    assert at(long, 25, 89) == pytest.approx([5, 69])


def test_a_skip_goes_on_farther():
    assert at(shaped("skip"), 1, 14, 16, 29) == pytest.approx([21, 34, 46, 59], abs=0.01)
    assert at(shaped("skip", 60), 1, 29) == pytest.approx([51, 89], abs=0.01)
    whole = shaped("skip", 0, 90)
    assert len(whole) == pytest.approx(67.5 * RATE, abs=2) and at(whole, 60)[0] > 80


def test_a_repeat_plays_a_third_again():
    assert at(shaped("repeat"), 1, 9, 11, 19, 21) == pytest.approx([21, 29, 21, 29, 31])


def test_introductions_are_music_and_differ():
    one, other = (introduction(5 * RATE, RATE, np.random.default_rng(n)) for n in (0, 1))
    assert len(one) == 5 * RATE and np.abs(one).max() > 0.01
    assert not np.array_equal(one, other)


def test_a_source_takes_another_form():
    samples = np.sin(np.arange(4 * DEFAULT.sample_rate) / 10).astype(np.float32)
    plain = RecordedSource("a", frozenset({"x"}), samples, 1.0, kind="reel")
    source = DegradedSource("a", plain.right, plain, "repeat", DEFAULT, kind="reel")
    second = DEFAULT.sample_rate
    clip = source.sound(0, 3 * second)
    assert source.size(DEFAULT) == len(samples) and source.span(0, 3) is None
    again, faded = clip[second : 2 * second], second // 20
    np.testing.assert_array_equal(clip[: second - faded], again[: second - faded])
