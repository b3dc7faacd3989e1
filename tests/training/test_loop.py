"""`mmid.training.loop`: a run learns, can be interrupted, and stops when it should."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from mmid.errors import ModelError
from mmid.model.checkpoint import load_checkpoint, load_tensors, save_tensors
from mmid.music.grid import DEFAULT
from mmid.music.piano_roll import piano_roll
from mmid.training import loop as module
from mmid.training.corpus import LEVELS, Corpus
from mmid.training.experiment import Experiment
from mmid.training.loop import BEST_NAME, LOG_NAME, STATE_NAME, Epoch, Trainer, start_run
from mmid.training.snippet_pairs import PairSource
from mmid.training.tasks import Matching, Verdict, make_task

CONFIG = Experiment(
    epochs=3,
    epoch_pairs=32 * 12,
    batch=32,
    learning_rate=5e-3,
    validation_pairs=100,
    augment=(),
    neighbours=4,
)
CPU = torch.device("cpu")


def write_renderings(folder: Path, draw_notes) -> Path:
    """Write 20 renderings whose bands are simply blurred pitches: something easy to learn."""
    place = torch.arange(92)[:, None] - (torch.arange(128)[None] - 36) * 1.3
    blur = torch.exp(-(place**2) / 2)
    for seed in range(20):
        notes = draw_notes(seed, 60, 12.0)
        bands = (blur @ piano_roll(notes, 270)[0]).clamp(0, 1)
        arrays = {
            "spectrogram": np.ascontiguousarray((bands.T * LEVELS).byte().numpy()),
            "times": np.stack([notes["onset"], notes["offset"]], 1).astype(np.float32),
            "pitches": np.ascontiguousarray(notes["pitch"]),
            "programs": np.ascontiguousarray(notes["program"]),
        }
        save_file(arrays, folder / f"{seed}.safetensors")
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, draw_notes) -> Corpus:
    folder = write_renderings(tmp_path_factory.mktemp("cache"), draw_notes)
    paths = [folder / f"{seed}.safetensors" for seed in range(20)]
    return Corpus(tuple(paths[:16]), tuple(paths[16:]), {"train_pieces": 16}, ())


@pytest.fixture(scope="module")
def sources(corpus) -> tuple[PairSource, PairSource]:
    return tuple(PairSource(side, DEFAULT, None) for side in (corpus.train, corpus.valid))


@pytest.fixture
def trainer(tmp_path, tiny_config):
    """Return a function that opens a run in a folder of this test."""

    def open_run(name: str = "run", config: Experiment = CONFIG, facts=None) -> Trainer:
        task = make_task(config, CPU)
        return Trainer(tmp_path / name, task, config, facts or {"data": 1})

    return open_run


@pytest.fixture(autouse=True)
def tiny(monkeypatch, tiny_config):
    """Make every experiment's networks tiny."""
    monkeypatch.setattr(Experiment, "model", tiny_config)


@pytest.fixture(autouse=True)
def quiet(monkeypatch, request):
    """Keep TensorBoard, which takes seconds to import, out of all tests but its own."""
    if "tensorboard" not in request.node.name:
        monkeypatch.setattr(module, "_scalars", module.contextmanager(_no_scalars))


def _no_scalars(folder: Path):
    yield lambda report: None


def weights(run: Trainer) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in run.task.network.state_dict().items()}


def test_a_run_learns_and_keeps_its_best(trainer, sources, tmp_path):
    run, steps = trainer(config=replace(CONFIG, epoch_pairs=32 * 25)), []
    reports = list(run.run(*sources, steps.append))
    assert [report.epoch for report in reports] == [1, 2, 3]
    assert reports[-1].loss < 0.6 * steps[0].loss
    assert reports[-1].loss < np.log(32)  # chance
    assert reports[-1].valid.score > 4 * guessed_mrr(100)
    assert len(steps) == 3 * 25 and steps[-1].done == steps[-1].steps == 25
    best = max(reports, key=lambda report: report.valid.score)
    assert best.best
    model = load_checkpoint(tmp_path / "run" / BEST_NAME)
    assert model.facts["epoch"] == best.epoch and model.facts["data"] == 1
    assert model.facts["validation_score"] == pytest.approx(best.valid.score)
    again = make_task(CONFIG, CPU, [tmp_path / "run" / BEST_NAME]).judge(sources[1])
    assert again.score == pytest.approx(best.valid.score, abs=1e-6)
    assert again.loss == pytest.approx(best.valid.loss, abs=1e-5)


