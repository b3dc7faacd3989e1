"""`mmid.training.autoencoder`: shapes of the report, and a network that learns to give back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from mmid.model.encoders import Encoders, ModelConfig
from mmid.model.pathways import DorferConfig
from mmid.music.grid import FeatureParams
from mmid.training.autoencoder import Autoencoder, AutoencoderConfig, draw_reconstructions

REPORT = FeatureParams(onsets=False)


@pytest.mark.parametrize(
    ("side", "widths"),
    [("audio", [320, 128, 32, 128, 320]), ("roll", [512, 256, 128, 32, 128, 256, 512])],
)
def test_the_linear_layers_are_the_reports(side, widths):
    network = Autoencoder(AutoencoderConfig(side, REPORT))
    linear = [m for m in network.modules() if isinstance(m, nn.Linear)]
    assert [m.in_features for m in linear] + [linear[-1].out_features] == widths


@pytest.mark.parametrize("side", ["audio", "roll"])
@pytest.mark.parametrize("params", [REPORT, FeatureParams(), FeatureParams(snippet=21)])
def test_it_gives_back_its_inputs_shape(side, params):
    network = Autoencoder(AutoencoderConfig(side, params)).eval()
    x = torch.rand(3, *network.config.shape)
    with torch.inference_mode():
        assert network(x).shape == x.shape
        assert network.encode(x).shape == (3, 32)


def test_the_decoder_gives_slightly_more_than_is_kept():
    network = Autoencoder(AutoencoderConfig("audio", REPORT)).eval()
    with torch.inference_mode():
        whole = network.decoder(torch.zeros(1, 32, 5, 2))
    assert whole.shape == (1, 1, 95, 47)


def test_it_learns_to_give_back_what_it_saw():
    torch.manual_seed(0)
    config = AutoencoderConfig("roll", FeatureParams(onsets=False, pitches=32, snippet=32))
    network = Autoencoder(config)
    x = torch.zeros(4, 1, 32, 32)
    for number in range(4):
        x[number, 0, 8 * number, 8:24] = 1
    optimizer = torch.optim.Adam(network.parameters(), 4e-3)
    for _ in range(80):
        loss = nn.functional.mse_loss(network(x), x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.7 * x.var().item(), "better than the mean picture"


@pytest.mark.parametrize("side", ["audio", "roll"])
def test_its_trunk_has_the_pathways_names_and_shapes(side):
    weights = Autoencoder(AutoencoderConfig(side, REPORT)).state_dict()
    pathways = Encoders(ModelConfig(REPORT, DorferConfig(), DorferConfig())).state_dict()
    shared = [name for name in pathways if name.startswith(f"{side}.")]
    assert shared and all(weights[name].shape == pathways[name].shape for name in shared)


def test_a_picture_shows_inputs_above_reconstructions(tmp_path):
    inputs, outputs = torch.zeros(3, 2, 10, 8), torch.zeros(3, 2, 10, 8)
    inputs[:, 0, 0] = 1  # the lowest row, at the bottom
    outputs[:, 0, 9] = 1
    path = tmp_path / "x.png"
    draw_reconstructions(path, inputs, outputs)
    grey = np.asarray(Image.open(path))[1::3, 1::3]
    assert grey.shape == (24, 30)
    assert grey[10, 1:9].min() == 255 and grey[1:10, 1:9].max() == 0
    assert grey[13, 1:9].min() == 255 and grey[14:23, 1:9].max() == 0
    assert [p.name for p in tmp_path.iterdir()] == ["x.png"]
