"""Models by name: loaded, described, packaged.

``python -m mmid.model.loading BEST.safetensors NAME [CALIBRATION]`` packages a trained model as the
default one, with the weights that ``mmid eval confidence`` printed.

Conventions: names are those of `mmid.model.registry.find_weights`.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from mmid.errors import ModelError, label
from mmid.model.checkpoint import Checkpoint, load_checkpoint, load_tensors, save_checkpoint
from mmid.model.evidence import weights_of
from mmid.model.registry import ASSETS, SUFFIX, find_weights
from mmid.system.files import written_whole


@dataclass(frozen=True)
class ModelInfo:
    """What a model is.

    Parameters
    ----------
    path : str
    bytes : int
        Size of the file.
    sha256 : str
        Of the file, hexadecimal.
    fingerprint : str
        What an index made with the model remembers.
    mmid : str
        Version that wrote the file.
    stored : str
        The weights' type there.
    parameters : dict of str to int
        How many each network has.
    config : dict
        The feature grid and the networks' shapes.
    training : dict
        Facts of the training.
    calibration, ranking : dict of str to float or None
        Weights of the confidence and of the ranking, by the names of the figures; None where the
        model brings none.
    """

    path: str
    bytes: int
    sha256: str
    fingerprint: str
    mmid: str
    stored: str
    parameters: dict[str, int]
    config: dict[str, Any]
    training: dict[str, Any]
    calibration: dict[str, float] | None
    ranking: dict[str, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready names and values."""
        return asdict(self)


def load_model(name: str | None = None, device: torch.device | str = "cpu") -> Checkpoint:
    """Load a model by its name, path or place on a hub.

    Parameters
    ----------
    name : str, optional
        As `mmid.model.registry.find_weights` takes it; the default model if left out.
    device : torch.device or str

    Returns
    -------
    Checkpoint

    Raises
    ------
    ModelError
        If there is no such model, its file is damaged, or it cannot be fetched.
    """
    return load_checkpoint(find_weights(name), device)


def describe_model(name: str | None = None) -> ModelInfo:
    """Return what a model is.

    Raises
    ------
    ModelError
        As `load_model`.
    """
    path = find_weights(name)
    model = load_checkpoint(path)
    tensors, header = load_tensors(path)
    facts = dict(model.facts)
    weights = weights_of(facts)
    calibration, ranking = (facts.pop(name, None) for name in ("confidence", "ranking"))
    networks = model.encoders.named_children()
    return ModelInfo(
        path=os.fspath(path),
        bytes=path.stat().st_size,
        sha256=model.digest,
        fingerprint=model.fingerprint,
        mmid=str(header.get("mmid", "")),
        stored=str(tensors["log_scale"].dtype).removeprefix("torch."),
        parameters={n: sum(p.numel() for p in net.parameters()) for n, net in networks},
        config=model.encoders.config.to_dict(),
        training=facts,
        calibration=dict(weights.confidence) if calibration else None,
        ranking=dict(weights.ranking) if ranking else None,
    )


def export_model(name: str | None, target: Path, *, force: bool = False) -> None:
    """Copy a model's file, as it is stored.

    Parameters
    ----------
    name : str or None
        As in `load_model`.
    target : Path
        A safetensors file to write.
    force : bool
        Replace what is there.

    Raises
    ------
    ModelError
        As `load_model`, or if the target is another kind of file or there already.
    """
    if target.suffix != SUFFIX:
        raise ModelError(f"{label(target)}: give a name that ends in {SUFFIX}")
    if target.exists() and not force:
        raise ModelError(f"{label(target)}: there already; --force replaces it")
    path = find_weights(name)
    load_checkpoint(path)
    try:
        with written_whole(target) as part:
            part.write_bytes(path.read_bytes())
    except OSError as error:
        raise ModelError(f"{label(target)}: cannot be written ({error.strerror})") from error


def package_model(
    checkpoint: Path,
    name: str,
    assets: Path,
    calibration: Sequence[float] | dict[str, float] | None = None,
) -> Path:
    """Store a model in half precision among the assets and make it the default.

    Parameters
    ----------
    checkpoint : Path
        From `mmid train`.
    name : str
    assets : Path
        Folder of ``registry.json``.
    calibration : sequence or dict of str to float, optional
        From ``mmid eval confidence``, to keep with the weights.

    Returns
    -------
    Path
        The file written.
    """
    model = load_checkpoint(checkpoint)
    target = assets / f"{name}.safetensors"
    facts = model.facts | ({"confidence": calibration} if calibration else {})
    save_checkpoint(target, model.encoders, facts, half=True)
    digest = load_checkpoint(target).digest
    entry = {"file": target.name, "sha256": digest, "packaged": True}
    listed = assets / "registry.json"
    models = json.loads(listed.read_text())["models"] if listed.exists() else {}
    registry = {"default": name, "models": models | {name: entry}}
    listed.write_text(json.dumps(registry, indent=1) + "\n")
    return target


if __name__ == "__main__":
    weights = json.loads(sys.argv[3]) if len(sys.argv) > 3 else None
    print(package_model(Path(sys.argv[1]), sys.argv[2], ASSETS, weights))
