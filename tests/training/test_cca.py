"""`mmid.training.cca`: what both sides share comes first, what they do not counts for nothing."""

from __future__ import annotations

import pytest
import torch

from mmid.model.checkpoint import load_checkpoint, save_checkpoint
from mmid.model.encoders import Encoders, ModelConfig
from mmid.model.metrics import ranks, summarize
from mmid.model.pathways import Projected
from mmid.music.grid import DEFAULT
from mmid.training.cca import canonical_projections, fit_projection
from mmid.training.snippet_pairs import Batch

pytestmark = pytest.mark.numerical


def pairs(seed: int = 0, count: int = 2_000) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw pairs that share 4 of 16 dimensions, hidden by rotations and loud private ones."""
    g = torch.Generator().manual_seed(seed)
    fixed = torch.Generator().manual_seed(99)
    turns = [torch.linalg.qr(torch.randn(16, 16, generator=fixed))[0] for _ in range(2)]
    shared = torch.randn(count, 4, generator=g)
    noise = [3 * torch.randn(count, 12, generator=g) for _ in range(2)]
    return tuple(torch.cat([shared, n], 1) @ t + 1 for n, t in zip(noise, turns, strict=True))


def test_it_finds_what_both_sides_share():
    audio, roll = pairs()
    maps = canonical_projections(audio, roll)
    forth, back = ((s - s.mean(0)) @ m for s, m in zip((audio, roll), maps, strict=True))
    shares = forth.var(0) / forth.var(0).sum()
    assert shares[:4].sum() > 0.95
    correlation = [torch.corrcoef(torch.stack([forth[:, i], back[:, i]]))[0, 1] for i in range(4)]
    assert min(correlation) > 0.99


def test_it_generalises_to_other_pairs():
    maps, (audio, roll) = canonical_projections(*pairs(0)), pairs(1, 200)
    unit = torch.nn.functional.normalize
    raw = summarize(ranks(unit(audio, dim=1) @ unit(roll, dim=1).T)).mrr
    sides = [unit((s - s.mean(0)) @ m, dim=1) for s, m in zip((audio, roll), maps, strict=True)]
    assert summarize(ranks(sides[0] @ sides[1].T)).mrr > 0.9 > 0.2 > raw


class Pairs:
    """Random matching snippets."""

    def batches(self, size, count, seed):
        g = torch.Generator().manual_seed(seed)
        for _ in range(count):
            yield Batch(torch.rand(size, 1, 92, 42, generator=g), torch.rand(size, 2, 128, 42))


def test_a_model_is_the_same_until_it_is_fitted_and_keeps_its_projection(
    tiny_config, shake, tmp_path, monkeypatch
):
    monkeypatch.setattr("mmid.training.cca.PAIRS", 500)
    torch.manual_seed(0)
    config = ModelConfig(DEFAULT, tiny_config.audio, tiny_config.roll, cca=True)
    encoders = shake(Encoders(config))
    assert isinstance(encoders.audio, Projected)
    x = torch.rand(3, 1, 92, 42)
    with torch.inference_mode():
        torch.testing.assert_close(encoders.audio(x), encoders.audio.pathway(x))
        fit_projection(encoders, Pairs())
        fitted = encoders.audio(x)
        assert not torch.allclose(fitted, encoders.audio.pathway(x), atol=1e-2)
        torch.testing.assert_close(fitted.norm(dim=-1), torch.ones(3, 1))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert encoders.audio(x).dtype == torch.float32
        save_checkpoint(tmp_path / "x.safetensors", encoders, {})
        again = load_checkpoint(tmp_path / "x.safetensors").encoders
        torch.testing.assert_close(again.audio(x), fitted)
