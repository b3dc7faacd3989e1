"""An index on Milvus: snippets are searched there, and what else questions need is copied here.

Conventions: an index NAME is a table of that name with one row, the header, and three tables
``NAME_<12 hex>_snippets``, ``_pieces`` and ``_notes`` that the header names. A piece has a number
that is never given again; a snippet's key is its piece's number and its position, so that a hit
says both at once. What is new is written first, then the header, in one step; then what was dropped
goes. The pieces' rows, notes and note triples are kept in a folder here and follow the header's
version.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from hashlib import sha256
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mmid.errors import LibraryIndexError
from mmid.index.items import Entry
from mmid.index.lock import writing
from mmid.index.manifest import FORMAT, IndexOrigin, Manifest
from mmid.index.melodies import PackedMelodies
from mmid.index.milvus.cache import (
    PART_BITS,
    PIECES_TOGETHER,
    POSITION_BITS,
    Copies,
    Copy,
    IndexHeader,
    note_parts,
    read_rows,
)
from mmid.index.milvus.client import Address, Milvus, Range
from mmid.index.notes import Noted
from mmid.index.pending import Embedded
from mmid.index.quantization import pack, unpack
from mmid.index.sorted_file import SortedFile
from mmid.options import Kind, Search
from mmid.settings import cache_folder
from mmid.system.console import ProgressCallback, quiet, stage

if TYPE_CHECKING:
    from mmid.model.checkpoint import Checkpoint

HEADER_KEYS: Range = (0, 1)
"""The only key of the table of an index's name."""

MOST_LEFT_OUT = 40_000
"""Characters of the header, of 65,535, that the list of files left out may take."""


