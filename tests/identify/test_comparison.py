"""`mmid.identify.comparison`: what notes say of a score, and it of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from mmid.identify.alignment import HOLD, climb, note_gains
from mmid.identify.comparison import (
    Comparison,
    best_paths,
    compare_notes,
    explained_as_read,
    fold,
)
from mmid.identify.voting import Candidate
from mmid.model.embedding import Score
from mmid.model.transcriber import LOWEST, PITCHES, highest
from mmid.music.grid import DEFAULT
from mmid.music.melody import skyline
from mmid.music.notes import NOTE_DTYPE

pytestmark = pytest.mark.numerical

SECONDS = 12.0


@dataclass
class Scores:
    """As much of a library as is compared."""

    pieces: list[np.ndarray]

    def notes(self, piece: int) -> np.ndarray:
        return self.pieces[piece]

    def melody(self, piece: int) -> np.ndarray:
        return skyline(self.pieces[piece])


def line(seed: int, low: int, high: int, gap: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    notes = np.zeros(int(SECONDS / gap), NOTE_DTYPE)
    notes["onset"] = np.arange(len(notes)) * gap + rng.uniform(0, gap / 3, len(notes))
    notes["offset"] = notes["onset"] + gap * 0.9
    notes["pitch"] = rng.integers(low, high, len(notes))
    return notes


def together(*lines: np.ndarray) -> np.ndarray:
    notes = np.concatenate(lines)
    return notes[np.lexsort((notes["pitch"], notes["onset"]))]


TUNE, OTHER_TUNE = line(0, 67, 84, 0.5), line(1, 67, 84, 0.5)
CHORDS = [line(seed, 40, 64, 0.7) for seed in (2, 3, 4)]
SONG = together(TUNE, *CHORDS)


def compared(played: np.ndarray, *scores: np.ndarray, transpose: int = 0) -> Comparison:
    log_odds = Score(played, SECONDS).log_odds
    candidates = [Candidate(n, 0.0, 1.0, 0.0, transpose) for n in range(len(scores))]
    gains, melody = note_gains(log_odds), note_gains(highest(log_odds))
    return compare_notes(gains, melody, candidates, Scores(list(scores)), DEFAULT)


def test_a_score_of_the_tune_alone_claims_what_a_song_holds():
    found = compared(SONG, TUNE, OTHER_TUNE, SONG)
    assert found.claimed[0] > 0.95 and found.claimed[2] > 0.95 and found.claimed[1] < 0.6
    assert min(found.melody[0], found.melody[2]) > 0.5 > 0.1 > found.melody[1]
    assert found.melody_claimed[0] > 0.95 and found.melody_claimed[1] < 0.6


def test_another_accompaniment_leaves_the_melody_as_it_is():
    arranged = together(TUNE, line(9, 40, 64, 0.35), line(10, 40, 64, 0.35))
    found = compared(SONG, arranged, together(OTHER_TUNE, *CHORDS))
    assert found.melody[0] > 0.5 > 0.1 > found.melody[1]


def test_a_tune_played_alone_is_compared_with_the_melody_alone():
    log_odds = Score(TUNE, SECONDS).log_odds
    gains, melody = note_gains(log_odds), note_gains(highest(log_odds))
    whole, alone = (Candidate(0, 0.0, 1.0, 0.0, tune=0.1, alone=alone) for alone in (False, True))
    read = [whole, alone, replace(alone, piece=1)]
    scores = Scores([SONG, together(OTHER_TUNE, *CHORDS)])
    shares = explained_as_read(gains, read, scores, DEFAULT)
    assert shares[1] > 0.5 > 0.1 > max(shares[0], shares[2])
    found = compare_notes(gains, melody, read, scores, DEFAULT)
    assert found.claimed[1] == found.melody_claimed[1] > 0.7
    assert max(found.claimed[0], found.claimed[2]) < 0.6
    assert found.harmony[1] > max(found.harmony[0], found.harmony[2])


def test_harmonies_agree_in_any_octave():
    lower = SONG.copy()
    lower["pitch"] -= 12
    found = compared(SONG, lower, together(OTHER_TUNE, line(20, 40, 64, 0.7)))
    assert found.harmony[0] > 0.95 > 0.8 > found.harmony[1]


def test_a_key_is_taken_from_the_candidate():
    higher = SONG.copy()
    higher["pitch"] += 2
    found = compared(higher, SONG, transpose=2)
    assert min(float(values[0]) for values in vars(found).values()) > 0.5


def test_candidates_are_compared_alone_or_together_alike():
    log_odds = Score(SONG, SECONDS).log_odds
    scores = Scores([SONG, TUNE, OTHER_TUNE])
    candidates = [Candidate(n % 3, 0.0, 1.0, float(n)) for n in range(40)]
    gains, melody = note_gains(log_odds, 100), note_gains(highest(log_odds), 100)
    found = compare_notes(gains, melody, candidates, scores, DEFAULT)
    for number in (3, 37):
        alone = compare_notes(gains, melody, [candidates[number]], scores, DEFAULT)
        assert alone.of(0) == pytest.approx(found.of(number), abs=1e-5)


def test_nothing_to_compare_is_no_fault():
    gains = note_gains(Score(SONG, SECONDS).log_odds)
    assert len(compare_notes(gains, gains, [], Scores([]), DEFAULT).claimed) == 0
    empty = compared(SONG, np.zeros(0, NOTE_DTYPE))
    assert all(np.isfinite(values).all() for values in vars(empty).values())
    assert empty.claimed[0] == 0


def test_a_path_is_the_best_there_is():
    """It gains, less what holding and hurrying cost, as much as can be; it climbs two at most."""
    torch.manual_seed(0)
    evidence, values = note_gains(torch.randn(2, 88, 30)), torch.randn(3, 30, 50)
    hold = HOLD * evidence.mean_gain
    path = best_paths(values, hold)
    climbs = path.diff(dim=1)
    assert climbs.min() >= 0 and climbs.max() <= 2
    won = values.gather(2, path[:, :, None]).sum((1, 2))
    share = (won - hold * (climbs != 1).sum(1)) / evidence.total
    assert share.numpy() == pytest.approx(climb(evidence, values), abs=1e-5)


def test_folding_keeps_pitch_classes():
    rolls = torch.zeros(1, 2 * PITCHES, 1)
    rolls[0, 60 - LOWEST], rolls[0, PITCHES + 45 - LOWEST] = 0.5, 0.7
    folded = fold(rolls)[0, :, 0]
    assert folded.nonzero().flatten().tolist() == [0, 12 + 45 % 12]
    assert folded[0] == 0.5 and folded[12 + 9] == pytest.approx(0.7)
