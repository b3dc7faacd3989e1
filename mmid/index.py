"""The index of a library: snippet vectors, their places, the items, and a graph to search them.

Conventions: an index is a folder. ``manifest.json`` names a data folder beside it and the SHA-256
of every file there; it is replaced in one step, so a reader sees the old index or the new one,
whole. An item is a MIDI file or a recording, and one index holds only one kind. Vectors are float16
unit vectors ``[snippets, embedding]``, grouped by item; a snippet's place is the frame of the item
it begins at. The notes of MIDI files are kept as well, to align a query with. The graph is a cache
of the vectors and is read only after its hash.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from mmid import __version__
from mmid.checkpoint import Checkpoint
from mmid.choices import Kind, Search
from mmid.encoders import embed_frames, fast_autocast, snippet_count
from mmid.errors import LibraryIndexError
from mmid.library import BadFile, Piece, Recording, file_digest
from mmid.midi import NOTE_DTYPE
from mmid.query import Query, as_query

FORMAT = "mmid-index-3"

DATA_NAME = re.compile(r"data-[0-9a-f]{12}")
VECTORS, PLACES, NOTES = "vectors.npy", "places.npy", "notes.npy"
PIECES, GRAPH = "pieces.json", "graph.bin"

GRAPH_LINKS = 16
BUILD_BREADTH = 120
SEARCH_BREADTH = 96
EXACT_BELOW = 20_000
"""``auto`` searches exactly up to so many snippets: fast enough there, and never wrong."""


@dataclass(frozen=True)
class Entry:
    """A MIDI file or a recording of the index.

    Parameters
    ----------
    name : str
        Path relative to the library folder.
    title : str or None
        Of a MIDI file that has one.
    seconds : float
    digest : str
        SHA-256 of the file.
    first, count : int
        Its vectors.
    first_note, notes : int
        Its notes; none of a recording.
    """

    name: str
    title: str | None
    seconds: float
    digest: str
    first: int
    count: int
    first_note: int
    notes: int


@dataclass(frozen=True)
class BuildReport:
    """What a build did."""

    kind: Kind
    items: int
    snippets: int
    seconds_of_music: float
    bad: tuple[BadFile, ...]


def embed_whole(query: Query, model: Checkpoint) -> tuple[np.ndarray, np.ndarray]:
    """Embed every snippet with something to recognise: a note's onset, or sound.

    Returns
    -------
    vectors : np.ndarray [n, embedding] float16
    places : np.ndarray [n] uint32
        First frame of each.
    """
    encoders, params = model.encoders, model.encoders.config.features
    query = query.listened(encoders)
    drawing = query.at(1.0, encoders.device)
    pathway, shape = query.pathway(encoders)
    with fast_autocast(encoders.device):
        parts = [
            part.half().cpu().numpy()
            for part in embed_frames(pathway, shape, params, drawing.frames, drawing.draw)
        ]
    places = np.arange(snippet_count(drawing.frames, params, shape)) * shape.stride
    kept = drawing.heard_from(places, params.snippet)
    kept = kept if kept.any() else np.ones_like(kept)
    grid = places * (params.frame_rate / drawing.rate)
    return np.concatenate(parts)[kept], grid[kept].round().astype(np.uint32)


Embed = Callable[[Piece | Recording, Checkpoint], tuple[np.ndarray, np.ndarray]]


def embed_item(item: Piece | Recording, model: Checkpoint) -> tuple[np.ndarray, np.ndarray]:
    """Embed a file of a library as `embed_whole` does."""
    return embed_whole(as_query(item, model.encoders.config.features), model)


def build_index(
    folder: Path,
    items: Iterable[Piece | Recording | BadFile],
    model: Checkpoint,
    progress: Callable[[int], None] = lambda done: None,
    embed: Embed = embed_item,
) -> BuildReport:
    """Embed a library and write its index.

    Parameters
    ----------
    folder : Path
        The index; an mmid index there is replaced, anything else is left alone.
    items : iterable of Piece, Recording or BadFile
        The library, of one kind; bad files are reported and skipped.
    model : Checkpoint
    progress : callable
        Told the files done.
    embed : callable
        Gives the vectors and places of an item, as `embed_item` does.

    Raises
    ------
    LibraryIndexError
        If the folder holds something else, no file could be read, or the library is of both kinds.
    """
    _refuse_foreign(folder)
    entries: list[Entry] = []
    vectors: list[np.ndarray] = []
    places: list[np.ndarray] = []
    notes: list[np.ndarray] = [np.zeros(0, NOTE_DTYPE)]
    bad: list[BadFile] = []
    kinds: set[Kind] = set()
    first = first_note = 0
    for done, item in enumerate(items, 1):
        if isinstance(item, BadFile):
            bad.append(item)
        else:
            query = as_query(item, model.encoders.config.features)
            embedded, where = embed(item, model)
            title, written = None, notes[0]
            if isinstance(item, Piece):
                title, written = item.midi.title, item.midi.notes
            own = (first, len(where), first_note, len(written))
            entries.append(Entry(item.name, title, query.seconds, item.digest, *own))
            vectors.append(embedded)
            places.append(where)
            notes.append(written)
            kinds.add(query.kind)
            first, first_note = first + len(where), first_note + len(written)
        progress(done)
    if not entries:
        fault = f"; the first fault: {bad[0].reason}" if bad else ""
        raise LibraryIndexError(f"nothing to index{fault}")
    if len(kinds) > 1:
        raise LibraryIndexError("MIDI files and recordings: build an index of each")
    (kind,) = kinds
    arrays = {VECTORS: vectors, PLACES: places, NOTES: notes}
    _write(folder, kind, entries, {n: np.concatenate(a) for n, a in arrays.items()}, model)
    return BuildReport(kind, len(entries), first, sum(e.seconds for e in entries), tuple(bad))


def _refuse_foreign(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise LibraryIndexError(f"{folder}: is a file; an index is a folder")
    if folder.is_dir() and any(folder.iterdir()) and not (_data_folders(folder) or _named(folder)):
        raise LibraryIndexError(
            f"{folder}: not empty and not an mmid index; choose another --index"
        )


def _data_folders(folder: Path) -> list[Path]:
    return [path for path in folder.glob("data-*") if DATA_NAME.fullmatch(path.name)]


def _named(folder: Path) -> bool:
    """Tell whether a manifest, maybe damaged, is mmid's: many programs have a file so called."""
    try:
        return b"mmid-index-" in (folder / "manifest.json").read_bytes()
    except OSError:
        return False


