"""`stretches`: halves and half-minutes of a query, and what answers that rest on them say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tunes import D, moved

from mmid.identify.answer import Identification, Match
from mmid.identify.identifier import Identifier
from mmid.identify.stretches import Stretch, best_of, resting_on, stretches_of
from mmid.index.folder import LibraryIndex
from mmid.model.embedding import Score, Transcribed
from mmid.model.loading import load_model
from mmid.model.transcriber import PITCHES
from mmid.music.notes import clipped

MATCH = Match("a.mid", 0.9, 0.5, 0.6, 0.3, 0.4, 1.0, 16.0, 1.0, 0)


def query_of(frames: int) -> Transcribed:
    counted = torch.arange(frames, dtype=torch.float32)
    return Transcribed(counted.expand(2, PITCHES, frames), melody=-counted.expand(2, 1, frames))


def test_halves_are_looked_up_the_last_one_first():
    last, first = stretches_of(query_of(646))
    assert last.query.log_odds[0, 0].tolist() == list(range(323, 646))
    assert first.query.log_odds[0, 0].tolist() == list(range(323))
    assert first.query.melody is not None and first.query.melody[0, 0, -1] == -322
    assert (first.start, first.end) == (0, last.start) and last.end == query_of(646).seconds


def test_half_minutes_of_a_long_query_are_spread_over_it():
    parts = stretches_of(query_of(6460))
    assert [round(part.start) for part in parts] == [270, 180, 90, 0]
    assert {round(part.query.seconds) for part in parts} == {30}


def test_a_short_query_has_no_stretches():
    assert stretches_of(query_of(400)) == []
    assert stretches_of(Score(np.zeros(0, [("onset", "f8")]), 60.0)) == []


def test_a_stretch_must_be_more_confident_than_the_whole_would():
    whole = Identification("q.wav", 30.0, False, (), reason="nothing_fits")
    answer = Identification("q.wav", 15.0, True, (MATCH,))
    stretch = Stretch(query_of(10), 15.0, 30.0)
    found = resting_on(stretch, answer, whole, 3, 0.5)
    assert found is not None and found.matched and found.reason is None
    assert found.seconds == 30.0 and found.stretch == found.rests_on == (15.0, 30.0)
    assert found.matches[0].confidence == pytest.approx(0.75)
    assert resting_on(stretch, answer, whole, 3, 0.8) is None
    unsure = Identification("q.wav", 15.0, False, (MATCH,), reason="not_confident")
    assert resting_on(stretch, unsure, whole, 3, 0.5) is None
    assert whole.rests_on == (0.0, 30.0)


def test_more_looks_are_worth_less():
    assert best_of(1, 0.7) == pytest.approx(0.7)
    assert best_of(5, 0.0) == 0.0 and best_of(5, 1.0) == 1.0
    assert best_of(5, 0.7) < best_of(3, 0.7) < 0.7


@pytest.fixture(scope="module")
def identifier(tunes_index) -> Identifier:
    model = load_model()
    return Identifier(model, LibraryIndex(tunes_index, model))


@pytest.fixture(scope="module")
def late(known_tunes, identifier) -> Transcribed:
    """Return fifteen seconds of one tune and then fifteen of another."""
    before, piece = (known_tunes[name].midi.notes for name in (D, "minuet-in-g.mid"))
    parts = [clipped(notes[notes["onset"] < 15], 0, 15) for notes in (before, piece)]
    notes = np.concatenate([parts[0], moved(parts[1], 15.0)])
    score = Score(notes, 30.0, identifier.params)
    return Transcribed(score.log_odds, identifier.params)


@pytest.mark.numerical
def test_a_piece_after_other_music_is_found_by_the_half_that_it_fills(identifier, late):
    result = identifier.search(late)
    whole, answer = identifier.decide(result), identifier.answer(result)
    assert not whole.matched and whole.stretch is None
    first = answer.matches[0]
    assert answer.matched and first.piece == "minuet-in-g.mid" and answer.seconds == whole.seconds
    assert answer.stretch == pytest.approx((15, 30), abs=0.1)
    assert first.start == pytest.approx(0, abs=0.5) and first.end == pytest.approx(15, abs=0.5)
    trace = identifier.trace(result, first)
    assert trace.path is not None and len(trace.path.query) == late.log_odds.shape[-1]
    assert trace.candidate.start / identifier.params.frame_rate == pytest.approx(-15, abs=1)


@pytest.mark.numerical
def test_what_is_left_out_is_found_by_no_half(identifier, late):
    names = identifier.names
    out = frozenset({names.index(D), names.index("minuet-in-g.mid")})
    result = identifier.search(late, 25, out)
    assert not identifier.answer(result, excluded=out).matched


@pytest.mark.numerical
def test_what_is_found_rests_on_the_whole(identifier, known_tunes):
    notes = known_tunes[D].midi.notes
    score = Score(clipped(notes[notes["onset"] < 30], 0, 30), 30.0, identifier.params)
    result = identifier.search(Transcribed(score.log_odds, identifier.params))
    answer = identifier.answer(result)
    assert answer.stretch is None and answer == identifier.decide(result)
