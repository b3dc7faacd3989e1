"""`mmid.identify.alignment`: notes as they are written, found again in the scores they are from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmid.identify.alignment import (
    ALIGNED_FRAMES,
    FRAMES,
    MARGIN,
    align,
    align_closely,
    explained,
    note_gains,
)
from mmid.identify.rolls import Notes
from mmid.identify.voting import Candidate
from mmid.model.embedding import Score
from mmid.model.transcriber import LOWEST, PITCHES
from mmid.music.grid import DEFAULT
from mmid.music.notes import NOTE_DTYPE, shifted

pytestmark = pytest.mark.numerical

RATE = DEFAULT.frame_rate
SECONDS = 60.0


@pytest.fixture(scope="module")
def library(draw_notes) -> list[np.ndarray]:
    """Return the notes of five pieces of a minute."""
    return [draw_notes(seed, 240, SECONDS) for seed in range(5)]


def moved(notes: np.ndarray, seconds: float = 0.0, stretch: float = 1.0) -> np.ndarray:
    notes = notes.copy()
    for side in ("onset", "offset"):
        notes[side] = (notes[side] + seconds) * stretch
    return notes


def played(notes: np.ndarray, start: float, seconds: float, speed: float = 1.0) -> Score:
    """Return a stretch of a score as it is played at a speed."""
    span = Score(notes, start + seconds).span(start, seconds)
    return Score(moved(span.notes, stretch=1 / speed), seconds / speed)


def notes_of(library: list[np.ndarray]) -> Notes:
    return lambda one: library[one.piece]


def at(piece: int, start: float = 0.0, tempo_ratio: float = 1.0, transpose: int = 0) -> Candidate:
    return Candidate(piece, 0.5, tempo_ratio, start * RATE, transpose)


# ---- explained


@pytest.mark.parametrize("start", [0.0, 12.3, 49.0])
@pytest.mark.parametrize("speed", [0.9, 1.0, 1.1])
def test_the_right_piece_explains_most(library, start, speed):
    gains = note_gains(played(library[2], start, 10.0, speed).log_odds)
    for tempo_ratio in (speed, 1.0):
        positions = [at(piece, start, tempo_ratio) for piece in range(5)]
        shares = explained(gains, positions, notes_of(library), DEFAULT)
        assert shares.shape == (5,) and np.argmax(shares) == 2
        assert shares[2] > 0.85 and np.delete(shares, 2).max() < 0.2


def test_the_right_place_explains_most(library):
    gains = note_gains(played(library[2], 20.0, 10.0).log_odds)
    positions = [at(2, start) for start in (20.0, 0.0, 35.0, 45.0)]
    shares = explained(gains, positions, notes_of(library), DEFAULT)
    assert shares[0] > 0.9 and shares[1:].max() < 0.2


@pytest.mark.parametrize("error", [-22, -7, 8, 22])
def test_a_place_is_looked_for_beside_where_it_is_said_to_be(library, error):
    gains = note_gains(played(library[1], 30.0, 10.0).log_odds)
    right, near, far = explained(
        gains, [at(1, 30.0), at(1, 30.0 + error / RATE), at(1, 10.0)], notes_of(library), DEFAULT
    )
    assert abs(error) <= MARGIN
    assert near == pytest.approx(right, abs=1e-3) and far < 0.2


def test_a_transposed_piece_explains_what_the_piece_did(library):
    score = played(library[2], 12.0, 10.0)
    plain = explained(note_gains(score.log_odds), [at(2, 12.0)], notes_of(library), DEFAULT)
    gains = note_gains(score.transposed(3).log_odds)
    keys = (3, 0, -3, 15)
    positions = [at(2, 12.0, 1.0, key) for key in keys]
    shares = explained(gains, positions, notes_of(library), DEFAULT)
    assert shares[0] == pytest.approx(plain[0], abs=1e-5) and shares[1:].max() < 0.2


def test_a_perfect_match_explains_all():
    rng = np.random.default_rng(0)
    notes = np.zeros(80, NOTE_DTYPE)
    onset = np.sort(rng.integers(0, 200, 80))
    notes["onset"], notes["offset"] = onset / RATE, (onset + rng.integers(20, 60, 80)) / RATE
    notes["pitch"] = LOWEST + rng.permutation(PITCHES)[:80]
    gains = note_gains(Score(notes, float(notes["offset"].max())).log_odds)
    (share,) = explained(gains, [at(0)], lambda one: notes, DEFAULT)
    assert 0.98 < share <= 1
    assert align(gains, at(0), lambda one: notes, DEFAULT).share == pytest.approx(share, abs=1e-4)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    frames=st.integers(1, 40),
    loud=st.floats(-20, 20),
    count=st.integers(0, 40),
    tempo_ratio=st.floats(0.25, 4),
    start=st.floats(-100, 200),
)
def test_no_more_than_all_is_ever_explained(
    draw_notes, seed, frames, loud, count, tempo_ratio, start
):
    rng = np.random.default_rng(seed)
    log_odds = torch.from_numpy(rng.normal(loud, 8, (2, PITCHES, frames))).float()
    notes = draw_notes(seed, count, 3.0)
    gains, place = note_gains(log_odds), Candidate(0, 0.5, tempo_ratio, start)
    (share,) = explained(gains, [place], lambda one: notes, DEFAULT)
    path = align(gains, place, lambda one: notes, DEFAULT)
    assert np.isfinite(share) and share <= 1 + 1e-5
    assert np.isfinite(path.share) and path.share <= 1 + 1e-5
    assert len(path.score) == len(path.query) == frames and path.score.min() >= 0


def test_many_candidates_are_compared_as_each_alone(library, monkeypatch):
    gains = note_gains(played(library[3], 5.0, 4.0).log_odds)
    positions = [at(piece, start) for piece in range(5) for start in (0.0, 5.0)]
    together = explained(gains, positions, notes_of(library), DEFAULT)
    monkeypatch.setattr("mmid.identify.alignment.TOGETHER", 3)
    apart = explained(gains, positions, notes_of(library), DEFAULT)
    np.testing.assert_allclose(apart, together, atol=1e-6)
    assert len(explained(gains, [], notes_of(library), DEFAULT)) == 0


# ---- aligned


@pytest.mark.parametrize("start", [0.0, 12.3, 49.0])
@pytest.mark.parametrize("speed", [0.9, 1.0, 1.1])
@pytest.mark.parametrize("guess", [0.94, 1.0, 1.06])
def test_start_end_and_tempo_are_found(library, start, speed, guess):
    gains = note_gains(played(library[2], start, 10.0, speed).log_odds)
    path = align(gains, at(2, 0.0, speed * guess), notes_of(library), DEFAULT)
    assert path.start == pytest.approx(start, abs=0.1)
    assert path.end == pytest.approx(start + 10, abs=0.1)
    assert path.tempo_ratio == pytest.approx(speed, rel=0.03)
    np.testing.assert_allclose(path.score, start + path.query * speed, atol=0.15)
    assert path.share > 0.8


def test_the_key_of_a_candidate_is_heeded(library):
    gains = note_gains(played(library[2], 12.0, 10.0).transposed(-4).log_odds)
    right, wrong = (align(gains, at(2, 0, 1, k), notes_of(library), DEFAULT) for k in (-4, 0))
    assert right.start == pytest.approx(12, abs=0.1) and right.share > 0.9 > 0.3 > wrong.share


def test_a_repeat_left_out_is_leapt_over(library):
    whole = library[1]
    first, second = (Score(whole, SECONDS).span(start, 10.0).notes for start in (10.0, 35.0))
    performed = np.concatenate([first[first["onset"] < 10], moved(second, 10.0)])
    gains = note_gains(Score(performed, 20.0).log_odds)
    path = align(gains, at(1, 10.0), notes_of(library), DEFAULT)
    expected = np.where(path.query < 10, path.query + 10, path.query + 25)
    beside = np.abs(path.query - 10) > 0.6
    np.testing.assert_allclose(path.score[beside], expected[beside], atol=0.1)
    assert path.tempo_ratio == pytest.approx(1, rel=0.03), "a leap is not a tempo"
    assert path.share > 0.8


def test_a_passage_played_twice_leaps_back(library):
    once = Score(library[1], SECONDS).span(10.0, 10.0).notes
    gains = note_gains(Score(np.concatenate([once, moved(once, 10.0)]), 20.0).log_odds)
    path = align(gains, at(1, 10.0), notes_of(library), DEFAULT)
    beside = np.abs(path.query - 10) > 0.6
    np.testing.assert_allclose(path.score[beside], 10 + path.query[beside] % 10, atol=0.1)


def test_no_leap_is_made_for_a_moment(library):
    """A passing wrong moment costs less than two leaps."""
    score = played(library[1], 10.0, 10.0)
    strange = played(library[1], 40.0, 0.4)
    log_odds = score.log_odds
    log_odds[..., 100 : 100 + strange.log_odds.shape[-1]] = strange.log_odds
    path = align(note_gains(log_odds), at(1, 10.0), notes_of(library), DEFAULT)
    np.testing.assert_allclose(path.score, 10 + path.query, atol=0.15)


@pytest.mark.parametrize("introduced", [True, False])
def test_a_path_rests_while_much_other_music_is_played(library, introduced):
    own, other = (Score(library[n], SECONDS).span(10.0, 25.0).notes for n in (1, 3))
    first, second = (other, own) if introduced else (own, other)
    performed = np.concatenate([first[first["onset"] < 25], moved(second, 25.0)])
    gains = note_gains(Score(performed, 50.0).log_odds)
    path = align(gains, at(1, 10.0), notes_of(library), DEFAULT)
    expected = np.clip(path.query + (-15 if introduced else 10), 10, 35)
    np.testing.assert_allclose(path.score, expected, atol=0.6)
    assert path.tempo_ratio == pytest.approx(1, rel=0.03), "a rest is not a tempo"


@pytest.mark.parametrize(("start", "seconds"), [(50.0, 100.0), (20.0, 200.0), (0.0, 390.0)])
def test_a_long_query_is_aligned_on_coarser_frames(draw_notes, start, seconds):
    notes = draw_notes(9, 1_600, 400.0)
    gains = note_gains(played(notes, start, seconds).log_odds, ALIGNED_FRAMES)
    assert gains.step == -(-int(seconds * RATE + 1) // ALIGNED_FRAMES)
    assert gains.values.shape[1] <= ALIGNED_FRAMES
    path = align(gains, at(0, start, 1.04), lambda one: notes, DEFAULT)
    assert path.start == pytest.approx(start, abs=0.5)
    assert path.end == pytest.approx(start + seconds, abs=0.5)
    assert path.tempo_ratio == pytest.approx(1, rel=0.03)


def test_a_long_query_lies_where_it_is_whatever_frames_it_is_aligned_on(draw_notes):
    tune = draw_notes(9, 280, 70.0)
    notes = np.concatenate([shifted(tune, 70.0 * time) for time in range(3)])
    for frames in (ALIGNED_FRAMES, FRAMES):
        gains = note_gains(played(notes, 0.0, 210.0).log_odds, frames)
        path = align(gains, at(0, 0.0), lambda one: notes, DEFAULT)
        np.testing.assert_allclose(path.score, path.query, atol=0.6)


@pytest.mark.parametrize("guess", [1.0, 1.06])
def test_a_long_query_is_followed_by_every_frame_over_a_repeat(draw_notes, guess):
    notes, candidate = draw_notes(9, 800, 200.0), at(0, 20.0, guess)
    once = played(notes, 20.0, 60.0).log_odds
    log_odds = torch.cat([once, once], -1)
    coarse = align(note_gains(log_odds), candidate, lambda one: notes, DEFAULT)
    path = align_closely(log_odds, coarse, candidate, lambda one: notes, DEFAULT)
    frames = np.arange(log_odds.shape[-1])
    np.testing.assert_allclose(path.query, frames / RATE)
    positions = (path.score, np.interp(path.query, coarse.query, coarse.score))
    fine, rough = (np.abs(p - 20 - frames % once.shape[-1] / RATE) < 0.06 for p in positions)
    assert fine.mean() > 0.97 > rough.mean()
    assert (path.share, path.tempo_ratio) == (coarse.share, coarse.tempo_ratio)


def test_a_short_query_was_followed_closely_already(library):
    log_odds = played(library[2], 5.0, 20.0).log_odds
    path = align(note_gains(log_odds), at(2, 5.0), notes_of(library), DEFAULT)
    assert align_closely(log_odds, path, at(2, 5.0), notes_of(library), DEFAULT) is path


def test_a_piece_without_notes_explains_nothing(library):
    gains = note_gains(played(library[0], 0.0, 5.0).log_odds)
    (share,) = explained(gains, [at(0)], lambda one: library[0][:0], DEFAULT)
    path = align(gains, at(0), lambda one: library[0][:0], DEFAULT)
    assert share == 0 and path.share <= 0
    assert np.isfinite([path.start, path.end, path.tempo_ratio]).all() and path.tempo_ratio > 0


def test_a_query_without_notes_is_explained_by_none(library):
    gains = note_gains(Score(library[0][:0], 5.0).log_odds)
    assert gains.total > 0
    shares = explained(gains, [at(0), at(1, 20.0)], notes_of(library), DEFAULT)
    assert np.isfinite(shares).all() and shares.max() <= 0
    path = align(gains, at(0), notes_of(library), DEFAULT)
    assert np.isfinite([path.share, path.start, path.end]).all() and path.share <= 0


def test_one_frame_is_enough(library):
    gains = note_gains(played(library[0], 0.0, 5.0).log_odds[..., 40:41])
    (share,) = explained(gains, [at(0, 40 / RATE)], notes_of(library), DEFAULT)
    path = align(gains, at(0), notes_of(library), DEFAULT)
    assert share == pytest.approx(1, abs=0.01) and path.share == pytest.approx(1, abs=0.01)
    assert path.start == path.end == pytest.approx(40 / RATE) and path.tempo_ratio == 1
