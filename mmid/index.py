"""The index of a library: snippet vectors, their places, the pieces, and a graph to search them.

Conventions: an index is a folder. ``manifest.json`` names a data folder beside it and the SHA-256
of every file there; it is replaced in one step, so a reader sees the old index or the new one,
whole. Vectors are float16 unit vectors ``[snippets, embedding]``, grouped by piece; a snippet's
place is the frame of the piece it begins at. The graph is a cache of the vectors and is read only
after its hash.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mmid import __version__
from mmid.checkpoint import Checkpoint
from mmid.encoders import embed_frames, fast_autocast, snippet_count
from mmid.errors import LibraryIndexError
from mmid.features import frame_count, piano_roll
from mmid.library import BadFile, Piece
from mmid.params import FeatureParams

FORMAT = "mmid-index-1"
DATA_NAME = re.compile(r"data-[0-9a-f]{12}")
VECTORS, PLACES, PIECES, GRAPH = "vectors.npy", "places.npy", "pieces.json", "graph.bin"

GRAPH_LINKS = 16
BUILD_BREADTH = 120
SEARCH_BREADTH = 96
EXACT_BELOW = 200_000
"""``auto`` searches exactly up to so many snippets: as fast as the graph there, and never wrong."""

Search = Literal["auto", "exact", "hnsw"]


@dataclass(frozen=True)
class Entry:
    """A piece of the index.

    Parameters
    ----------
    name : str
        Path relative to the library folder.
    title : str or None
    seconds : float
    digest : str
        SHA-256 of the MIDI file.
    first, count : int
        Its vectors.
    """

    name: str
    title: str | None
    seconds: float
    digest: str
    first: int
    count: int


@dataclass(frozen=True)
class BuildReport:
    """What a build did."""

    pieces: int
    snippets: int
    seconds_of_music: float
    bad: tuple[BadFile, ...]


def embed_piece(piece: Piece, model: Checkpoint) -> tuple[np.ndarray, np.ndarray]:
    """Embed every snippet of a piece that holds a note's onset.

    Returns
    -------
    vectors : np.ndarray [n, embedding] float16
    places : np.ndarray [n] uint32
        First frame of each.
    """
    encoders, config = model.encoders, model.encoders.config
    params, notes = config.features, piece.midi.notes
    frames = frame_count(piece.midi.seconds, params)

    def draw(first: int, count: int) -> Any:
        return piano_roll(notes, count, params, first=first, device=encoders.device)

    with fast_autocast(encoders.device):
        parts = [
            part.half().cpu().numpy()
            for part in embed_frames(encoders.roll, config.roll, params, frames, draw)
        ]
    vectors = np.concatenate(parts)
    places = np.arange(snippet_count(frames, params, config.roll)) * config.roll.stride
    kept = _has_onset(notes["onset"], places, params)
    return vectors[kept], places[kept].astype(np.uint32)


def _has_onset(onsets: np.ndarray, places: np.ndarray, params: FeatureParams) -> np.ndarray:
    frames = np.sort(onsets) * params.frame_rate
    kept = np.searchsorted(frames, places) < np.searchsorted(frames, places + params.snippet)
    return kept if kept.any() else np.ones_like(kept)


def build_index(
    folder: Path,
    pieces: Iterable[Piece | BadFile],
    model: Checkpoint,
    progress: Callable[[int], None] = lambda done: None,
) -> BuildReport:
    """Embed a library and write its index.

    Parameters
    ----------
    folder : Path
        The index; an mmid index there is replaced, anything else is left alone.
    pieces : iterable of Piece or BadFile
        The library; bad files are reported and skipped.
    model : Checkpoint
    progress : callable
        Told the files done.

    Raises
    ------
    LibraryIndexError
        If the folder holds something else, or no piece could be read.
    """
    _refuse_foreign(folder)
    entries: list[Entry] = []
    vectors: list[np.ndarray] = []
    places: list[np.ndarray] = []
    bad: list[BadFile] = []
    first = 0
    for done, piece in enumerate(pieces, 1):
        if isinstance(piece, BadFile):
            bad.append(piece)
        else:
            embedded, where = embed_piece(piece, model)
            midi = piece.midi
            entry = Entry(piece.name, midi.title, midi.seconds, piece.digest, first, len(where))
            entries.append(entry)
            vectors.append(embedded)
            places.append(where)
            first += len(where)
        progress(done)
    if not entries:
        fault = f"; the first fault: {bad[0].reason}" if bad else ""
        raise LibraryIndexError(f"no piece to index{fault}")
    _write(folder, entries, np.concatenate(vectors), np.concatenate(places), model)
    return BuildReport(len(entries), first, sum(e.seconds for e in entries), tuple(bad))


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
        return FORMAT.encode() in (folder / "manifest.json").read_bytes()
    except OSError:
        return False


def _write(
    folder: Path,
    entries: Sequence[Entry],
    vectors: np.ndarray,
    places: np.ndarray,
    model: Checkpoint,
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / f"data-{uuid.uuid4().hex[:12]}"
    data.mkdir()
    part = folder / f"manifest.{os.getpid()}.part"
    try:
        np.save(data / VECTORS, vectors)
        np.save(data / PLACES, places)
        (data / PIECES).write_text(json.dumps([asdict(entry) for entry in entries]))
        _build_graph(vectors).save_index(str(data / GRAPH))
        manifest = {
            "format": FORMAT,
            "mmid": __version__,
            "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "model": model.fingerprint,
            "features": model.encoders.config.features.to_dict(),
            "snippets": len(vectors),
            "data": data.name,
            "files": {path.name: _sha256(path) for path in sorted(data.iterdir())},
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


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _build_graph(vectors: np.ndarray) -> Any:
    import hnswlib

    graph = hnswlib.Index(space="ip", dim=vectors.shape[1])
    graph.init_index(len(vectors), BUILD_BREADTH, GRAPH_LINKS, random_seed=0)
    graph.add_items(vectors.astype(np.float32))
    return graph


class LibraryIndex:
    """An index opened for queries.

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
        self._data, self._hashes = folder / manifest["data"], manifest["files"]
        self.entries = [Entry(**e) for e in json.loads(self._checked(PIECES).read_text())]
        self.vectors = np.load(self._checked(VECTORS), mmap_mode="r", allow_pickle=False)
        self.places = np.load(self._checked(PLACES), mmap_mode="r", allow_pickle=False)
        self._firsts = np.array([entry.first for entry in self.entries])
        if not len(self.vectors) == len(self.places) == manifest["snippets"]:
            raise LibraryIndexError(f"{folder}: counts do not agree; run mmid build-index again")
        self._graph: Any = None
        self._exact: Any = None

    def __len__(self) -> int:
        return len(self.entries)

    def _checked(self, name: str) -> Path:
        path: Path = self._data / name
        try:
            intact = _sha256(path) == self._hashes.get(name)
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
        import torch

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

    def locate(self, snippets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the piece and the first frame of snippets, both shaped like them."""
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
                f"{folder}: index format {manifest['format']!r}, this mmid reads {FORMAT}"
            )
        if not DATA_NAME.fullmatch(manifest["data"]) or not isinstance(manifest["files"], dict):
            raise ValueError
        return {key: manifest[key] for key in ("model", "data", "files", "snippets", "features")}
    except (ValueError, KeyError, TypeError) as error:
        raise LibraryIndexError(f"{path}: damaged; run mmid build-index again") from error
