"""Indexes written: one writer at a time, and the old index or the new one at any moment.

Conventions: the new data folder is complete and on disk before the manifest is put in place of the
old one; only then are older data folders deleted.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.lib.format import dtype_to_descr, write_array_header_1_0

from mmid.arrays import map_array
from mmid.cells import OUTGROWN, Cells, cells_for, learn_centroids, nearest_centroids
from mmid.choices import Kind
from mmid.console import Tell, quiet
from mmid.errors import LibraryIndexError
from mmid.graph import build_graph, check_graph
from mmid.index import (
    BOUNDS,
    CELLS,
    CENTROIDS,
    DATA_NAME,
    FENCES,
    FORMAT,
    GRAPH,
    MANIFEST,
    NOTES,
    PIECES,
    PLACES,
    TRIPLES,
    VECTORS,
    LibraryIndex,
    Manifest,
)
from mmid.library import file_digest
from mmid.midi import NOTE_DTYPE
from mmid.paged import fences_of
from mmid.pending import Embedded
from mmid.pieces import Entry, LeftOut, write_pieces
from mmid.regular import read_regular
from mmid.tokens import Tokens, library_tokens
from mmid.version import __version__
from mmid.whole import UNFINISHED, flush, unfinished, written_whole

LOCK = "writing.lock"


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Be the only writer of an index.

    Raises
    ------
    LibraryIndexError
        If the folder holds something else, or another process writes the index.
    """
    _refuse_foreign(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise LibraryIndexError(
            f"{folder}: another mmid is writing this index; try again when it is done"
        ) from None
    try:
        yield
    finally:
        nothing_made = all(path.name == LOCK for path in folder.iterdir())
        lock.release()
        if nothing_made:
            (folder / LOCK).unlink(missing_ok=True)
            folder.rmdir()


def _refuse_foreign(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise LibraryIndexError(f"{folder}: is a file; an index is a folder")
    if folder.is_dir() and any(folder.iterdir()) and not (_own(folder) or _named(folder)):
        raise LibraryIndexError(
            f"{folder}: not empty and not an mmid index; choose another --index"
        )


def _own(folder: Path) -> bool:
    return bool(_data_folders(folder)) or (folder / LOCK).exists()


def _data_folders(folder: Path) -> list[Path]:
    """Return the data folders of an index, old ones too."""
    return [path for path in folder.glob("data-*") if DATA_NAME.fullmatch(path.name)]


def _named(folder: Path) -> bool:
    """Tell whether a manifest, maybe damaged, is mmid's: many programs have a file so called."""
    return b"mmid-index-" in _manifest_bytes(folder)


def _names(folder: Path, data: Path) -> bool:
    return data.name.encode() in _manifest_bytes(folder)


def _manifest_bytes(folder: Path) -> bytes:
    """Return the manifest as it is on disk; nothing where it cannot be read."""
    try:
        return read_regular(folder / MANIFEST)
    except (OSError, ValueError):
        return b""


@dataclass(frozen=True)
class Origin:
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
    def of(cls, manifest: Manifest) -> Origin:
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


def write_index(
    folder: Path,
    origin: Origin,
    kept: Sequence[tuple[Entry, Entry]],
    fresh: Sequence[Entry],
    load: Callable[[int], Embedded],
    old: LibraryIndex | None = None,
    progress: Tell = quiet,
    *,
    anew: bool = False,
) -> None:
    """Write an index, in place of what is there.

    Parameters
    ----------
    folder : Path
        Being written by this process alone.
    origin : Origin
    kept : sequence of (Entry, Entry)
        Rows of the old index, in its order, and what they shall say now.
    fresh : sequence of Entry
        New rows.
    load : callable
        Gives the item of a new row by its place in `fresh`.
    old : LibraryIndex, optional
    progress : callable
        Told ``(what, done, total)``.
    anew : bool
        Make cells and triples anew even where the old ones could be extended.
    """
    entries = _laid_out([after for _, after in kept], fresh)
    data = folder / f"data-{uuid.uuid4().hex[:12]}"
    data.mkdir()
    try:
        rows = sum(entry.count for entry in entries)
        before = [entry for entry, _ in kept]
        sources = _Sources(old, before, len(fresh), load)
        with unfinished(data):
            vectors = store_array(data / VECTORS, rows, sources.arrays("vectors"))
            store_array(data / PLACES, rows, sources.arrays("places"))
            count = sum(entry.notes for entry in entries)
            notes = store_array(data / NOTES, count, sources.notes(), NOTE_DTYPE)
            tokens = _triples(None if anew else old, len(kept), notes, entries)
            triples = store_array(data / TRIPLES, tokens.count, tokens.parts, np.dtype(np.uint64))
            np.save(data / FENCES, fences_of(triples))
            write_pieces(data / PIECES, entries)
            _save_cells(_cells(None if anew else old, before, vectors, progress), data)
            for path in [*data.iterdir(), data]:
                flush(path)
        files = _digests(sorted(data.iterdir()))
        manifest = origin.manifest(rows, data.name, files)
        with written_whole(folder / MANIFEST, durably=True) as part:
            part.write_text(json.dumps(manifest, indent=1))
    except BaseException:
        if not _names(folder, data):  # stopped before the manifest was in place
            shutil.rmtree(data, ignore_errors=True)
        raise
    for stale in folder.glob(UNFINISHED):
        stale.unlink(missing_ok=True)
    for other in _data_folders(folder):
        if other != data:
            shutil.rmtree(other, ignore_errors=True)


def _digests(files: Sequence[Path]) -> dict[str, str]:
    """Hash files, several at once."""
    with ThreadPoolExecutor() as pool:
        hashes = pool.map(file_digest, files)
        return {path.name: digest for path, digest in zip(files, hashes, strict=True)}


def _save_cells(cells: Cells, data: Path) -> None:
    """Write cells; hnswlib does not tell where the disk is full."""
    np.save(data / CENTROIDS, cells.centroids)
    np.save(data / CELLS, cells.rows)
    np.save(data / BOUNDS, cells.bounds)
    path = data / GRAPH
    try:
        cells.graph.save_index(str(path))
        check_graph(path, len(cells.centroids))
    except (RuntimeError, ValueError):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(path)) from None


def _laid_out(kept: Sequence[Entry], fresh: Sequence[Entry]) -> list[Entry]:
    """Give rows their places, one behind the other."""
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
            yield from (stored[run] for run in _runs((e.first, e.count) for e in self.kept))
        yield from (getattr(self.load(i), name) for i in range(self.fresh))

    def notes(self) -> Iterator[np.ndarray]:
        if self.old:
            stored = self.old.all_notes
            yield from (stored[run] for run in _runs((e.first_note, e.notes) for e in self.kept))
        yield from (self.load(i).notes for i in range(self.fresh))


def _runs(spans: Iterable[tuple[int, int]]) -> Iterator[slice]:
    """Join spans, each a first row and a count, that follow one another."""
    first = end = 0
    for start, count in spans:
        if start != end:
            yield slice(first, end)
            first = start
        end = start + count
    yield slice(first, end)


def store_array(
    path: Path, rows: int, parts: Iterable[np.ndarray], dtype: np.dtype | None = None
) -> np.ndarray:
    """Write an .npy file of so many rows part by part; return it mapped.

    It is not mapped while it is written: on a full disk that would end the process.
    """
    done = 0
    with path.open("wb") as file:
        for part in parts:
            if not file.tell():
                shape = rows, *part.shape[1:]
                facts = {
                    "descr": dtype_to_descr(part.dtype),
                    "fortran_order": False,
                    "shape": shape,
                }
                write_array_header_1_0(file, facts)
            file.write(np.ascontiguousarray(part).data)
            done += len(part)
    assert done == rows
    if not rows:  # nothing can be mapped
        np.save(path, np.zeros(0, dtype))
    return np.asarray(np.load(path, mmap_mode="r" if rows else None))


def _triples(
    old: LibraryIndex | None, kept: int, notes: np.ndarray, entries: Sequence[Entry]
) -> Tokens:
    """Add new notes' triples to the old index's, if it is kept as it is; else list all."""
    firsts = [entry.first_note for entry in entries]
    if old and kept == len(old):
        start = sum(entry.notes for entry in entries[:kept])
        try:
            before = map_array(old.checks.check(TRIPLES), np.uint64)
            return library_tokens(notes, firsts, before, start)
        except (LibraryIndexError, ValueError):
            pass
    return library_tokens(notes, firsts)


def _cells(
    old: LibraryIndex | None, kept: Sequence[Entry], vectors: np.ndarray, progress: Tell
) -> Cells:
    """Sort new vectors into the old index's cells, if these still do; else make cells."""
    sound, known = None, np.zeros(0, np.int32)
    if old and kept:
        with suppress(LibraryIndexError):
            sound = old.cells()
    wanted = cells_for(len(vectors))
    if sound and wanted / OUTGROWN <= len(sound.centroids) <= wanted * OUTGROWN:
        centroids, graph, before = sound.centroids, sound.graph, sound.cell_of_rows()
        known = np.concatenate([before[e.first : e.first + e.count] for e in kept])
    else:
        centroids = learn_centroids(vectors, progress)
        graph = build_graph(centroids)
    more = nearest_centroids(vectors[len(known) :], centroids, progress)
    return Cells.of(vectors, centroids, np.concatenate([known, more]), graph)
