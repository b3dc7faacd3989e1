"""What an index's files hold, checked before anything relies on it.

Conventions: a hash shows damage to what was written, not who wrote it: whoever shares an index
writes its hashes, too. So every file is looked through once after its hash, with memory that does
not grow with it. A `ValueError` says what is wrong.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from mmid.errors import LibraryIndexError
from mmid.index.hnsw import check_graph
from mmid.index.items import Entry
from mmid.index.manifest import (
    BOUNDS,
    CACHES,
    CENTROIDS,
    CHECKED,
    GRAPH,
    LIST_ROWS,
    MELODIES,
    MELODY_BOUNDS,
    NOTES,
    POSITIONS,
    REPLACED,
    SORTED_FILES,
    VECTORS,
    Manifest,
    data_parts,
)
from mmid.index.melodies import REST
from mmid.index.packed_numbers import PackedNumbers
from mmid.index.quantization import unpack
from mmid.music.notes import NOTE_DTYPE
from mmid.system.arrays import BLOCK_ROWS, find_array, map_array, read_blocks
from mmid.system.files import file_digest, read_json, written_whole

SETTLED_NS = 2_000_000_000
"""A file that changed less than this before it was checked may change again unseen."""

MOST_SECONDS = 1e6
"""No note is later; twelve days, which float32 still resolves to a tenth of a second."""

MOST_SQUARED_LENGTH = 1.2
"""Square of a vector's length: what rounding a unit vector's coordinates may make of it."""


def check_vectors(path: Path) -> None:
    """Look for vectors that are longer than unit vectors."""
    for block in read_blocks(path, np.int8, 2):
        lengths = np.square(unpack(block)).sum(1)
        if not (lengths < MOST_SQUARED_LENGTH).all():
            raise ValueError("holds no unit vectors")


def check_centroids(path: Path) -> None:
    """Look for centroids that are no numbers or longer than unit vectors."""
    for block in read_blocks(path, np.float32, 2):
        if not (np.square(block, dtype=np.float64).sum(1) < MOST_SQUARED_LENGTH).all():
            raise ValueError("holds no unit vectors")


def check_rows(path: Path, rows: int) -> None:
    """Make sure that inverted lists name no vectors that are not there."""
    for block in read_blocks(path, np.uint32):
        if (block >= rows).any():
            raise ValueError("lists what is not there")


def check_bounds(path: Path, snippets: int) -> None:
    """Make sure that inverted lists follow one another and hold so many vectors in all."""
    bounds = map_array(path, np.int64)
    if not len(bounds) or bounds[0] != 0 or bounds[-1] != snippets or (np.diff(bounds) < 0).any():
        raise ValueError("counts do not agree")


def check_positions(path: Path) -> None:
    """Make sure that it holds positions."""
    find_array(path, np.uint32)


def check_notes(path: Path) -> None:
    """Look for notes that no MIDI file has."""
    for block in read_blocks(path, NOTE_DTYPE):
        onset, offset = block["onset"], block["offset"]
        late = (onset >= 0) & (offset >= onset) & (offset < MOST_SECONDS)
        small = [(block[name] < 128).all() for name in ("pitch", "program")]
        if not (late.all() and all(small)):
            raise ValueError("holds notes out of MIDI's range")


def check_melodies(path: Path) -> None:
    """Look for codes of melodies that are none."""
    for block in read_blocks(path, np.uint8):
        if (block > REST).any():
            raise ValueError("holds notes that are none")


def check_melody_bounds(path: Path) -> None:
    """Make sure that items with melodies follow one another."""
    bounds = map_array(path, np.uint32, 2)
    if bounds.shape[0] != 2 or not bounds.shape[1] or bounds[1, 0] != 0:
        raise ValueError("counts do not agree")
    if (bounds[:, 1:] < bounds[:, :-1]).any():
        raise ValueError("is not sorted")


def check_sorted(path: Path) -> None:
    """Make sure that a page index is sorted."""
    _refuse_unsorted(read_blocks(path, np.uint64))


def check_postings(tails: Path, heads: str) -> None:
    """Make sure that postings are sorted and that their heads, in another file, are theirs."""
    check_run_heads(tails.with_name(heads))
    postings = PackedNumbers.map(tails.with_name(heads), tails)
    _refuse_unsorted(postings[i : i + BLOCK_ROWS] for i in range(0, len(postings), BLOCK_ROWS))


def check_run_heads(path: Path) -> None:
    """Make sure that heads are above one another, and begin one behind the other."""
    heads = map_array(path, np.uint32, 2)
    if heads.shape[0] != 2 or not heads.shape[1] or heads[1, 0] != 0:
        raise ValueError("counts do not agree")
    if (heads[:, 1:] <= heads[:, :-1]).any():
        raise ValueError("is not sorted")


def _refuse_unsorted(blocks: Iterable[np.ndarray]) -> None:
    last = np.uint64(0)
    for block in blocks:
        if block[0] < last or (block[1:] < block[:-1]).any():
            raise ValueError("is not sorted")
        last = block[-1]


def check_table(entries: Sequence[Entry], rows: int, notes: int) -> None:
    """Make sure that items follow one another and point at vectors and notes that there are.

    Between them may lie those of items that were removed.

    Parameters
    ----------
    entries : sequence of Entry
    rows, notes : int
        How many vectors and notes there are.

    Raises
    ------
    ValueError
        If not.
    """
    row = note = 0
    for entry in entries:
        if entry.first < row or entry.count < 0 or entry.notes < 0 or entry.first_note < note:
            raise ValueError("counts do not agree")
        row, note = entry.first + entry.count, entry.first_note + entry.notes
    if row > rows or note > notes:
        raise ValueError("counts do not agree")


@dataclass(frozen=True)
class Signature:
    """What changes when a file does."""

    size: int
    changed: int
    created: int
    node: int

    @classmethod
    def of(cls, path: Path) -> Signature:
        """Read it from the file system."""
        stat = path.stat()
        return cls(stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)

    def settled_at(self, when: int) -> bool:
        """Say whether a file was last changed so long before that no change goes unseen."""
        return when - max(self.changed, self.created) >= SETTLED_NS


class Checks:
    """Which files of an index were hashed and have not changed since.

    Parameters
    ----------
    folder : Path
        The index. What was checked is kept there if it can be written, else checked every time.
    manifest : Manifest
        Says what the files' SHA-256 must be.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self._path = folder / CHECKED
        self._parts = [(folder / data, hashes) for data, hashes in data_parts(manifest)]
        rows, delta = manifest["rows"], manifest.get("delta")
        self._looks: dict[str, Callable[[Path], None]] = {
            VECTORS: check_vectors,
            POSITIONS: check_positions,
            NOTES: check_notes,
            MELODIES: check_melodies,
            MELODY_BOUNDS: check_melody_bounds,
            **{names.page_index: check_sorted for names in SORTED_FILES},
            **{names.heads: check_run_heads for names in SORTED_FILES},
            **{n.tails: partial(check_postings, heads=n.heads) for n in SORTED_FILES},
            LIST_ROWS: partial(check_rows, rows=rows),
            BOUNDS: partial(check_bounds, snippets=delta["snippets"] if delta else rows),
            CENTROIDS: check_centroids,
            GRAPH: partial(check_graph, rows=rows),
        }
        self._known = {data.name: self._read_known(data.name) for data, _ in self._parts}

    def _read_known(self, data: str) -> dict[str, Signature]:
        try:
            known = read_json(self._path)[data]
            return {name: Signature(*known[name]) for name in known}
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def check(self, name: str, *, again: bool = False) -> Path:
        """Return the path of a file whose hash is right, and what it holds sound.

        Where the delta replaces it, that is the delta's.

        Raises
        ------
        LibraryIndexError
            If it is missing or damaged.
        """
        replaced = name in REPLACED and len(self._parts) > 1
        return self._check(*self._parts[-1 if replaced else 0], name, again)

    def check_parts(self, name: str, *, again: bool = False) -> list[Path]:
        """Return the paths of all files of a name that count, the delta's last, as `check` does."""
        paths = [self.check(name, again=again)]
        if name not in REPLACED:
            more = [part for part in self._parts[1:] if name in part[1]]
            paths += [self._check(*part, name, again) for part in more]
        return paths

    def _check(self, data: Path, hashes: dict[str, str], name: str, again: bool) -> Path:
        path = data / name
        cache = name in CACHES
        mend = "run mmid index rebuild" if cache else "run mmid build-index again"
        try:
            signature = Signature.of(path)
            if again or self._known[data.name].get(name) != signature:
                if file_digest(path) != hashes.get(name):
                    raise LibraryIndexError(f"{path}: damaged; {mend}")
                if name in self._looks:
                    self._looks[name](path)
                self._remember(data.name, name, signature)
        except OSError as error:
            raise LibraryIndexError(f"{path}: {error.strerror}; {mend}") from error
        except ValueError as error:
            raise LibraryIndexError(f"{path}: {error}; {mend}") from error
        return path

    def _remember(self, data: str, name: str, signature: Signature) -> None:
        if signature.settled_at(time.time_ns()):
            self._known[data][name] = signature
            self._store()

    def trust(self, data: str, hashed: int) -> None:
        """Take the files of a data folder for checked whose writer has hashed them, after a time.

        Parameters
        ----------
        data : str
        hashed : int
            Nanoseconds since 1970; what changed shortly before or later is checked when it is read.
        """
        folder, files = next(part for part in self._parts if part[0].name == data)
        written = {name: Signature.of(folder / name) for name in files}
        settled = {name: one for name, one in written.items() if one.settled_at(hashed)}
        self._known[data] |= settled
        if settled:
            self._store()

    def _store(self) -> None:
        values = {
            data: {name: list(vars(known).values()) for name, known in of_data.items()}
            for data, of_data in self._known.items()
        }
        with suppress(OSError), written_whole(self._path) as part:
            part.write_text(json.dumps(values))
