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
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mmid.errors import LibraryIndexError
from mmid.index.delta import is_small, write_delta
from mmid.index.fingerprint_table import Postings, library_postings
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
    BOUNDS,
    CENTROIDS,
    DELTA_FORMAT,
    GRAPH,
    LIST_ROWS,
    MANIFEST,
    MELODY_POSTINGS,
    NOTES,
    PIECES,
    POSITIONS,
    SORTED_FILES,
    VECTORS,
    IndexOrigin,
    Manifest,
)
from mmid.index.pending import Embedded
from mmid.index.sorted_file import page_index_of
from mmid.index.spans import join_spans
from mmid.music.notes import NOTE_DTYPE
from mmid.system.arrays import map_array, store_array
from mmid.system.console import ProgressCallback, quiet
from mmid.system.files import UNFINISHED, file_digest, flush, unfinished, written_whole


def _names(folder: Path, data: Path) -> bool:
    return data.name.encode() in manifest_bytes(folder)


def write_index(
    folder: Path,
    origin: IndexOrigin,
    kept: Sequence[tuple[Entry, Entry]],
    fresh: Sequence[Entry],
    load: Callable[[int], Embedded],
    old: LibraryIndex | None = None,
    progress: ProgressCallback = quiet,
    *,
    anew: bool = False,
) -> None:
    """Write an index, in place of what is there.

    Parameters
    ----------
    folder : Path
        Being written by this process alone.
    origin : IndexOrigin
    kept : sequence of (Entry, Entry)
        Rows of the old index, in its order, and what they shall say now.
    fresh : sequence of Entry
        New rows.
    load : callable
        Gives the item of a new row by its position in `fresh`.
    old : LibraryIndex, optional
    progress : callable
        Called with ``(what, done, total)``.
    anew : bool
        Make inverted lists and note triples anew even where the old ones could be extended.
    """
    change = _Change(origin, kept, fresh, load, progress)
    data = folder / f"data-{uuid.uuid4().hex[:12]}"
    data.mkdir()
    try:
        with unfinished(data):
            manifest = change.written(data, old, anew)
        with written_whole(folder / MANIFEST, durably=True) as part:
            part.write_text(json.dumps(manifest, indent=1))
    except BaseException:
        if not _names(folder, data):  # stopped before the manifest was in place
            shutil.rmtree(data, ignore_errors=True)
        raise
    for stale in folder.glob(UNFINISHED):
        stale.unlink(missing_ok=True)
    for other in data_folders(folder):
        if other not in (data, folder / manifest["data"]):
            shutil.rmtree(other, ignore_errors=True)


@dataclass(frozen=True, eq=False)
class _Change:
    """What `write_index` is given."""

    origin: IndexOrigin
    kept: Sequence[tuple[Entry, Entry]]
    fresh: Sequence[Entry]
    load: Callable[[int], Embedded]
    progress: ProgressCallback

    def written(self, data: Path, old: LibraryIndex | None, anew: bool) -> Manifest:
        """Write a data folder to the disk, and return the manifest that names it."""
        if old and not anew and is_small(old, self.kept, self.fresh):
            with suppress(LibraryIndexError):  # damage that writing all anew mends
                return self._written_beside(data, old)
        for half_written in data.iterdir():
            half_written.unlink()
        rows = self._write_whole(data, old, anew)
        return self.origin.manifest(rows, data.name, _on_disk(data))

    def _written_beside(self, data: Path, old: LibraryIndex) -> Manifest:
        entries = write_delta(data, old, self.kept, self.fresh, self.load, self.progress)
        rows = len(old.vectors) + sum(entry.count for entry in self.fresh)
        manifest = self.origin.manifest(rows, old.manifest["data"], old.manifest["files"])
        manifest["format"] = DELTA_FORMAT
        snippets = sum(entry.count for entry in entries)
        manifest["delta"] = {"data": data.name, "files": _on_disk(data), "snippets": snippets}
        return manifest

    def _write_whole(self, data: Path, old: LibraryIndex | None, anew: bool) -> int:
        """Write all files of an index; return the rows of vectors."""
        kept, extended = [before for before, _ in self.kept], None if anew else old
        entries = _laid_out([after for _, after in self.kept], self.fresh)
        sources = _Sources(old, kept, len(self.fresh), self.load)
        rows, count = sum(entry.count for entry in entries), sum(entry.notes for entry in entries)
        vectors = store_array(data / VECTORS, rows, sources.arrays("vectors"))
        store_array(data / POSITIONS, rows, sources.arrays("positions"))
        notes = store_array(data / NOTES, count, sources.notes(), NOTE_DTYPE)
        for name, page_index in SORTED_FILES:
            postings = _postings(extended, kept, notes, entries, name)
            stored = store_array(data / name, postings.count, postings.parts, np.dtype(np.uint64))
            np.save(data / page_index, page_index_of(stored))
        write_pieces(data / PIECES, entries)
        _save_lists(_lists(extended, kept, vectors, self.progress), data)
        return rows


