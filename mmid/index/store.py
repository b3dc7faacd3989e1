"""Where an index is stored: in a folder or on Milvus.

Conventions: a place is the path of a folder, an address that begins with ``milvus:``, or a store.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mmid.errors import LibraryIndexError
from mmid.index.folder import LibraryIndex
from mmid.index.items import Entry
from mmid.index.manifest import IndexOrigin, Manifest, read_manifest
from mmid.index.milvus import SCHEME
from mmid.index.pending import Embedded
from mmid.index.protocol import Place, Store
from mmid.settings import default_index
from mmid.system.console import ProgressCallback, quiet

if TYPE_CHECKING:
    from mmid.model.checkpoint import Checkpoint


@dataclass(frozen=True)
class FolderStore:
    """An index in a folder; `mmid.index.protocol.Store` says what the methods do.

    Parameters
    ----------
    folder : Path
        The folder of the index, which need not exist yet.
    """

    folder: Path

    @property
    def where(self) -> str:
        """The path of the folder, as it was given."""
        return os.fspath(self.folder)

    @property
    def work(self) -> Path:
        """Where a build keeps unfinished work: the folder itself."""
        return self.folder

    def manifest(self) -> Manifest:
        """Return the manifest.

        Raises
        ------
        LibraryIndexError
            If there is no index, or its manifest is damaged.
        """
        return read_manifest(self.folder)

    def open(self, model: Checkpoint | None) -> LibraryIndex:
        """Open the index for queries with a model; with None, only to read what it holds.

        Raises
        ------
        LibraryIndexError
            If the index is missing, damaged, or made by another model.
        """
        return LibraryIndex(self.folder, model)

    def writing(self) -> AbstractContextManager[None]:
        """Return a context in which no other process writes the index.

        Raises
        ------
        LibraryIndexError
            If another process is writing it, or the folder holds something that is no index.
        """
        from mmid.index.lock import writing

        return writing(self.folder)

    def write(
        self,
        origin: IndexOrigin,
        kept: Sequence[tuple[Entry, Entry]],
        fresh: Sequence[Entry],
        load: Callable[[int], Embedded],
        old: LibraryIndex | None = None,
        progress: ProgressCallback = quiet,
    ) -> None:
        """Write the index in place of the one that is there.

        Parameters
        ----------
        origin : IndexOrigin
            What the manifest will say of its library, model and settings.
        kept : sequence of (Entry, Entry)
            Pieces of the old index that stay: each as it was, and as it will be.
        fresh : sequence of Entry
            Pieces to add.
        load : callable
            Returns what was embedded of the fresh piece at a position.
        old : LibraryIndex or None
            The old index, if there is one.
        progress : callable
            Called with ``(what, done, total)``.
        """
        from mmid.index.change import Change
        from mmid.index.folder_writer import write_index

        write_index(self.folder, origin, Change(kept, fresh, load, progress), old)


def store_at(place: Place | None) -> Store:
    """Return the store that a place names; None is the index in the user's data folder.

    Raises
    ------
    LibraryIndexError
        If it is on Milvus, and the address is wrong, pymilvus missing or no server answers.
    """
    if place is not None and not isinstance(place, (str, os.PathLike)):
        return place
    text = os.fspath(place or default_index())
    if not text.startswith(SCHEME):
        return FolderStore(Path(text))
    from mmid.index.milvus.client import Address
    from mmid.index.milvus.index import MilvusStore

    return MilvusStore(Address.parse(text))


def folder_at(place: Place | None, why: str) -> Path:
    """Return the folder of an index.

    Raises
    ------
    LibraryIndexError
        If it is on Milvus; the message is ``why``.
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
        If there is no index, or it does not name its folders.
    """
    store = store_at(place)
    folders = store.manifest()["folders"]
    if not folders:
        raise LibraryIndexError(f"{store.where}: does not name its library; give its folders")
    return [Path(path) for path in folders]
