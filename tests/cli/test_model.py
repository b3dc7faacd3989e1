"""`mmid model`, driven as a user does."""

from __future__ import annotations

import hashlib
import json

import pytest
from loopback_hub import REPOSITORY, LoopbackHub
from typer.testing import CliRunner

from mmid.cli.app import app
from mmid.errors import ModelError
from mmid.model import registry
from mmid.model.checkpoint import load_checkpoint, save_checkpoint
from mmid.model.registry import ASSETS, read_registry


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.delenv("MMID_MODEL", raising=False)
    monkeypatch.setenv("MMID_CACHE", str(tmp_path / "cache"))


def invoke(*arguments: object):
    return CliRunner().invoke(app, ["model", *(str(argument) for argument in arguments)])


@pytest.mark.parametrize("command", ["list", "info", "export"])
def test_every_command_has_help_with_an_example(command):
    result = invoke(command, "--help")
    assert result.exit_code == 0 and f"Example: mmid model {command}" in result.stdout


def test_list_tells_where_models_are():
    listed = json.loads(invoke("list", "--json").stdout)
    assert [(model["name"], model["default"]) for model in listed] == [
        ("mmid-3", False),
        ("mmid-4", True),
    ]
    assert {model["where"] for model in listed} == {"packaged"}
    first = listed[0]
    assert first["bytes"] == (ASSETS / "mmid-3.safetensors").stat().st_size
    shown = invoke("list").stdout
    assert "mmid-3" in shown and "5.0 MB" in shown and shown.count("*") == 1


def test_list_knows_what_is_on_a_hub_only(tmp_path, monkeypatch):
    place = {"repository": REPOSITORY, "revision": "0" * 40, "file": "model.safetensors"}
    entry = {"file": "far.safetensors", "sha256": "0" * 64, "packaged": False, "hub": place}
    (tmp_path / "registry.json").write_text(
        json.dumps({"default": "far", "models": {"far": entry}})
    )
    monkeypatch.setattr(registry, "ASSETS", tmp_path)
    told = {"name": "far", "default": True, "where": "hub", "bytes": None, "path": None}
    assert json.loads(invoke("list", "--json").stdout) == [told]
    assert "hub" in invoke("list").stdout


def test_info_is_of_the_default_model_of_the_environments_or_of_the_named(
    tmp_path, tiny_model, monkeypatch
):
    digest, mine = read_registry().models["mmid-4"].sha256, tmp_path / "mine.safetensors"
    save_checkpoint(mine, tiny_model.encoders, {})
    assert json.loads(invoke("info", "--json").stdout)["sha256"] == digest
    monkeypatch.setenv("MMID_MODEL", str(mine))
    assert json.loads(invoke("info", "--json").stdout)["path"] == str(mine)
    shown = invoke("info", "mmid-4").stdout
    assert digest in shown and "MuseScore" not in shown
    for fact in ("config features bands", "config audio widths", "calibration", "TimGM6mb.sf2"):
        assert fact in shown


def test_a_hubs_model_is_told_and_exported(tmp_path, tiny_model, monkeypatch):
    save_checkpoint(tmp_path / "mine.safetensors", tiny_model.encoders, {"mine": True})
    server = LoopbackHub((tmp_path / "mine.safetensors").read_bytes())
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    told = invoke("info", f"hf://{REPOSITORY}", "--json")
    server.stop()
    assert told.stderr == "" and json.loads(told.stdout)["training"] == {"mine": True}
    assert json.loads(told.stdout)["sha256"] == hashlib.sha256(server.content).hexdigest()
    exported = invoke("export", f"hf://{REPOSITORY}", tmp_path / "copy.safetensors")
    assert exported.exit_code == 0 and "wrote" in exported.stderr
    assert (tmp_path / "copy.safetensors").read_bytes() == server.content
    assert f"hf://{REPOSITORY}@main" in invoke("list").stdout


def test_export_refuses_to_overwrite_without_force(tmp_path):
    target = tmp_path / "copy.safetensors"
    target.write_bytes(b"mine")
    refused = invoke("export", "mmid-3", target)
    assert isinstance(refused.exception, ModelError) and target.read_bytes() == b"mine"
    assert invoke("export", "mmid-3", target, "--force").exit_code == 0
    assert load_checkpoint(target).digest == read_registry().models["mmid-3"].sha256
