"""The loss curves of a training run, read from its TensorBoard log and drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mmid.errors import MmidError
from mmid.output.figures import Panel, Series, check_target, save_figure, train_extra

LOG_NAME = "logs"
TRAIN_LOSS, VALID_LOSS = "loss/train", "loss/valid"


@dataclass(frozen=True)
class LossCurves:
    """The losses of a training run.

    Parameters
    ----------
    epochs : tuple of int
        Those with both losses, ascending.
    train, valid : tuple of float
        Loss of each on the training pairs and on the validation pairs.
    best : int
        Place in `epochs` of the lowest validation loss, the first of equals.
    """

    epochs: tuple[int, ...]
    train: tuple[float, ...]
    valid: tuple[float, ...]
    best: int

    @property
    def best_epoch(self) -> int:
        """The epoch with the lowest validation loss."""
        return self.epochs[self.best]

    def to_dict(self) -> dict[str, Any]:
        """Return the curves as JSON-ready names and values."""
        return asdict(self) | {"best_epoch": self.best_epoch}


def loss_curves(run: Path, out: Path) -> LossCurves:
    """Draw the losses of a training run against its epochs and mark the best one.

    Parameters
    ----------
    run : Path
        Folder of ``mmid train``.
    out : Path
        The .png or .svg file to write.

    Raises
    ------
    MmidError
        If the run has logged no losses, or the figure cannot be drawn.
    """
    check_target(out)
    curves = read_losses(run)
    best = Series(
        f"best epoch: {curves.best_epoch}", [curves.best_epoch], [curves.valid[curves.best]], "star"
    )
    lines = [
        Series("training", curves.epochs, curves.train),
        Series("validation", curves.epochs, curves.valid),
    ]
    save_figure([Panel(run.resolve().name, "epoch", "loss", [*lines, best])], out)
    return curves


def read_losses(run: Path) -> LossCurves:
    """Read the losses that a training run left for TensorBoard.

    Epochs that a run trained twice, as one that was cut off and went on, count as they were last.

    Parameters
    ----------
    run : Path
        Folder of ``mmid train``.

    Raises
    ------
    MmidError
        If there are none, or no validation loss is a number.
    """
    train, valid = _read_scalars(run / LOG_NAME, (TRAIN_LOSS, VALID_LOSS))
    epochs = tuple(sorted(train.keys() & valid.keys()))
    finite = [place for place, epoch in enumerate(epochs) if math.isfinite(valid[epoch])]
    if not finite:
        raise MmidError(
            f"{run}: no training and validation loss in its logs; runs of older mmid versions lack"
            " the latter, so train again"
        )
    losses = tuple(valid[epoch] for epoch in epochs)
    best = min(finite, key=losses.__getitem__)
    return LossCurves(epochs, tuple(train[epoch] for epoch in epochs), losses, best)


def _read_scalars(folder: Path, names: Sequence[str]) -> list[dict[int, float]]:
    """Read scalars of TensorBoard's event files: value by step, empty where never written."""
    with train_extra("reading a run's logs"):
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    if not folder.is_dir():
        raise MmidError(f"{folder}: no logs of a training run there; give the --out of mmid train")
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    known = events.Tags()["scalars"]
    found = []
    for name in names:
        points = sorted(events.Scalars(name), key=lambda p: p.wall_time) if name in known else []
        found.append({int(point.step): float(point.value) for point in points})
    return found
