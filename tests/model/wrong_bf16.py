"""Convolutions made wrong in bf16, as oneDNN's are on some processors, and what is said of it."""

from __future__ import annotations

import torch
from torch import nn

from mmid.model import precision

LIMIT = "ONEDNN_MAX_CPU_ISA"
CPU = torch.device("cpu")


def is_narrow(layer: nn.Conv2d) -> bool:
    return 4 <= layer.in_channels <= 12 and layer.kernel_size[0] >= 8


def spoil(monkeypatch, wrong=lambda: True, which=is_narrow) -> None:
    """Have convolutions give something else in bf16 where something holds."""
    plain = nn.Conv2d._conv_forward

    def convolve(self, x, weight, bias):
        given = plain(self, x, weight, bias)
        return given.flip(1) if given.dtype == torch.bfloat16 and which(self) and wrong() else given

    monkeypatch.setattr(nn.Conv2d, "_conv_forward", convolve)


def counted(monkeypatch) -> list[str]:
    """Return a list that grows with each network compared."""
    seen, plain = [], precision._lowest

    def lowest(network, *rest):
        seen.append(type(network.module).__name__)
        return plain(network, *rest)

    monkeypatch.setattr(precision, "_lowest", lowest)
    return seen


def noted(capsys) -> list[str]:
    return [line for line in capsys.readouterr().err.splitlines() if "is wrong here" in line]
