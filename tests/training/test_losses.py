"""`mmid.training.losses` against a plain float64 reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmid.training.losses import info_nce, pairwise_ranking, triplet_ranking

pytestmark = pytest.mark.numerical


def unit(seed: int, count: int = 7, size: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(count, size, generator=generator), dim=1)


def reference(audio, roll, scale, ignore=None):
    """Compute the mean of both directions' -log softmax, one pair at a time."""
    logits = scale * audio.numpy().astype(np.float64) @ roll.numpy().astype(np.float64).T
    total = 0.0
    for table, mask in ((logits, ignore), (logits.T, None if ignore is None else ignore.T)):
        for i, row in enumerate(table):
            kept = [x for j, x in enumerate(row) if j == i or mask is None or not mask[i, j]]
            total += np.log(np.sum(np.exp(kept))) - row[i]
    return total / (2 * len(logits))


def test_it_equals_the_reference():
    audio, roll, scale = unit(0), unit(1), torch.tensor(14.3)
    np.testing.assert_allclose(info_nce(audio, roll, scale), reference(audio, roll, 14.3), 1e-5)


def test_ignored_pairs_are_no_negatives():
    audio, roll = unit(0), unit(1)
    ignore = torch.rand(7, 7, generator=torch.Generator().manual_seed(2)) > 0.6
    ignore.fill_diagonal_(True)  # the diagonal is kept all the same
    found = info_nce(audio, roll, torch.tensor(9.0), ignore)
    np.testing.assert_allclose(found, reference(audio, roll, 9.0, ignore.numpy()), 1e-5)
    everything = torch.ones(7, 7, dtype=torch.bool)
    assert info_nce(audio, roll, torch.tensor(9.0), everything) == 0


def test_matching_pairs_cost_nothing_and_chance_costs_the_logarithm_of_the_batch():
    same = torch.eye(6)
    assert info_nce(same, same, torch.tensor(100.0)) < 1e-6
    np.testing.assert_allclose(info_nce(same, same, torch.tensor(0.0)), np.log(6), 1e-6)


def test_a_step_down_the_gradient_lowers_it():
    audio, roll = unit(0).requires_grad_(), unit(1).requires_grad_()
    scale = torch.tensor(5.0, requires_grad=True)
    before = info_nce(audio, roll, scale)
    parts = (audio, roll, scale)
    moved = [
        part.detach() - 1e-2 * gradient
        for part, gradient in zip(parts, torch.autograd.grad(before, parts), strict=True)
    ]
    assert info_nce(*moved) < before
    assert all(torch.isfinite(part).all() for part in moved)


# ---- pairwise ranking


def ranking_reference(anchor, match, margin, ignore=None):
    """Compute the mean hinge of every anchor and every other match, one pair at a time."""
    hinges = [
        max(0.0, margin - float(anchor[i] @ match[i]) + float(anchor[i] @ match[j]))
        for i in range(len(anchor))
        for j in range(len(match))
        if i != j and (ignore is None or not ignore[i, j])
    ]
    return np.mean(hinges)


def test_ranking_equals_the_reference():
    anchor, match = unit(0), unit(1)
    expected = ranking_reference(anchor, match, 0.7)
    np.testing.assert_allclose(pairwise_ranking(anchor, match, 0.7), expected, 1e-5)
    ignore = torch.rand(7, 7, generator=torch.Generator().manual_seed(2)) > 0.6
    expected = ranking_reference(anchor, match, 0.7, ignore)
    np.testing.assert_allclose(pairwise_ranking(anchor, match, 0.7, ignore), expected, 1e-5)


def test_ranking_looks_from_the_anchors_side():
    anchor, match = unit(0), unit(1)
    assert pairwise_ranking(anchor, match, 0.7) != pairwise_ranking(match, anchor, 0.7)


def test_ranking_costs_the_margin_where_all_are_alike_and_nothing_beyond_it():
    alike = torch.ones(4, 2) / 2**0.5
    np.testing.assert_allclose(pairwise_ranking(alike, alike, 0.7), 0.7, 1e-6)
    assert pairwise_ranking(torch.eye(4), torch.eye(4), 0.7) == 0
    np.testing.assert_allclose(pairwise_ranking(torch.eye(4), torch.eye(4), 1.5), 0.5, 1e-6)


def test_triplets_compare_each_anchor_with_its_own_other():
    anchor, match, other = unit(0), unit(1), unit(2)
    hinges = [
        max(0.0, 0.7 - float(a @ m) + float(a @ o))
        for a, m, o in zip(anchor, match, other, strict=True)
    ]
    np.testing.assert_allclose(triplet_ranking(anchor, match, other, 0.7), np.mean(hinges), 1e-5)
