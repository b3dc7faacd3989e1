"""Training on snippets: a plain torch loop that can be interrupted.

Conventions: an epoch is a fixed number of pairs, drawn anew; every draw depends on the seed and the
epoch alone, so a resumed run goes on as if it had never stopped.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmid.errors import MmidError, ModelError
from mmid.model.checkpoint import load_checkpoint, load_tensors, save_checkpoint, save_tensors
from mmid.system.console import LOG
from mmid.system.processes import stops_put_off
from mmid.training.averaging import WeightAverage
from mmid.training.cca import fit_projection
from mmid.training.corpus import Corpus, Progress
from mmid.training.distributed import agreed, averaged, part_of, rank, share_statistics, shared_loss
from mmid.training.experiment import Experiment
from mmid.training.snippet_pairs import Batch, PairSource
from mmid.training.tasks import Task, Verdict, make_task

BEST_NAME, STATE_NAME, LOG_NAME = "best.safetensors", "state.safetensors", "logs"
WARMUP = 0.02
"""Part of the run in which the learning rate rises, where it is not constant."""

COOLDOWN = {"decay": 1 - WARMUP, "hold": 0.25}
"""Part of the run in which it falls, at the end."""


@dataclass(frozen=True)
class Step:
    """Progress within the run."""

    epoch: int
    done: int
    steps: int
    loss: float
    pairs_per_second: float


@dataclass(frozen=True)
class Epoch:
    """What an epoch gave."""

    epoch: int
    loss: float
    valid: Verdict
    pairs_per_second: float
    best: bool

    def scalars(self) -> dict[str, float]:
        """Return the figures by the names TensorBoard shows."""
        speed = {"speed/pairs per second": self.pairs_per_second}
        return {"loss/train": self.loss, **self.valid.scalars(), **speed}


class Trainer:
    """A run in a folder: its state, its best checkpoint and its log.

    Parameters
    ----------
    folder : Path
        Where the run lives; a run found there goes on if its settings are the same, but for its
        length.
    task : Task
        With the weights to begin with.
    experiment : Experiment
    facts : dict
        JSON-ready facts of the data, kept in the checkpoint.

    Raises
    ------
    ModelError
        If the folder holds a run with other settings.
    """

    def __init__(
        self, folder: Path, task: Task, experiment: Experiment, facts: dict[str, Any]
    ) -> None:
        self.folder, self.task, self.experiment, self.facts = folder, task, experiment, facts
        share_statistics(task.network)
        scaled = experiment.loss == "info-nce"  # rankings leave the temperature alone
        self._loss = shared_loss(task.network, task.loss, all_used=scaled)
        self._part = part_of(experiment.batch)
        kind = torch.optim.Adam if experiment.optimizer == "adam" else torch.optim.AdamW
        self.optimizer = kind(
            task.network.parameters(),
            experiment.learning_rate,
            weight_decay=experiment.weight_decay,
        )
        decay = experiment.average
        self._average = WeightAverage(task.network, decay) if decay else None
        self.epoch, self.best_epoch, self.best_score = 0, 0, float("-inf")
        folder.mkdir(parents=True, exist_ok=True)
        fixed = {k: v for k, v in asdict(experiment).items() if k not in ("epochs", "patience")}
        self._settings = {"experiment": fixed, "facts": facts}
        if (folder / STATE_NAME).exists():
            self._resume()

    def run(
        self,
        train: PairSource,
        valid: PairSource,
        on_step: Callable[[Step], None] = lambda step: None,
    ) -> Iterator[Epoch]:
        """Train to the end or until validation stops improving.

        Yields
        ------
        Epoch
            After its state is on disk.
        """
        LOG.debug("trained in %s", self.task.precision.name)
        with _scalars(self.folder / LOG_NAME) if not rank() else _unwritten() as log:
            while self.epoch < self.experiment.epochs:
                if self.epoch - self.best_epoch >= self.experiment.patience:
                    return
                report = self._one_epoch(train, valid, on_step)
                log(report)
                yield report

    def _one_epoch(
        self, train: PairSource, valid: PairSource, on_step: Callable[[Step], None]
    ) -> Epoch:
        experiment, started, total = self.experiment, time.perf_counter(), 0.0
        self.task.network.train()
        steps = max(1, (experiment.epoch_pairs or train.labels) // experiment.batch)
        seed = [experiment.seed, self.epoch]
        batches = train.batches(experiment.batch, steps, seed, self._part)
        for done, batch in enumerate(batches, 1):
            self._set_rate((self.epoch + done / steps) / experiment.epochs)
            total += self._step(batch)
            speed = done * experiment.batch / (time.perf_counter() - started)
            on_step(Step(self.epoch, done, steps, total / done, speed))
        self.epoch += 1
        with self._average.applied() if self._average else nullcontext():
            verdict, best = self._judge(valid)
        if not rank():
            self._save_state()
        return Epoch(self.epoch, total / steps, verdict, speed, best)

    def _judge(self, valid: PairSource) -> tuple[Verdict, bool]:
        """Judge the network, and store it if it is the best so far."""
        verdict = self.task.judge(valid)
        score = agreed(verdict.score, next(self.task.network.parameters()).device)
        best = score > self.best_score
        if best:
            self.best_score, self.best_epoch = score, self.epoch
            if not rank():
                figures = {"epoch": self.epoch, "validation_score": self.best_score}
                self.task.save(self.folder / BEST_NAME, self.facts | figures)
        return verdict, best

    def _step(self, batch: Batch) -> float:
        try:
            loss = self._loss(batch)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
        except torch.OutOfMemoryError:
            raise MmidError("the device is out of memory; try a smaller --batch") from None
        if self.experiment.clip:
            nn.utils.clip_grad_norm_(self.task.network.parameters(), self.experiment.clip)
        self.optimizer.step()
        if self._average:
            self._average.add()
        return averaged(loss)

    def _set_rate(self, progress: float) -> None:
        """Set the learning rate for a place in the run, 0 to 1."""
        share, schedule = 1.0, self.experiment.schedule
        if schedule != "constant":
            share = min(progress / WARMUP, 1.0, (1 - progress) / COOLDOWN[schedule]) + 1e-4
        for group in self.optimizer.param_groups:
            group["lr"] = self.experiment.learning_rate * share

    def _save_state(self) -> None:
        tensors = {f"model.{name}": t for name, t in self.task.network.state_dict().items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": t for name, t in moments.items()}
        progress: dict[str, Any] = {"epoch": self.epoch, "best_epoch": self.best_epoch}
        if self._average:
            tensors |= {f"average.{name}": t for name, t in self._average.tensors.items()}
            progress["averaged"] = self._average.steps
        progress["best_score"] = self.best_score
        save_tensors(self.folder / STATE_NAME, tensors, progress | {"settings": self._settings})

    def _resume(self) -> None:
        tensors, header = load_tensors(self.folder / STATE_NAME)
        if _with_defaults(header.get("settings")) != json.loads(json.dumps(self._settings)):
            raise ModelError(
                f"{self.folder}: holds a run with other settings; give another --out, or delete it"
            )
        self.epoch, self.best_epoch = header["epoch"], header["best_epoch"]
        self.best_score = header["best_score"]
        self.task.network.load_state_dict(_named("model.", tensors))
        if self._average:
            self._average.restore(_named("average.", tensors), header["averaged"])
        state = self.optimizer.state_dict()
        for name, tensor in tensors.items():
            kind, _, rest = name.partition(".")
            if kind == "optimizer":
                index, _, moment = rest.partition(".")
                state["state"].setdefault(int(index), {})[moment] = tensor
        self.optimizer.load_state_dict(state)


def _named(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names begin so, by the rest of their names."""
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _with_defaults(settings: Any) -> Any:
    """Return a run's settings; one that an older mmid did not have is the default."""
    later = {name: getattr(Experiment, name) for name in ("clip", "average")}
    if not isinstance(settings, dict) or not isinstance(settings.get("experiment"), dict):
        return settings
    return settings | {"experiment": later | settings["experiment"]}


