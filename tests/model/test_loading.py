"""`mmid.model.loading`: the packaged model, and models by name or path."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mmid
from mmid.errors import ModelError
from mmid.model import registry as weights
from mmid.model.checkpoint import load_checkpoint, save_checkpoint
from mmid.model.confidence import confidence
from mmid.model.evidence import CALIBRATION, Evidence, weights_of
from mmid.model.loading import describe_model, export_model, load_model, package_model
from mmid.model.registry import ASSETS, read_registry


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MMID_CACHE", str(tmp_path / "cache"))


def test_the_packaged_model_is_small_intact_and_knows_its_training():
    entry = read_registry().models[read_registry().default]
    assert entry.packaged and (ASSETS / entry.file).stat().st_size <= 8_000_000
    model = load_model()
    assert model.digest == entry.sha256
    assert model.facts["soundfonts"] and "MuseScore" not in str(model.facts["soundfonts"])
    assert {*model.facts["confidence"]} >= {*CALIBRATION}


def test_every_packaged_model_weighs_what_speaks_for_an_answer():
    evidence = Evidence(
        **{"votes": 0.5, "triples": 0.5, "explained": 0.8, "claimed": 0.8, "harmony": 0.9},
        **{"melody_claimed": 0.8, "lead": 2.0, "above": 2.5, "seconds": 10.0, "snippets": 5000},
    )
    for name, entry in read_registry().models.items():
        if entry.packaged:  # the first one's confidence was another
            weighed = weights_of(load_model(name).facts).confidence
            assert 0.5 < confidence(evidence, weighed) <= 1


def test_the_registry_names_commits_never_branches():
    for entry in read_registry().models.values():
        assert re.fullmatch("[0-9a-f]{64}", entry.sha256)
        assert entry.packaged or entry.hub
        assert not entry.hub or re.fullmatch("[0-9a-f]{40}", entry.hub.revision)


def test_a_path_is_a_model_too(tmp_path, tiny_model):
    save_checkpoint(tmp_path / "mine.safetensors", tiny_model.encoders, {"mine": True})
    assert load_model(str(tmp_path / "mine.safetensors")).facts == {"mine": True}


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ModelError, match=r"one of mmid-3, mmid-4, a \.safe"):
        load_model("loud")


def test_a_missing_file_is_named():
    with pytest.raises(ModelError, match=r"gone\.safetensors: no such model file"):
        load_model("gone.safetensors")


def test_a_packaged_model_with_other_bytes_is_refused(tmp_path, tiny_model, monkeypatch):
    save_checkpoint(tmp_path / "best.safetensors", tiny_model.encoders, {})
    assets = tmp_path / "assets"
    assets.mkdir()
    package_model(tmp_path / "best.safetensors", "small", assets, list(CALIBRATION.values()))
    monkeypatch.setattr(weights, "ASSETS", assets)
    assert load_model().facts == {"confidence": list(CALIBRATION.values())}
    registry = json.loads((assets / "registry.json").read_text())
    registry["models"]["small"]["sha256"] = "0" * 64
    (assets / "registry.json").write_text(json.dumps(registry))
    with pytest.raises(ModelError, match="'small' is damaged: reinstall mmid"):
        load_model()


def test_the_module_packages_a_model(tmp_path, tiny_model):
    package = tmp_path / "mmid"
    shutil.copytree(Path(mmid.__file__).parent, package, ignore=shutil.ignore_patterns("__pyc*"))
    save_checkpoint(tmp_path / "best.safetensors", tiny_model.encoders, {"seed": 0})
    command = [
        sys.executable,
        "-m",
        "mmid.model.loading",
        "best.safetensors",
        "small",
        json.dumps(CALIBRATION),
    ]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    made = package / "assets" / "small.safetensors"
    assert load_checkpoint(made).facts == {"seed": 0, "confidence": CALIBRATION}
    registry = json.loads((package / "assets" / "registry.json").read_text())
    assert registry["default"] == "small" and list(registry["models"])[-1] == "small"


def test_a_model_tells_what_it_is():
    told, model = describe_model("mmid-3"), load_model("mmid-3")
    assert (told.sha256, told.fingerprint) == (model.digest, model.fingerprint)
    assert told.stored == "float16" and told.bytes == Path(told.path).stat().st_size
    assert set(told.parameters) == {"transcriber", "audio", "roll"}
    assert told.calibration == dict(zip(CALIBRATION, model.facts["confidence"], strict=True))
    assert told.training == {n: v for n, v in model.facts.items() if n != "confidence"}
    assert json.loads(json.dumps(told.to_dict()))["config"]["features"]["snippet"] == 42


def test_a_model_that_says_little_can_be_described(tmp_path, tiny_model):
    save_checkpoint(tmp_path / "mine.safetensors", tiny_model.encoders, {})
    told = describe_model(str(tmp_path / "mine.safetensors"))
    assert told.stored == "float32" and told.calibration is None and told.training == {}
    assert set(told.parameters) == {"audio", "roll"}


def test_an_export_is_the_same_file_and_replaces_only_when_told(tmp_path, tiny_model):
    target, other = tmp_path / "copy.safetensors", tmp_path / "mine.safetensors"
    save_checkpoint(other, tiny_model.encoders, {})
    export_model("mmid-3", target)
    assert load_checkpoint(target).digest == read_registry().models["mmid-3"].sha256
    with pytest.raises(ModelError, match="there already; --force replaces it"):
        export_model(str(other), target)
    assert load_checkpoint(target).digest == read_registry().models["mmid-3"].sha256
    export_model(str(other), target, force=True)
    assert target.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("name", ["copy.pt", "gone/copy.safetensors"])
def test_an_export_that_cannot_be_is_refused(name, tmp_path):
    with pytest.raises(ModelError, match=r"ends in \.safetensors|cannot be written"):
        export_model("mmid-3", tmp_path / name)
    assert list(tmp_path.iterdir()) == []
