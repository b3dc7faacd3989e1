"""`distillation`: a light pathway learns to embed as another does, and nothing else changes."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from typer import Typer
from typer.testing import CliRunner

from mmid.errors import MmidError
from mmid.index.build import update_index
from mmid.index.folder import LibraryIndex
from mmid.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from mmid.model.pathways import LIGHT
from mmid.music.grid import DEFAULT
from mmid.training import distillation
from mmid.training.distillation import compare, draw_batch, share, teach, with_onsets


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    monkeypatch.setattr(distillation, "BATCH", 2)
    monkeypatch.setattr(distillation, "FRAMES", 100)
    monkeypatch.setattr(distillation, "RISE", 5)


@pytest.fixture
def notes(draw_notes) -> list[np.ndarray]:
    return [draw_notes(seed) for seed in range(8)]


def test_rolls_are_drawn_alike_for_a_seed(notes):
    shares = np.full(8, 1 / 8)
    one, same, other = (
        draw_batch(notes, shares, DEFAULT, np.random.default_rng(seed)) for seed in (0, 0, 1)
    )
    assert one.shape == (2, 2, 128, 100) and one.max() <= 1 and one.min() >= 0
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_a_snippet_with_an_onset_is_told(notes):
    rolls = torch.zeros(1, 2, 128, 100)
    rolls[0, 0, 60] = 1.0  # sounds all the time
    rolls[0, 1, 60, 50] = 1.0
    told = with_onsets(rolls, DEFAULT)
    first = np.arange(0, 100 - 42 + 1, 4)
    assert told.shape == (1, len(first))
    assert told[0].tolist() == ((first <= 50) & (first + 42 > 50)).tolist()


def test_it_learns_to_embed_as_its_teacher(make_model, transcribing_config, notes):
    config = replace(transcribing_config, cca=True)
    teacher = make_model(0, config)
    untaught, taught = (teach(teacher, notes, steps) for steps in (1, 60))
    before, after = (compare(teacher.encoders, new, notes) for new in (untaught, taught))
    assert after.cosine > max(before.cosine, 0.5) and after.snippets == before.snippets > 50
    assert -1 <= after.worst <= after.cosine <= 1 and after.recall <= after.same <= 1
    itself = compare(teacher.encoders, teacher.encoders, notes)
    assert itself.cosine == pytest.approx(1, abs=1e-5) and itself.same == 1
    assert taught.config == replace(config, roll=replace(LIGHT, embedding=16))
    plain, light = teacher.encoders.state_dict(), taught.state_dict()
    assert all(torch.equal(plain[n], light[n]) for n in plain if not n.startswith("roll."))


def test_the_same_seed_teaches_the_same(tiny_model, notes):
    one, same = (teach(tiny_model, notes, 3).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], same[name]) for name in one)


def test_another_grid_is_refused(make_model, tiny_config, notes):
    other = make_model(0, replace(tiny_config, features=replace(DEFAULT, onsets=False)))
    with pytest.raises(MmidError, match="made for the default rolls; give another --model"):
        teach(other, notes, 1)


def test_a_shared_pathway_embeds_notes_of_both_sides_alike(make_model, transcribing_config):
    model = make_model(0, replace(transcribing_config, cca=True)).encoders
    shared = share(model)
    rolls = torch.rand(2, 2, 128, 60)
    with torch.inference_mode():
        assert torch.equal(shared.audio(rolls), shared.roll(rolls))
        assert torch.equal(shared.roll(rolls), model.roll(rolls))
    assert shared.config == replace(transcribing_config, cca=True, audio=model.config.roll)
    ear = {n: t for n, t in model.state_dict().items() if n.startswith("transcriber.")}
    assert ear and all(torch.equal(shared.state_dict()[n], t) for n, t in ear.items())


def test_a_pathway_of_spectrograms_is_not_shared(tiny_model):
    with pytest.raises(MmidError, match="without a transcriber takes no notes"):
        share(tiny_model.encoders)


def test_nothing_is_taught_in_no_steps(tmp_path, midi_folder, make_model, transcribing_config):
    model = make_model(0, transcribing_config)
    save_checkpoint(tmp_path / "model.safetensors", model.encoders, {})
    app = Typer()
    app.command()(distillation.main)
    paths = (
        "--model",
        str(tmp_path / "model.safetensors"),
        "--out",
        str(tmp_path / "out.safetensors"),
    )
    done = CliRunner().invoke(app, [str(midi_folder), *paths, "--steps", "0", "--share"])
    assert done.exit_code == 0 and json.loads(done.stdout)["cosine"] == pytest.approx(1, abs=1e-5)
    made = load_checkpoint(tmp_path / "out.safetensors").encoders.state_dict()
    kept = model.encoders.state_dict()
    assert all(torch.equal(made[n], kept[n]) for n in kept if n.startswith("roll."))
    assert all(torch.equal(made["audio" + n[4:]], kept[n]) for n in kept if n.startswith("roll."))


def test_the_command_writes_a_model_that_indexes(tmp_path, midi_folder, draw_notes, tiny_model):
    model, out = tmp_path / "tiny.safetensors", tmp_path / "light.safetensors"
    save_checkpoint(model, tiny_model.encoders, {"seed": 0})
    app = Typer()
    app.command()(distillation.main)
    arguments = [str(midi_folder), "--extra", str(midi_folder / "more"), "--steps", "2"]
    told = CliRunner().invoke(app, [*arguments, "--model", str(model), "--out", str(out)])
    assert told.exit_code == 0, told.output
    light: Checkpoint = load_checkpoint(out)
    facts = light.facts["distilled"]
    assert facts["teacher"] == tiny_model.fingerprint and facts["steps"] == 2
    assert json.loads(told.stdout).items() <= facts.items() and light.facts["seed"] == 0
    update_index(tmp_path / "index", [midi_folder], light, jobs=1)
    assert len(LibraryIndex(tmp_path / "index", light)) == 6