def start_run(
    folder: Path,
    corpus: Corpus,
    experiment: Experiment,
    device: torch.device,
    progress: Progress,
    init: Sequence[Path] = (),
) -> Iterator[Epoch]:
    """Train on a corpus; yields every epoch.

    Parameters
    ----------
    folder : Path
        Where the run lives.
    corpus : Corpus
        Made with the experiment's features.
    experiment : Experiment
    device : torch.device
    progress : callable
        Called with ``(what, done, total)``.
    init : sequence of Path
        Checkpoints to begin with.
    """
    x = experiment
    reach = x.model.reach if x.task == "retrieval" else 0
    draw = partial(
        PairSource,
        sampling=x.sampling,
        contrast=x.negatives == "sampled",
        margin=reach,
        targets=x.task == "transcription" and x.spectrogram == "fine",
    )
    train = draw(corpus.train, x.features, x.augmentation, x.neighbours)
    valid = draw(corpus.valid, x.features, None)
    facts = corpus.facts | ({"init": [path.name for path in init]} if init else {})
    trainer = Trainer(folder, make_task(x, device, init), x, facts)
    yield from trainer.run(
        train, valid, lambda step: progress(f"Epoch {step.epoch + 1}", step.done, step.steps)
    )
    if x.model.cca and x.task == "retrieval" and x.learn == "both" and not rank():
        _project(folder / BEST_NAME, draw(corpus.train, x.features, None), device)


def _project(path: Path, train: PairSource, device: torch.device) -> None:
    """Fit the projection of the best weights, once the run is over."""
    best = load_checkpoint(path, device)
    fit_projection(best.encoders, train)
    save_checkpoint(path, best.encoders, best.facts)


@contextmanager
def _unwritten() -> Iterator[Callable[[Epoch], None]]:
    """Write nothing: rank 0 does."""
    yield lambda report: None


@contextmanager
def _scalars(folder: Path) -> Iterator[Callable[[Epoch], None]]:
    """Write each epoch's figures for TensorBoard, where it is installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        yield lambda report: None
        return
    with SummaryWriter(folder) as writer:

        def log(report: Epoch) -> None:
            with stops_put_off():  # which would leave its thread waiting for ever
                for name, value in report.scalars().items():
                    writer.add_scalar(name, value, report.epoch)
                writer.flush()

        yield log


def describe_epoch(epoch: Epoch) -> str:
    """Return an epoch's figures as one line."""
    forth, back = epoch.valid.audio_to_midi, epoch.valid.midi_to_audio
    found = ""
    if forth and back:
        recall = f"{forth.recall[1]:.1%} / {back.recall[1]:.1%}"
        found = f"  R@1 {recall}  MRR {forth.mrr:.1%} / {back.mrr:.1%}"
    if kinds := epoch.valid.onset_f1:
        each = ", ".join(f"{kind} {f1:.1%}" for kind, f1 in kinds.items())
        found = f"  onset F1 {sum(kinds.values()) / len(kinds):.1%} ({each})"
    return (
        f"epoch {epoch.epoch:3d}  loss {epoch.loss:.4f}  validation {epoch.valid.loss:.4f}{found}"
        f"  {epoch.pairs_per_second:.0f} pairs/s{'  best' if epoch.best else ''}"
    )
