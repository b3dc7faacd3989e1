"""`mmid.training.tasks`: losses of a batch, verdicts, and weights to begin with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mmid.errors import ModelError
from mmid.model.checkpoint import load_checkpoint, load_tensors, save_tensors
from mmid.model.encoders import ModelConfig
from mmid.model.pathways import DorferConfig
from mmid.music.grid import DEFAULT
from mmid.music.notes import NOTE_DTYPE
from mmid.music.performance import Recipe
from mmid.music.piano_roll import piano_roll
from mmid.training import corpus
from mmid.training.corpus import Job, make_features
from mmid.training.experiment import PRESETS, Experiment
from mmid.training.losses import info_nce, pairwise_ranking, triplet_ranking
from mmid.training.snippet_pairs import Batch, PairSource
from mmid.training.tasks import (
    PICTURE_NAME,
    Matching,
    Reconstruction,
    Transcription,
    make_task,
    validation_batches,
)

pytestmark = pytest.mark.numerical

CPU = torch.device("cpu")
SMALL = DorferConfig(blocks=(4, 4, 4, 4))


@pytest.fixture
def source(tmp_path, monkeypatch):
    """Return a function that opens two renderings of noise and random notes as a source."""
    rng = np.random.default_rng(0)
    paths = []
    for number in range(2):
        notes = np.zeros(120, NOTE_DTYPE)
        notes["onset"] = np.sort(rng.uniform(0, 19, 120))
        notes["offset"], notes["pitch"] = notes["onset"] + 0.2, rng.integers(40, 90, 120)
        bands = torch.rand(92, 430, generator=torch.Generator().manual_seed(number))
        monkeypatch.setattr(corpus, "_sound", lambda job, b=bands: (job.notes, b))
        paths.append(tmp_path / f"{number}.safetensors")
        make_features(Job(paths[-1], notes, Recipe("font.sf2"), DEFAULT))
    return lambda experiment: PairSource(
        paths,
        experiment.features,
        None,
        1,
        experiment.sampling,
        experiment.negatives == "sampled",
    )


@pytest.fixture(autouse=True)
def tiny(monkeypatch, tiny_config):
    monkeypatch.setattr(Experiment, "model", tiny_config)


def embedded(task, batch):
    return task.network.audio(batch.audio)[:, 0], task.network.roll(batch.rolls)[:, 0]


def test_each_loss_is_the_one_named(source, in_float32):
    base = Experiment(batch=16, margin=0.01)
    batch = next(source(base).batches(16, 1, 0))
    repeats = batch.repeats()

    def loss(name: str) -> tuple[Matching, torch.Tensor]:
        task = make_task(replace(base, loss=name), CPU)
        task.network.eval()
        return task, task.loss(batch)

    task, found = loss("info-nce")
    heard, read = embedded(task, batch)
    torch.testing.assert_close(found, info_nce(heard, read, task.network.log_scale.exp(), repeats))
    forth = pairwise_ranking(read, heard, 0.01, repeats)
    back = pairwise_ranking(heard, read, 0.01, repeats)
    torch.testing.assert_close(loss("ranking")[1], forth)
    torch.testing.assert_close(loss("ranking-both")[1], (forth + back) / 2)
    assert forth != back


def test_sampled_negatives_are_the_contrast(source, in_float32):
    base = Experiment(batch=4, loss="ranking-both", negatives="sampled", sampling="grid")
    batch = next(source(base).batches(4, 1, 0))
    task = make_task(base, CPU)
    task.network.eval()
    heard, read = embedded(task, batch)
    other_heard, other_read = embedded(task, batch.contrast)
    forth = triplet_ranking(read, heard, other_heard, 0.7)
    back = triplet_ranking(heard, read, other_read, 0.7)
    torch.testing.assert_close(task.loss(batch), (forth + back) / 2)
    one_sided = make_task(replace(base, loss="ranking"), CPU)
    one_sided.network.eval()
    torch.testing.assert_close(one_sided.loss(batch), forth)


@pytest.mark.parametrize("task", ["retrieval", "audio-autoencoder", "midi-autoencoder"])
def test_a_verdict_is_the_same_every_time_and_leaves_weights_alone(source, task):
    experiment = Experiment(task=task, validation_pairs=60, batch=32)
    made = make_task(experiment, CPU)
    before = {n: t.clone() for n, t in made.network.state_dict().items()}
    one, other = made.judge(source(experiment)), made.judge(source(experiment))
    assert one == other and np.isfinite(one.loss)
    assert all(torch.equal(before[n], t) for n, t in made.network.state_dict().items())
    assert (one.audio_to_midi is None) == (task != "retrieval")
    if one.audio_to_midi:
        assert one.audio_to_midi.queries == 60
        assert one.score == pytest.approx((one.audio_to_midi.mrr + one.midi_to_audio.mrr) / 2)
    else:
        assert one.score == -one.loss


def test_the_grids_pool_has_every_snippet_at_most_once(source):
    experiment = Experiment(sampling="grid", batch=8, validation_pairs=1_000)
    opened = source(experiment)
    batches = validation_batches(opened, experiment)
    rows = [row.numpy().tobytes() for batch in batches for row in batch.audio]
    assert len(rows) > opened.labels - len(batches)
    assert len(set(rows)) >= opened.labels - len(batches)


def test_an_autoencoder_saves_its_weights_and_a_picture(source, tmp_path, monkeypatch):
    experiment = Experiment(task="midi-autoencoder", validation_pairs=20, batch=20)
    task = make_task(experiment, CPU)
    assert isinstance(task, Reconstruction)
    task.judge(source(experiment))
    task.save(tmp_path / "best.safetensors", {"epoch": 1})
    assert (tmp_path / PICTURE_NAME).stat().st_size > 100
    tensors, header = load_tensors(tmp_path / "best.safetensors")
    assert header["config"]["side"] == "roll" and header["facts"] == {"epoch": 1}
    assert torch.equal(
        tensors["roll.trunk.0.weight"], task.network.state_dict()["roll.trunk.0.weight"]
    )


def test_pathways_begin_with_autoencoders(source, tmp_path, monkeypatch):
    report = replace(PRESETS["report-2020"], validation_pairs=10)
    monkeypatch.setattr(
        Experiment, "model", ModelConfig(report.features, DorferConfig(), DorferConfig())
    )
    paths = []
    for side in ("audio", "midi"):
        experiment = replace(report, task=f"{side}-autoencoder", seed=5)
        paths.append(tmp_path / f"{side}.safetensors")
        make_task(experiment, CPU).save(paths[-1], {})
    fresh = make_task(report, CPU).network.state_dict()
    begun = make_task(report, CPU, paths).network.state_dict()
    for path, side in zip(paths, ("audio", "roll"), strict=True):
        name = f"{side}.trunk.0.weight"
        assert torch.equal(begun[name], load_tensors(path)[0][name])
        assert not torch.equal(begun[name], fresh[name])


def test_a_checkpoint_continues_and_a_foreign_one_is_refused(source, tmp_path):
    experiment = Experiment()
    task = make_task(replace(experiment, seed=1), CPU)
    task.save(tmp_path / "a.safetensors", {})
    again = make_task(experiment, CPU, [tmp_path / "a.safetensors"])
    for name, tensor in task.network.state_dict().items():
        assert torch.equal(again.network.state_dict()[name], tensor)
    assert load_checkpoint(tmp_path / "a.safetensors").encoders.config == experiment.model
    save_tensors(tmp_path / "b.safetensors", {"other": torch.zeros(3, 3)}, {})
    with pytest.raises(ModelError, match=r"b\.safetensors: none of its weights fit"):
        make_task(experiment, CPU, [tmp_path / "b.safetensors"])
    with pytest.raises(ModelError, match="no such model file"):
        make_task(experiment, CPU, [tmp_path / "c.safetensors"])


# ---- the transcriber


HEARING = replace(
    PRESETS["transcription"], snippet=42, augment=(), batch=16, validation_pairs=32, seed=3
)


@pytest.fixture
def played(tmp_path, monkeypatch, draw_notes):
    """Return a source of two renderings whose bands are blurred pitches, easy to hear."""
    place = torch.arange(92)[:, None] - (torch.arange(128)[None] - 30) * 1.2
    blur = torch.exp(-(place**2))
    paths = []
    for number in range(2):
        notes = draw_notes(number, 120, 19.0)
        bands = (blur @ piano_roll(notes, 430)[0]).clamp(0, 1)
        monkeypatch.setattr(corpus, "_sound", lambda job, b=bands: (job.notes, b))
        paths.append(tmp_path / f"played {number}.safetensors")
        make_features(Job(paths[-1], notes, Recipe("font.sf2"), DEFAULT))
    return lambda margin=0: PairSource(paths, DEFAULT, None, 1, margin=margin)


@pytest.fixture
def ear(monkeypatch, transcribing_config):
    """Make transcribers tiny, and let pathways listen through them."""
    monkeypatch.setattr(
        "mmid.training.experiment.TranscriberConfig", lambda: transcribing_config.transcriber
    )
    monkeypatch.setattr(Experiment, "model", transcribing_config)


def learn(task, source: PairSource, steps: int, rate: float, size: int = 16) -> None:
    optimizer = torch.optim.AdamW(task.network.parameters(), rate, weight_decay=0.1)
    task.network.train()
    for batch in source.batches(size, steps, 0):
        loss = task.loss(batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()


def test_a_transcriber_learns_to_hear_notes(played, ear):
    task, source = make_task(HEARING, CPU), played()
    assert isinstance(task, Transcription)
    before = task.judge(source)
    assert before == task.judge(source) and before.score == -before.loss
    written = torch.cat([b.rolls[:, :, 21:109] for b in validation_batches(source, HEARING)])
    share = written.mean((0, 2, 3))
    guess = float(-(share * share.log() + (1 - share) * (1 - share).log()).mean())
    learn(task, source, 60, 2e-2)
    after = task.judge(source)
    assert after.loss < guess < before.loss, "better than to know how common notes are"
    assert after.audio_to_midi is None


def test_a_transcriber_hears_only_the_compass(played, ear):
    task = make_task(HEARING, CPU)
    task.network.eval()
    batch = next(played().batches(4, 1, 0))
    other = batch.rolls.clone()
    other[:, :, :21], other[:, :, 109:] = 1.0, 1.0
    loss = task.loss(batch)
    assert torch.equal(task.loss(Batch(batch.audio, other)), loss)
    other[:, :, 60] = 1 - other[:, :, 60]
    assert not torch.equal(task.loss(Batch(batch.audio, other)), loss)


def test_pathways_listen_through_the_transcriber_they_begin_with(played, ear, tmp_path):
    task = make_task(HEARING, CPU)
    learn(task, played(), 3, 1e-2)
    path = tmp_path / "ear.safetensors"
    task.save(path, {"epoch": 2})
    tensors, header = load_tensors(path)
    assert header["facts"] == {"epoch": 2} and tuple(header["config"]["widths"]) == (4, 4)
    matching = make_task(Experiment(), CPU, [path])
    assert isinstance(matching, Matching)
    begun = matching.network.state_dict()
    assert tensors and all(name.startswith("transcriber.") for name in tensors)
    assert all(torch.equal(begun[name], tensor) for name, tensor in tensors.items())
    other = make_task(replace(HEARING, seed=4), CPU).network.state_dict()
    assert not all(torch.equal(other[name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize("owner", [None, "mmid-3"])
def test_pathways_take_a_packaged_models_transcriber(
    ear, tiny_model, transcribing_model, monkeypatch, owner
):
    """The default model's, or mmid-3's where the default has none of these spectrograms."""

    def load(name, device):
        return transcribing_model if name == owner else tiny_model

    monkeypatch.setattr("mmid.training.tasks.load_model", load)
    begun = make_task(Experiment(seed=9), CPU).network
    packaged = transcribing_model.encoders
    for name, tensor in begun.transcriber.state_dict().items():
        assert torch.equal(tensor, packaged.transcriber.state_dict()[name])
    weights = begun.audio.project.weight, packaged.audio.project.weight
    assert not torch.equal(*weights), "the pathways learn anew"


def test_the_transcriber_stays_as_it_is_while_pathways_learn(played, ear, tmp_path):
    make_task(HEARING, CPU).save(tmp_path / "ear.safetensors", {})
    task = make_task(Experiment(), CPU, [tmp_path / "ear.safetensors"])
    before = {name: tensor.clone() for name, tensor in task.network.state_dict().items()}
    source = played(margin=task.network.config.reach)
    batch = next(source.batches(16, 1, 0))
    assert batch.audio.shape[-1] == 42 + 2 * 3
    task.network.train()
    start = task.loss(batch).item()
    learn(task, source, 20, 1e-2)
    for name, tensor in task.network.state_dict().items():
        if name.startswith("transcriber."):
            assert torch.equal(tensor, before[name]), name
        elif "num_batches" not in name:
            assert not torch.equal(tensor, before[name]), name
    assert task.loss(batch).item() < start
    verdict = task.judge(source)
    assert verdict == task.judge(source) and verdict.audio_to_midi


def test_indexes_stay_right_while_the_audio_pathway_alone_learns(played, ear, tmp_path):
    make_task(HEARING, CPU).save(tmp_path / "ear.safetensors", {})
    task = make_task(Experiment(learn="audio"), CPU, [tmp_path / "ear.safetensors"])
    before = {name: tensor.clone() for name, tensor in task.network.state_dict().items()}
    learn(task, played(margin=task.network.config.reach), 5, 1e-2)
    after = task.network.state_dict()
    changed = {name.split(".")[0] for name in after if not torch.equal(after[name], before[name])}
    assert changed >= {"audio"} and "roll" not in changed
