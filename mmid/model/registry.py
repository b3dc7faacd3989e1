"""Where a model's weights are: a file of one's own, the cache, the package, a model hub.

Conventions: ``assets/registry.json`` lists the models that have names. A named model's file is
used only if its SHA-256 is the registry's, a hub's own file only if it is the one noted beside it
when it came as the hub had promised it. Nothing is loaded here.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from mmid.errors import ModelError, label
from mmid.model.hub import DEADLINE, SCHEME, HubError, HubFile, download, hub_address, hub_hash
from mmid.settings import cache_folder
from mmid.system.files import UNFINISHED, file_digest, read_json, written_whole

ASSETS = Path(__file__).parents[1] / "assets"
"""Folder of the registry and of the packaged weights."""

SUFFIX = ".safetensors"

Availability = Literal["packaged", "cached", "hub", "damaged"]


@dataclass(frozen=True)
class NamedModel:
    """A model that has a name.

    Parameters
    ----------
    name : str
    file : str
        Its name among the assets and in the cache.
    sha256 : str
        Of the file, hexadecimal.
    packaged : bool
        Whether it comes with mmid.
    hub : HubFile or None
        Where else to get it, at a commit.
    """

    name: str
    file: str
    sha256: str
    packaged: bool
    hub: HubFile | None = None

    @classmethod
    def from_dict(cls, name: str, values: dict[str, Any]) -> NamedModel:
        """Read an entry of the registry."""
        hub = values.get("hub")
        if not re.fullmatch(r"\w[\w.-]{0,99}", values["file"]):
            raise ValueError("not the name of a file")
        return cls(
            name,
            values["file"],
            values["sha256"],
            values["packaged"],
            HubFile(hub["repository"], hub["revision"], hub["file"]) if hub else None,
        )

    @property
    def cached(self) -> Path:
        """Where the cache has it, or would have it."""
        return cache_folder() / "models" / self.file

    def find(self) -> tuple[Path | None, Availability]:
        """Return where an undamaged copy is, if there is one, and which kind of place that is."""
        if _is_sound(self.cached, self.sha256):
            return self.cached, "cached"
        if self.packaged and _is_sound(ASSETS / self.file, self.sha256):
            return ASSETS / self.file, "packaged"
        return None, "hub" if self.hub else "damaged"


@dataclass(frozen=True)
class Registry:
    """The models that have names.

    Parameters
    ----------
    default : str
        The one used where none is named.
    models : dict of str to NamedModel
    """

    default: str
    models: dict[str, NamedModel]


@dataclass(frozen=True)
class Listed:
    """A model as `list_models` finds it; ``bytes`` is None where only a hub knows.

    ``where`` says which copy would be used, ``path`` where it is.
    """

    name: str
    default: bool
    where: Availability
    bytes: int | None
    path: str | None


def read_registry() -> Registry:
    """Return the registry of this mmid.

    Raises
    ------
    ModelError
        If it is damaged.
    """
    path = ASSETS / "registry.json"
    try:
        values = read_json(path)
        models = {
            name: NamedModel.from_dict(name, entry) for name, entry in values["models"].items()
        }
        return Registry(str(values["default"]), models)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{label(path)}: damaged; reinstall mmid") from error


def find_weights(name: str | None = None) -> Path:
    """Return a model's file, fetched if need be.

    Parameters
    ----------
    name : str, optional
        A name of the registry, the path of a safetensors file, or a hub's file as `HubFile.parse`
        reads it; the default model if left out.

    Raises
    ------
    ModelError
        If there is no such model, it is damaged, or it cannot be fetched.
    """
    registry = read_registry()
    name = name or registry.default
    if name.startswith(SCHEME):
        return _find_in_hub(HubFile.parse(name))
    if Path(name).suffix == SUFFIX:
        return Path(name)
    if name not in registry.models:
        known = ", ".join(registry.models)
        raise ModelError(
            f"no model {name!r}: give one of {known}, a {SUFFIX} file, or {SCHEME}OWNER/REPO"
        )
    return _find_named(registry.models[name])


def list_models() -> list[Listed]:
    """Return the models that have names, then what was fetched from hubs besides."""
    registry = read_registry()
    rows = []
    for name, entry in registry.models.items():
        path, where = entry.find()
        rows.append(_listed(name, name == registry.default, where, path))
    for file, path in _fetched():
        where = "cached" if _is_sound(path, _noted(path)) else "damaged"
        rows.append(_listed(str(file), False, where, path))
    return rows


def _listed(name: str, default: bool, where: Availability, path: Path | None) -> Listed:
    size = path.stat().st_size if path else None
    return Listed(name, default, where, size, os.fspath(path) if path else None)


def _is_sound(path: Path, sha256: str | None) -> bool:
    return path.is_file() and file_digest(path) == sha256


def _find_named(entry: NamedModel) -> Path:
    path, _ = entry.find()
    if path:
        return path
    remedy = f"put {entry.file} (SHA-256 {entry.sha256}) at {label(entry.cached)}"
    if entry.hub is None:
        raise ModelError(f"model {entry.name!r} is damaged: reinstall mmid, or {remedy}")
    try:
        _fetch(entry.hub, entry.cached, entry.sha256)
    except HubError as error:
        raise ModelError(f"model {entry.name!r}: {error}; to do without, {remedy}") from error
    return entry.cached


def _find_in_hub(file: HubFile) -> Path:
    """Return a hub's own file; once fetched it stays what it was, whatever becomes of a branch."""
    path = _hub_folder() / file.repository / file.revision / file.name
    if _is_sound(path, _noted(path)):
        return path
    try:
        _fetch(file, path)
    except HubError as error:
        raise ModelError(f"{file}: {error}; to do without, give the path of a copy") from error
    return path


