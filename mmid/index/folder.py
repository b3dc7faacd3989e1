"""The index of a library, opened: snippet vectors, their positions, the items, their notes.

Conventions: an index is a folder. ``manifest.json`` names a data folder beside it and the SHA-256
of every file there; it is replaced in one step, so a reader sees the old index or the new one,
whole. Maybe a second data folder, the delta, goes on where the first one's arrays end; rows and
notes that no item has are those of removed ones (`mmid.index.delta`). An item is a MIDI file or a
recording, and one index holds only one kind. Vectors are packed (`mmid.index.quantization`), int8
``[rows, embedding]``, grouped by item; a snippet's position is the frame of the item it begins at.
The notes of MIDI files are kept as well, to align a query with. `mmid.index.build` writes.
"""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmid.errors import LibraryIndexError
from mmid.index.fingerprints import notes_of
from mmid.index.hnsw import load_graph
from mmid.index.inverted_lists import InvertedLists
from mmid.index.items import Entry, read_pieces
from mmid.index.manifest import (
    BOUNDS,
    CACHES,
    CENTROIDS,
    GRAPH,
    LIST_ROWS,
    MELODIES,
    MELODY_BOUNDS,
    NOTES,
    PIECES,
    POSITIONS,
    SORTED_FILES,
    VECTORS,
    data_parts,
    read_manifest,
)
from mmid.index.melodies import PackedMelodies
from mmid.index.notes import Noted
from mmid.index.packed_numbers import SortedNames
from mmid.index.pending import Embedded
from mmid.index.quantization import unpack
from mmid.index.sorted_file import SortedFile, SortedFiles, SortedNumbers
from mmid.index.spans import rows_within
from mmid.index.validation import Checks, check_table
from mmid.music.notes import NOTE_DTYPE
from mmid.options import Kind, Search
from mmid.system.arrays import joined, map_array
from mmid.system.console import LOG, stage

if TYPE_CHECKING:
    from mmid.model.checkpoint import Checkpoint

EXACT_BELOW = 20_000
"""``auto`` searches exactly up to so many snippets: fast enough there, and never wrong."""

HELD_BITS = 8
"""Notes that agree in all but so many lowest bits are looked at together: are all of items?"""

RETRIES = 5
"""How often to look again for an index that was replaced while it was opened."""


