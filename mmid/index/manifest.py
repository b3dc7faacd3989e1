"""The manifest of an index: its files by name, what it holds, and how it was made.

Conventions: an index has a data folder, and maybe a second one, its delta, with what was added
since and the table of what is left (`mmid.index.delta`). Only the latter kind has `DELTA_FORMAT`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import chain
from pathlib import Path
from typing import Any, TypedDict, get_args

from mmid.errors import LibraryIndexError
from mmid.index.items import LeftOut
from mmid.index.packed_numbers import SortedNames
from mmid.options import Kind
from mmid.system.files import read_json
from mmid.version import __version__

FORMAT, DELTA_FORMAT = "mmid-index-12", "mmid-index-13"

DATA_NAME = re.compile(r"data-[0-9a-f]{12}")
MANIFEST, CHECKED = "manifest.json", "checked.json"
VECTORS, POSITIONS, NOTES = "vectors.npy", "places.npy", "notes.npy"
PIECES = "pieces.sqlite"
LIST_ROWS, BOUNDS = "cells.npy", "bounds.npy"
CENTROIDS, GRAPH = "centroids.npy", "graph.bin"
MELODIES, MELODY_BOUNDS = "melodies.npy", "melody-bounds.npy"

POSTINGS = SortedNames("heads.npy", "fences.npy", "triples.npy")
MELODY_POSTINGS = SortedNames("melody-heads.npy", "melody-fences.npy", "melody-triples.npy")
SORTED_FILES = (POSTINGS, MELODY_POSTINGS)
"""The files of the postings of all notes, and of melodies."""

CACHES = (LIST_ROWS, BOUNDS, CENTROIDS, GRAPH, MELODIES, MELODY_BOUNDS, *chain(*SORTED_FILES))
"""Made of the other files, and so made again where they are damaged."""

REPLACED = (PIECES, LIST_ROWS, BOUNDS)
"""Files of a delta that replace those of the same name; its others go on where those end."""

SHAPES: dict[type, tuple[str, ...]] = {
    str: ("mmid", "made", "model", "root", "data"),
    dict: ("features", "recipe", "files"),
    list: ("folders", "left_out"),
    int: ("rows",),
}
"""What kinds of values a manifest holds."""


class Delta(TypedDict):
    """A second data folder, the SHA-256 of its files, and how many vectors can be found in all."""

    data: str
    files: dict[str, str]
    snippets: int


class _WholeManifest(TypedDict):
    format: str
    mmid: str
    made: str
    kind: Kind
    model: str
    features: dict[str, Any]
    recipe: dict[str, Any]
    rows: int
    root: str
    folders: list[str]
    left_out: list[list[str]]
    data: str
    files: dict[str, str]


class Manifest(_WholeManifest, total=False):
    """What ``manifest.json`` holds.

    ``rows`` counts vectors; ``recipe`` says how items are embedded; ``folders`` are the library's,
    and ``root`` is where the names begin; ``left_out`` has the name and the reason of each file
    that could not be indexed, and is missing from older manifests; ``delta`` is there in those of
    `DELTA_FORMAT`.
    """

    delta: Delta


def data_parts(manifest: Manifest) -> list[tuple[str, dict[str, str]]]:
    """Return the data folders of an index and the hashes of their files, the delta's last."""
    whole = [(manifest["data"], manifest["files"])]
    delta = manifest.get("delta")
    return [*whole, (delta["data"], delta["files"])] if delta else whole


def read_manifest(folder: Path) -> Manifest:
    """Read and check the manifest of an index.

    Raises
    ------
    LibraryIndexError
        If there is none, or it is damaged or of another format.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise LibraryIndexError(f"{folder}: no index there; make one with mmid build-index FOLDER")
    try:
        manifest = read_json(path)
        if manifest["format"] not in (FORMAT, DELTA_FORMAT):
            raise LibraryIndexError(
                f"{folder}: index format {manifest['format']!r}, this mmid reads {FORMAT} and"
                f" {DELTA_FORMAT}; run mmid build-index again"
            )
        manifest.setdefault("left_out", [])
        held = list(_WholeManifest.__annotations__)
        if manifest["format"] == DELTA_FORMAT:
            held.append("delta")
            _check_delta(manifest["delta"])
        for kind, names in SHAPES.items():
            if not all(isinstance(manifest[name], kind) for name in names):
                raise ValueError
        if not all(isinstance(pair, list) and len(pair) == 2 for pair in manifest["left_out"]):
            raise ValueError
        texts = chain(manifest["folders"], *manifest["files"].items(), *manifest["left_out"])
        if not all(isinstance(text, str) for text in texts):
            raise ValueError
        if not DATA_NAME.fullmatch(manifest["data"]) or manifest["kind"] not in get_args(Kind):
            raise ValueError
        return Manifest(**{name: manifest[name] for name in held})  # type: ignore[typeddict-item,no-any-return]
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise LibraryIndexError(f"{path}: damaged; run mmid build-index again") from error


def _check_delta(delta: Delta) -> None:
    """Raise `ValueError` or `TypeError` where it is none."""
    texts = chain.from_iterable(delta["files"].items())
    if not (DATA_NAME.fullmatch(delta["data"]) and all(isinstance(text, str) for text in texts)):
        raise ValueError
    if not isinstance(delta["snippets"], int) or not set(REPLACED) <= delta["files"].keys():
        raise ValueError


@dataclass(frozen=True)
class IndexOrigin:
    """What an index is made of, and how.

    Parameters
    ----------
    kind : {"midi", "recordings"}
    model : str
        Fingerprint.
    features : dict
        The model's grid.
    recipe : dict
        How items are embedded.
    root : str
        Where their names begin.
    folders : tuple of str
        The library's.
    left_out : tuple of LeftOut
        What of it the index does not hold.
    """

    kind: Kind
    model: str
    features: dict[str, Any]
    recipe: dict[str, Any]
    root: str
    folders: tuple[str, ...]
    left_out: tuple[LeftOut, ...] = ()

    @classmethod
    def of(cls, manifest: Manifest) -> IndexOrigin:
        """Read it off a manifest."""
        names = ("kind", "model", "features", "recipe", "root")
        left_out = tuple(LeftOut(*pair) for pair in manifest.get("left_out", ()))
        facts = {n: manifest[n] for n in names}  # type: ignore[literal-required]
        return cls(**facts, folders=tuple(manifest["folders"]), left_out=left_out)

    def manifest(self, rows: int, data: str, files: dict[str, str]) -> Manifest:
        """Return the manifest of an index made now, with where its data lies and their hashes."""
        return {
            "format": FORMAT,
            "mmid": __version__,
            "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "kind": self.kind,
            "model": self.model,
            "features": self.features,
            "recipe": self.recipe,
            "root": self.root,
            "folders": list(self.folders),
            "left_out": [[item.name, item.reason] for item in self.left_out],
            "rows": rows,
            "data": data,
            "files": files,
        }