def _hub_folder() -> Path:
    return cache_folder() / "models" / "hub"


def _note(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _noted(path: Path) -> str | None:
    """Return the SHA-256 that a fetched file had when it came."""
    try:
        return str(read_json(_note(path))["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _fetched() -> Iterator[tuple[HubFile, Path]]:
    """Give the files fetched from hubs under their own names."""
    for path in sorted(_hub_folder().glob(f"*/*/*/**/*{SUFFIX}")):
        owner, repository, revision, *name = path.relative_to(_hub_folder()).parts
        yield HubFile(f"{owner}/{repository}", revision, "/".join(name)), path


def _fetch(file: HubFile, target: Path, sha256: str | None = None) -> None:
    """Put a hub's file in its place, if it has the hash given, or else promised and then noted.

    Raises
    ------
    HubError
        If it cannot be had, or is another; then nothing is left of it.
    """
    try:
        with _room() as folder:
            arrival = download(file, Path(folder), _most_bytes())
            wanted = sha256 or arrival.promised
            found = hub_hash(arrival.path, wanted)
            if found != wanted:
                raise HubError(f"{hub_address()} sent other bytes: {found}, not {wanted}")
            target.parent.mkdir(parents=True, exist_ok=True)
            with written_whole(target) as part:
                arrival.path.replace(part)
        if sha256 is None:
            note = {"commit": arrival.commit, "sha256": file_digest(target)}
            with written_whole(_note(target)) as part:
                part.write_text(json.dumps(note))
    except HubError as error:
        if not target.exists():
            raise
        raise HubError(f"{label(target)} is damaged and {error}") from error
    except OSError as error:
        folder = label(cache_folder())
        raise HubError(f"cannot write to {folder}, {error.strerror}: set MMID_CACHE") from error


def _room() -> TemporaryDirectory[str]:
    """Return a folder in the cache for a file that is on its way; those long left go."""
    prefix, suffix = UNFINISHED.split("*")
    parent = cache_folder() / "models"
    parent.mkdir(parents=True, exist_ok=True)
    for old in parent.glob(UNFINISHED):
        with suppress(OSError):
            if time.time() - old.stat().st_mtime > 2 * DEADLINE:
                shutil.rmtree(old)
    return TemporaryDirectory(suffix, prefix, parent, ignore_cleanup_errors=True)


def _most_bytes() -> int:
    from mmid.model.checkpoint import MAX_BYTES  # loads torch, which listing can do without

    return MAX_BYTES