def _write(
    folder: Path,
    kind: Kind,
    entries: Sequence[Entry],
    arrays: dict[str, np.ndarray],
    model: Checkpoint,
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / f"data-{uuid.uuid4().hex[:12]}"
    data.mkdir()
    part = folder / f"manifest.{os.getpid()}.part"
    try:
        for name, array in arrays.items():
            np.save(data / name, array)
        (data / PIECES).write_text(json.dumps([asdict(entry) for entry in entries]))
        build_graph(arrays[VECTORS]).save_index(str(data / GRAPH))
        manifest = {
            "format": FORMAT,
            "kind": kind,
            "mmid": __version__,
            "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "model": model.fingerprint,
            "features": model.encoders.config.features.to_dict(),
            "snippets": len(arrays[VECTORS]),
            "data": data.name,
            "files": {path.name: file_digest(path) for path in sorted(data.iterdir())},
        }
        part.write_text(json.dumps(manifest, indent=1))
        part.replace(folder / "manifest.json")
    except BaseException:
        shutil.rmtree(data, ignore_errors=True)
        part.unlink(missing_ok=True)
        raise
    for old in _data_folders(folder):
        if old != data:
            shutil.rmtree(old, ignore_errors=True)


def build_graph(vectors: np.ndarray) -> Any:
    """Build the HNSW graph of unit vectors ``[n, embedding]``, with all cores."""
    import hnswlib

    graph = hnswlib.Index(space="ip", dim=vectors.shape[1])
    graph.init_index(len(vectors), M=GRAPH_LINKS, ef_construction=BUILD_BREADTH, random_seed=0)
    graph.add_items(vectors.astype(np.float32))
    return graph


class LibraryIndex:
    """An index opened for queries; its ``kind`` tells whether it holds MIDI files or recordings.

    Parameters
    ----------
    folder : Path
    model : Checkpoint
        Must be the model the index was built with.

    Raises
    ------
    LibraryIndexError
        If the index is missing, damaged, of another version or of another model.
    """

    def __init__(self, folder: Path, model: Checkpoint) -> None:
        self.folder, manifest = folder, _read_manifest(folder)
        if manifest["model"] != model.fingerprint:
            raise LibraryIndexError(
                f"{folder}: built with another model; run mmid build-index again, or give the"
                " --model it was built with"
            )
        self.kind: Kind = manifest["kind"]
        self._data, self._hashes = folder / manifest["data"], manifest["files"]
        self.entries = [Entry(**e) for e in json.loads(self._checked(PIECES).read_text())]
        self.vectors = np.load(self._checked(VECTORS), mmap_mode="r", allow_pickle=False)
        self.places = np.load(self._checked(PLACES), mmap_mode="r", allow_pickle=False)
        self._notes = np.load(self._checked(NOTES), mmap_mode="r", allow_pickle=False)
        self._firsts = np.array([entry.first for entry in self.entries])
        written = sum(entry.notes for entry in self.entries)
        if not (
            len(self.vectors) == len(self.places) == manifest["snippets"]
            and (len(self._notes), self._notes.dtype) == (written, NOTE_DTYPE)
        ):
            raise LibraryIndexError(f"{folder}: counts do not agree; run mmid build-index again")
        self._graph: Any = None
        self._exact: Any = None

    def __len__(self) -> int:
        return len(self.entries)

    def _checked(self, name: str) -> Path:
        path: Path = self._data / name
        try:
            intact = file_digest(path) == self._hashes.get(name)
        except OSError as error:
            raise LibraryIndexError(
                f"{path}: {error.strerror}; run mmid build-index again"
            ) from error
        if not intact:
            raise LibraryIndexError(f"{path}: damaged; run mmid build-index again")
        return path

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
            Every vector compared, or the graph; ``auto`` by size.

        Returns
        -------
        snippets : np.ndarray [n, k] int64
        similarity : np.ndarray [n, k] float32
            Cosine, best first.
        """
        k = min(k, len(self.vectors))
        if how == "exact" or (how == "auto" and len(self.vectors) <= EXACT_BELOW):
            return self._search_exact(queries, k)
        return self._search_graph(queries, k)

    def _search_exact(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        if self._exact is None:
            self._exact = torch.from_numpy(np.asarray(self.vectors, np.float32)).T.contiguous()
        found = [
            (torch.from_numpy(part) @ self._exact).topk(k)
            for part in np.array_split(queries, len(queries) // 64 + 1)
        ]
        return (
            np.concatenate([f.indices.numpy() for f in found]),
            np.concatenate([f.values.numpy() for f in found]),
        )

    def _search_graph(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        if self._graph is None:
            import hnswlib

            self._graph = hnswlib.Index(space="ip", dim=self.vectors.shape[1])
            self._graph.load_index(str(self._checked(GRAPH)))
        self._graph.set_ef(max(SEARCH_BREADTH, 2 * k))
        try:
            labels, distance = self._graph.knn_query(queries, k)
        except RuntimeError:
            return self._search_exact(queries, k)
        return labels.astype(np.int64), 1 - distance

    def notes(self, piece: int) -> np.ndarray:
        """Return the notes of a MIDI file, as `mmid.midi.read_midi` read them."""
        entry = self.entries[piece]
        return np.asarray(self._notes[entry.first_note : entry.first_note + entry.notes])

    def locate(self, snippets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the item and the first frame of snippets, both shaped like them."""
        pieces = np.searchsorted(self._firsts, snippets, side="right") - 1
        return pieces, np.asarray(self.places)[snippets].astype(np.int64)


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / "manifest.json"
    if not path.is_file():
        raise LibraryIndexError(f"{folder}: no index there; make one with mmid build-index FOLDER")
    try:
        manifest = json.loads(path.read_text())
        if manifest["format"] != FORMAT:
            raise LibraryIndexError(
                f"{folder}: index format {manifest['format']!r}, this mmid reads {FORMAT}; run"
                " mmid build-index again"
            )
        if not DATA_NAME.fullmatch(manifest["data"]) or not isinstance(manifest["files"], dict):
            raise ValueError
        if manifest["kind"] not in get_args(Kind):
            raise ValueError
        wanted = ("kind", "model", "data", "files", "snippets", "features")
        return {key: manifest[key] for key in wanted}
    except (ValueError, KeyError, TypeError) as error:
        raise LibraryIndexError(f"{path}: damaged; run mmid build-index again") from error
