"""`mmid train`: a preset, parts of it replaced, and what a small run leaves behind."""

from __future__ import annotations

import sys
from dataclasses import fields, replace

import pytest
from synth import SOUNDFONT, needs_fluidsynth
from tiny import HARMONIC_EAR
from typer.testing import CliRunner

from mmid.cli.app import app, main
from mmid.cli.demo import write_library
from mmid.cli.train import PresetGroup
from mmid.model.checkpoint import load_tensors
from mmid.training.augmentation import EFFECTS
from mmid.training.experiment import PRESETS, Experiment

runner = CliRunner()
NOT_OPTIONS = {"optimizer", "weight_decay", "schedule", "validation_pairs", "clip", "average"}


def test_every_choice_is_an_option_and_only_the_presets_are_not():
    choices = {field.name for field in fields(Experiment)}
    assert choices - {field.name for field in fields(PresetGroup)} == {*NOT_OPTIONS, "seed"}


def test_what_is_left_out_is_the_presets():
    for preset in PRESETS.values():
        assert PresetGroup().applied_to(preset, preset.seed) == preset


def test_options_replace_parts_of_the_preset():
    parts = PresetGroup(loss="ranking-both", onsets=True)
    expected = replace(PRESETS["report-2020"], loss="ranking-both", onsets=True, seed=3)
    assert parts.applied_to(PRESETS["report-2020"], 3) == expected


@pytest.mark.parametrize(
    ("text", "effects"),
    [("all", EFFECTS), ("none", ()), ("noise,mismatch", ("noise", "mismatch"))],
)
def test_effects_are_named(text, effects):
    assert PresetGroup(augment=text).applied_to(Experiment(), 0).augment == effects


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--augment", "echo"], "mmid: no effect 'echo'"),
        (["--negatives", "sampled"], "mmid: InfoNCE needs negatives from the batch"),
        (["--epoch-pairs", "0"], "mmid: random snippets have no end"),
    ],
)
def test_choices_that_do_not_go_together_are_one_line(
    midi_folder, tmp_path, options, message, monkeypatch, capsys
):
    arguments = ["mmid", "train", str(midi_folder), "--out", str(tmp_path / "run"), *options]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith(message) and "\n" not in error
    assert not (tmp_path / "run").exists()


@needs_fluidsynth
def test_a_small_run_of_the_report_leaves_its_best_and_its_curves(tensorboard, tmp_path):
    write_library(tmp_path / "tunes")
    few = [str(path) for path in sorted((tmp_path / "tunes").iterdir())[:24]]
    out = tmp_path / "run"
    options = ["--preset", "report-2020", "--soundfont", str(SOUNDFONT), "--epochs", "2"]
    options += ["--epoch-pairs", "128", "--excerpt", "5", "--jobs", "1", "--device", "cpu"]
    options += ["--out", str(out), "--cache", str(tmp_path / "cache")]
    result = runner.invoke(app, ["train", *few, *options])
    assert result.exit_code == 0, result.stderr
    assert result.stdout.strip() == str(out / "best.safetensors")
    assert "epoch   2" in result.stderr and "validation" in result.stderr
    drawn = runner.invoke(app, ["eval", "curves", str(out), "--out", str(tmp_path / "x.png")])
    assert drawn.exit_code == 0, drawn.stderr
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


@needs_fluidsynth
def test_a_transcriber_learns_from_mixtures_and_says_how_well_by_kind(tmp_path, monkeypatch):
    monkeypatch.setattr("mmid.training.experiment.HarmonicConfig", lambda: HARMONIC_EAR)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)  # takes seconds to import
    write_library(tmp_path / "tunes")
    few = [str(path) for path in sorted((tmp_path / "tunes").iterdir())[:24]]
    out = tmp_path / "run"
    options = ["--preset", "transcription", "--spectrogram", "fine", "--soundfont", str(SOUNDFONT)]
    options += ["--epoch-pairs", "8", "--copies", "1", "--excerpt", "4", "--jobs", "1"]
    options += ["--device", "cpu", "--out", str(out), "--cache", str(tmp_path / "cache")]
    for epochs in ("1", "2"):
        run = runner.invoke(app, ["train", *few, *options, "--epochs", epochs])
        assert run.exit_code == 0, run.stderr
        assert f"epoch   {epochs}" in run.stderr and "onset F1" in run.stderr
    assert "epoch   1" not in run.stderr, "it goes on"
    tensors, header = load_tensors(out / "best.safetensors")
    assert all(name.startswith("transcriber.") for name in tensors)
    assert header["facts"]["performance"] == "mixed" and header["facts"]["excerpt"] == 4


@needs_fluidsynth
def test_a_soundfont_cannot_be_both_held_back_and_all_there_is(tmp_path, monkeypatch, capsys):
    write_library(tmp_path / "tunes")
    font = ["--soundfont", str(SOUNDFONT), "--validation-soundfont", str(SOUNDFONT)]
    arguments = ["mmid", "train", str(tmp_path / "tunes"), "--out", str(tmp_path / "run"), *font]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(SystemExit) as end:
        main()
    error = capsys.readouterr().err.strip()
    assert end.value.code == 1 and "\n" not in error
    assert error == "mmid: no soundfont is left to train with: validation has them all"
    assert not (tmp_path / "run").exists()
