"""Run by torchrun: a tiny training run; rank 0 writes its curve.

Arguments: the folder of the renderings, and that of the runs, one for each loss.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import torch
from tiny import TINY

from mmid.model.encoders import ModelConfig
from mmid.music.grid import DEFAULT
from mmid.training.corpus import Corpus
from mmid.training.distributed import one_first, process_group, rank
from mmid.training.experiment import Experiment
from mmid.training.loop import start_run

LOSSES = ("info-nce", "ranking-both")


def train(cache: Path, out: Path, device: torch.device) -> dict[str, list[dict]]:
    """Train on 16 renderings of a cache by each loss; return the epochs."""
    Experiment.model = ModelConfig(DEFAULT, TINY, TINY)
    experiment = Experiment(
        epochs=3,
        epoch_pairs=32 * 6,
        batch=32,
        learning_rate=5e-3,
        validation_pairs=100,
        augment=(),
    )
    with one_first():
        paths = sorted(cache.glob("*.safetensors"))
    corpus = Corpus(tuple(paths[:16]), tuple(paths[16:]), {}, ())
    curves = {}
    for loss in LOSSES:
        run = start_run(out / loss, corpus, replace(experiment, loss=loss), device, lambda *_: None)
        curves[loss] = [asdict(epoch) for epoch in run]
    return curves


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.modules["torch.utils.tensorboard"] = None  # takes seconds to import
    cache, out = map(Path, sys.argv[1:])
    with process_group(torch.device("cpu")) as device:
        curves = train(cache, out, device)
        if not rank():
            (out / "curves.json").write_text(json.dumps(curves))
