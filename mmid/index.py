"""The index of a library, opened: snippet vectors in cells, their places, the items, their notes.

Conventions: an index is a folder. ``manifest.json`` names a data folder beside it and the SHA-256
of every file there; it is replaced in one step, so a reader sees the old index or the new one,
whole. An item is a MIDI file or a recording, and one index holds only one kind. Vectors are packed
(`mmid.packed`), int8 ``[rows, embedding]``, grouped by item; a snippet's place is the frame of the
item it begins at. The notes of MIDI files are kept as well, to align a query with. `mmid.build`
writes.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TypedDict, get_args

import numpy as np
import torch

from mmid.arrays import map_array
from mmid.cells import Cells
from mmid.checkpoint import Checkpoint
from mmid.choices import Kind, Search
from mmid.console import LOG, stage
from mmid.contents import (
    check_bounds,
    check_centroids,
    check_notes,
    check_places,
    check_rows,
    check_sorted,
    check_table,
    check_vectors,
)
from mmid.errors import LibraryIndexError
from mmid.graph import check_graph, load_graph
from mmid.library import file_digest
from mmid.midi import NOTE_DTYPE
from mmid.packed import unpack
from mmid.paged import SortedFile
from mmid.pending import Embedded
from mmid.pieces import Entry, read_pieces
from mmid.regular import read_json
from mmid.triples import Agreement, search_triples
from mmid.whole import written_whole

FORMAT = "mmid-index-7"

DATA_NAME = re.compile(r"data-[0-9a-f]{12}")
MANIFEST, CHECKED = "manifest.json", "checked.json"
VECTORS, PLACES, NOTES = "vectors.npy", "places.npy", "notes.npy"
PIECES = "pieces.sqlite"
CELLS, BOUNDS = "cells.npy", "bounds.npy"
CENTROIDS, GRAPH = "centroids.npy", "graph.bin"
TRIPLES, FENCES = "triples.npy", "fences.npy"

CACHES = (CELLS, BOUNDS, CENTROIDS, GRAPH, TRIPLES, FENCES)
"""Made of the other files, and so made again where they are damaged."""

EXACT_BELOW = 20_000
"""``auto`` searches exactly up to so many snippets: fast enough there, and never wrong."""

SETTLED_NS = 2_000_000_000
"""A file that changed less than this before it was checked may change again unseen."""


class Manifest(TypedDict):
    """What ``manifest.json`` holds.

    ``rows`` counts vectors; ``recipe`` tells how items are embedded; ``folders`` are the library's,
    and ``root`` is where the names begin; ``left_out`` has the name and the reason of each file
    that could not be indexed, and is missing from older manifests.
    """

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


SHAPES: dict[type, tuple[str, ...]] = {
    str: ("mmid", "made", "model", "root", "data"),
    dict: ("features", "recipe", "files"),
    list: ("folders", "left_out"),
    int: ("rows",),
}
"""What kinds of values a manifest holds."""


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
        if manifest["format"] != FORMAT:
            raise LibraryIndexError(
                f"{folder}: index format {manifest['format']!r}, this mmid reads {FORMAT}; run"
                " mmid build-index again"
            )
        manifest.setdefault("left_out", [])
        shapes = Manifest.__annotations__
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
        return Manifest(**{name: manifest[name] for name in shapes})  # type: ignore[typeddict-item,no-any-return]
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise LibraryIndexError(f"{path}: damaged; run mmid build-index again") from error


@dataclass(frozen=True)
class Signature:
    """What changes when a file does."""

    size: int
    changed: int
    created: int
    node: int

    @classmethod
    def of(cls, path: Path) -> Signature:
        """Ask the file system."""
        stat = path.stat()
        return cls(stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)


class Checks:
    """Which files of an index were hashed and have not changed since.

    Parameters
    ----------
    folder : Path
        The index. What was checked is kept there if it can be written, else checked every time.
    data : Path
        Its data folder.
    hashes : dict of str to str
        What the files' SHA-256 must be.
    rows : int
        How many vectors there must be.
    """

    def __init__(self, folder: Path, data: Path, hashes: dict[str, str], rows: int) -> None:
        self._path, self._data, self._hashes = folder / CHECKED, data, hashes
        self._looks: dict[str, Callable[[Path], None]] = {
            VECTORS: check_vectors,
            PLACES: check_places,
            NOTES: check_notes,
            TRIPLES: check_sorted,
            FENCES: check_sorted,
            CELLS: partial(check_rows, rows=rows),
            BOUNDS: partial(check_bounds, rows=rows),
            CENTROIDS: check_centroids,
            GRAPH: partial(check_graph, rows=rows),
        }
        try:
            known = read_json(self._path)[data.name]
            self._known = {name: Signature(*known[name]) for name in known}
        except (OSError, ValueError, KeyError, TypeError):
            self._known = {}

    def check(self, name: str, *, again: bool = False) -> Path:
        """Return the path of a file whose hash is right, and what it holds sound.

        Raises
        ------
        LibraryIndexError
            If it is missing or damaged.
        """
        path = self._data / name
        cache = name in CACHES
        mend = "run mmid index rebuild" if cache else "run mmid build-index again"
        try:
            signature = Signature.of(path)
            if again or self._known.get(name) != signature:
                if file_digest(path) != self._hashes.get(name):
                    raise LibraryIndexError(f"{path}: damaged; {mend}")
                if name in self._looks:
                    self._looks[name](path)
                self._remember(name, signature)
        except OSError as error:
            raise LibraryIndexError(f"{path}: {error.strerror}; {mend}") from error
        except ValueError as error:
            raise LibraryIndexError(f"{path}: {error}; {mend}") from error
        return path

    def _remember(self, name: str, signature: Signature) -> None:
        if time.time_ns() - max(signature.changed, signature.created) < SETTLED_NS:
            return
        self._known[name] = signature
        values = {name: list(vars(known).values()) for name, known in self._known.items()}
        with suppress(OSError), written_whole(self._path) as part:
            part.write_text(json.dumps({self._data.name: values}))


class Noted:
    """The notes of the items of an index, wherever it lives, and what their triples find."""

    entries: list[Entry]
    all_notes: np.ndarray

    def _tokens(self) -> SortedFile:
        """Return the triples of all notes; every kind of index has them elsewhere."""
        raise NotImplementedError

    def search_triples(self, notes: np.ndarray, top: int) -> list[Agreement]:
        """Find the places that note triples of a query agree on, as `mmid.triples` does.

        Parameters
        ----------
        notes : np.ndarray of mmid.midi.NOTE_DTYPE
            The query's, sorted by onset.
        top : int
            Places to return, one a piece.
        """
        firsts = np.array([entry.first_note for entry in self.entries])
        return search_triples(self._tokens(), self.all_notes, firsts, notes, top)

    def notes(self, piece: int) -> np.ndarray:
        """Return the notes of a MIDI file, as `mmid.midi.read_midi` read them."""
        return self.notes_of(self.entries[piece])

    def notes_of(self, entry: Entry) -> np.ndarray:
        """Return the notes of a row of the table."""
        return np.asarray(self.all_notes[entry.first_note : entry.first_note + entry.notes])


RETRIES = 5
"""How often to look again for an index that was replaced while it was opened."""


class LibraryIndex(Noted):
    """An index opened for queries; its ``kind`` tells whether it holds MIDI files or recordings.

    Parameters
    ----------
    folder : Path
    model : Checkpoint or None
        Must be the model the index was built with; None to look at the index only.

    Raises
    ------
    LibraryIndexError
        If the index is missing, damaged, of another version or of another model.
    """

    def __init__(self, folder: Path, model: Checkpoint | None) -> None:
        self.folder, self._searched = folder, model is not None
        for _ in range(RETRIES):
            self.manifest = read_manifest(folder)
            self._refuse_other(model)
            try:
                self._open()
                return
            except LibraryIndexError:
                if read_manifest(folder)["data"] == self.manifest["data"]:
                    raise
        raise LibraryIndexError(f"{folder}: is replaced again and again; try later")

    def _refuse_other(self, model: Checkpoint | None) -> None:
        if model is None:
            return
        if self.manifest["model"] != model.fingerprint:
            raise LibraryIndexError(
                f"{self.folder}: built with another model; run mmid build-index again, or give the"
                " --model it was built with"
            )

    @stage("open an index")
    def _open(self) -> None:
        manifest = self.manifest
        self._cells: Cells | None = None
        self._triples: SortedFile | None = None
        self._exact: Any = None
        self.kind: Kind = manifest["kind"]
        data = self.folder / manifest["data"]
        self.checks = Checks(self.folder, data, manifest["files"], manifest["rows"])
        check = self.checks.check
        self.entries: list[Entry] = read_pieces(check(PIECES))
        try:
            self.vectors = np.asarray(map_array(check(VECTORS), np.int8, 2))
            self.places = map_array(check(PLACES), np.uint32)
            self.all_notes = map_array(check(NOTES), NOTE_DTYPE)
            check_table(self.entries, manifest["rows"], len(self.all_notes))
            if not len(self.vectors) == len(self.places) == manifest["rows"]:
                raise ValueError("counts do not agree")
        except (ValueError, OSError) as error:
            raise LibraryIndexError(
                f"{self.folder}: damaged ({error}); run mmid build-index again"
            ) from error
        self._firsts = np.array([entry.first for entry in self.entries])
        LOG.debug("index %s: %d items, %d snippets", self.folder, len(self), self.snippets)
        if self._searched:  # now, as a writer may replace the files later
            self._tokens()
            if self.snippets > EXACT_BELOW:
                self.cells()

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def where(self) -> str:
        """The folder, from the root on."""
        return os.path.abspath(self.folder)

    @property
    def bytes(self) -> int:
        """Size on disk."""
        data = self.folder / self.manifest["data"]
        return sum((data / name).stat().st_size for name in self.manifest["files"])

    @property
    def snippets(self) -> int:
        """How many snippets can be found."""
        return len(self.vectors)

    def search(
        self, queries: np.ndarray, k: int, how: Search = "auto"
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find the nearest snippets of each query.

        Parameters
        ----------
        queries : np.ndarray [n, embedding] float32
            Unit vectors.
        k : int
            Neighbours; fewer if the index is smaller.
        how : {"auto", "exact", "hnsw"}
            Every vector compared, or those of the cells nearest by the graph; ``auto`` by size.

        Returns
        -------
        rows : np.ndarray [n, k] int64
        similarity : np.ndarray [n, k] float32
            Cosine, best first.
        """
        k = min(k, self.snippets)
        if how == "exact" or (how == "auto" and self.snippets <= EXACT_BELOW):
            return self._search_exact(queries, k)
        rows, similarity = self.cells().search(queries, k)
        if (similarity < -1.5).any():  # the cells looked into held too few
            return self._search_exact(queries, k)
        return rows, similarity

    def _search_exact(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        if self._exact is None:
            self._exact = torch.from_numpy(unpack(self.vectors)).T.contiguous()
        found = [
            (torch.from_numpy(part) @ self._exact).topk(k)
            for part in np.array_split(queries, len(queries) // 64 + 1)
        ]
        return (
            np.concatenate([f.indices.numpy() for f in found]),
            np.concatenate([f.values.numpy() for f in found]),
        )

    def cells(self) -> Cells:
        """Return the vectors in their cells.

        Raises
        ------
        LibraryIndexError
            If the files of the cells are damaged or missing.
        """
        if self._cells is None:
            self._cells = self._load_cells()
        return self._cells

    def _load_cells(self) -> Cells:
        check = self.checks.check
        try:
            centroids = np.array(map_array(check(CENTROIDS), np.float32, 2))
            rows, bounds = map_array(check(CELLS), np.uint32), map_array(check(BOUNDS), np.int64)
            graph = load_graph(check(GRAPH), self.vectors.shape[1])
            shapes = len(self.vectors), len(centroids) + 1, self.vectors.shape[1]
            if (len(rows), len(bounds), centroids.shape[1]) != shapes:
                raise ValueError("counts of cells do not agree")
            if graph.element_count != len(centroids):
                raise ValueError("a graph of other cells")
        except (RuntimeError, ValueError, OSError) as error:
            raise LibraryIndexError(f"{self.folder}: {error}; run mmid index rebuild") from error
        return Cells(self.vectors, centroids, np.asarray(rows), np.array(bounds), graph)

    def _tokens(self) -> SortedFile:
        if self._triples is None:
            self._triples = self._load_triples()
        return self._triples

    def _load_triples(self) -> SortedFile:
        try:
            return SortedFile(self.checks.check(TRIPLES), self.checks.check(FENCES))
        except (ValueError, OSError) as error:
            raise LibraryIndexError(f"{self.folder}: {error}; run mmid index rebuild") from error

    def faults(self) -> list[str]:
        """Hash every file again and tell what is damaged."""
        found = []
        for name in (PIECES, VECTORS, PLACES, NOTES, *CACHES):
            try:
                self.checks.check(name, again=True)
            except LibraryIndexError as error:
                found.append(str(error))
        return found

    def item(self, piece: int) -> Embedded:
        """Return all that the index holds of an item."""
        entry = self.entries[piece]
        rows = slice(entry.first, entry.first + entry.count)
        return Embedded(
            entry, self.kind, self.vectors[rows], self.places[rows], self.notes_of(entry)
        )

    def locate(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the item and the first frame of snippets, both shaped like their rows."""
        pieces = np.searchsorted(self._firsts, rows, side="right") - 1
        return pieces, np.asarray(self.places)[rows].astype(np.int64)
