"""`mmid.model.encoders`: one long pass equals many short ones."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from mmid.errors import MmidError
from mmid.model import encoders as module
from mmid.model.encoders import Encoders, ModelConfig, embed_frames, pick_device, snippet_count
from mmid.model.pathways import DorferConfig, EncoderConfig, Pathway, build_pathway, fit_config
from mmid.music.grid import DEFAULT, FeatureParams
from mmid.music.piano_roll import piano_roll
from mmid.music.spectrogram import frame_count, spectrogram

pytestmark = pytest.mark.numerical


@pytest.fixture(scope="module")
def full(shake) -> Encoders:
    torch.manual_seed(0)
    return shake(Encoders())


def one_by_one(pathway: Pathway, whole: torch.Tensor, stride: int) -> torch.Tensor:
    """Embed every snippet of ``[channels, rows, frames]`` on its own."""
    snippets = whole.unfold(2, DEFAULT.snippet, stride).permute(2, 0, 1, 3)
    with torch.inference_mode():
        return torch.cat([pathway(part)[:, 0] for part in snippets.split(16)])


def densely(pathway: Pathway, config: EncoderConfig, whole: torch.Tensor) -> torch.Tensor:
    def draw(first: int, count: int) -> torch.Tensor:
        part = whole[..., first : first + count]
        return torch.nn.functional.pad(part, (0, count - part.shape[-1]))

    return torch.cat(list(embed_frames(pathway, config, DEFAULT, whole.shape[-1], draw)))


@pytest.fixture(scope="module")
def drawn(draw_notes, play) -> dict[str, torch.Tensor]:
    """Return a real spectrogram and a real roll of the same notes, 12 s of each."""
    notes = draw_notes(1, 60, 12.0)
    frames = frame_count(12.0)
    bands = spectrogram(torch.from_numpy(play(notes, 12.0)))[None]
    return {"audio": bands, "roll": piano_roll(notes, frames)}


@pytest.mark.parametrize("side", ["audio", "roll"])
def test_a_dense_pass_equals_snippet_by_snippet(side, full, drawn):
    pathway, config = getattr(full, side), getattr(full.config, side)
    dense = densely(pathway, config, drawn[side])
    alone = one_by_one(pathway, drawn[side], config.stride)
    assert dense.shape == alone.shape and len(dense) > 40
    torch.testing.assert_close(dense, alone, atol=1e-4, rtol=0)
    assert dense.std(0).max() > 1e-3, "embeddings differ, so equality says something"


@pytest.mark.parametrize("side", ["audio", "roll"])
@pytest.mark.parametrize("block", [1, 7, 48])
def test_blocks_leave_no_seam(side, block, full, drawn, monkeypatch):
    pathway, config = getattr(full, side), getattr(full.config, side)
    part = drawn[side][..., :200]
    whole = densely(pathway, config, part)
    monkeypatch.setattr(module, "BLOCK", block)
    torch.testing.assert_close(densely(pathway, config, part), whole, atol=1e-4, rtol=0)


def test_dorfers_pathway_cuts_a_recording_into_snippets(shake, drawn):
    config = DorferConfig(blocks=(4, 8, 8, 8), stride=7)
    torch.manual_seed(0)
    full = shake(Encoders(ModelConfig(DEFAULT, config, config)))
    for side in ("audio", "roll"):
        pathway, part = getattr(full, side), drawn[side][..., :200]
        dense, alone = densely(pathway, config, part), one_by_one(pathway, part, 7)
        assert dense.shape == alone.shape == ((200 - 42) // 7 + 1, 32)
        torch.testing.assert_close(dense, alone, atol=1e-5, rtol=0)
        assert dense.std(0).max() > 1e-3


def test_dorfers_pathway_is_the_papers():
    pathway = build_pathway(1, 92, 42, DorferConfig())
    shapes = [m.weight.shape for m in pathway.modules() if isinstance(m, torch.nn.Conv2d)]
    assert [shape[0] for shape in shapes] == [24, 24, 48, 48, 96, 96, 96, 96, 32]
    assert all(shape[2:] == (3, 3) for shape in shapes[:-1]) and shapes[-1][2:] == (1, 1)
    assert pathway.trunk(torch.zeros(1, 1, 92, 42)).shape == (1, 32, 5, 2), "320 values"


@pytest.mark.parametrize("snippet", range(10, 101))
def test_an_embedding_sees_its_whole_snippet_and_no_more(snippet):
    config = fit_config(snippet)
    assert config.seen(snippet) == snippet
    for frames in range(snippet, snippet + 9):
        windows = config.remaining(frames) - config.remaining(snippet) + 1
        assert windows == snippet_count(frames, FeatureParams(snippet=snippet), config)


@pytest.mark.parametrize("snippet", [10, 21, 42, 84])
def test_pathways_fit_short_and_long_snippets(snippet):
    params = FeatureParams(snippet=snippet)
    config = fit_config(snippet)
    network = Encoders(ModelConfig(params, config, config)).eval()
    with torch.inference_mode():
        assert network.audio(torch.rand(2, 1, 92, snippet)).shape == (2, 1, 32)
        longer = network.roll(torch.rand(2, 2, 128, snippet + 3 * config.stride))
    assert longer.shape == (2, 4, 32)


def test_every_frame_of_a_snippet_and_none_beyond_it_matters(full):
    torch.manual_seed(1)
    x = torch.rand(1, 2, 128, DEFAULT.snippet)
    with torch.inference_mode():
        base = full.roll(x)
        for frame in (0, DEFAULT.snippet - 1):
            other = x.clone()
            other[..., frame] += 1
            assert not torch.allclose(full.roll(other), base, atol=1e-5)
        longer = torch.cat([x, torch.rand(1, 2, 128, 3)], dim=-1)
        torch.testing.assert_close(full.roll(longer), base, atol=1e-5, rtol=0)


def test_embeddings_are_unit_vectors_four_frames_apart(full, drawn):
    found = densely(full.roll, full.config.roll, drawn["roll"])
    assert found.shape[1] == 32 and found.dtype == torch.float32
    torch.testing.assert_close(found.norm(dim=1), torch.ones(len(found)))
    assert EncoderConfig().stride == 4
    assert len(found) == snippet_count(drawn["roll"].shape[-1], DEFAULT, full.config.roll)


@pytest.mark.parametrize(("frames", "count"), [(1, 1), (41, 1), (42, 1), (45, 1), (46, 2)])
def test_snippets_of_a_short_input(frames, count, full):
    torch.manual_seed(0)
    whole = torch.rand(1, 92, frames)
    assert snippet_count(frames, DEFAULT, full.config.audio) == count
    found = densely(full.audio, full.config.audio, whole)
    assert len(found) == count and torch.isfinite(found).all()


def test_silence_has_a_finite_embedding(full):
    with torch.inference_mode():
        assert torch.isfinite(full.audio(torch.zeros(1, 1, 92, 42))).all()


def test_a_configuration_survives_json():
    config = ModelConfig(
        FeatureParams(hop=512),
        EncoderConfig(widths=(8, 16, 32, 32, 32, 32)),
        EncoderConfig(embedding=64, collapsed=100),
    )
    again = ModelConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config
    assert isinstance(again.audio.widths, tuple)


def test_other_grids_give_other_shapes(shake):
    config = ModelConfig(FeatureParams(onsets=False, snippet=84))
    model = shake(Encoders(config))
    with torch.inference_mode():
        assert model.roll(torch.zeros(2, 1, 128, 84)).shape == (2, 1, 32)


@pytest.mark.parametrize("name", ["nonsense", "", "cuda:99", "meta"])
def test_a_device_that_is_not_there_is_one_clear_error(name):
    with pytest.raises(MmidError, match="not available here; try --device auto"):
        pick_device(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_is_refused_where_there_is_none():
    with pytest.raises(MmidError, match="device 'cuda' is not available"):
        pick_device("cuda")


def test_devices():
    assert pick_device("cpu").type == "cpu"
    assert pick_device().type in {"cpu", "cuda", "mps"}


def test_autocast_keeps_embeddings_close(full, drawn):
    plain = densely(full.roll, full.config.roll, drawn["roll"])
    with full.autocast():
        fast = densely(full.roll, full.config.roll, drawn["roll"])
    assert fast.dtype == torch.float32
    cosine = (plain * fast).sum(1).numpy()
    assert np.all(cosine > 0.99)
