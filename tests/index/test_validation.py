"""`validation`: indexes whose author wrote what no index holds, with hashes that are right."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from mmid.errors import LibraryIndexError
from mmid.identify.identifier import Identifier
from mmid.index.build import update_index
from mmid.index.folder import LibraryIndex
from mmid.index.hnsw import GRAPH_HEADER
from mmid.index.manifest import (
    BOUNDS,
    CENTROIDS,
    GRAPH,
    LIST_ROWS,
    MELODIES,
    MELODY_BOUNDS,
    NOTES,
    PIECES,
    POSITIONS,
    POSTINGS,
    VECTORS,
)
from mmid.index.quantization import unpack

Harm = Callable[[Path], None]


@pytest.fixture
def built(tmp_path, midi_folder, tiny_model) -> Path:
    update_index(tmp_path / "index", [midi_folder], tiny_model, jobs=1)
    return tmp_path / "index"


def craft(folder: Path, name: str, harm: Harm) -> None:
    """Change a file as whoever shares an index can: its hash is right again."""
    told = json.loads((folder / "manifest.json").read_text())
    path = folder / told["data"] / name
    harm(path)
    told["files"][name] = sha256(path.read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(told))


def array(change: Callable[[np.ndarray], np.ndarray]) -> Harm:
    def harm(path: Path) -> None:
        np.save(path, np.ascontiguousarray(change(np.load(path))))

    return harm


def field(name: str, value: float) -> Harm:
    def change(notes: np.ndarray) -> np.ndarray:
        notes[name][-1] = value
        return notes

    return array(change)


def row(statement: str) -> Harm:
    def harm(path: Path) -> None:
        with sqlite3.connect(path) as table:
            table.execute(statement)
        table.close()

    return harm


def promise(path: Path) -> None:
    """Have an array's header tell of a row more than there is, in as many bytes."""
    data, rows = path.read_bytes(), len(np.load(path))
    path.write_bytes(data.replace(b"(%d," % rows, b"(%d," % (rows + 1), 1))


def link(place: int, value: int) -> Harm:
    """Change a number of the first vector of a graph."""

    def harm(path: Path) -> None:
        data = bytearray(path.read_bytes())
        first = GRAPH_HEADER.itemsize + place
        data[first : first + 4] = value.to_bytes(4, "little")
        path.write_bytes(data)

    return harm


def pickled(path: Path) -> None:
    np.save(path, np.array([{}]), allow_pickle=True)


@pytest.mark.parametrize(
    ("name", "harm", "reason"),
    [
        (VECTORS, array(lambda a: np.full_like(a, 100)), "holds no unit vectors"),
        (VECTORS, array(lambda a: a[:-1]), "counts do not agree"),
        (VECTORS, promise, "is cut short"),
        (POSITIONS, array(lambda a: a[:-1]), "counts do not agree"),
        (POSITIONS, pickled, "another kind of array"),
        (NOTES, field("pitch", 200), "out of MIDI's range"),
        (NOTES, field("offset", np.inf), "out of MIDI's range"),
        (NOTES, field("onset", np.nan), "out of MIDI's range"),
        (NOTES, array(lambda a: a[:-1]), "counts do not agree"),
        (POSTINGS.tails, array(lambda a: a[::-1]), "is not sorted"),
        (POSTINGS.tails, array(lambda a: a.astype(np.float64)), "another kind of array"),
        (POSTINGS.tails, array(lambda a: a[:-1]), "counts do not agree"),
        (POSTINGS.tails, array(lambda a: a[:, :4]), "another kind of array"),
        (POSTINGS.heads, array(lambda a: a[:, ::-1]), "counts do not agree"),
        (POSTINGS.heads, array(lambda a: a[:, 1:]), "counts do not agree"),
        (POSTINGS.heads, array(lambda a: a[:, [0, 2, 1, *range(3, a.shape[1])]]), "not sorted"),
        (POSTINGS.heads, array(lambda a: a[:, :0]), "counts do not agree"),
        (POSTINGS.heads, pickled, "another kind of array"),
        (POSTINGS.page_index, array(lambda a: a[::-1]), "is not sorted"),
        (POSTINGS.page_index, array(lambda a: a[:-1]), "counts do not agree"),
        (POSTINGS.page_index, promise, "is cut short"),
        (POSTINGS.page_index, pickled, "another kind of array"),
        (LIST_ROWS, array(lambda a: a + np.uint32(1)), "lists what is not there"),
        (LIST_ROWS, array(lambda a: a[:-1]), "counts of inverted lists do not agree"),
        (BOUNDS, array(lambda a: a[::-1]), "counts do not agree"),
        (BOUNDS, array(lambda a: a[1:] * 0), "counts do not agree"),
        (BOUNDS, array(lambda a: np.delete(a, 1)), "counts of inverted lists do not agree"),
        (CENTROIDS, array(lambda a: a * 3), "holds no unit vectors"),
        (CENTROIDS, array(lambda a: a * np.float32(1e30)), "holds no unit vectors"),
        (CENTROIDS, array(lambda a: a * np.float32("nan")), "holds no unit vectors"),
        (CENTROIDS, array(lambda a: a[:-1]), "counts of inverted lists do not agree"),
        (MELODIES, array(lambda a: a[:-1]), "counts of melodies do not agree"),
        (MELODIES, array(lambda a: a | 255), "holds notes that are none"),
        (MELODY_BOUNDS, array(lambda a: a[:, ::-1]), "counts do not agree"),
        (MELODY_BOUNDS, array(lambda a: a[:, [0, 2, 1, *range(3, a.shape[1])]]), "not sorted"),
        (MELODY_BOUNDS, array(lambda a: np.delete(a, 1, 1)), "holds melodies of other pieces"),
        (MELODY_BOUNDS, pickled, "another kind of array"),
        (GRAPH, link(4, 2**31), "links to what is not there"),
        (GRAPH, link(0, 0xFFFF), "links to what is not there"),
        (PIECES, row("UPDATE pieces SET count = 1099511627776"), "counts do not agree"),
        (PIECES, row("UPDATE pieces SET first = -1"), "counts do not agree|damaged"),
        (PIECES, row("UPDATE pieces SET notes = 'x'"), "damaged"),
    ],
)
def test_what_no_index_holds_is_refused(built, tiny_model, name, harm, reason):
    craft(built, name, harm)
    with pytest.raises(LibraryIndexError, match=reason) as refusal:
        index = LibraryIndex(built, tiny_model)
        index.search(unpack(index.vectors[:1]), 1, "hnsw")
    assert "\n" not in str(refusal.value) and "run mmid" in str(refusal.value)


@pytest.mark.parametrize("value", [0, 1, 2**63, 2**64 - 1])
def test_fences_of_other_triples_do_no_more_than_mislead(built, tiny_model, midi_folder, value):
    craft(built, POSTINGS.page_index, array(lambda a: np.full_like(a, value)))
    index = LibraryIndex(built, tiny_model)
    Identifier(tiny_model, index).identify_file(midi_folder / "piece 1.mid")
    found = index.search_triples(index.notes(1), 5)
    assert all(0 <= place.piece < len(index) for place in found)
