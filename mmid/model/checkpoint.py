"""Weights and everything needed to use them, in one safetensors file.

Conventions: a checkpoint's header holds the model's configuration and facts of its training as
JSON; nothing is ever unpickled.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mmid.errors import MmidError, ModelError, label
from mmid.model.encoders import Encoders, ModelConfig
from mmid.model.evidence import CALIBRATION, weights_of
from mmid.system.console import LOG, stage
from mmid.system.files import parse_json, written_whole
from mmid.version import __version__

FORMAT = "mmid-checkpoint-1"
MAX_BYTES = 256 * 2**20

MOST_WEIGHTS = MAX_BYTES // 2
"""What a configuration may describe: as many as a file of half precision can hold."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A loaded model.

    Parameters
    ----------
    encoders : Encoders
        In evaluation mode.
    facts : dict
        What the training left to say: data, figures, versions.
    digest : str
        SHA-256 of the file, hexadecimal.
    fingerprint : str
        SHA-256 of the configuration and the weights alone; an index remembers it.
    """

    encoders: Encoders
    facts: dict[str, Any]
    digest: str
    fingerprint: str


def save_tensors(path: Path, tensors: dict[str, torch.Tensor], header: dict[str, Any]) -> None:
    """Write tensors and a JSON header to a safetensors file, whole or not at all.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        with written_whole(path) as part:
            save_file(plain, part, {"mmid": json.dumps(header, sort_keys=True)})
    except SafetensorError as error:
        raise OSError(errno.EIO, str(error), os.fspath(path)) from None


def load_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote.

    Raises
    ------
    ModelError
        If the file is missing, too large, damaged or not from mmid.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise ModelError(f"{path}: no such model file")
    if path.stat().st_size > MAX_BYTES:
        raise ModelError(f"{path}: larger than {MAX_BYTES >> 20} MiB, not an mmid model")
    try:
        with safe_open(path, "pt") as file:
            header = parse_json((file.metadata() or {})["mmid"])
            if not isinstance(header, dict):
                raise ValueError("no mmid header")
            return {name: file.get_tensor(name) for name in file.keys()}, header  # noqa: SIM118
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise ModelError(f"{path}: damaged, or not an mmid model ({error})") from error


def save_checkpoint(
    path: Path, encoders: Encoders, facts: dict[str, Any], *, half: bool = False
) -> None:
    """Save a model.

    Parameters
    ----------
    path : Path
        The safetensors file to write.
    encoders : Encoders
    facts : dict
        JSON-ready facts of the training.
    half : bool
        Store float16, half the size; for releases.
    """
    tensors = encoders.state_dict()
    if half:
        tensors = {n: t.half() if t.is_floating_point() else t for n, t in tensors.items()}
    header = {
        "format": FORMAT,
        "mmid": __version__,
        "config": encoders.config.to_dict(),
        "facts": facts,
    }
    save_tensors(path, tensors, header)


@stage("load a model")
def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> Checkpoint:
    """Load a model for use.

    Raises
    ------
    ModelError
        If the file is missing, damaged, of another version or of another shape.
    """
    LOG.debug("model %s on %s", label(path), device)
    tensors, header = load_tensors(path)
    if header.get("format") != FORMAT:
        raise ModelError(f"{path}: model format {header.get('format')!r}, this mmid reads {FORMAT}")
    try:
        encoders = _encoders(ModelConfig.from_dict(header["config"]), tensors)
        facts = _checked_facts(header.get("facts", {}))
    except (
        ArithmeticError,
        LookupError,
        TypeError,
        ValueError,
        RuntimeError,
        AttributeError,
        MmidError,
    ) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
        raise ModelError(f"{path}: weights do not fit their configuration ({reason})") from error
    encoders.fingerprint = _fingerprint(header["config"], tensors)
    return Checkpoint(
        encoders.to(device).eval(),
        facts,
        hashlib.sha256(path.read_bytes()).hexdigest(),
        encoders.fingerprint,
    )


def _encoders(config: ModelConfig, tensors: dict[str, torch.Tensor]) -> Encoders:
    """Build a model for its weights, once it is known to be no larger than they can be."""
    with torch.device("meta"):  # shapes alone
        count = sum(parameter.numel() for parameter in Encoders(config).state_dict().values())
    if count > MOST_WEIGHTS:
        raise ValueError(f"{count} weights, more than {MOST_WEIGHTS}")
    if not all(tensor.isfinite().all() for tensor in tensors.values()):
        raise ValueError("weights that are not finite numbers")
    encoders = Encoders(config)
    encoders.load_state_dict(tensors)
    return encoders


def _checked_facts(facts: Any) -> dict[str, Any]:
    """Return the facts of a training, without the calibration of a confidence that is no more."""
    if not isinstance(facts, dict):
        raise TypeError("facts of another kind")
    weights_of(facts)  # are numbers, or it says so
    weights = facts.get("confidence", CALIBRATION)
    if not isinstance(weights, dict) and len(weights) != len(CALIBRATION):
        return {name: fact for name, fact in facts.items() if name != "confidence"}
    return facts


def _fingerprint(config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(name.encode() + tensors[name].numpy().tobytes())
    return digest.hexdigest()
