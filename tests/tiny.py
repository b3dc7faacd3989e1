"""Models that run in no time: their sizes, and weights that are not all alike."""

from __future__ import annotations

import torch
from torch import nn

from mmid.model.encoders import Encoders, ModelConfig, build_transcriber
from mmid.model.harmonic import HarmonicConfig
from mmid.model.pathways import EncoderConfig
from mmid.model.transcriber import TranscriberConfig
from mmid.training.experiment import Experiment

TINY = EncoderConfig(
    widths=(4, 8),
    times=(4, 4),
    strides=(2, 2),
    rows=(5, 3),
    row_strides=(4, 4),
    collapsed=16,
    embedding=16,
)
EAR = TranscriberConfig(
    widths=(4, 4), rows=(5, 3), times=(3, 3), row_strides=(4, 4), mixed=16, dilation=1
)
HARMONIC_EAR = HarmonicConfig(stem=2, fine=3, width=4, again=2, dilations=(1, 2))


def tiny_on_the_grid(experiment: Experiment) -> ModelConfig:
    """Return a tiny model on the grid of an experiment, transcribing as it does on fine bands."""
    fine = experiment.spectrogram == "fine"
    return ModelConfig(experiment.features, TINY, TINY, True, HARMONIC_EAR if fine else None)


def tiny_transcriber(experiment: Experiment, device: torch.device) -> nn.Module:
    """Return the transcriber of a packaged model, were it a tiny one."""
    torch.manual_seed(0)
    return build_transcriber(experiment.features, HARMONIC_EAR).to(device)


def shaken(encoders: Encoders, seed: int = 0) -> Encoders:
    """Fill the batch norms with random statistics, for evaluation."""
    generator = torch.Generator().manual_seed(seed)
    for layer in encoders.modules():
        if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
            for tensor in (layer.running_mean, layer.bias.data):
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.3)
            for tensor, least in ((layer.running_var, 0.02), (layer.weight.data, 0.5)):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) * 2 * least + least)
    return encoders.eval()
