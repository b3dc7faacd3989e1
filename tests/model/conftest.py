"""Processors whose bf16 is right or wrong, and a model that shows it."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
import torch
from tiny import shaken
from torch import nn
from wrong_bf16 import LIMIT, spoil

from mmid.model import precision
from mmid.model.checkpoint import save_checkpoint
from mmid.model.encoders import Encoders


@pytest.fixture
def alone(monkeypatch, tmp_path):
    """Act as a process that just started, with nothing remembered."""
    monkeypatch.setenv("MMID_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(LIMIT, os.environ.get(LIMIT, ""))
    monkeypatch.setattr(precision, "_noted", set())
    monkeypatch.setattr(precision, "_amx_left", False)


@pytest.fixture
def sound(alone, monkeypatch):
    """Act as a processor with bf16, without AMX, and with convolutions that are right."""
    plain = nn.Conv2d._conv_forward

    def convolve(self, x, weight, bias):
        if not torch.is_autocast_enabled("cpu"):
            return plain(self, x, weight, bias)
        with torch.autocast("cpu", enabled=False):
            rounded = x.bfloat16().float(), weight.bfloat16().float()
            return plain(self, *rounded, bias).bfloat16()

    monkeypatch.setenv(LIMIT, "")
    monkeypatch.setattr(precision, "_has_bf16", lambda: True)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(nn.Conv2d, "_conv_forward", convolve)


@pytest.fixture
def spoilt(sound, monkeypatch) -> None:
    """Have narrow convolutions wrong in bf16, as on a processor with AMX."""
    spoil(monkeypatch)


@pytest.fixture
def narrow(tmp_path, transcribing_config):
    """Return the file of a model whose pathways end in ``Conv2d(8, 16, (8, 1))``."""
    torch.manual_seed(0)
    encoders = shaken(Encoders(replace(transcribing_config, cca=True)))
    for side in (encoders.audio, encoders.roll):
        layer = side.pathway.collapse[0]
        assert (layer.in_channels, layer.out_channels, layer.kernel_size) == (8, 16, (8, 1))
    save_checkpoint(tmp_path / "narrow.safetensors", encoders, {})
    return tmp_path / "narrow.safetensors"


@pytest.fixture
def path(sound, narrow):
    """Return the same, on a processor that is right."""
    return narrow