def guessed_mrr(pool: int) -> float:
    """Return what guessing scores."""
    return float((1 / np.arange(1, pool + 1)).mean())


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_an_interrupted_run_goes_on_as_if_it_had_not_been(trainer, sources, average, monkeypatch):
    config = replace(CONFIG, average=average, clip=average)
    trainer = partial(trainer, config=config)
    whole = trainer("whole")
    reports = list(whole.run(*sources))

    run = trainer("cut").run(*sources)
    first = next(run)
    run.close()

    def interrupt(step):
        if step.epoch == 1 and step.done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(trainer("cut").run(*sources, interrupt))
    resumed = trainer("cut")
    assert resumed.epoch == 1
    rest = list(resumed.run(*sources))
    for one, other in zip(reports, [first, *rest], strict=True):
        assert one.loss == pytest.approx(other.loss, abs=1e-6)
        assert (
            one.valid.score == pytest.approx(other.valid.score, abs=1e-6) and one.best == other.best
        )
    for name, tensor in weights(whole).items():
        torch.testing.assert_close(weights(resumed)[name], tensor, atol=1e-6, rtol=1e-5)


def test_a_run_keeps_the_mean_of_its_weights(trainer, sources, tmp_path):
    run = trainer(config=replace(CONFIG, average=0.99, epochs=1))
    (report,) = run.run(*sources)
    best = load_tensors(tmp_path / "run" / BEST_NAME)[0]
    name = "audio.project.weight"
    torch.testing.assert_close(best[name], run._average.tensors[name])
    assert not torch.equal(best[name], weights(run)[name])
    last = make_task(CONFIG, CPU)
    last.network.load_state_dict(weights(run))
    assert report.valid.loss != pytest.approx(last.judge(sources[1]).loss, abs=1e-6)


def test_gradients_are_clipped(trainer, sources, monkeypatch):
    lengths = []
    run = trainer(config=replace(CONFIG, clip=1e-3, epoch_pairs=64, epochs=1))
    step = run.optimizer.step

    def measured(*args):
        grads = [p.grad for p in run.task.network.parameters() if p.grad is not None]
        lengths.append(float(torch.stack([g.norm() for g in grads]).norm()))
        return step(*args)

    monkeypatch.setattr(run.optimizer, "step", measured)
    list(run.run(*sources))
    np.testing.assert_allclose(lengths, [1e-3, 1e-3], rtol=1e-3)


def test_a_run_of_an_older_mmid_goes_on(trainer, sources, tmp_path):
    next(trainer().run(*sources))
    tensors, header = load_tensors(tmp_path / "run" / STATE_NAME)
    for name in ("clip", "average"):
        del header["settings"]["experiment"][name]
    save_tensors(tmp_path / "run" / STATE_NAME, tensors, header)
    assert trainer().epoch == 1
    with pytest.raises(ModelError, match="holds a run with other settings"):
        trainer(config=replace(CONFIG, average=0.9))


def test_a_finished_run_has_nothing_left_to_do(trainer, sources):
    list(trainer(config=replace(CONFIG, epochs=1)).run(*sources))
    assert list(trainer(config=replace(CONFIG, epochs=1)).run(*sources)) == []


def test_two_runs_of_a_seed_are_the_same(trainer, sources):
    config = replace(CONFIG, epochs=1)
    losses = [next(trainer(name, config).run(*sources)).loss for name in ("a", "b")]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    other = next(trainer("c", replace(config, seed=1)).run(*sources)).loss
    assert other != pytest.approx(losses[0], abs=1e-6)


def test_other_settings_are_refused(trainer, sources, tmp_path):
    next(trainer().run(*sources))
    before = (tmp_path / "run" / STATE_NAME).read_bytes()
    with pytest.raises(ModelError, match="holds a run with other settings"):
        trainer(config=replace(CONFIG, learning_rate=1e-3))
    with pytest.raises(ModelError, match="holds a run with other settings"):
        trainer(facts={"data": 2})
    assert (tmp_path / "run" / STATE_NAME).read_bytes() == before


def test_a_damaged_state_is_one_clear_error(trainer, sources, tmp_path):
    next(trainer().run(*sources))
    state = tmp_path / "run" / STATE_NAME
    state.write_bytes(state.read_bytes()[:1_000])
    with pytest.raises(ModelError, match=r"state\.safetensors: damaged"):
        trainer()


