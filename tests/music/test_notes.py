"""`notes`: what arithmetic on notes must do whatever the notes are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmid.music.notes import (
    NOTE_DTYPE,
    PITCHES,
    clipped,
    last_offset,
    retimed,
    shifted,
    sounding,
    sped_up,
    stretched,
    transposed,
    transposed_within,
)


def for_all(*strategies: st.SearchStrategy) -> Callable[[Callable], Callable]:
    """Run a test on many examples, the same every time."""
    often = settings(deadline=None, max_examples=60, derandomize=True)
    return lambda test: often(given(*strategies)(test))


TIMES = st.floats(0, 1_000, width=32)
SECONDS = st.floats(-1_000, 1_000)
FACTORS = st.floats(0.1, 10)
SEMITONES = st.integers(-60, 60)
NOTE = st.tuples(TIMES, st.floats(0, 10, width=32), *[st.integers(0, 127)] * 3)


def as_notes(rows: list[tuple[float, float, int, int, int]]) -> np.ndarray:
    return np.array([(onset, onset + length, *rest) for onset, length, *rest in rows], NOTE_DTYPE)


NOTES = st.lists(NOTE, max_size=20).map(as_notes)
SPANS = st.tuples(TIMES, TIMES).map(sorted)


def assert_same(one: np.ndarray, other: np.ndarray, within: float = 1e-3) -> None:
    """Compare notes, times to within some seconds and all else to the bit."""
    for side in ("onset", "offset"):
        np.testing.assert_allclose(one[side], other[side], rtol=1e-5, atol=within)
    for name in ("pitch", "velocity", "program"):
        np.testing.assert_array_equal(one[name], other[name])


@for_all(NOTES, SECONDS)
def test_shifting_back_gives_the_notes_again(notes, seconds):
    assert_same(shifted(shifted(notes, seconds), -seconds), notes)


@for_all(NOTES, SECONDS, SECONDS)
def test_two_shifts_are_one(notes, one, other):
    assert_same(shifted(shifted(notes, one), other), shifted(notes, one + other))


@for_all(NOTES, FACTORS)
def test_a_stretch_is_undone_by_speed(notes, factor):
    assert_same(sped_up(stretched(notes, factor), factor), notes)


@for_all(NOTES, FACTORS, FACTORS)
def test_two_stretches_are_one(notes, one, other):
    assert_same(stretched(stretched(notes, one), other), stretched(notes, one * other))


@for_all(NOTES, SECONDS, FACTORS)
def test_a_shift_is_stretched_with_the_notes(notes, seconds, factor):
    both = stretched(shifted(notes, seconds), factor)
    assert_same(both, shifted(stretched(notes, factor), seconds * factor), within=1e-2)


@for_all(NOTES, FACTORS)
def test_the_end_is_stretched_with_the_notes(notes, factor):
    assert last_offset(stretched(notes, factor)) == pytest.approx(
        factor * last_offset(notes), rel=1e-6
    )


@for_all(NOTES, SEMITONES)
def test_transposing_back_gives_the_notes_that_stayed(notes, semitones):
    pitch = notes["pitch"].astype(int) + semitones
    stayed = notes[(pitch >= 0) & (pitch < PITCHES)]
    up = transposed(notes, semitones)
    assert_same(transposed(up, -semitones), stayed, within=0)
    np.testing.assert_array_equal(up["pitch"].astype(int) - stayed["pitch"], semitones)


@for_all(NOTES, SEMITONES, SEMITONES)
def test_two_transpositions_are_one_of_the_notes_that_stay(notes, one, other):
    pitch = notes["pitch"].astype(int) + one
    staying = notes[(pitch >= 0) & (pitch < PITCHES)]
    both = transposed(transposed(notes, one), other)
    assert_same(both, transposed(staying, one + other), within=0)


@for_all(NOTES, SEMITONES)
def test_transposing_within_the_range_keeps_all_notes(notes, semitones):
    within = transposed_within(notes, semitones)
    expected = np.clip(notes["pitch"].astype(int) + semitones, 0, PITCHES - 1)
    np.testing.assert_array_equal(within["pitch"], expected)
    np.testing.assert_array_equal(within["onset"], notes["onset"])


@for_all(NOTES, st.integers(1, PITCHES))
def test_few_pitches_are_those_below(notes, pitches):
    np.testing.assert_array_equal(transposed(notes, 0, pitches), notes[notes["pitch"] < pitches])


@for_all(NOTES, SPANS)
def test_clipped_notes_lie_in_the_span_and_stay_there(notes, span):
    start, end = span
    once = clipped(notes, start, end)
    for side in ("onset", "offset"):
        assert ((once[side] >= start) & (once[side] <= end)).all()
    assert (once["offset"] >= once["onset"]).all()
    assert_same(clipped(once, start, end), once, within=0)
    inside = (notes["onset"] >= start) & (notes["offset"] <= end)
    assert_same(once[inside], notes[inside], within=0)


@for_all(NOTES, SPANS)
def test_notes_that_sound_are_those_of_which_clipping_leaves_something(notes, span):
    start, end = span
    left = clipped(notes, start, end)
    lasting = left["offset"] > left["onset"]
    assert_same(sounding(notes[lasting], start, end), notes[lasting], within=0)
    silent = clipped(sounding(notes[~lasting], start, end), start, end)
    assert (silent["offset"] == silent["onset"]).all()


@for_all(NOTES, SPANS, SECONDS)
def test_clipping_moves_with_the_notes(notes, span, seconds):
    start, end = span
    later = clipped(shifted(notes, seconds), start + seconds, end + seconds)
    assert_same(later, shifted(clipped(notes, start, end), seconds))


@for_all(NOTES)
def test_the_argument_is_left_as_it_is(notes):
    before = notes.copy()
    retimed(notes, np.zeros_like)
    shifted(notes, 1.0)
    stretched(notes, 2.0)
    sped_up(notes, 2.0)
    clipped(notes, 1.0, 2.0)
    transposed(notes, 1)
    transposed_within(notes, 1)
    sounding(notes, 0.0, 1_000.0)["pitch"] = 0
    np.testing.assert_array_equal(notes, before)


def test_no_notes_end_at_once():
    assert last_offset(np.empty(0, NOTE_DTYPE)) == 0
