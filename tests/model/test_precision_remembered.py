"""`precision`: what was found out about a model is remembered, and only where it holds."""

from __future__ import annotations

import json
import os

import pytest
import torch
from wrong_bf16 import LIMIT, counted

from mmid.model import precision
from mmid.model.checkpoint import load_checkpoint, save_checkpoint
from mmid.model.precision import Precision

pytestmark = [pytest.mark.numerical, pytest.mark.usefixtures("alone")]


def test_the_outcome_is_remembered(path, monkeypatch):
    seen = counted(monkeypatch)
    first = load_checkpoint(path).encoders.precision
    assert len(seen) == 3
    assert load_checkpoint(path).encoders.precision == first and len(seen) == 3


def test_a_fault_is_remembered(path, monkeypatch, spoilt):
    load_checkpoint(path).encoders.precision  # noqa: B018
    seen = counted(monkeypatch)
    assert load_checkpoint(path).encoders.precision.name == "float32" and seen == []


CHANGES = {
    "version": lambda patch: patch.setattr(torch, "__version__", "2.99.0"),
    "mmid": lambda patch: patch.setattr(precision, "__version__", "9.9"),
    "processor": lambda patch: patch.setattr(
        torch.cpu, "get_capabilities", lambda: {"cpu_name": "another"}
    ),
    "limit": lambda patch: patch.setenv(LIMIT, "AVX512_CORE_BF16"),
    "wide": lambda patch: patch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2"),
    "threads": lambda patch: patch.setattr(torch, "get_num_threads", lambda: 7),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_remembered_holds_only_where_it_was_found(path, monkeypatch, change):
    load_checkpoint(path).encoders.precision  # noqa: B018
    seen = counted(monkeypatch)
    CHANGES[change](monkeypatch)
    assert load_checkpoint(path).encoders.precision.half and len(seen) == 3


def test_another_model_is_compared_anew(path, monkeypatch):
    load_checkpoint(path).encoders.precision  # noqa: B018
    seen, other = counted(monkeypatch), path.with_name("other.safetensors")
    encoders = load_checkpoint(path).encoders
    with torch.no_grad():
        encoders.log_scale += 1
    save_checkpoint(other, encoders, {})
    assert load_checkpoint(other).encoders.precision.half and len(seen) == 3


HARM = {
    "nothing": lambda file, told: file.write_bytes(b""),
    "noise": lambda file, told: file.write_bytes(bytes(range(256))),
    "deep": lambda file, told: file.write_text("[" * 10_000),
    "large": lambda file, told: file.write_text(json.dumps(told) + " " * 2**20),
    "list": lambda file, told: file.write_text(json.dumps([told])),
    "another key": lambda file, told: file.write_text(json.dumps(told | {"key": ["else"]})),
    "no cosine": lambda file, told: file.write_text(json.dumps({"key": told["key"]})),
    "text": lambda file, told: file.write_text(json.dumps(told | {"cosine": "1.0"})),
    "true": lambda file, told: file.write_text(json.dumps(told | {"cosine": True})),
    "NaN": lambda file, told: file.write_text(json.dumps(told | {"cosine": float("nan")})),
    "too much": lambda file, told: file.write_text(json.dumps(told | {"cosine": 1e300})),
    "a link": lambda file, told: (file.unlink(), file.symlink_to(file.name)),
    "a pipe": lambda file, told: (file.unlink(), os.mkfifo(file)),
}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
@pytest.mark.parametrize("harm", HARM)
def test_what_makes_no_sense_is_ignored_and_written_anew(path, monkeypatch, harm):
    first = load_checkpoint(path).encoders.precision
    [file] = (path.parent / "cache" / "precision").iterdir()
    good = file.read_text()
    HARM[harm](file, json.loads(good))
    seen = counted(monkeypatch)
    assert load_checkpoint(path).encoders.precision == first and len(seen) == 3
    assert not file.is_symlink() and file.read_text() == good
    assert [other.name for other in file.parent.iterdir()] == [file.name]


@pytest.mark.parametrize("place", ["a file", "a folder in the way"])
def test_without_a_place_to_remember_in_it_is_found_out_each_time(path, monkeypatch, place):
    if place == "a file":
        (path.parent / "cache").write_text("in the way")
    else:
        load_checkpoint(path).encoders.precision  # noqa: B018
        [file] = (path.parent / "cache" / "precision").iterdir()
        file.unlink()
        file.mkdir()
    seen = counted(monkeypatch)
    for count in (3, 6):
        assert load_checkpoint(path).encoders.precision.half and len(seen) == count


def test_a_worker_process_finds_out_for_itself(path):
    import pickle

    encoders = load_checkpoint(path).encoders
    encoders._precision = Precision("of another machine", True, "cpu")
    again = pickle.loads(pickle.dumps(encoders))
    assert again.precision.name == "bf16" and again.fingerprint == encoders.fingerprint
