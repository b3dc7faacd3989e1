"""An index looked at and looked after: checked, thinned, mended, merged."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np

from mmid.errors import LibraryIndexError
from mmid.index.change import Change
from mmid.index.folder import LibraryIndex
from mmid.index.folder_writer import write_index
from mmid.index.items import Entry, LeftOut
from mmid.index.lock import writing
from mmid.index.manifest import IndexOrigin
from mmid.index.protocol import Library, Place, Store
from mmid.index.quantization import unpack
from mmid.index.store import folder_at, store_at
from mmid.music.duplicates import group_duplicates
from mmid.music.scores.tune_books import file_of, goes_by
from mmid.system.console import ProgressCallback, quiet

SAMPLE, NEIGHBOURS = 500, 10
"""Snippets whose neighbours in inverted lists are compared with the true ones, and how many."""

JITTER = 0.15
"""Noise added to them, a coordinate's standard deviation times the root of the dimensions."""


@dataclass(frozen=True)
class IndexInfo:
    """What an index is.

    ``rows`` counts vectors on disk, ``snippets`` those that can be found; ``bytes`` is the size on
    disk; ``left_out`` counts files of the library that it does not hold.
    """

    folder: str
    kind: str
    items: int
    hours: float
    snippets: int
    rows: int
    bytes: int
    format: str
    mmid: str
    made: str
    model: str
    recipe: dict[str, Any]
    folders: tuple[str, ...]
    left_out: int

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready names and values."""
        return asdict(self)


def describe(index: Library) -> IndexInfo:
    """Return what an index is."""
    manifest = index.manifest
    return IndexInfo(
        folder=index.where,
        kind=index.kind,
        items=len(index),
        hours=sum(entry.seconds for entry in index.entries) / 3600,
        snippets=index.snippets,
        rows=manifest["rows"],
        bytes=index.bytes,
        format=manifest["format"],
        mmid=manifest["mmid"],
        made=manifest["made"],
        model=manifest["model"],
        recipe=manifest["recipe"],
        folders=tuple(manifest["folders"]),
        left_out=len(left_out(index)),
    )


def left_out(index: Library) -> tuple[LeftOut, ...]:
    """Return what of its library an index does not hold, and why, by name."""
    return tuple(sorted(IndexOrigin.of(index.manifest).left_out, key=lambda item: item.name))


@dataclass(frozen=True)
class Verification:
    """What `verify_index` found.

    Parameters
    ----------
    faults : tuple of str
        What is damaged; none in a sound index.
    recall : float or None
        Share of true neighbours that the search finds; None where it cannot.
    missing, changed : tuple of str
        Files of the library that are gone or differ from what was embedded.
    """

    faults: tuple[str, ...]
    recall: float | None
    missing: tuple[str, ...]
    changed: tuple[str, ...]


def verify_index(place: Place, seed: int = 0) -> Verification:
    """Hash every file of an index, measure how well it searches, and look at its library.

    On Milvus, what the server holds is counted instead; it looks after its own graph.

    Raises
    ------
    LibraryIndexError
        If it cannot be opened at all.
    """
    index = store_at(place).open(None)
    faults, recall = index.faults(), None
    if isinstance(index, LibraryIndex) and not faults:
        recall = search_recall(index, seed)
    root = Path(index.manifest["root"])
    missing, changed = [], []
    for entry in index.entries if index.manifest["root"] else []:
        try:
            stat = file_of(root / entry.name).stat()
        except OSError:
            missing.append(entry.name)
            continue
        if (stat.st_size, stat.st_mtime_ns) != (entry.size, entry.changed):
            changed.append(entry.name)
    return Verification(tuple(faults), recall, tuple(missing), tuple(changed))


def search_recall(index: LibraryIndex, seed: int = 0) -> float:
    """Return the share of shaken snippets' true neighbours that the inverted lists hold."""
    rng = np.random.default_rng(seed)
    some = np.sort(rng.choice(index.held_rows, min(SAMPLE, index.snippets), replace=False))
    vectors = unpack(index.vectors[some])
    vectors += rng.normal(0, JITTER / np.sqrt(vectors.shape[1]), vectors.shape).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found, true = (index.search(vectors, NEIGHBOURS, how)[1] for how in ("hnsw", "exact"))
    least = true[:, -1:] - 1e-4  # equally near ones are as good
    return float((found >= least).mean())


def remove_pieces(
    place: Place, names: Sequence[str], progress: ProgressCallback = quiet
) -> list[str]:
    """Take items out of an index, whether or not their files are there still.

    Parameters
    ----------
    place : str, Path or Store
    names : sequence of str
        As `mmid index list` shows them; ``*`` and ``?`` stand for any characters and any one. A
        tune may be named without its title, and a book stands for all its tunes. A folder that
        the index follows stands for all pieces below it, and is not followed any more.

    Returns
    -------
    list of str
        What was removed.

    Raises
    ------
    LibraryIndexError
        If a name matches nothing, nothing would be left, or another process writes the index.
    """
    store = store_at(place)
    with store.writing():
        old = store.open(None)
        held = [entry.name for entry in old.entries]
        origin, removed = IndexOrigin.of(old.manifest), set[str]()
        for name in names:
            folder = _followed(origin, name)
            matching = {name} & set(held) or set(fnmatch.filter(held, name))
            matching = matching or {one for one in held if goes_by(one, name)}
            if folder and name not in held:
                matching = {one for one in held if _lies_in(origin, one, folder)}
                origin = _without(origin, folder)
            elif not matching:
                raise LibraryIndexError(f"{store.where}: no piece {name!r}; see mmid index list")
            removed |= matching
        kept = [entry for entry in old.entries if entry.name not in removed]
        if not kept:
            raise LibraryIndexError(
                f"{store.where}: nothing would be left; delete the index instead"
            )
        pairs = [(entry, entry) for entry in kept]
        store.write(origin, pairs, [], old.item, old, progress)
    return [name for name in held if name in removed]


