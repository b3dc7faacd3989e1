"""Models by name: the packaged weights and files of one's own.

Conventions: ``assets/registry.json`` lists each packaged model's file and its SHA-256; the hash is
checked whenever one is opened.
"""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

import torch

from mmid.checkpoint import Checkpoint, load_checkpoint
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
