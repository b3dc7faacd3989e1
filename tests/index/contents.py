"""What indexes hold, and whether that is what it should be."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mmid.index.build import update_index
from mmid.index.fingerprint_table import library_postings
from mmid.index.folder import LibraryIndex
from mmid.index.manifest import POSTINGS
from mmid.index.packed_numbers import PackedNumbers
from mmid.index.quantization import unpack
from mmid.model.checkpoint import Checkpoint, save_checkpoint


def counts(report) -> tuple[int, ...]:
    return report.added, report.changed, report.moved, report.unchanged, report.gone


def contents(folder: Path, model) -> dict[str, tuple]:
    """Return what an index holds of each piece, wherever it lies."""
    index = LibraryIndex(folder, model)
    held = {}
    for number, entry in enumerate(index.entries):
        item = index.item(number)
        held[entry.name] = tuple(a.tobytes() for a in (item.vectors, item.positions, item.notes))
    return held


def check_whole(folder: Path, library: Path, model) -> None:
    """Compare an index with one built from nothing, and every vector with what is found for it."""
    fresh = folder.with_name("fresh")
    update_index(fresh, [library], model)
    assert contents(folder, model) == contents(fresh, model)
    index = LibraryIndex(folder, model)
    for number, entry in enumerate(index.entries):
        own = np.arange(entry.first, entry.first + entry.count)
        for how in ("exact", "hnsw"):
            _, similarity = index.search(unpack(index.vectors[own]), 5, how)
            near = similarity[:, 0] > 0.97
            assert near.all() if how == "exact" else near.mean() > 0.95  # a random net crowds
        assert (index.locate(own)[0] == number).all()
    firsts = [entry.first_note for entry in index.entries]
    postings = np.concatenate(list(library_postings(index.all_notes, firsts)))
    data = folder / index.manifest["data"]
    assert np.array_equal(stored_postings(data), postings) and len(postings) > 100


def saved(model: Checkpoint, path: Path) -> Path:
    save_checkpoint(path, model.encoders, {})
    return path


def stored_postings(data: Path) -> np.ndarray:
    return PackedNumbers.map(data / POSTINGS.heads, data / POSTINGS.tails)[:]


def data_folder(folder: Path) -> Path:
    (data,) = folder.glob("data-*")
    return data


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 0x04
    path.write_bytes(data)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
