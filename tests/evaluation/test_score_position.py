"""`mmid.evaluation.score_position`: the notes of a performance tell where in the score it is."""

from __future__ import annotations

import numpy as np
import pytest

from mmid.evaluation.score_position import Reference
from mmid.music.grid import DEFAULT


@pytest.fixture
def played(draw_notes):
    """Return a score of two minutes, its performance, and where in the score its times lie."""
    score = draw_notes(3, 500, 120.0)
    beats = np.linspace(0, 120, 25)
    seconds = np.cumsum(np.concatenate([[1.0], np.random.default_rng(0).uniform(4, 9, 24)]))
    notes = score.copy()
    for side in ("onset", "offset"):
        notes[side] = np.interp(score[side], beats, seconds)
    rng = np.random.default_rng(1)
    notes["onset"] += rng.normal(0, 0.02, len(notes))
    notes["offset"] = np.maximum(notes["offset"], notes["onset"] + 0.05)
    return score, np.sort(notes[rng.random(len(notes)) < 0.97], order="onset"), beats, seconds


def test_places_are_those_of_the_performance(played):
    score, notes, beats, seconds = played
    reference = Reference(notes, score, DEFAULT)
    for start in range(5, 140, 15):
        span = reference.span(start, start + 10.0)
        assert span == pytest.approx(np.interp([start, start + 10.0], seconds, beats), abs=0.15)


def test_another_key_is_no_other_place(played):
    score, notes, beats, seconds = played
    notes["pitch"] = notes["pitch"].astype(int) + 2
    span = Reference(notes, score, DEFAULT, transpose=2).span(40.0, 50.0)
    assert span == pytest.approx(np.interp([40.0, 50.0], seconds, beats), abs=0.15)
    assert Reference(notes, score, DEFAULT).span(40.0, 50.0) is None


def test_what_is_not_written_has_no_place(played, draw_notes):
    score, notes, _, _ = played
    other = draw_notes(9, 60, 15.0)
    for side in ("onset", "offset"):
        other[side] += 50
    inside = (notes["onset"] > 49) & (notes["onset"] < 66)
    reference = Reference(
        np.sort(np.concatenate([notes[~inside], other]), order="onset"), score, DEFAULT
    )
    assert reference.span(52.0, 62.0) is None, "other notes"
    assert reference.span(20.0, 30.0) is not None
    assert reference.span(500.0, 510.0) is None, "none"
