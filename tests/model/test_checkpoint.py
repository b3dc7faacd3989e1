"""`mmid.model.checkpoint`: one safetensors file, whole or not at all."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from mmid import __version__
from mmid.errors import ModelError
from mmid.model.checkpoint import FORMAT, MAX_BYTES, load_checkpoint, load_tensors, save_checkpoint
from mmid.model.checkpoint import save_tensors as write_tensors
from mmid.model.encoders import Encoders


@pytest.fixture
def encoders(tiny_config, shake):
    torch.manual_seed(3)
    return shake(Encoders(tiny_config))


@pytest.fixture
def path(tmp_path, encoders):
    save_checkpoint(tmp_path / "model.safetensors", encoders, {"epoch": 3, "data": ["a"]})
    return tmp_path / "model.safetensors"


def header_of(encoders, **changes):
    config = encoders.config.to_dict()
    return {"format": FORMAT, "mmid": __version__, "config": config, "facts": {}} | changes


def test_a_model_comes_back_as_it_was(path, encoders):
    model = load_checkpoint(path)
    assert model.encoders.config == encoders.config
    assert model.facts == {"epoch": 3, "data": ["a"]}
    assert not model.encoders.training
    for name, tensor in encoders.state_dict().items():
        assert torch.equal(model.encoders.state_dict()[name], tensor), name


def test_half_precision_is_half_the_size_and_nearly_the_same(tmp_path, path, encoders):
    save_checkpoint(tmp_path / "half.safetensors", encoders, {}, half=True)
    model = load_checkpoint(tmp_path / "half.safetensors")
    assert (tmp_path / "half.safetensors").stat().st_size < 0.7 * path.stat().st_size
    for name, tensor in encoders.state_dict().items():
        found = model.encoders.state_dict()[name]
        assert found.dtype == tensor.dtype
        torch.testing.assert_close(found, tensor, atol=1e-3, rtol=1e-3)
    snippet = torch.rand(4, 1, 92, 42)
    with torch.inference_mode():
        cosine = (model.encoders.audio(snippet) * encoders.audio(snippet)).sum(-1)
    assert cosine.min() > 0.999


def test_the_digest_is_the_files_and_the_fingerprint_the_weights(path, encoders):
    before = load_checkpoint(path)
    assert load_checkpoint(path).digest == before.digest
    save_checkpoint(path, encoders, {"epoch": 4})
    other_facts = load_checkpoint(path)
    assert other_facts.digest != before.digest
    assert other_facts.fingerprint == before.fingerprint
    with torch.no_grad():
        encoders.log_scale += 1
    save_checkpoint(path, encoders, {"epoch": 4})
    assert load_checkpoint(path).fingerprint != before.fingerprint


def test_saving_again_gives_the_same_bytes(path, encoders):
    before = path.read_bytes()
    save_checkpoint(path, encoders, {"data": ["a"], "epoch": 3})
    assert path.read_bytes() == before


def test_a_missing_file(tmp_path):
    with pytest.raises(ModelError, match=r"gone\.safetensors: no such model file"):
        load_checkpoint(tmp_path / "gone.safetensors")
    with pytest.raises(ModelError, match="no such model file"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("kept", [0, 7, 100, -1])
def test_a_truncated_file(path, kept):
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ModelError, match=r"model\.safetensors: damaged, or not an mmid model"):
        load_checkpoint(path)


def test_a_damaged_header(path):
    data = bytearray(path.read_bytes())
    for place in range(8, 200, 5):
        data[place] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(ModelError, match="damaged, or not an mmid model"):
        load_checkpoint(path)


def test_a_file_that_is_too_large(path):
    with path.open("r+b") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(ModelError, match="larger than 256 MiB"):
        load_checkpoint(path)


@pytest.mark.parametrize("metadata", [None, {"mmid": "[1]"}, {"mmid": "{"}, {"other": "1"}])
def test_a_foreign_file(tmp_path, metadata):
    save_file({"x": torch.zeros(3)}, tmp_path / "other.safetensors", metadata)
    with pytest.raises(ModelError, match="damaged, or not an mmid model"):
        load_checkpoint(tmp_path / "other.safetensors")


def test_another_format(path, encoders):
    write_tensors(path, encoders.state_dict(), header_of(encoders, format="mmid-checkpoint-9"))
    with pytest.raises(ModelError, match="'mmid-checkpoint-9', this mmid reads mmid-checkpoint-1"):
        load_checkpoint(path)


def test_weights_of_another_shape_are_named(path, encoders):
    tensors = encoders.state_dict() | {"audio.project.bias": torch.zeros(5)}
    write_tensors(path, tensors, header_of(encoders))
    with pytest.raises(ModelError, match=r"do not fit .*size mismatch for audio\.project\.bias"):
        load_checkpoint(path)


def test_weights_that_are_missing_are_named(path, encoders):
    tensors = encoders.state_dict()
    del tensors["roll.project.bias"]
    write_tensors(path, tensors, header_of(encoders))
    with pytest.raises(ModelError, match=r"do not fit .*roll\.project\.bias"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "break_it",
    [
        lambda config: config.pop("audio"),
        lambda config: config["features"].update(colour=3),
        lambda config: config["roll"].update(widths=[4]),
        lambda config: config["roll"].update(strides=[0, 0]),
        lambda config: config["roll"].update(name=1),
        lambda config: config.update(features=[]),
    ],
)
def test_a_configuration_that_makes_no_model(path, encoders, break_it):
    config = json.loads(json.dumps(encoders.config.to_dict()))
    break_it(config)
    write_tensors(path, encoders.state_dict(), header_of(encoders, config=config))
    with pytest.raises(ModelError, match="weights do not fit their configuration"):
        load_checkpoint(path)


@pytest.mark.parametrize("step", ["safetensors.torch.save_file", "pathlib.Path.replace"])
def test_an_interrupted_write_leaves_the_old_file(path, encoders, monkeypatch, step):
    before = path.read_bytes()

    def interrupt(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr(step, interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(path, encoders, {"epoch": 9})
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name], "no part is left"


def test_tensors_and_header_round_trip(tmp_path):
    write_tensors(tmp_path / "x", {"a": torch.arange(3), "b": torch.rand(2, 2).T}, {"k": [1, "é"]})
    tensors, header = load_tensors(tmp_path / "x")
    assert header == {"k": [1, "é"]} and tensors["a"].tolist() == [0, 1, 2]
    assert tensors["b"].shape == (2, 2)
