"""What an index and its store are, in a folder or on Milvus."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from mmid.index.fingerprint_search import Agreement
from mmid.index.items import Entry
from mmid.index.manifest import IndexOrigin, Manifest
from mmid.index.melodies import PackedMelodies
from mmid.index.pending import Embedded
from mmid.options import Kind, Search
from mmid.system.console import ProgressCallback, quiet

if TYPE_CHECKING:
    from mmid.model.checkpoint import Checkpoint


class Library(Protocol):
    """An index opened, as `LibraryIndex` is, wherever it lives."""

    @property
    def kind(self) -> Kind:
        """What it holds."""

    @property
    def manifest(self) -> Manifest:
        """How it was made."""

    @property
    def entries(self) -> list[Entry]:
        """Its items, by number."""

    @property
    def where(self) -> str:
        """Where it lives."""

    @property
    def snippets(self) -> int:
        """How many snippets can be found."""

    @property
    def bytes(self) -> int:
        """Size on this machine's disk."""

    def __len__(self) -> int: ...

    def search(
        self, queries: np.ndarray, k: int, how: Search = "auto"
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find the nearest snippets of each query, all in one go: rows and similarity."""

    def locate(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the item and the first frame of snippets."""

    def search_triples(
        self,
        notes: np.ndarray,
        top: int,
        keys: Sequence[int] = (0,),
        *,
        melody: bool = False,
        effort: float = 1.0,
    ) -> list[Agreement]:
        """Find the positions that note triples of a query agree on, or those of melodies."""

    def notes(self, piece: int) -> np.ndarray:
        """Return the notes of a MIDI file."""

    def melody(self, piece: int) -> np.ndarray:
        """Return which of the notes of a MIDI file are its melody's."""

    def melodies(self) -> PackedMelodies:
        """Return the melodies of all items, packed."""

    def item(self, piece: int) -> Embedded:
        """Return all that the index holds of an item."""

    def faults(self) -> list[str]:
        """Return what is damaged."""


class Store(Protocol):
    """Where an index is read and written."""

    @property
    def where(self) -> str:
        """Its name for the user."""

    @property
    def work(self) -> Path:
        """A folder of this machine where embedded items wait."""

    def manifest(self) -> Manifest:
        """Return the manifest; raise `LibraryIndexError` if there is no index."""

    def open(self, model: Checkpoint | None) -> Library:
        """Open the index; raise `LibraryIndexError` if it is of another model."""

    def writing(self) -> AbstractContextManager[None]:
        """Be the only writer."""

    def write(
        self,
        origin: IndexOrigin,
        kept: Sequence[tuple[Entry, Entry]],
        fresh: Sequence[Entry],
        load: Callable[[int], Embedded],
        old: Any = None,
        progress: ProgressCallback = quiet,
    ) -> None:
        """Write the index in place of what is there, as `folder_writer.write_index` does."""


Place = str | os.PathLike[str] | Store
