"""Where indexes live, in a folder or on Milvus: what questions and builds ask of either.

Conventions: a place is the path of a folder, or an address that begins with ``milvus:``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mmid.checkpoint import Checkpoint
from mmid.choices import Kind, Search
from mmid.console import Tell, quiet
from mmid.defaults import default_index
from mmid.errors import LibraryIndexError
from mmid.index import LibraryIndex, Manifest, read_manifest
from mmid.milvus import SCHEME, Address
from mmid.pending import Embedded
from mmid.pieces import Entry
from mmid.served import MilvusStore
from mmid.triples import Agreement
from mmid.writer import Origin, write_index, writing


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

    def search_triples(self, notes: np.ndarray, top: int) -> list[Agreement]:
        """Find the places that note triples of a query agree on."""

    def notes(self, piece: int) -> np.ndarray:
        """Return the notes of a MIDI file."""

    def item(self, piece: int) -> Embedded:
        """Return all that the index holds of an item."""

    def faults(self) -> list[str]:
        """Tell what is damaged."""


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
        origin: Origin,
        kept: Sequence[tuple[Entry, Entry]],
        fresh: Sequence[Entry],
        load: Callable[[int], Embedded],
        old: Any = None,
        progress: Tell = quiet,
    ) -> None:
        """Write the index in place of what is there, as `mmid.writer.write_index` does."""


@dataclass(frozen=True)
class FolderStore:
    """An index in a folder."""

    folder: Path

    @property
    def where(self) -> str:
        """The folder's name."""
        return os.fspath(self.folder)

    @property
    def work(self) -> Path:
        """The folder itself."""
        return self.folder

    def manifest(self) -> Manifest:
        """Return the manifest."""
        return read_manifest(self.folder)

    def open(self, model: Checkpoint | None) -> LibraryIndex:
        """Open the index."""
        return LibraryIndex(self.folder, model)

    def writing(self) -> AbstractContextManager[None]:
        """Be the only writer."""
        return writing(self.folder)

    def write(
        self,
        origin: Origin,
        kept: Sequence[tuple[Entry, Entry]],
        fresh: Sequence[Entry],
        load: Callable[[int], Embedded],
        old: LibraryIndex | None = None,
        progress: Tell = quiet,
    ) -> None:
        """Write the index in place of what is there."""
        write_index(self.folder, origin, kept, fresh, load, old, progress)


Place = str | os.PathLike[str] | Store


def store_at(place: Place | None) -> Store:
    """Return the store that a place names; None is the folder in the user's data.

    Raises
    ------
    LibraryIndexError
        If it is on Milvus, and the address is wrong, pymilvus missing or the server silent.
    """
    if place is not None and not isinstance(place, (str, os.PathLike)):
        return place
    text = os.fspath(place or default_index())
    return MilvusStore(Address.parse(text)) if text.startswith(SCHEME) else FolderStore(Path(text))


def folder_at(place: Place | None, why: str) -> Path:
    """Return the folder of an index.

    Raises
    ------
    LibraryIndexError
        If it lives elsewhere; ``why`` tells the user what that means.
    """
    store = store_at(place)
    if isinstance(store, FolderStore):
        return store.folder
    raise LibraryIndexError(f"{store.where}: {why}")


def library_of(place: Place | None) -> list[Path]:
    """Return the library folders that an index was built from.

    Raises
    ------
    LibraryIndexError
        If there is no index, or it does not tell.
    """
    store = store_at(place)
    folders = store.manifest()["folders"]
    if not folders:
        raise LibraryIndexError(f"{store.where}: does not tell its library; name its folders")
    return [Path(path) for path in folders]
