"""Embedded items on disk on their way into an index: what a stopped build had done already.

Conventions: a shard is an .npz file, written whole or not at all. Nothing in it is unpickled; one
that cannot be read is deleted, its work is done again.
"""

from __future__ import annotations

import json
import shutil
import time
import uuid
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from mmid.index.items import Entry
from mmid.options import Kind
from mmid.system.files import written_whole

SHARD_SECONDS = 20.0
"""At most so much work is lost when a build is stopped."""

STORED = {"vectors": "vectors", "places": "positions", "notes": "notes"}
"""Arrays of a shard, and the attribute of `Embedded` that each holds."""


@dataclass(frozen=True, eq=False)
class Embedded:
    """An item ready for an index: its row of the table, and what the row points at.

    Notes say which are the melody's (`mmid.index.notes`).
    """

    entry: Entry
    kind: Kind
    vectors: np.ndarray
    positions: np.ndarray
    notes: np.ndarray
    damage: str | None = None  # of the file; not kept


class Pending:
    """Embedded items on disk, by their digest, until they are in an index.

    Parameters
    ----------
    folder : Path
        Of an index.
    key : str
        Of the model and the recipe they are embedded by; what has another key is deleted.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self._folder = folder / f"pending-{key}"
        for other in folder.glob("pending-*"):
            if other != self._folder:
                shutil.rmtree(other, ignore_errors=True)
        self._where: dict[str, tuple[Path, int]] = {}
        self.entries: dict[str, Entry] = {}
        self._waiting: list[Embedded] = []
        self._since = time.monotonic()
        self._open: tuple[Path, list[Embedded]] | None = None
        for shard in sorted(self._folder.glob("*.npz")):
            self._know(shard)

    def _know(self, shard: Path) -> None:
        try:
            items = self._read(shard)
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
            shard.unlink(missing_ok=True)  # it is only work to be done again
            return
        self._locate(shard, items)

    def _locate(self, shard: Path, items: list[Embedded]) -> None:
        self._where |= {item.entry.digest: (shard, i) for i, item in enumerate(items)}
        self.entries |= {item.entry.digest: item.entry for item in items}

    def _read(self, shard: Path) -> list[Embedded]:
        if self._open and self._open[0] == shard:
            return self._open[1]
        with np.load(shard, allow_pickle=False) as file:
            rows = json.loads(bytes(file["table"]))
            vectors, positions, notes = file["vectors"], file["places"], file["notes"]
        items, first, first_note = [], 0, 0
        for kind, row in rows:
            entry = Entry(**row)
            end, end_note = first + entry.count, first_note + entry.notes
            parts = vectors[first:end], positions[first:end], notes[first_note:end_note]
            items.append(Embedded(entry, kind, *parts))
            first, first_note = end, end_note
        self._open = shard, items
        return items

    def __contains__(self, digest: str) -> bool:
        return digest in self._where

    def __len__(self) -> int:
        return len(self._where)

    def __getitem__(self, digest: str) -> Embedded:
        shard, position = self._where[digest]
        return self._read(shard)[position]

    def add(self, item: Embedded) -> None:
        """Take an item; it is on disk after `SHARD_SECONDS` at most, or `flush`."""
        self._waiting.append(item)
        if time.monotonic() - self._since > SHARD_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what was taken."""
        if self._waiting:
            self._folder.mkdir(parents=True, exist_ok=True)
            shard = (
                self._folder / f"{len(list(self._folder.iterdir())):06}-{uuid.uuid4().hex[:6]}.npz"
            )
            rows = [(item.kind, asdict(item.entry)) for item in self._waiting]
            arrays = {
                name: np.concatenate([getattr(item, attribute) for item in self._waiting])
                for name, attribute in STORED.items()
            }
            table = np.frombuffer(json.dumps(rows).encode(), np.uint8)
            with written_whole(shard) as part, part.open("wb") as file:
                np.savez(file, allow_pickle=False, table=table, **arrays)
            self._locate(shard, self._waiting)
            self._waiting = []
        self._since = time.monotonic()

    def clear(self) -> None:
        """Delete it all."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._where, self.entries, self._waiting, self._open = {}, {}, [], None
