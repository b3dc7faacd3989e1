"""`mmid.model.transcriber`: what it hears in a frame depends on that frame's surroundings alone."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from mmid.model import transcriber as module
from mmid.model.embedding import Score
from mmid.model.encoders import Encoders, ModelConfig
from mmid.model.transcriber import (
    CHANNELS,
    LOWEST,
    PITCHES,
    Transcriber,
    TranscriberConfig,
    highest,
    transcribe,
    transcribed_rolls,
)
from mmid.music.grid import DEFAULT
from mmid.music.piano_roll import piano_roll
from mmid.music.spectrogram import spectrogram

pytestmark = pytest.mark.numerical

SHAPES = [
    TranscriberConfig((4, 4), (5, 3), (3, 3), (4, 4), 16, 1),
    TranscriberConfig((4, 4), (5, 3), (5, 1), (2, 4), 8, 4),
    replace(TranscriberConfig(), widths=(4, 4, 4, 4, 4), mixed=16),
]


@pytest.fixture(params=SHAPES, ids=["tiny", "far", "default"])
def config(request) -> TranscriberConfig:
    return request.param


@pytest.fixture
def ear(config, shake) -> Transcriber:
    torch.manual_seed(0)
    return shake(Transcriber(DEFAULT.bands, config)).double()


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("frames", [1, 2, 50])
def test_its_frames_are_those_of_the_input(ear, frames):
    with torch.inference_mode():
        found = ear(noise(3, 1, DEFAULT.bands, frames))
    assert found.shape == (3, CHANNELS, PITCHES, frames) and found.dtype == torch.float32
    assert torch.isfinite(found).all()


def test_a_frame_matters_as_far_as_the_reach_and_no_farther(ear, config):
    bands, frame = noise(1, 1, DEFAULT.bands, 61), 30
    other = bands.clone()
    other[..., frame] += 1
    with torch.inference_mode():
        changed = (ear(bands) - ear(other)).abs().amax((0, 1, 2)) > 1e-6
    touched = changed.nonzero()[:, 0]
    assert (touched.min(), touched.max()) == (frame - config.reach, frame + config.reach)


@pytest.mark.parametrize("block", [1, 7, 16, 40, 64])
def test_blocks_leave_no_seam(ear, config, block, monkeypatch):
    bands = noise(2, 1, DEFAULT.bands, 40)
    whole = transcribe(ear, bands, config.reach)
    torch.testing.assert_close(whole, ear(bands).detach())
    monkeypatch.setattr(module, "FRAMES_AT_ONCE", block)
    torch.testing.assert_close(transcribe(ear, bands, config.reach), whole, atol=1e-6, rtol=1e-6)
    assert whole.std(-1).max() > 1e-3, "frames differ, so equality says something"


def test_rolls_have_each_pitch_in_its_row():
    log_odds = torch.full((1, CHANNELS, PITCHES, 3), -30.0)
    log_odds[0, 0, 60 - LOWEST, 1] = 30.0
    log_odds[0, 1, [0, PITCHES - 1], 2] = 0.0
    rolls = transcribed_rolls(log_odds, DEFAULT.pitches)
    expected = torch.zeros(1, CHANNELS, DEFAULT.pitches, 3)
    expected[0, 0, 60, 1] = 1.0
    expected[0, 1, [LOWEST, LOWEST + PITCHES - 1], 2] = 0.5
    torch.testing.assert_close(rolls, expected, atol=1e-6, rtol=0)


def test_what_is_written_is_heard_as_its_roll(draw_notes):
    score = Score(draw_notes(0), 20.0)
    heard = transcribed_rolls(score.log_odds * 10, DEFAULT.pitches)
    roll = piano_roll(score.notes, heard.shape[-1])
    torch.testing.assert_close(heard.round(), roll.round(), atol=0, rtol=0)


def test_a_configuration_survives_json(config, transcribing_config):
    assert TranscriberConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    again = ModelConfig.from_dict(json.loads(json.dumps(transcribing_config.to_dict())))
    assert again == transcribing_config and again.reach == 3


# ---- before a pathway


def test_a_snippet_with_its_surroundings_is_embedded_as_in_the_whole(
    in_float32, transcribing_model, draw_notes, play
):
    encoders = transcribing_model.encoders
    bands = spectrogram(torch.from_numpy(play(draw_notes(0), 6.0)))
    reach, length = encoders.config.reach, DEFAULT.snippet
    with torch.inference_mode():
        heard = encoders.audio_input(bands[None, None])
        for first in (reach, 33, 70):
            whole = encoders.audio(heard[..., first : first + length])[:, 0]
            cut = bands[None, None, :, first - reach : first + length + reach]
            torch.testing.assert_close(encoders.embed_audio(cut), whole, atol=1e-5, rtol=0)
            bare = encoders.embed_audio(cut[..., reach:-reach])
            assert (bare - whole).abs().max() > 1e-4, "the surroundings matter"


def test_a_model_without_a_transcriber_listens_to_the_spectrogram(tiny_model):
    bands = torch.rand(1, 1, DEFAULT.bands, 50)
    assert tiny_model.encoders.audio_input(bands) is bands
    assert tiny_model.encoders.transcribe(bands) is None
    assert tiny_model.encoders.config.reach == 0


def test_the_transcriber_is_never_in_training_mode(transcribing_config):
    encoders = Encoders(transcribing_config).train()
    assert encoders.audio.training and encoders.roll.training
    assert not any(part.training for part in encoders.transcriber.modules())
    torch.manual_seed(0)
    before = {n: t.clone() for n, t in encoders.transcriber.state_dict().items()}
    encoders.embed_audio(torch.rand(4, 1, DEFAULT.bands, 48)).sum().backward()
    assert all(parameter.grad is None for parameter in encoders.transcriber.parameters())
    assert all(torch.equal(before[n], t) for n, t in encoders.transcriber.state_dict().items())


def test_the_highest_notes_have_nothing_above_them():
    log_odds = torch.full((CHANNELS, PITCHES, 6), -6.0)
    log_odds[:, 20, :4] = log_odds[:, 40, 2:] = 6.0
    found = highest(log_odds).sigmoid()
    assert (found[0, 20] > 0.5).tolist() == [True, True, False, False, False, False]
    assert (found[0, 40] > 0.5).tolist() == [False, False, True, True, True, True]
    assert (found <= log_odds.sigmoid() + 1e-6).all()
    sounding = log_odds[0].sigmoid()
    above = torch.stack([(1 - sounding[row + 1 :]).prod(0) for row in range(PITCHES)])
    torch.testing.assert_close(found, (log_odds.sigmoid() * above).clamp(1e-5, 1 - 1e-4))
