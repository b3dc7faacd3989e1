"""`mmid doctor`: says what is wrong with anything, and is never brought down by it."""

from __future__ import annotations

import json
import re
import subprocess
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from typer.testing import CliRunner

import mmid
from mmid.cli import doctor
from mmid.cli.app import app
from mmid.cli.doctor import examine
from mmid.errors import MmidError
from mmid.model.checkpoint import save_checkpoint
from mmid.settings import VARIABLES

runner = CliRunner()


@pytest.fixture(autouse=True)
def quickly(monkeypatch, tmp_path):
    """Import nothing in other processes but where a test does, and use folders of the test's."""
    monkeypatch.setattr(doctor, "_import", lambda *modules: None)
    monkeypatch.setenv("MMID_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    for name in ("MMID_INDEX", "MMID_MODEL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def index(tmp_path, midi_folder, tiny_model) -> Path:
    mmid.Index.build(tmp_path / "index", midi_folder, tiny_model)
    return tmp_path / "index"


@pytest.fixture
def model(tmp_path, tiny_model) -> str:
    save_checkpoint(tmp_path / "tiny.safetensors", tiny_model.encoders, {})
    return str(tmp_path / "tiny.safetensors")


def finding(subject: str, *arguments):
    [found] = [f for f in examine(*arguments).findings if f.subject == subject]
    return found


def test_all_is_well(index, model):
    found = examine(index, model)
    assert found.sound, [f for f in found.findings if f.state == "broken"]
    said = {f.subject: f.said for f in found.findings}
    assert said["mmid"].startswith(mmid.__version__)
    assert said["index"].startswith("6 pieces") and "made by this model" in said["index"]
    assert "hash right" in said["model"]


def test_an_index_that_was_not_made_yet_is_only_absent():
    found = finding("index")
    assert found.state == "absent" and found.mend.startswith("mmid build-index")


def test_an_index_that_was_named_must_be_there(tmp_path):
    assert finding("index", tmp_path / "nowhere").state == "broken"


@pytest.mark.parametrize("name", ["vectors.npy", "pieces.sqlite", "graph.bin", "manifest.json"])
def test_a_damaged_index_is_told(index, model, name):
    [path] = index.rglob(name)
    path.write_bytes(path.read_bytes()[:-7] + b"damaged")
    found = finding("index", index, model)
    assert found.state == "broken" and "damaged" in found.said and found.mend


def test_an_index_of_another_model_is_told(index):
    found = finding("index", index)
    assert found.state == "broken" and "another model" in found.said


def test_a_model_that_is_not_there_or_damaged_is_told(index, model):
    assert "no such model file" in finding("model", index, "gone.safetensors").said
    Path(model).write_bytes(Path(model).read_bytes()[:-9])
    found = finding("model", index, model)
    assert found.state == "broken" and "damaged" in found.said
    assert finding("index", index, model).state == "ok"


def test_a_model_of_a_hub_is_not_fetched_to_be_looked_at(monkeypatch):
    def fetch(*_, **__):
        raise AssertionError("fetched")

    monkeypatch.setattr("mmid.model.registry.download", fetch)
    found = finding("model", None, "hf://owner/repository")
    assert found.state == "absent" and "not fetched yet" in found.said


def test_the_model_that_made_an_index_is_named(tmp_path, midi_folder, model):
    mmid.Index.build(tmp_path / "other", midi_folder, "mmid-3")
    found = finding("index", tmp_path / "other", model)
    assert found.state == "broken" and "made by mmid-3" in found.said


def test_a_cache_that_is_no_folder_is_broken(tmp_path):
    (tmp_path / "cache").write_text("in the way")
    found = finding("cache")
    assert found.state == "broken" and "MMID_CACHE" in found.mend


def test_a_cache_that_cannot_be_read_is_broken(tmp_path, monkeypatch):
    (tmp_path / "cache").mkdir()

    def refuse(*_, onerror, **__):
        onerror(PermissionError(13, "Permission denied"))
        return iter(())

    monkeypatch.setattr(doctor.os, "walk", refuse)
    found = finding("cache")
    assert found.state == "broken" and "Permission denied" in found.said


def test_the_cache_is_measured(tmp_path):
    (tmp_path / "cache" / "features").mkdir(parents=True)
    (tmp_path / "cache" / "features" / "a").write_bytes(bytes(2_000_000))
    assert finding("cache").said.startswith("2.0 MB")


def test_missing_extras_are_absent_and_missing_packages_broken(monkeypatch):
    installed = doctor.version

    def version(name: str) -> str:
        if name in ("tensorboard", "mido"):
            raise PackageNotFoundError(name)
        return "0.1" if name == "av" else installed(name)

    monkeypatch.setattr(doctor, "version", version)
    found = {f.subject: f for f in examine().findings}
    assert found["mmid[train]"].state == "absent"
    assert "tensorboard not installed" in found["mmid[train]"].said
    assert found["mido"].state == found["av"].state == "broken"
    assert "pip install 'mido" in found["mido"].mend and found["av"].said.startswith("0.1, not ")
    assert "model" not in found  # what needs the packages is not tried


@pytest.mark.parametrize("code", ["raise OSError('libtorch.so: gone')", "import os; os.abort()"])
def test_machine_code_that_fails_or_kills_is_told(monkeypatch, tmp_path, code):
    monkeypatch.undo()
    (tmp_path / "unsuited.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    fault = doctor._import("unsuited")
    assert fault in (
        "OSError: libtorch.so: gone",
        "kills Python by signal 6: not made for this processor",
    )
    monkeypatch.setattr(doctor, "COMPILED", {"unsuited": "unsuited"})
    [found] = doctor._look("machine code", doctor._machine_code)
    assert found.state == "broken" and found.said == fault


def test_an_import_that_hangs_is_told(monkeypatch):
    monkeypatch.undo()

    def run(command, **named):
        raise subprocess.TimeoutExpired(command, named["timeout"])

    monkeypatch.setattr(doctor.subprocess, "run", run)
    assert doctor._import("torch") == "not imported after 120 s"


def test_whatever_a_check_raises_is_a_finding(monkeypatch):
    for name in ("_packages", "_device", "_model_and_index", "_extras", "_rendering", "_cache"):
        monkeypatch.setattr(doctor, name, lambda *_: 1 / 0)
    found = examine()
    assert not found.sound
    assert sum("ZeroDivisionError" in f.said for f in found.findings) >= 4
    monkeypatch.setattr(doctor, "_mmid", lambda: (_ for _ in ()).throw(MmidError("as it is")))
    assert examine().findings[0].said == "as it is"


def test_the_command_tells_by_its_status(index, model):
    options = ["doctor", "--index", str(index), "--model", model]
    well = runner.invoke(app, [*options, "--json"])
    assert well.exit_code == 0 and json.loads(well.stdout)["sound"] is True
    (index / "manifest.json").write_text("{")
    ill = runner.invoke(app, options)
    assert ill.exit_code == 1 and "broken" in ill.stdout and "->" in ill.stdout
    told = json.loads(runner.invoke(app, [*options, "--json"]).stdout)
    assert told["sound"] is False
    assert all(list(f) == ["subject", "state", "said", "mend"] for f in told["findings"])


def test_every_variable_that_is_read_is_listed_and_documented():
    sources = " ".join(path.read_text() for path in Path(mmid.__file__).parent.rglob("*.py"))
    read = re.findall(r'environ(?:\.get\(|\[)"([A-Z_0-9]+)"|\b(MMID_[A-Z]+)\b', sources)
    assert {name for names in read for name in names if name} <= set(VARIABLES)
    page = (Path(__file__).parents[2] / "docs" / "shell.md").read_text()
    assert re.findall(r"^\| `([A-Z_0-9]+)` \|", page, re.M) == list(VARIABLES)