class ServedIndex(Noted):
    """An index on Milvus, opened for queries; it answers what a `LibraryIndex` does.

    Parameters
    ----------
    server : Milvus
    header : IndexHeader
    copy : Copy
        Of the header's version.
    """

    def __init__(self, server: Milvus, header: IndexHeader, copy: Copy) -> None:
        self._server, self._header, self._folder = server, header, copy.folder
        self.manifest, self.where = header.manifest, str(server.address)
        self.kind: Kind = self.manifest["kind"]
        self.entries, self.all_notes, self._opened_postings = (
            copy.entries(),
            copy.notes(),
            copy.postings(),
        )
        self._melodies = copy.melodies()
        self._firsts = np.array([entry.first for entry in self.entries])

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def snippets(self) -> int:
        """How many snippets can be found."""
        return self.manifest["rows"]

    @property
    def bytes(self) -> int:
        """Size of what is kept here."""
        return sum(path.stat().st_size for path in self._folder.iterdir())

    def search(
        self, queries: np.ndarray, k: int, how: Search = "auto"
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find the nearest snippets of each query, as `LibraryIndex.search` does.

        Parameters
        ----------
        queries : np.ndarray [n, embedding] float32
        k : int
        how : {"auto"}
            The server's way.

        Raises
        ------
        LibraryIndexError
            If it does not answer, or another way is wanted.
        """
        if how != "auto":
            raise LibraryIndexError(
                f"{self.where}: the server searches its own way; leave --search {how} out"
            )
        table = self._header.table(self._server.address.name, "snippets")
        k, end = min(k, self.snippets), self._header.next << POSITION_BITS
        keys, similarity = self._server.search(table, queries, k)
        if (keys >= end).any():  # of pieces that are being added
            return self._server.search(table, queries, k, end)
        return keys, similarity

    def locate(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the item and the first frame of snippets, both shaped like their keys."""
        pieces = np.searchsorted(self._firsts, rows, side="right") - 1
        return pieces, rows - self._firsts[pieces]

    def _postings(self, *, melody: bool = False) -> SortedFile:
        return self._opened_postings[melody]

    def melodies(self) -> PackedMelodies:
        """Return the melodies of all items, packed."""
        return self._melodies

    def item(self, piece: int) -> Embedded:
        """Return all that the index holds of an item."""
        entry = self.entries[piece]
        table = self._header.table(self._server.address.name, "snippets")
        keys, vectors = self._server.vectors(table, _snippet_keys(entry.first >> POSITION_BITS))
        positions = (keys - entry.first).astype(np.uint32)
        return Embedded(entry, self.kind, pack(vectors), positions, self.stored_notes(entry))

    def faults(self) -> list[str]:
        """Compare what the server holds with what the header says."""
        name, count = self._server.address.name, self._server.count
        held = {"snippets": self.snippets, "pieces": len(self)}
        return [
            f"{self.where}: {found:,} {what} on the server, {said:,} expected; run mmid build-index"
            for what, said in held.items()
            if (found := count(self._header.table(name, what))) != said
        ]


class MilvusStore:
    """Where an index on Milvus is read and written.

    One process of this machine may write at a time; the server keeps none of others out.

    Parameters
    ----------
    address : Address
    """

    def __init__(self, address: Address) -> None:
        self.address, self.where = address, str(address)
        self._server = Milvus(address)
        uri = address.uri if "://" in address.uri else str(Path(address.uri).absolute())
        key = sha256(f"{uri}/{address.name}".encode()).hexdigest()[:16]
        folder = cache_folder() / "milvus" / key
        self._copies, self.work = Copies(folder, self._server), folder / "writing"

    def manifest(self) -> Manifest:
        """Return the manifest of the index.

        Raises
        ------
        LibraryIndexError
            If there is none.
        """
        return self._header().manifest

    def _header(self) -> IndexHeader:
        name = self.address.name
        if name not in self._server.tables():
            raise LibraryIndexError(f"{self.where}: no index there; make one with mmid build-index")
        self._server.load(name)
        try:
            header = IndexHeader(**json.loads(self._server.texts(name, HEADER_KEYS)[0]))
        except (KeyError, TypeError, ValueError) as error:
            raise LibraryIndexError(f"{self.where}: no mmid index; choose another name") from error
        if header.manifest["format"] != FORMAT:
            raise LibraryIndexError(
                f"{self.where}: index format {header.manifest['format']!r}, this mmid reads"
                f" {FORMAT}; run mmid build-index again"
            )
        return header

    @stage("open an index")
    def open(self, model: Checkpoint | None) -> ServedIndex:
        """Open the index, and bring what is kept of it here up to it.

        Raises
        ------
        LibraryIndexError
            If there is none, or it is of another model.
        """
        header = self._header()
        if model is not None and header.manifest["model"] != model.fingerprint:
            raise LibraryIndexError(
                f"{self.where}: built with another model; run mmid build-index again, or give the"
                " --model it was built with"
            )
        for what in ("snippets", "pieces", "notes"):
            self._server.load(header.table(self.address.name, what))
        return ServedIndex(self._server, header, self._copies.of(header))

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Be the only writer on this machine, and tidy up what a stopped one left.

        Raises
        ------
        LibraryIndexError
            If another process of this machine writes the index.
        """
        with writing(self.work):
            if self.address.name in self._server.tables():
                self._tidy()
            yield

    def _tidy(self) -> None:
        """Delete tables that the header does not name, rows it does not know, and dropped ones."""
        try:
            header = self._header()
        except LibraryIndexError as error:
            if "index format" in str(error):
                return
            raise
        self._drop_tables(header)
        end = header.next
        self._delete(header, [(end, 1 << 62 - POSITION_BITS)])
        dropped = [entry for goes, entry in read_rows(self._server, header) if goes]
        if dropped:
            self._drop(header, dropped)
            self._commit(replace(header, version=uuid.uuid4().hex))

    def _drop_tables(self, header: IndexHeader) -> None:
        """Drop tables of the index that a header does not name."""
        named = f"{self.address.name}_{header.manifest['data']}_"
        own = f"{self.address.name}_data"
        for table in self._server.tables():
            if table.startswith(own) and not table.startswith(named):
                self._server.drop(table)

    def write(
        self,
        origin: IndexOrigin,
        kept: Sequence[tuple[Entry, Entry]],
        fresh: Sequence[Entry],
        load: Callable[[int], Embedded],
        old: ServedIndex | None = None,
        progress: ProgressCallback = quiet,
    ) -> None:
        """Write the index in place of what is there, as `folder_writer.write_index` does.

        Raises
        ------
        LibraryIndexError
            If an item has several vectors a position, or the server does not do it.
        """
        header = old._header if old else None
        rows = sum(entry.count for entry in [*(after for _, after in kept), *fresh])
        data = header.manifest["data"] if header else f"data{uuid.uuid4().hex[:12]}"
        manifest = origin.manifest(rows, data, {})
        manifest["left_out"] = _fitting(manifest["left_out"])
        if header is None:
            header = IndexHeader(manifest, 0, "")
            self._make(header, load(0).vectors.shape[1])
        held = header.next
        for first in range(0, len(fresh), PIECES_TOGETHER):
            some = range(first, min(first + PIECES_TOGETHER, len(fresh)))
            self._add(header, {held + i: (fresh[i], load(i)) for i in some})
            progress("Sending", some.stop, len(fresh))
        moved = [after for before, after in kept if before != after]
        self._put_rows(header, moved)
        stay = {before.first for before, _ in kept}
        dropped = [entry for entry in old.entries if entry.first not in stay] if old else []
        self._put_rows(header, dropped, dropped=True)
        header = IndexHeader(manifest, held + len(fresh), uuid.uuid4().hex)
        self._commit(header)
        if dropped:
            self._drop(header, dropped)
            self._commit(replace(header, version=uuid.uuid4().hex))
        self._drop_tables(header)

    def _make(self, header: IndexHeader, dimensions: int) -> None:
        for what, size in (("snippets", dimensions), ("pieces", 0), ("notes", 0)):
            self._server.make(header.table(self.address.name, what), size)

    def _add(self, header: IndexHeader, new: dict[int, tuple[Entry, Embedded]]) -> None:
        """Add items by their numbers: snippets and notes, and their rows last."""
        name, keys = self.address.name, []
        for number, (entry, item) in new.items():
            if len(np.unique(item.positions)) < len(item.positions):
                raise LibraryIndexError(
                    f"{self.where}: holds one vector a position, {entry.name} has several:"
                    " build an index folder"
                )
            keys.append((number << POSITION_BITS) + item.positions.astype(np.int64))
        vectors = unpack(np.concatenate([item.vectors for _, item in new.values()]))
        self._server.put_vectors(header.table(name, "snippets"), np.concatenate(keys), vectors)
        parts = (
            (number << PART_BITS | i, part)
            for number, (_, item) in new.items()
            for i, part in enumerate(note_parts(item.notes))
        )
        self._server.put_texts(header.table(name, "notes"), parts)
        self._put_rows(header, [replace(e, first=n << POSITION_BITS) for n, (e, _) in new.items()])

    def _put_rows(
        self, header: IndexHeader, entries: Sequence[Entry], *, dropped: bool = False
    ) -> None:
        rows = (
            (e.first >> POSITION_BITS, json.dumps(asdict(e) | {"dropped": dropped}))
            for e in entries
        )
        self._server.put_texts(header.table(self.address.name, "pieces"), rows)

    def _drop(self, header: IndexHeader, entries: Sequence[Entry]) -> None:
        numbers = [entry.first >> POSITION_BITS for entry in entries]
        self._delete(header, [(number, number + 1) for number in numbers])

    def _delete(self, header: IndexHeader, numbers: Sequence[Range]) -> None:
        """Delete all there is of some pieces, their rows last."""
        for what, bits in (("snippets", POSITION_BITS), ("notes", PART_BITS), ("pieces", 0)):
            table = header.table(self.address.name, what)
            self._server.load(table)
            self._server.delete(table, [(first << bits, end << bits) for first, end in numbers])

    def _commit(self, header: IndexHeader) -> None:
        if self.address.name not in self._server.tables():
            self._server.make(self.address.name)
        self._server.load(self.address.name)
        self._server.put_texts(self.address.name, [(0, json.dumps(asdict(header)))])


def _fitting(left_out: list[list[str]]) -> list[list[str]]:
    """Shorten a list to what the header's text has room for, and say so in its last row."""
    sizes = accumulate(len(json.dumps(pair)) for pair in left_out)
    fits = sum(size < MOST_LEFT_OUT for size in sizes)
    more = len(left_out) - fits
    said = [["...", f"{more} more, which the next mmid build-index names"]] if more else []
    return [*left_out[:fits], *said]


def _snippet_keys(number: int) -> Range:
    return number << POSITION_BITS, (number + 1) << POSITION_BITS
