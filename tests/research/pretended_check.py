"""`mmid.research.gpu_check` of a GPU that is pretended, with models that run in no time.

Run as a script, in a process of its own: ``pretended_check.py MODEL FOLDER``, the folder of tests
on the path. Writes `FOUND` to the folder: what differs, how many rows were compared, and a recall.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from unittest.mock import patch

import torch
from pretend_gpu import GPU, pretend_gpu
from tiny import HARMONIC_EAR, tiny_on_the_grid, tiny_transcriber

from mmid.model.encoders import pick_device
from mmid.model.loading import load_model
from mmid.music.midi import read_midi
from mmid.research import gpu_check
from mmid.training import distillation
from mmid.training.experiment import Experiment

FOUND = "found.json"


def compare_models(model: str, folder: Path) -> dict[str, object]:
    material = gpu_check.lay_out(folder, 10.0, gpu_check.TUNES)
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
    model, folder = sys.argv[1], Path(sys.argv[2])
    with (
        patch.object(Experiment, "model", property(tiny_on_the_grid)),
        patch("mmid.training.tasks._packaged_transcriber", tiny_transcriber),
        patch("mmid.training.experiment.HarmonicConfig", lambda: HARMONIC_EAR),
        patch.object(gpu_check, "SMALL", HARMONIC_EAR),
        patch.object(gpu_check, "QUERIES", 1),
        patch.object(gpu_check, "_timed", lambda run, amount: (run(), amount)),
        patch.object(gpu_check, "TONE_SECONDS", 8.0),
        patch.object(gpu_check, "TUNES", 2),
        patch.object(gpu_check, "STEPS", 6),
        patch.object(distillation, "BATCH", 1),
        pretend_gpu(),
    ):
        found = compare_models(model, folder)
        found["recall"] = recall_of_a_taught_model(model, folder)
    (folder / FOUND).write_text(json.dumps(found))