class LibraryIndex(Noted):
    """An index opened for queries; its ``kind`` says whether it holds MIDI files or recordings.

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
                if data_parts(read_manifest(folder)) == data_parts(self.manifest):
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
        self._lists: InvertedLists | None = None
        self._melodies: PackedMelodies | None = None
        self._opened_postings: dict[SortedNames, SortedNumbers] = {}
        self._exact: Any = None
        self.kind: Kind = manifest["kind"]
        self.checks = Checks(self.folder, manifest)
        self.entries: list[Entry] = read_pieces(self.checks.check(PIECES))
        try:
            self.vectors, self.base_rows = self._map(VECTORS, np.int8, 2)
            self.positions, _ = self._map(POSITIONS, np.uint32)
            self.all_notes, self.base_notes = self._map(NOTES, NOTE_DTYPE)
            check_table(self.entries, manifest["rows"], len(self.all_notes))
            self._snippets = sum(entry.count for entry in self.entries)
            if not len(self.vectors) == len(self.positions) == manifest["rows"]:
                raise ValueError("counts do not agree")
        except (ValueError, OSError) as error:
            raise LibraryIndexError(
                f"{self.folder}: damaged ({error}); run mmid build-index again"
            ) from error
        self._firsts = np.array([entry.first for entry in self.entries])
        LOG.debug("index %s: %d items, %d snippets", self.folder, len(self), self.snippets)
        if self._searched:  # now, as a writer may replace the files later
            self._postings()
            self._postings(melody=True)
            self.melodies()
            if self.snippets > EXACT_BELOW:
                self.inverted_lists()

    def _map(self, name: str, dtype: Any, dimensions: int = 1) -> tuple[np.ndarray, int]:
        """Return an array of the index, mapped, and how many rows lie in the first data folder."""
        parts = [
            np.asarray(map_array(path, dtype, dimensions)) for path in self.checks.check_parts(name)
        ]
        return joined(parts), len(parts[0])

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def where(self) -> str:
        """The folder, from the root on."""
        return os.path.abspath(self.folder)

    @property
    def bytes(self) -> int:
        """Size on disk."""
        parts = data_parts(self.manifest)
        paths = (self.folder / data / name for data, files in parts for name in files)
        return sum(path.stat().st_size for path in paths)

    @property
    def snippets(self) -> int:
        """How many snippets can be found."""
        return self._snippets

    @cached_property
    def held_rows(self) -> np.ndarray:
        """The rows of vectors that items have, ``[snippets]`` int64."""
        spans = ((entry.first, entry.count) for entry in self.entries)
        return np.flatnonzero(rows_within(spans, len(self.vectors)))

    @cached_property
    def _held_notes(self) -> np.ndarray:
        """Which of the notes items have, bool."""
        spans = ((entry.first_note, entry.notes) for entry in self.entries)
        return rows_within(spans, len(self.all_notes))

    @cached_property
    def _blocks_held(self) -> np.ndarray:
        """Which blocks of notes items have all of, bool: a table that stays in a cache."""
        firsts = np.arange(0, len(self._held_notes), 1 << HELD_BITS)
        return np.logical_and.reduceat(self._held_notes, firsts)

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
            Every vector compared, or those of the nearest inverted lists; ``auto`` by size.

        Returns
        -------
        rows : np.ndarray [n, k] int64
        similarity : np.ndarray [n, k] float32
            Cosine, best first.
        """
        k = min(k, self.snippets)
        if how == "exact" or (how == "auto" and self.snippets <= EXACT_BELOW):
            return self._search_exact(queries, k)
        rows, similarity = self.inverted_lists().search(queries, k)
        if (similarity < -1.5).any():  # the lists looked into held too few
            return self._search_exact(queries, k)
        return rows, similarity

    def _search_exact(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        import torch

        if self._exact is None:
            self._exact = torch.from_numpy(unpack(self.vectors[self.held_rows])).T.contiguous()
        found = [
            (torch.from_numpy(part) @ self._exact).topk(k)
            for part in np.array_split(queries, len(queries) // 64 + 1)
        ]
        return (
            self.held_rows[np.concatenate([f.indices.numpy() for f in found])],
            np.concatenate([f.values.numpy() for f in found]),
        )

    def inverted_lists(self) -> InvertedLists:
        """Return the vectors in their inverted lists.

        Raises
        ------
        LibraryIndexError
            If the files of the inverted lists are damaged or missing.
        """
        if self._lists is None:
            self._lists = self._load_lists()
        return self._lists

    def _load_lists(self) -> InvertedLists:
        check = self.checks.check
        try:
            centroids = np.array(map_array(check(CENTROIDS), np.float32, 2))
            rows, bounds = (
                map_array(check(LIST_ROWS), np.uint32),
                map_array(check(BOUNDS), np.int64),
            )
            graph = load_graph(check(GRAPH), self.vectors.shape[1])
            shapes = self.snippets, len(centroids) + 1, self.vectors.shape[1]
            if (len(rows), len(bounds), centroids.shape[1]) != shapes:
                raise ValueError("counts of inverted lists do not agree")
            if graph.element_count != len(centroids):
                raise ValueError("a graph of other inverted lists")
        except (RuntimeError, ValueError, OSError) as error:
            raise LibraryIndexError(f"{self.folder}: {error}; run mmid index rebuild") from error
        return InvertedLists(self.vectors, centroids, np.asarray(rows), np.array(bounds), graph)

    def melodies(self) -> PackedMelodies:
        """Return the melodies of all items, packed.

        Raises
        ------
        LibraryIndexError
            If their files are damaged or missing.
        """
        if self._melodies is None:
            codes, bounds = map(self.checks.check_parts, (MELODIES, MELODY_BOUNDS))
            try:
                self._melodies = PackedMelodies.map(codes, bounds, self.entries)
            except (ValueError, OSError) as error:
                message = f"{self.folder}: {error}; run mmid index rebuild"
                raise LibraryIndexError(message) from error
        return self._melodies

    def _postings(self, *, melody: bool = False) -> SortedNumbers:
        names = SORTED_FILES[melody]
        if names not in self._opened_postings:
            self._opened_postings[names] = self._load_sorted(names)
        return self._opened_postings[names]

    def _load_sorted(self, names: SortedNames) -> SortedNumbers:
        try:
            files = [*map(SortedFile, *map(self.checks.check_parts, names))]
        except (ValueError, OSError) as error:
            raise LibraryIndexError(f"{self.folder}: {error}; run mmid index rebuild") from error
        some_removed = sum(entry.notes for entry in self.entries) < len(self.all_notes)
        if some_removed:
            return SortedFiles(files, self._of_held_notes)
        return SortedFiles(files) if len(files) > 1 else files[0]

    def _of_held_notes(self, postings: np.ndarray) -> np.ndarray:
        """Return which postings are of items' notes; what stop-list entries say does not matter."""
        note = np.minimum(notes_of(postings), len(self._held_notes) - 1)
        held = self._blocks_held[note >> HELD_BITS]
        unsettled = np.flatnonzero(~held)
        held[unsettled] = self._held_notes[note[unsettled]]
        return np.asarray(held)

    def faults(self) -> list[str]:
        """Hash every file again and return what is damaged."""
        found = []
        for name in (PIECES, VECTORS, POSITIONS, NOTES, *CACHES):
            try:
                self.checks.check_parts(name, again=True)
            except LibraryIndexError as error:
                found.append(str(error))
        return found

    def item(self, piece: int) -> Embedded:
        """Return all that the index holds of an item."""
        entry = self.entries[piece]
        rows = slice(entry.first, entry.first + entry.count)
        return Embedded(
            entry, self.kind, self.vectors[rows], self.positions[rows], self.stored_notes(entry)
        )

    def locate(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the item and the first frame of snippets, both shaped like their rows."""
        pieces = np.searchsorted(self._firsts, rows, side="right") - 1
        return pieces, np.asarray(self.positions[rows]).astype(np.int64)
