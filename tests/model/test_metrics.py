"""`mmid.model.metrics` by hand."""

from __future__ import annotations

import pytest
import torch

from mmid.model.metrics import RECALL_AT, ranks, summarize


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
