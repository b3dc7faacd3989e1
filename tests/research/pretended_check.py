"""`mmid.research.gpu_check` of a GPU that is pretended, with models that run in no time.

Run as a script, in a process of its own: ``pretended_check.py MODEL FOLDER``, the folder of tests
on the path. Writes `FOUND` to the folder: what differs, how many rows were compared, and a recall.
"""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import torch
from pretend_gpu import GPU, pretend_gpu
from quick_check import QUICK, TUNES

from mmid.model.encoders import pick_device
from mmid.model.loading import load_model
from mmid.music.midi import read_midi
from mmid.research import gpu_check
from mmid.training import distillation

FOUND = "found.json"


def compare_models(model: str, folder: Path) -> dict[str, object]:
    material = gpu_check.lay_out(folder, 10.0, TUNES)
    found = gpu_check.check(pick_device(str(GPU)), material, model)
    return {
        "differing": gpu_check.differences(found),
        "compared": sum(map(len, found.values())),
    }


def recall_of_a_taught_model(model: str, folder: Path) -> float:
    """Teach a light pathway there: its recall of itself is whole, as it is on the CPU."""
    teacher = load_model(model, GPU)
    notes = [read_midi(tune).notes for tune in sorted((folder / "library").iterdir())[:2]]
    taught = distillation.teach(teacher, notes, 1)
    assert taught.device == GPU
    return distillation.compare(teacher.encoders, teacher.encoders, notes).recall


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.modules["torch.utils.tensorboard"] = None  # takes seconds to import
    model, folder = sys.argv[1], Path(sys.argv[2])
    with ExitStack() as quick, pretend_gpu():
        for name, other in QUICK.items():
            quick.enter_context(patch(name, other))
        quick.enter_context(patch.object(distillation, "BATCH", 1))
        found = compare_models(model, folder)
        found["recall"] = recall_of_a_taught_model(model, folder)
    (folder / FOUND).write_text(json.dumps(found))
