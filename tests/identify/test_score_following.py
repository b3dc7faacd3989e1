"""`mmid.identify.score_following`: a piece along a recording, and what two pieces both claim."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tunes import moved

from mmid.identify.note_stream import Tape
from mmid.identify.score_following import PieceTrack, part, track_piece
from mmid.identify.voting import Candidate
from mmid.model.embedding import Score
from mmid.music.grid import DEFAULT

RATE = DEFAULT.frame_rate


def track(first: int, gains, piece: int = 0) -> PieceTrack:
    gained = np.cumsum(np.asarray(gains, float))
    return PieceTrack(
        first, first, gained, np.cumsum(np.abs(gains)), piece + np.arange(len(gained)) / RATE
    )


def test_what_two_tracks_claim_is_cut_where_both_gain_most():
    earlier = track(0, [1] * 100 + [-1] * 20)
    later = track(80, [-0.5] * 30 + [1] * 100)
    first, second = part(earlier, later)
    assert (first.first, first.end) == (0, 100) and first.gained[-1] == 100
    assert (second.first, second.end) == (110, 210), "and where they do not lose any more"
    assert second.gained[-1] == 100 and second.positions[0] == later.positions[30]


def test_tracks_apart_stay_as_they_are():
    earlier, later = track(0, [1] * 10), track(10, [1] * 10)
    assert part(earlier, later) == (earlier, later)


def test_a_track_that_another_explains_as_well_is_dropped():
    whole = track(0, [1] * 300)
    gone, kept = part(track(20, [1.2] * 50), whole)
    assert len(gone.gained) == 0 and kept is whole
    left, _ = part(track(0, [1.0] * 100 + [0.1] * 100), track(100, [1.0] * 200))
    assert (left.first, left.end) == (0, 100), "most of its gain is elsewhere"
    first, second = part(track(20, [3.0] * 50), whole)
    assert (first.first, first.end, second.first) == (20, 70, 70)


def test_of_the_same_music_a_track_keeps_what_lies_before_another():
    earlier, later = track(0, [1.0] * 200), track(50, [1.1] * 300)
    assert len(part(earlier, later)[0].gained) == 0
    kept, follows = part(earlier, later, same=True)
    assert (kept.first, kept.end) == (0, 50) and follows is later


def test_a_track_has_a_share_and_a_tempo():
    one = PieceTrack(
        5, 5, np.arange(1, 201) * 0.5, np.arange(1.0, 201.0), np.arange(200) * 1.25 / RATE
    )
    assert one.share == pytest.approx(0.5)
    assert one.tempo_ratio(RATE) == pytest.approx(1.25)
    assert one.cut(105, 205).share == pytest.approx(0.5)


def test_a_track_has_a_likely_span():
    gains = [0.2] * 20 + [0.9] * 50 + [0.1] * 30
    one = PieceTrack(100, 140, np.cumsum(gains), np.arange(1.0, 101.0), np.zeros(100))
    assert one.likely_span(0.0) == (100, 200) and one.likely_span(0.5) == (120, 170)
    assert one.moved(7).likely_span(0.5) == (127, 177)
    assert one.cut(130, 160).likely_span(0.5) == (130, 160)


@pytest.mark.parametrize("tempo", [1.0, 1.1])
def test_a_piece_is_followed_to_both_its_ends(draw_notes, tempo):
    written, other = draw_notes(0, 200, 60.0), draw_notes(1, 200, 40.0)
    played = moved(written, 30.0, tempo)
    log_odds = Score(np.concatenate([moved(other, -12.0), played]), 120.0).log_odds
    reached: list[int] = []
    found = track_piece(
        Tape(iter(torch.split(log_odds, 500, -1))),
        (int(45 * RATE), int(60 * RATE)),
        [Candidate(0, 1.0, ratio, None) for ratio in (0.3, 1.0)],
        lambda one: written,
        DEFAULT,
        reached.append,
    )
    first, last = float(played["onset"].min()), float(played["offset"].max())
    assert found.first / RATE == pytest.approx(first, abs=0.3)
    assert found.end / RATE == pytest.approx(last, abs=0.5)
    assert found.positions[0] == pytest.approx(float(written["onset"].min()), abs=0.3)
    assert found.positions[-1] == pytest.approx(float(written["offset"].max()), abs=0.5)
    assert found.tempo_ratio(RATE) == pytest.approx(tempo, rel=0.05)
    assert found.share > 0.8 and reached == sorted(reached)
