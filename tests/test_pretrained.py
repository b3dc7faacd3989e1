"""`mmid.pretrained`: the packaged model, and models by name or path."""

import json
from pathlib import Path

import pytest

from mmid import pretrained
from mmid.checkpoint import save_checkpoint
from mmid.confidence import CALIBRATION
from mmid.errors import ModelError
from mmid.pretrained import load_model, package_model, read_registry

ASSETS = Path(pretrained.__file__).with_name("assets")


def test_the_packaged_model_is_small_intact_and_knows_its_training():
    entry = read_registry()["models"][read_registry()["default"]]
    assert (ASSETS / entry["file"]).stat().st_size <= 7_000_000
    model = load_model()
    assert model.digest == entry["sha256"]
    assert model.facts["soundfonts"] and "MuseScore" not in str(model.facts["soundfonts"])
    assert len(model.facts["confidence"]) == len(CALIBRATION)


def test_a_path_is_a_model_too(tmp_path, tiny_model):
    save_checkpoint(tmp_path / "mine.safetensors", tiny_model.encoders, {"mine": True})
    assert load_model(str(tmp_path / "mine.safetensors")).facts == {"mine": True}


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ModelError, match=r"one of mmid-1, mmid-2, or a \.safe"):
        load_model("loud")


def test_a_missing_file_is_named():
    with pytest.raises(ModelError, match=r"gone\.safetensors: no such model file"):
        load_model("gone.safetensors")


def test_a_packaged_model_with_other_bytes_is_refused(tmp_path, tiny_model, monkeypatch):
    save_checkpoint(tmp_path / "best.safetensors", tiny_model.encoders, {})
    assets = tmp_path / "mmid" / "assets"
    assets.mkdir(parents=True)
    package_model(tmp_path / "best.safetensors", "small", assets, [-1.0, 2.0, 3.0])
    monkeypatch.setattr(pretrained.resources, "files", lambda package: tmp_path / package)
    assert load_model().facts == {"confidence": [-1.0, 2.0, 3.0]}
    registry = json.loads((assets / "registry.json").read_text())
    registry["models"]["small"]["sha256"] = "0" * 64
    (assets / "registry.json").write_text(json.dumps(registry))
    with pytest.raises(ModelError, match="'small' is damaged: reinstall mmid"):
        load_model()