def test_patience_ends_a_run_that_stops_improving(trainer, sources, monkeypatch, tmp_path):
    scores = iter([1, 2, 10, 9, 8, 1, 1, 1])
    monkeypatch.setattr(Matching, "judge", lambda *_: Verdict(next(scores), 0.0))
    config = replace(CONFIG, epochs=8, epoch_pairs=32, patience=2)
    reports = list(trainer(config=config).run(*sources))
    assert [report.best for report in reports] == [True, True, True, False, False]
    assert load_checkpoint(tmp_path / "run" / BEST_NAME).facts["epoch"] == 3
    assert list(trainer(config=config).run(*sources)) == [], "nor does it go on when opened again"


def rates(run: Trainer) -> np.ndarray:
    found = []
    for progress in np.linspace(0.01, 1, 100):
        run._set_rate(float(progress))
        found.append(run.optimizer.param_groups[0]["lr"])
    return np.array(found) / run.experiment.learning_rate


def test_the_rate_rises_and_falls_to_nearly_nothing(trainer):
    found = rates(trainer())
    assert np.argmax(found) == 1 and found[1] == pytest.approx(1, abs=1e-3)
    assert np.all(np.diff(found[1:]) < 0) and 0 < found[-1] < 1e-3


def test_the_rate_can_fall_late(trainer):
    found = rates(trainer(config=replace(CONFIG, schedule="hold")))
    np.testing.assert_allclose(found[2:75], 1, atol=1e-3)
    assert np.all(np.diff(found[75:]) < 0) and 0 < found[-1] < 1e-3


def test_the_rate_can_stay_as_it_is(trainer):
    np.testing.assert_allclose(rates(trainer(config=replace(CONFIG, schedule="constant"))), 1)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_the_optimizer_is_the_experiments(trainer, name):
    run = trainer(config=replace(CONFIG, optimizer=name, weight_decay=0.3))
    assert type(run.optimizer).__name__.lower() == name
    assert run.optimizer.param_groups[0]["weight_decay"] == 0.3


def test_an_epoch_can_be_a_sweep_of_the_grid(trainer, corpus):
    config = replace(CONFIG, sampling="grid", epoch_pairs=0, epochs=1)
    train, valid = (PairSource(s, DEFAULT, None, 1, "grid") for s in (corpus.train, corpus.valid))
    steps = []
    list(trainer(config=config).run(train, valid, steps.append))
    assert len(steps) == train.labels // 32 > 1


def test_a_corpus_is_trained_on_with_progress(corpus, tmp_path):
    told = []
    config = replace(CONFIG, epochs=1, epoch_pairs=96)
    reports = list(start_run(tmp_path / "r", corpus, config, CPU, lambda *p: told.append(p)))
    assert len(reports) == 1 and isinstance(reports[0], Epoch)
    assert told == [("Epoch 1", 1, 3), ("Epoch 1", 2, 3), ("Epoch 1", 3, 3)]
    assert load_checkpoint(tmp_path / "r" / BEST_NAME).facts["train_pieces"] == 16


def test_a_run_listens_through_the_transcriber_it_begins_with(
    corpus, tmp_path, monkeypatch, transcribing_config
):
    monkeypatch.setattr(
        "mmid.training.experiment.TranscriberConfig", lambda: transcribing_config.transcriber
    )
    monkeypatch.setattr(Experiment, "model", transcribing_config)
    short = replace(CONFIG, epochs=1, epoch_pairs=96)
    ear, run = tmp_path / "ear", tmp_path / "run"
    list(start_run(ear, corpus, replace(short, task="transcription"), CPU, lambda *_: None))
    (report,) = start_run(run, corpus, short, CPU, lambda *_: None, [ear / BEST_NAME])
    assert report.valid.audio_to_midi is not None
    heard, (tensors, _) = load_checkpoint(run / BEST_NAME), load_tensors(ear / BEST_NAME)
    assert heard.encoders.config == transcribing_config
    for name, tensor in tensors.items():
        assert torch.equal(heard.encoders.state_dict()[name], tensor)


def test_figures_are_logged_for_tensorboard(tensorboard, trainer, sources, tmp_path):
    next(trainer(config=replace(CONFIG, epochs=1, epoch_pairs=32)).run(*sources))
    logged = list((tmp_path / "run" / LOG_NAME).iterdir())
    assert len(logged) == 1
    for name in (b"mrr/audio to midi", b"loss/train", b"loss/valid"):
        assert name in logged[0].read_bytes()