def _followed(origin: IndexOrigin, name: str) -> str | None:
    """Return the folder of an index's library that a user names."""
    place = os.path.realpath(name)
    return next((f for f in origin.folders if os.path.realpath(f) == place), None)


def _lies_in(origin: IndexOrigin, name: str, folder: str) -> bool:
    path = file_of(Path(origin.root, name))
    return Path(folder) == path or Path(folder) in path.parents


def _without(origin: IndexOrigin, folder: str) -> IndexOrigin:
    """Follow a folder no more; the names stay as they are."""
    return replace(
        origin,
        folders=tuple(other for other in origin.folders if other != folder),
        left_out=tuple(o for o in origin.left_out if not _lies_in(origin, o.name, folder)),
    )


def same_music(place: Place) -> list[list[Entry]]:
    """Group the pieces of an index that hold the same music, in whatever key, tempo and format.

    Parameters
    ----------
    place : str, Path or Store

    Returns
    -------
    list of list of Entry
        Groups of two and more by name, as their pieces are.

    Raises
    ------
    LibraryIndexError
        If the index cannot be read or holds recordings.
    """
    index = store_at(place).open(None)
    if index.kind != "midi":
        raise LibraryIndexError(f"{index.where}: holds recordings; only notes can be compared")
    labels = group_duplicates([index.notes(piece) for piece in range(len(index.entries))])
    groups: dict[int, list[Entry]] = {}
    for group, entry in zip(labels.tolist(), index.entries, strict=True):
        groups.setdefault(group, []).append(entry)
    several = [sorted(group, key=_name) for group in groups.values() if len(group) > 1]
    return sorted(several, key=lambda group: group[0].name)


_name = attrgetter("name")


def rebuild_caches(place: Place, progress: ProgressCallback = quiet) -> None:
    """Make an index's inverted lists and note triples anew.

    Raises
    ------
    LibraryIndexError
        If the vectors or notes are damaged, another process writes the index, or it is on Milvus.
    """
    folder = folder_at(place, "the server builds its own graph; there is nothing to rebuild")
    with writing(folder):
        old = LibraryIndex(folder, None)
        pairs = [(entry, entry) for entry in old.entries]
        origin = IndexOrigin.of(old.manifest)
        write_index(folder, origin, Change(pairs, [], old.item, progress), old, anew=True)


def merge_indexes(
    place: Place, others: Sequence[Place], progress: ProgressCallback = quiet
) -> list[str]:
    """Make an index of several, made by one model.

    Files of the same name and content count once; names are taken from where the libraries meet.

    Returns
    -------
    list of str
        Names left out, as another index has the same file.

    Raises
    ------
    LibraryIndexError
        If they are of different kinds, models or recipes, or the folder is not empty.
    """
    indexes = [store_at(other).open(None) for other in others]
    origins = [IndexOrigin.of(index.manifest) for index in indexes]
    first = origins[0]
    for other, origin in zip(others, origins, strict=True):
        if (origin.kind, origin.model, origin.recipe) != (first.kind, first.model, first.recipe):
            raise LibraryIndexError(f"{other}: not of the model and kind of {others[0]}")
    store = store_at(place)
    if _holds_an_index(store):
        raise LibraryIndexError(f"{store.where}: holds an index; merge into a new one")
    roots = [origin.root for origin in origins]
    root = os.path.commonpath(roots) if all(roots) else ""
    positions: list[tuple[int, int]] = []
    fresh: list[Entry] = []
    known: set[tuple[str, str]] = set()
    twice: list[str] = []
    bad: list[LeftOut] = []
    for number, index in enumerate(indexes):
        bad += [replace(o, name=_renamed(o.name, roots[number], root)) for o in left_out(index)]
        for row, entry in enumerate(index.entries):
            name = _renamed(entry.name, roots[number], root)
            if (name, entry.digest) in known:
                twice.append(name)
                continue
            known.add((name, entry.digest))
            positions.append((number, row))
            fresh.append(replace(entry, name=name))
    folders = tuple(dict.fromkeys(f for origin in origins for f in origin.folders))
    left = tuple(dict.fromkeys(bad))
    merged = replace(first, root=root, folders=folders, left_out=left)
    with store.writing():
        store.write(
            merged,
            [],
            fresh,
            lambda i: indexes[positions[i][0]].item(positions[i][1]),
            None,
            progress,
        )
    return twice


def _renamed(name: str, root: str, common: str) -> str:
    """Name a file from where several libraries meet."""
    return Path(os.path.relpath(Path(root, name), common) if common else name).as_posix()


def _holds_an_index(store: Store) -> bool:
    try:
        store.manifest()
    except LibraryIndexError:
        return False
    return True
