"""Models by name: the packaged weights and files of one's own.

``python -m mmid.pretrained BEST.safetensors NAME [CALIBRATION]`` packages a trained model as the
default one, with the weights that ``mmid eval confidence`` printed.

Conventions: ``assets/registry.json`` lists each packaged model's file and its SHA-256; the hash is
checked whenever one is opened.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import torch

from mmid.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from mmid.errors import ModelError


def read_registry() -> dict[str, Any]:
    """Return the registry: the default model's name, and file and hash of every model."""
    text = resources.files("mmid").joinpath("assets/registry.json").read_text()
    registry: dict[str, Any] = json.loads(text)
    return registry


def load_model(name: str | None = None, device: torch.device | str = "cpu") -> Checkpoint:
    """Load a model by its name or path.

    Parameters
    ----------
    name : str, optional
        A packaged model, or the path of a checkpoint; the default model if left out.
    device : torch.device or str

    Returns
    -------
    Checkpoint

    Raises
    ------
    ModelError
        If there is no such model, or its file is damaged.
    """
    registry = read_registry()
    name = name or registry["default"]
    if name not in registry["models"]:
        if Path(name).suffix == ".safetensors":
            return load_checkpoint(Path(name), device)
        known = ", ".join(registry["models"])
        raise ModelError(f"no model {name!r}: give one of {known}, or a .safetensors file")
    entry = registry["models"][name]
    with resources.as_file(resources.files("mmid").joinpath("assets", entry["file"])) as path:
        model = load_checkpoint(path, device)
    if model.digest != entry["sha256"]:
        raise ModelError(f"model {name!r} is damaged: reinstall mmid")
    return model


def package_model(
    checkpoint: Path, name: str, assets: Path, calibration: Sequence[float] | None = None
) -> Path:
    """Store a model in half precision among the assets and make it the default.

    Parameters
    ----------
    checkpoint : Path
        From `mmid train`.
    name : str
    assets : Path
        Folder of ``registry.json``.
    calibration : sequence of float, optional
        From ``mmid eval confidence``, to keep with the weights.

    Returns
    -------
    Path
        The file written.
    """
    model = load_checkpoint(checkpoint)
    target = assets / f"{name}.safetensors"
    facts = model.facts | ({"confidence": list(calibration)} if calibration else {})
    save_checkpoint(target, model.encoders, facts, half=True)
    entry = {"file": target.name, "sha256": load_checkpoint(target).digest}
    listed = assets / "registry.json"
    models = json.loads(listed.read_text())["models"] if listed.exists() else {}
    registry = {"default": name, "models": models | {name: entry}}
    listed.write_text(json.dumps(registry, indent=1) + "\n")
    return target


if __name__ == "__main__":
    weights = json.loads(sys.argv[3]) if len(sys.argv) > 3 else None
    print(
        package_model(Path(sys.argv[1]), sys.argv[2], Path(__file__).with_name("assets"), weights)
    )