def _on_disk(data: Path) -> dict[str, str]:
    """Have a data folder on disk, and return the hash of each file, several hashed at once."""
    files = sorted(data.iterdir())
    for path in [*files, data]:
        flush(path)
    with ThreadPoolExecutor() as pool:
        hashes = pool.map(file_digest, files)
        return {path.name: digest for path, digest in zip(files, hashes, strict=True)}


def _save_lists(lists: InvertedLists, data: Path) -> None:
    """Write inverted lists; hnswlib does not say that the disk is full."""
    np.save(data / CENTROIDS, lists.centroids)
    np.save(data / LIST_ROWS, lists.rows)
    np.save(data / BOUNDS, lists.bounds)
    path = data / GRAPH
    try:
        lists.graph.save_index(str(path))
        check_graph(path, len(lists.centroids))
    except (RuntimeError, ValueError):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(path)) from None


def _laid_out(kept: Sequence[Entry], fresh: Sequence[Entry]) -> list[Entry]:
    """Give rows their positions, one behind the other."""
    entries, first, first_note = [], 0, 0
    for entry in (*kept, *fresh):
        entries.append(replace(entry, first=first, first_note=first_note))
        first, first_note = first + entry.count, first_note + entry.notes
    return entries


@dataclass(frozen=True, eq=False)
class _Sources:
    """Where the arrays of a new index come from, in their order."""

    old: LibraryIndex | None
    kept: Sequence[Entry]
    fresh: int
    load: Callable[[int], Embedded]

    def arrays(self, name: str) -> Iterator[np.ndarray]:
        if self.old:
            stored = getattr(self.old, name)
            yield from (stored[run] for run in join_spans((e.first, e.count) for e in self.kept))
        yield from (getattr(self.load(i), name) for i in range(self.fresh))

    def notes(self) -> Iterator[np.ndarray]:
        if self.old:
            stored, spans = self.old.all_notes, ((e.first_note, e.notes) for e in self.kept)
            yield from (stored[run] for run in join_spans(spans))
        yield from (self.load(i).notes for i in range(self.fresh))


def _postings(
    old: LibraryIndex | None,
    kept: Sequence[Entry],
    notes: np.ndarray,
    entries: Sequence[Entry],
    name: str,
) -> Postings:
    """Add triples to those of the first data folder, if its notes all stay; else list all."""
    firsts, melody = [entry.first_note for entry in entries], name == MELODY_POSTINGS
    if old and sum(e.notes for e in kept if e.first < old.base_rows) == old.base_notes:
        try:
            before = map_array(old.checks.check(name), np.uint64)
            return library_postings(notes, firsts, before, old.base_notes, melody=melody)
        except (LibraryIndexError, ValueError):
            pass
    return library_postings(notes, firsts, melody=melody)


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
