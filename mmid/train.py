"""Training both pathways on matching snippets: a plain torch loop that can be interrupted.

Conventions: an epoch is a fixed number of pairs, drawn anew; every draw depends on the seed and the
epoch alone, so a resumed run goes on as if it had never stopped.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmid.augment import Augmentation
from mmid.checkpoint import load_checkpoint, load_tensors, save_checkpoint, save_tensors
from mmid.corpus import Corpus, Progress
from mmid.data import PairSource
from mmid.encoders import Encoders, ModelConfig, fast_autocast
from mmid.errors import ModelError
from mmid.losses import info_nce
from mmid.metrics import Retrieval, ranks, summarize

BEST_NAME, STATE_NAME, LOG_NAME = "best.safetensors", "state.safetensors", "logs"
MAX_SCALE = 100.0


@dataclass(frozen=True)
class TrainConfig:
    """How to train.

    Parameters
    ----------
    epochs, epoch_pairs : int
        Length of the run: epochs of so many pairs.
    batch : int
        Pairs a step.
    learning_rate : float
        Peak rate of AdamW, reached after `warmup` of the run, then falling linearly to zero.
    weight_decay, warmup : float
    patience : int
        Epochs without a better validation MRR before the run stops.
    validation_pairs : int
        Size of the validation pool.
    seed : int
    """

    epochs: int = 40
    epoch_pairs: int = 50_000
    batch: int = 512
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    warmup: float = 0.02
    patience: int = 10
    validation_pairs: int = 1_000
    seed: int = 0

    @property
    def steps(self) -> int:
        """Steps an epoch."""
        return max(1, self.epoch_pairs // self.batch)


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
    """What an epoch gave; both retrieval directions are on the validation pool."""

    epoch: int
    loss: float
    audio_to_midi: Retrieval
    midi_to_audio: Retrieval
    pairs_per_second: float
    best: bool

    @property
    def mrr(self) -> float:
        """Mean of both directions; the best epoch has the highest."""
        return (self.audio_to_midi.mrr + self.midi_to_audio.mrr) / 2

    def scalars(self) -> dict[str, float]:
        """Return the figures by the names TensorBoard shows."""
        return {
            "loss/train": self.loss,
            "mrr/audio to midi": self.audio_to_midi.mrr,
            "mrr/midi to audio": self.midi_to_audio.mrr,
            "recall@1/audio to midi": self.audio_to_midi.recall[1],
            "recall@1/midi to audio": self.midi_to_audio.recall[1],
            "speed/pairs per second": self.pairs_per_second,
        }


@torch.inference_mode()
def validate(encoders: Encoders, source: PairSource, pairs: int) -> tuple[Retrieval, Retrieval]:
    """Rank a fixed pool of plain pairs in both directions: audio to MIDI, MIDI to audio."""
    encoders.eval()
    audio, roll = [], []
    for batch in source.batches(min(pairs, 250), -(-pairs // 250), seed=0):
        audio.append(encoders.audio(batch.audio.to(encoders.device))[:, 0])
        roll.append(encoders.roll(batch.rolls.to(encoders.device))[:, 0])
    scores = torch.cat(audio) @ torch.cat(roll).T
    return summarize(ranks(scores)), summarize(ranks(scores.T))


class Trainer:
    """A run in a folder: its state, its best checkpoint and its log.

    Parameters
    ----------
    folder : Path
        Where the run lives; a run found there goes on if its settings are the same, but for its
        length.
    model : ModelConfig
    config : TrainConfig
    facts : dict
        JSON-ready facts of the data, kept in the checkpoint.
    device : torch.device

    Raises
    ------
    ModelError
        If the folder holds a run with other settings.
    """

    def __init__(
        self,
        folder: Path,
        model: ModelConfig,
        config: TrainConfig,
        facts: dict[str, Any],
        device: torch.device,
    ) -> None:
        self.folder, self.config, self.facts = folder, config, facts
        torch.manual_seed(config.seed)
        self.encoders = Encoders(model).to(device)
        self.optimizer = torch.optim.AdamW(
            self.encoders.parameters(), config.learning_rate, weight_decay=config.weight_decay
        )
        self.epoch, self.best_epoch, self.best_mrr = 0, 0, 0.0
        folder.mkdir(parents=True, exist_ok=True)
        fixed = {k: v for k, v in asdict(config).items() if k not in ("epochs", "patience")}
        self._settings = {"model": model.to_dict(), "train": fixed, "facts": facts}
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
        with _scalars(self.folder / LOG_NAME) as log:
            while self.epoch < self.config.epochs:
                if self.epoch - self.best_epoch >= self.config.patience:
                    return
                report = self._one_epoch(train, valid, on_step)
                log(report)
                yield report

    def _one_epoch(
        self, train: PairSource, valid: PairSource, on_step: Callable[[Step], None]
    ) -> Epoch:
        config, started, total = self.config, time.perf_counter(), 0.0
        self.encoders.train()
        seed = [config.seed, self.epoch]
        for done, batch in enumerate(train.batches(config.batch, config.steps, seed), 1):
            loss = self._step(batch.audio, batch.rolls, batch.repeats(), done)
            total += loss
            speed = done * config.batch / (time.perf_counter() - started)
            on_step(Step(self.epoch, done, config.steps, total / done, speed))
        both = validate(self.encoders, valid, config.validation_pairs)
        self.epoch += 1
        mrr = (both[0].mrr + both[1].mrr) / 2
        best = mrr > self.best_mrr
        if best:
            self.best_mrr, self.best_epoch = mrr, self.epoch
            figures = {"epoch": self.epoch, "validation_mrr": mrr}
            save_checkpoint(self.folder / BEST_NAME, self.encoders, self.facts | figures)
        self._save_state()
        return Epoch(self.epoch, total / config.steps, *both, speed, best)

    def _step(self, audio: Tensor, rolls: Tensor, repeats: Tensor, done: int) -> float:
        device = self.encoders.device
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * self._schedule(done)
        with fast_autocast(device):
            heard = self.encoders.audio(audio.to(device))[:, 0]
            read = self.encoders.roll(rolls.to(device))[:, 0]
        scale = self.encoders.log_scale.exp().clamp_max(MAX_SCALE)
        loss = info_nce(heard, read, scale, repeats.to(device))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return loss.item()

    def _schedule(self, done: int) -> float:
        progress = (self.epoch + done / self.config.steps) / self.config.epochs
        return min(progress / self.config.warmup, (1 - progress) / (1 - self.config.warmup)) + 1e-4

    def _save_state(self) -> None:
        tensors = {f"model.{name}": t for name, t in self.encoders.state_dict().items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": t for name, t in moments.items()}
        progress = {"epoch": self.epoch, "best_epoch": self.best_epoch, "best_mrr": self.best_mrr}
        save_tensors(self.folder / STATE_NAME, tensors, progress | {"settings": self._settings})

    def _resume(self) -> None:
        tensors, header = load_tensors(self.folder / STATE_NAME)
        if header.get("settings") != json.loads(json.dumps(self._settings)):
            raise ModelError(
                f"{self.folder}: holds a run with other settings; give another --out, or delete it"
            )
        self.epoch, self.best_epoch = header["epoch"], header["best_epoch"]
        self.best_mrr = header["best_mrr"]
        prefix = "model."
        self.encoders.load_state_dict(
            {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
        )
        state = self.optimizer.state_dict()
        for name, tensor in tensors.items():
            kind, _, rest = name.partition(".")
            if kind == "optimizer":
                index, _, moment = rest.partition(".")
                state["state"].setdefault(int(index), {})[moment] = tensor
        self.optimizer.load_state_dict(state)

    def best(self) -> Encoders:
        """Load the best epoch's weights."""
        return load_checkpoint(self.folder / BEST_NAME, self.encoders.device).encoders


def start_run(
    folder: Path,
    corpus: Corpus,
    model: ModelConfig,
    config: TrainConfig,
    device: torch.device,
    tell: Progress,
) -> Iterator[Epoch]:
    """Train on a corpus with the default augmentation; yields every epoch."""
    train = PairSource(corpus.train, model.features, Augmentation())
    valid = PairSource(corpus.valid, model.features, None)
    trainer = Trainer(folder, model, config, corpus.facts, device)
    yield from trainer.run(
        train, valid, lambda step: tell(f"Epoch {step.epoch + 1}", step.done, step.steps)
    )


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
            for name, value in report.scalars().items():
                writer.add_scalar(name, value, report.epoch)
            writer.flush()

        yield log
