"""`mmid.training.averaging`: the mean of a network's weights, lent and given back."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mmid.training.averaging import WeightAverage


def moved(network: nn.Module, to: float) -> None:
    with torch.no_grad():
        network[0].weight.fill_(to)
        network[1].num_batches_tracked.fill_(int(to))


@pytest.fixture
def network():
    made = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    moved(made, 0.0)
    return made


def test_the_mean_follows_the_weights_slowly_and_fast_at_first(network):
    average = WeightAverage(network, 0.9)
    moved(network, 1.0)
    average.add()
    assert average.tensors["0.weight"][0, 0].item() == pytest.approx(1 - 1 / 20)
    average.steps = 1_000
    moved(network, 2.0)
    average.add()
    assert average.tensors["0.weight"][0, 0].item() == pytest.approx(0.9 * 0.95 + 0.1 * 2)
    assert average.tensors["1.num_batches_tracked"] == 2, "no mean of counts"


def test_a_network_gets_its_own_weights_back(network):
    average = WeightAverage(network, 0.9)
    moved(network, 1.0)
    average.add()
    with pytest.raises(RuntimeError, match="stop"), average.applied():
        assert network[0].weight[0, 0].item() == pytest.approx(0.95)
        raise RuntimeError("stop")
    assert network[0].weight[0, 0] == 1 and average.tensors["0.weight"][0, 0] < 1


def test_a_stored_mean_goes_on(network):
    average, again = WeightAverage(network, 0.9), WeightAverage(network, 0.9)
    for step in range(5):
        moved(network, float(step))
        average.add()
        if step == 2:
            again.restore({n: t.clone() for n, t in average.tensors.items()}, average.steps)
        elif step > 2:
            again.add()
    for name, tensor in average.tensors.items():
        assert torch.equal(tensor, again.tensors[name]), name
    assert again.steps == average.steps == 5
