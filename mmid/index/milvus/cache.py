"""What is kept here of an index on Milvus: its pieces' rows, notes and note triples.

Conventions: as those of `mmid.index.milvus.index`. A copy is a folder that is named after the
version of the index, made whole or not at all, and follows the server: only what is new is fetched.
"""

from __future__ import annotations

import base64
import json
import shutil
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from mmid.index.fingerprint_table import library_postings
from mmid.index.items import Entry, read_pieces, write_pieces
from mmid.index.manifest import (
    MELODIES,
    MELODY_BOUNDS,
    MELODY_POSTINGS,
    NOTES,
    PIECES,
    SORTED_FILES,
    Manifest,
)
from mmid.index.melodies import PackedMelodies, store_melodies
from mmid.index.milvus.client import Milvus
from mmid.index.packed_numbers import PackedNumbers, SortedNames, store_sorted
from mmid.index.sorted_file import SortedFile
from mmid.music.notes import NOTE_DTYPE
from mmid.system.arrays import map_array, store_array

POSITION_BITS = 24
"""Of a snippet's key: 2^24 frames are 200 hours."""

PART_BITS = 10
"""Of the key of a part of a piece's notes."""

PART_BYTES = 48_000
"""Bytes of notes in a part: 64,000 in base64."""

PIECES_TOGETHER = 256
"""Pieces read or written in one go."""

NOTED_TOGETHER = 32
"""Pieces whose notes are read in one round trip: some of them are long."""

HEADER_NAME = "header.json"
MADE = f"[!p]*/{HEADER_NAME}"
"""The copies that are whole: one being made is called part-…"""


@dataclass(frozen=True)
class IndexHeader:
    """What the server says of an index.

    Parameters
    ----------
    manifest : Manifest
        As of an index folder, but for the files; its ``data`` begins the tables' names.
    next : int
        The first number that no piece had yet.
    version : str
        Another one after every write.
    """

    manifest: Manifest
    next: int
    version: str

    def table(self, name: str, what: str) -> str:
        """Name one of the tables of an index."""
        return f"{name}_{self.manifest['data']}_{what}"


def read_rows(server: Milvus, header: IndexHeader) -> Iterator[tuple[bool, Entry]]:
    """Yield the pieces' rows, and of each whether it is about to be dropped."""
    table = header.table(server.address.name, "pieces")
    for first in range(0, header.next, PIECES_TOGETHER):
        end = min(first + PIECES_TOGETHER, header.next)
        for text in server.texts(table, (first, end)).values():
            row = json.loads(text)
            yield row.pop("dropped"), Entry(**row)


def note_parts(notes: np.ndarray) -> Iterator[str]:
    """Yield the notes of a piece as texts that the server takes."""
    raw = notes.tobytes()
    for first in range(0, len(raw), PART_BYTES):
        yield base64.b64encode(raw[first : first + PART_BYTES]).decode()


def read_notes(server: Milvus, header: IndexHeader, entries: Sequence[Entry]) -> np.ndarray:
    """Read the notes of entries that follow one another."""
    table = header.table(server.address.name, "notes")
    first, last = (entry.first >> POSITION_BITS for entry in (entries[0], entries[-1]))
    parts = server.texts(table, (first << PART_BITS, (last + 1) << PART_BITS)).values()
    return np.frombuffer(b"".join(map(base64.b64decode, parts)), NOTE_DTYPE)


@dataclass(frozen=True)
class Copy:
    """A folder with what is kept here of a version of an index."""

    folder: Path
    header: IndexHeader

    def entries(self) -> list[Entry]:
        """Read the pieces' rows; their notes are counted as they lie here."""
        return read_pieces(self.folder / PIECES)

    def notes(self) -> np.ndarray:
        """Map the notes."""
        return map_array(self.folder / NOTES, NOTE_DTYPE)

    def postings(self) -> tuple[SortedFile, ...]:
        """Open the postings of the note triples: of all notes, and of melodies."""
        return tuple(SortedFile(*map(self.folder.joinpath, names)) for names in SORTED_FILES)

    def melodies(self) -> PackedMelodies:
        """Map the melodies of the pieces."""
        codes, bounds = self.folder / MELODIES, self.folder / MELODY_BOUNDS
        return PackedMelodies.map([codes], [bounds], self.entries())

    def packed(self, names: SortedNames) -> PackedNumbers:
        """Map the numbers of some files."""
        return PackedNumbers.map(self.folder / names.heads, self.folder / names.tails)


class Copies:
    """The folder of an index's copies.

    Parameters
    ----------
    folder : Path
        What else lies there is left alone, but for older copies.
    server : Milvus
    """

    def __init__(self, folder: Path, server: Milvus) -> None:
        self._folder, self._server = folder, server

    def of(self, header: IndexHeader) -> Copy:
        """Return the copy of a version; make it from an older one and what is new since."""
        folder = self._folder / header.version
        if not folder.is_dir():
            part = self._folder / f"part-{uuid.uuid4().hex[:12]}"
            part.mkdir(parents=True)
            try:
                self._make(part, header, self._last(header))
                part.rename(folder)
            except OSError:
                if not folder.is_dir():  # else another process was faster
                    raise
            finally:
                shutil.rmtree(part, ignore_errors=True)
        for other in self._folder.glob(MADE):
            if other.parent != folder:
                shutil.rmtree(other.parent, ignore_errors=True)
        return Copy(folder, header)

    def _last(self, header: IndexHeader) -> Copy | None:
        """Return an older copy of the same tables."""
        for path in self._folder.glob(MADE):
            try:
                found = IndexHeader(**json.loads(path.read_text()))
            except (OSError, ValueError, TypeError):
                continue
            if found.manifest["data"] == header.manifest["data"]:
                return Copy(path.parent, found)
        return None

    def _make(self, folder: Path, header: IndexHeader, before: Copy | None) -> None:
        entries = [entry for _, entry in read_rows(self._server, header)]
        known = before.header.next << POSITION_BITS if before else 0
        kept = [entry for entry in entries if entry.first < known]
        parts = self._notes(header, before, kept, entries[len(kept) :])
        notes = store_array(folder / NOTES, sum(e.notes for e in entries), parts, NOTE_DTYPE)
        firsts = np.cumsum([0, *(entry.notes for entry in entries)]).tolist()
        extended = before if before and len(kept) == len(before.entries()) else None
        for names in SORTED_FILES:
            old = extended.packed(names) if extended else None
            melody = names == MELODY_POSTINGS
            postings = library_postings(notes, firsts[:-1], old, firsts[len(kept)], melody=melody)
            store_sorted(folder, names, postings)
        rows = [replace(e, first_note=first) for e, first in zip(entries, firsts, strict=False)]
        store_melodies(folder, notes, rows)
        write_pieces(folder / PIECES, rows)
        (folder / HEADER_NAME).write_text(json.dumps(asdict(header)))

    def _notes(
        self,
        header: IndexHeader,
        before: Copy | None,
        kept: Sequence[Entry],
        fresh: Sequence[Entry],
    ) -> Iterator[np.ndarray]:
        if before:
            stored, here = before.notes(), {entry.first: entry for entry in before.entries()}
            for entry in kept:
                first = here[entry.first].first_note
                yield stored[first : first + entry.notes]
        for first in range(0, len(fresh), NOTED_TOGETHER):
            yield read_notes(self._server, header, fresh[first : first + NOTED_TOGETHER])
