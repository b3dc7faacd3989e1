"""Indexes written: one writer at a time, and the old index or the new one at any moment.

Conventions: the new data folder is complete and on disk before the manifest is put in place of the
old one; only then are older data folders deleted. It holds the whole index, or, of a small change,
a delta (`mmid.index.delta`) beside the first folder.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np

from mmid.errors import LibraryIndexError
from mmid.index.change import Change, laid_out, store_lists
from mmid.index.delta import is_small, write_delta
from mmid.index.fingerprint_table import library_postings
from mmid.index.folder import LibraryIndex
from mmid.index.hnsw import build_graph, check_graph
from mmid.index.inverted_lists import (
    OUTGROWN,
    InvertedLists,
    inverted_list_count,
    learn_centroids,
    nearest_centroids,
)
from mmid.index.items import Entry, write_pieces
from mmid.index.lock import data_folders, manifest_bytes
from mmid.index.manifest import (
    CENTROIDS,
    DELTA_FORMAT,
    GRAPH,
    MANIFEST,
    MELODY_POSTINGS,
    PIECES,
    SORTED_FILES,
    IndexOrigin,
    Manifest,
)
from mmid.index.melodies import store_melodies
from mmid.index.packed_numbers import PackedNumbers, SortedNames, store_sorted
from mmid.index.spans import join_spans
from mmid.index.validation import Checks
from mmid.music.notes import NOTE_DTYPE
from mmid.system.arrays import BLOCK_ROWS, let_go
from mmid.system.console import ProgressCallback
from mmid.system.files import UNFINISHED, file_digest, flush, unfinished, written_whole


def _names(folder: Path, data: Path) -> bool:
    return data.name.encode() in manifest_bytes(folder)


def write_index(
    folder: Path,
    origin: IndexOrigin,
    change: Change,
    old: LibraryIndex | None = None,
    *,
    anew: bool = False,
) -> None:
    """Write an index, in place of what is there.

    Parameters
    ----------
    folder : Path
        Being written by this process alone.
    origin : IndexOrigin
    change : Change
        Of the old index, or with all rows new.
    old : LibraryIndex, optional
    anew : bool
        Make inverted lists and note triples anew even where the old ones could be extended.
    """
    data = folder / f"data-{uuid.uuid4().hex[:12]}"
    data.mkdir()
    try:
        with unfinished(data):
            manifest, hashed = _written(data, origin, change, old, anew)
        with written_whole(folder / MANIFEST, durably=True) as part:
            part.write_text(json.dumps(manifest, indent=1))
        Checks(folder, manifest).trust(data.name, hashed)
    except BaseException:
        if not _names(folder, data):  # stopped before the manifest was in place
            shutil.rmtree(data, ignore_errors=True)
        raise
    for stale in folder.glob(UNFINISHED):
        stale.unlink(missing_ok=True)
    for other in data_folders(folder):
        if other not in (data, folder / manifest["data"]):
            shutil.rmtree(other, ignore_errors=True)


def _written(
    data: Path, origin: IndexOrigin, change: Change, old: LibraryIndex | None, anew: bool
) -> tuple[Manifest, int]:
    """Write a data folder to the disk; return the manifest that names it, and when it was hashed.

    That is in nanoseconds since 1970.
    """
    if old and not anew and is_small(old, change):
        with suppress(LibraryIndexError):  # damage that writing all anew mends
            return _written_beside(data, origin, change, old)
    for half_written in data.iterdir():
        half_written.unlink()
    rows = _write_whole(data, change, old, anew)
    hashed = time.time_ns()
    return origin.manifest(rows, data.name, _on_disk(data)), hashed


def _written_beside(
    data: Path, origin: IndexOrigin, change: Change, old: LibraryIndex
) -> tuple[Manifest, int]:
    entries = write_delta(data, old, change)
    rows = len(old.vectors) + sum(entry.count for entry in change.fresh)
    manifest = origin.manifest(rows, old.manifest["data"], old.manifest["files"])
    manifest["format"] = DELTA_FORMAT
    snippets = sum(entry.count for entry in entries)
    hashed = time.time_ns()
    manifest["delta"] = {"data": data.name, "files": _on_disk(data), "snippets": snippets}
    return manifest, hashed


def _write_whole(data: Path, change: Change, old: LibraryIndex | None, anew: bool) -> int:
    """Write all files of an index; return the rows of vectors."""
    kept, extended = [before for before, _ in change.kept], None if anew else old
    entries = laid_out([*(after for _, after in change.kept), *change.fresh])
    rows, count = sum(entry.count for entry in entries), sum(entry.notes for entry in entries)
    snippets = [(entry.first, entry.count) for entry in kept]
    vectors = change.store(data, "vectors", _runs(old, "vectors", snippets), rows)
    change.store(data, "positions", _runs(old, "positions", snippets), rows)
    known = _runs(old, "all_notes", [(entry.first_note, entry.notes) for entry in kept])
    notes = change.store(data, "notes", known, count, NOTE_DTYPE)
    for names in SORTED_FILES:
        store_sorted(data, names, _postings(data, extended, kept, notes, entries, names))
    store_melodies(data, notes, entries)
    write_pieces(data / PIECES, entries)
    _store_all_lists(data, _lists(extended, kept, vectors, change.progress))
    return rows


def _runs(
    old: LibraryIndex | None, name: str, spans: Sequence[tuple[int, int]]
) -> Iterator[np.ndarray]:
    """Yield what stays of an array of the old index, in its order, some rows at a time."""
    if old:
        stored = getattr(old, name)
        for run in join_spans(spans):
            for first in range(run.start, run.stop, BLOCK_ROWS):
                yield stored[first : min(first + BLOCK_ROWS, run.stop)]
                let_go(stored)


def _on_disk(data: Path) -> dict[str, str]:
    """Have a data folder on disk, and return the hash of each file, several hashed at once."""
    files = sorted(data.iterdir())
    for path in [*files, data]:
        flush(path)
    with ThreadPoolExecutor() as pool:
        hashes = pool.map(file_digest, files)
        return {path.name: digest for path, digest in zip(files, hashes, strict=True)}


def _store_all_lists(data: Path, lists: InvertedLists) -> None:
    """Write inverted lists; hnswlib does not say that the disk is full."""
    store_lists(data, lists)
    np.save(data / CENTROIDS, lists.centroids)
    path = data / GRAPH
    try:
        lists.graph.save_index(str(path))
        check_graph(path, len(lists.centroids))
    except (RuntimeError, ValueError):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(path)) from None


def _postings(
    data: Path,
    old: LibraryIndex | None,
    kept: Sequence[Entry],
    notes: np.ndarray,
    entries: Sequence[Entry],
    names: SortedNames,
) -> Iterator[np.ndarray]:
    """Add triples to those of the first data folder, if its notes all stay; else list all."""
    firsts = [entry.first_note for entry in entries]
    listed = partial(library_postings, notes, firsts, melody=names == MELODY_POSTINGS, work=data)
    if old and sum(e.notes for e in kept if e.first < old.base_rows) == old.base_notes:
        try:
            before = PackedNumbers.map(*map(old.checks.check, (names.heads, names.tails)))
            return listed(before, old.base_notes)
        except (LibraryIndexError, ValueError):
            pass
    return listed()


def _lists(
    old: LibraryIndex | None, kept: Sequence[Entry], vectors: np.ndarray, progress: ProgressCallback
) -> InvertedLists:
    """Sort new vectors into the old index's inverted lists, if these still do; else make new."""
    sound, known = None, np.zeros(0, np.int32)
    if old and kept:
        with suppress(LibraryIndexError):
            sound = old.inverted_lists()
    wanted = inverted_list_count(len(vectors))
    if sound and wanted / OUTGROWN <= len(sound.centroids) <= wanted * OUTGROWN:
        centroids, graph, before = sound.centroids, sound.graph, sound.list_of_rows()
        known = np.concatenate([before[e.first : e.first + e.count] for e in kept])
    else:
        centroids = learn_centroids(vectors, progress)
        graph = build_graph(centroids)
    more = nearest_centroids(vectors[len(known) :], centroids, progress)
    return InvertedLists.of(vectors, centroids, np.concatenate([known, more]), graph)
