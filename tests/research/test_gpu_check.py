"""`mmid.research.gpu_check`: devices that agree are said to, and what differs is named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from quick_check import QUICK
from tiny import HARMONIC_EAR
from typer import Typer
from typer.testing import CliRunner

from mmid.api import Embedding
from mmid.identify.answer import Identification, Match
from mmid.model.checkpoint import load_checkpoint, save_checkpoint
from mmid.research import gpu_check
from mmid.research.gpu_check import (
    HARMONIC,
    TUNES,
    Outcome,
    compare,
    harmonic_model,
    lay_out,
    tones,
)

TESTS = Path(__file__).parents[1]


@pytest.fixture
def app() -> Typer:
    app = Typer()
    app.command()(gpu_check.main)
    return app


@pytest.fixture
def model(make_model, transcribing_config, tmp_path: Path) -> str:
    path = tmp_path / "tiny.safetensors"
    save_checkpoint(path, make_model(3, transcribing_config).encoders, {})
    return str(path)


def run(app: Typer, *arguments: str):
    options = ("--seconds", "10", "--tunes", str(TUNES))
    return CliRunner().invoke(app, [*options, *arguments])


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try models that run in no time, on little."""
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)  # takes seconds to import
    for name, other in QUICK.items():
        monkeypatch.setattr(name, other)


def test_the_cpu_agrees_with_itself(app, model, quick):
    result = run(app, "--device", "cpu", "--model", model)
    assert result.exit_code == 0 and result.stderr == ""
    for said in (HARMONIC, "training pathways", "queries/s", "the recording", "pairs/s"):
        assert said in result.stdout


def test_what_differs_is_named_and_fails(app, monkeypatch):
    found = {HARMONIC: compare(outcome(), outcome(cosine=0.5))}
    monkeypatch.setattr(gpu_check, "check", lambda *arguments: found)
    result = run(app, "--device", "cpu")
    assert result.exit_code == 1 and "differs" in result.stdout
    [line] = result.stderr.splitlines()
    assert line == (
        f"mmid: {HARMONIC}: lowest cosine differs: of 200 snippets on the CPU,"
        " 0.50000, 200 shared on the device"
    )


def test_a_pretended_gpu_agrees(model, tmp_path):
    """No operation is given tensors of two devices, or of float64, and NumPy none of a GPU."""
    paths = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    script = TESTS / "research" / "pretended_check.py"
    done = subprocess.run(
        [sys.executable, str(script), model, str(tmp_path / "room")],
        env=os.environ | {"PYTHONPATH": paths, "ONEDNN_MAX_CPU_ISA": "AVX2"},  # both in float32
        capture_output=True,
        text=True,
    )
    said = f"{done.stdout[-2_000:]}\n{done.stderr[-2_000:]}"
    assert done.returncode == 0, said
    found = json.loads((tmp_path / "room" / "found.json").read_text())
    expected = {"differing": [], "compared": 22, "recall": pytest.approx(1, abs=0.1)}
    assert found == expected, said


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_one_line_says_so(app):
    result = run(app)
    assert (result.exit_code, result.stdout) == (1, "")
    [line] = result.stderr.splitlines()
    assert line == (
        "mmid: PyTorch finds no device 'cuda' here; --device cpu compares the CPU with itself"
    )


# ---- what counts as a difference


def outcome(
    cosine: float = 1.0,
    confidence: float = 0.9,
    piece: str = "a.mid",
    loss: float = 2.0,
    missing: int = 0,
) -> Outcome:
    """Return two hundred embeddings, an answer, a loss and a speed."""
    vectors = np.tile([cosine, (1 - cosine**2) ** 0.5], (200 - missing, 1))
    times = np.arange(200.0)[missing:]
    match = Match(piece, confidence, 0.5, 0.5, 1.0, 1.0, 0.0, 9.0, 1.0, 0)
    answer = Identification("q", 10.0, confidence >= 0.5, (match,))
    embeddings = {"one": Embedding(vectors, times)}
    return Outcome("float32", embeddings, {"one": answer}, {"loss": loss}, {"queries/s": loss})


@pytest.mark.parametrize(
    ("other", "differing"),
    [
        (outcome(), []),
        (outcome(cosine=0.9991, confidence=0.91, loss=2.019, missing=2), []),
        (outcome(cosine=0.998), ["lowest cosine"]),
        (outcome(missing=3), ["lowest cosine"]),
        (outcome(confidence=0.93), ["one"]),
        (outcome(piece="b.mid"), ["one"]),
        (outcome(confidence=0.4), ["one"]),
        (outcome(loss=2.03), ["loss"]),
        (outcome(loss=float("nan")), ["loss"]),
        (outcome(cosine=float("nan")), ["lowest cosine"]),
    ],
)
def test_what_is_beyond_rounding_differs(other: Outcome, differing: list[str]):
    assert [one.what for one in compare(outcome(), other) if not one.agrees] == differing


def test_who_is_first_of_what_is_not_found_does_not_count():
    pair = outcome(confidence=0.3), outcome(confidence=0.31, piece="b.mid")
    assert all(one.agrees for one in compare(*pair))


# ---- what is tried


def test_the_transcriber_reports_notes_that_depend_on_the_sound(make_model, monkeypatch, tmp_path):
    monkeypatch.setattr(gpu_check, "SMALL", HARMONIC_EAR)
    demo = lay_out(tmp_path / "room", 10.0, 1)
    path = harmonic_model(make_model(3), demo.recording, tmp_path / "harmonic.safetensors")
    encoders = load_checkpoint(path).encoders
    bands = torch.rand(2, 1, encoders.config.features.bands, 60, generator=_generator())
    one, other = encoders.transcribe(bands)
    assert one.std() > 0.3 and not torch.allclose(one, other, atol=0.1)


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_the_second_time_is_measured(monkeypatch):
    clock, lasting = [0.0], iter([100.0, 0.5])
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])

    def work() -> float:
        clock[0] += next(lasting)
        return clock[0]

    assert gpu_check._timed(work, 3.0) == (100.5, 6.0)


def test_tones_sound_at_their_pitch_and_while_their_notes_do(draw_notes):
    notes = draw_notes(0, 1)
    notes["onset"], notes["offset"], notes["pitch"] = 0.5, 1.5, 69
    sound = tones(notes, 22_050)
    assert not sound[:11_000].any() and not sound[33_100:].any()
    spectrum = np.abs(np.fft.rfft(sound[11_025:33_075]))
    assert abs(int(spectrum.argmax()) - 440) <= 1


def test_the_recorded_tune_is_always_in_the_library(tmp_path):
    for count in (1, 4):
        names = [tune.stem for tune in lay_out(tmp_path / str(count), 10.0, count).tunes]
        assert len(names) == count and "swallowtail-jig" in names
