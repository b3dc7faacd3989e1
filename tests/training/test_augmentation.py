"""`mmid.training.augmentation`: each effect does what it says, and nothing when it is off."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from mmid.music.grid import DEFAULT
from mmid.music.spectrogram import band_centres, log_compress, log_expand, spectrogram
from mmid.training import augmentation
from mmid.training.augmentation import HISTORY, Augmentation, roughen

OFF = Augmentation(**{field.name: 0.0 for field in fields(Augmentation)})
EFFECTS = {"cents": 35.0, "equalizer": 4.0, "gain": 10.0, "noise": 1.0, "reverb": 1.0}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def batch(draw_notes, play) -> torch.Tensor:
    """Return 8 windows ``[8, bands, 58]`` of music."""
    bands = spectrogram(torch.from_numpy(play(draw_notes(0, 80, 30.0))))
    return torch.stack([bands[:, first : first + 42 + HISTORY] for first in range(0, 560, 70)])


def test_all_off_is_identity(batch):
    torch.testing.assert_close(roughen(batch, OFF, DEFAULT, generator()), batch, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", [*EFFECTS, "telephone", "all"])
def test_shape_finite_and_the_same_for_a_seed(name, batch):
    strength = Augmentation(telephone=1.0, noise=1.0, reverb=1.0)
    if name != "all":
        strength = replace(OFF, **{name: EFFECTS.get(name, 1.0)})
    first = roughen(batch, strength, DEFAULT, generator(1))
    assert first.shape == batch.shape and first.dtype == torch.float32
    assert torch.isfinite(first).all() and first.min() >= 0
    assert torch.equal(first, roughen(batch, strength, DEFAULT, generator(1)))
    assert not torch.allclose(first, batch, atol=1e-3)
    if name != "telephone":
        assert not torch.allclose(first, roughen(batch, strength, DEFAULT, generator(2)))


def test_silence_stays_finite():
    silence = torch.zeros(3, 92, 58)
    found = roughen(silence, Augmentation(telephone=1.0), DEFAULT, generator())
    assert torch.isfinite(found).all() and found.max() < 1e-3


@pytest.mark.parametrize("cents", [100.0, -100.0, 40.0, -40.0])
def test_detuning_moves_a_peak_the_right_way(cents, monkeypatch):
    monkeypatch.setattr(augmentation, "_uniform", lambda size, *_: torch.full((size,), cents))
    centres = band_centres(DEFAULT)
    bump = torch.exp(-((torch.arange(92) - 60.0) ** 2) / 8)[None, :, None].repeat(1, 1, 20)
    found = roughen(log_compress(bump), replace(OFF, cents=abs(cents)), DEFAULT, generator())
    linear = log_expand(found)[0, :, 0].numpy()
    octaves = np.log2(centres)
    moved = (linear * octaves).sum() / linear.sum()
    before = bump[0, :, 0].numpy()
    still = (before * octaves).sum() / before.sum()
    assert (moved - still) * 1_200 == pytest.approx(cents, rel=0.15)


def test_the_telephone_removes_lows_and_highs(batch):
    found = log_expand(roughen(batch, replace(OFF, telephone=1.0), DEFAULT, generator()))
    before, centres = log_expand(batch), band_centres(DEFAULT)
    inside = (centres >= 300) & (centres <= 3_400)
    torch.testing.assert_close(found[:, inside], before[:, inside], atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(found[:, ~inside], before[:, ~inside] / 1_000, atol=1e-5, rtol=1e-2)


def test_a_room_rings_on_and_only_forwards():
    burst = torch.zeros(4, 92, 58)
    burst[:, 40, 20] = 1.0
    found = roughen(burst, replace(OFF, reverb=1.0), DEFAULT, generator())
    assert found[:, :, :20].max() < 1e-6
    assert (found[:, 40, 21:].max(1).values > 0.05).all()
    assert (found[:, 40, 21:34].diff(dim=1) <= 1e-6).all(), "the tail decays"
    assert found[:, torch.arange(92) != 40].max() < 1e-6


def test_gain_changes_the_level_evenly(batch):
    found = log_expand(roughen(batch, replace(OFF, gain=10.0), DEFAULT, generator()))
    before = log_expand(batch)
    loud = before > 0.01
    for one, other, mask in zip(found, before, loud, strict=True):
        ratio = one[mask] / other[mask]
        assert ratio.std() < 1e-2 and 10 ** (-0.5) - 0.01 < ratio.mean() < 10**0.5 + 0.01


def test_noise_fills_the_gaps_and_shares_are_kept(batch):
    found = roughen(batch, replace(OFF, noise=1.0), DEFAULT, generator())
    assert (found >= batch - 1e-5).all() and (found.mean((1, 2)) > batch.mean((1, 2))).all()
    many = batch[:1].repeat(400, 1, 1)
    touched = (
        (roughen(many, replace(OFF, noise=0.3), DEFAULT, generator()) - many).abs().amax((1, 2))
    )
    assert 0.2 < (touched > 1e-4).float().mean() < 0.4


def test_effects_are_switched_on_by_name():
    assert Augmentation.only(augmentation.EFFECTS) == Augmentation()
    only = Augmentation.only(["noise", "mismatch"])
    on = {name for name in augmentation.EFFECTS if getattr(only, name)}
    assert on == {"noise", "mismatch"} and only.noise == Augmentation().noise
