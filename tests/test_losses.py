"""`mmid.losses` against a plain float64 reference."""

from __future__ import annotations

import numpy as np
import torch

from mmid.losses import info_nce


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
