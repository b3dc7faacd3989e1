"""`mmid.model.metrics` by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmid.model.metrics import RECALL_AT, onset_f1, ranks, summarize
from mmid.music.notes import NOTE_DTYPE


def test_ties_count_against_the_query():
    scores = torch.tensor([[0.5, 0.5, 0.1], [0.2, 0.9, 0.1], [0.7, 0.7, 0.7]])
    assert ranks(scores).tolist() == [2, 1, 3]
    assert ranks(torch.zeros(4, 4)).tolist() == [4] * 4


def test_the_best_of_several_right_answers_counts():
    scores = torch.tensor([[0.1, 0.9, 0.5, 0.7]])
    assert ranks(scores, torch.tensor([[True, False, True, False]])).tolist() == [3]
    # right answers are no rivals of each other
    assert ranks(scores, torch.tensor([[True, True, True, False]])).tolist() == [1]


def test_more_candidates_than_queries():
    assert ranks(torch.tensor([[0.1, 0.9, 0.5], [0.1, 0.9, 0.5]])).tolist() == [3, 1]


def test_recall_and_mrr_by_hand():
    found = summarize(torch.tensor([1, 2, 5, 26]))
    assert found.queries == 4
    assert found.recall == {1: 0.25, 5: 0.75, 25: 0.75}
    assert found.mrr == pytest.approx((1 + 1 / 2 + 1 / 5 + 1 / 26) / 4)
    assert found.median_rank == 3.5
    assert tuple(found.recall) == RECALL_AT
    assert found.to_dict() == {
        "queries": 4,
        "recall": found.recall,
        "mrr": found.mrr,
        "median_rank": 3.5,
    }


def beginning(*rows: tuple[float, int]) -> np.ndarray:
    return np.array([(onset, onset + 0.1, pitch, 90, 0) for onset, pitch in rows], NOTE_DTYPE)


def test_a_note_is_matched_once_by_one_of_its_pitch_within_50_ms():
    played = beginning((1.0, 60), (1.04, 60), (2.0, 62), (3.0, 64))
    assert onset_f1(played, played) == 1
    assert onset_f1(played, beginning((1.02, 60))) == pytest.approx(2 / 5)
    assert onset_f1(played, beginning((1.06, 60), (1.07, 60), (2.0, 63))) == pytest.approx(2 / 7)
    assert onset_f1(played, beginning((0.96, 60), (1.0, 60), (3.05, 64))) == pytest.approx(6 / 7)
    assert onset_f1(played, played[:0]) == onset_f1(played[:0], played[:0]) == 0


def random_notes(rng: np.random.Generator, count: int) -> np.ndarray:
    return beginning(*zip(rng.uniform(0, 4, count), rng.integers(60, 66, count), strict=True))


def test_onset_f1_is_that_of_mir_eval():
    transcription = pytest.importorskip("mir_eval.transcription")
    rng = np.random.default_rng(0)
    for count in (5, 30, 150):
        notes = random_notes(rng, count), random_notes(rng, count + 10)
        times = [np.stack([n["onset"], n["offset"]], 1).astype(float) for n in notes]
        hertz = [440 * 2 ** ((n["pitch"].astype(float) - 69) / 12) for n in notes]
        _, _, f1, _ = transcription.precision_recall_f1_overlap(
            times[0], hertz[0], times[1], hertz[1], offset_ratio=None
        )
        assert onset_f1(*notes) == pytest.approx(f1)
