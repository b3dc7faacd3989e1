"""Files of a library to vectors: what an index holds of each.

Conventions: of a file, vectors are packed (`mmid.index.quantization`), int8 ``[snippets,
embedding]``; a snippet's position is the frame of the file it begins at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from multiprocessing import parent_process
from pathlib import Path

import numpy as np
import torch

from mmid.errors import label
from mmid.index.items import Entry
from mmid.index.notes import mark_melody
from mmid.index.pending import Embedded
from mmid.index.quantization import pack
from mmid.model.checkpoint import Checkpoint
from mmid.model.embedding import Query, as_query
from mmid.model.encoders import embed_frames, snippet_count
from mmid.music.bars import NO_BARS
from mmid.music.folders import BadFile
from mmid.music.library import Piece, Recording, read_item
from mmid.music.notes import NOTE_DTYPE
from mmid.music.scores.tune_books import file_of
from mmid.options import Kind
from mmid.system.console import warn
from mmid.system.processes import Engine, parallel

KEPT_EVERY: dict[Kind, int] = {"midi": 2, "recordings": 1}
"""Of a pathway's snippets, every so many is kept: queries are embedded more densely. Recordings
keep all, as the votes alone give the tempo there: no notes are compared."""


def embed_whole(
    query: Query, model: Checkpoint, every: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Embed music in snippets with something to recognise: a note's onset, or sound.

    Parameters
    ----------
    query : Query
    model : Checkpoint
    every : int, optional
        Keep every so many-th snippet of the pathway; by default as `KEPT_EVERY` says.

    Returns
    -------
    vectors : np.ndarray [n, embedding] float32
    positions : np.ndarray [n] uint32
        First frame of each.
    """
    encoders, params = model.encoders, model.encoders.config.features
    query = query.transcribed(encoders)
    drawing = query.at(1.0, encoders.device)
    pathway, shape = query.pathway(encoders)
    with encoders.autocast():
        parts = [
            part.cpu().numpy()
            for part in embed_frames(pathway, shape, params, drawing.frames, drawing.draw)
        ]
    every = every or KEPT_EVERY[query.kind]
    vectors = np.concatenate(parts)[::every]
    positions = np.arange(0, snippet_count(drawing.frames, params, shape), every) * shape.stride
    kept = drawing.has_content(positions, params.snippet)
    kept = kept if kept.any() else np.ones_like(kept)
    grid = positions * (params.frame_rate / drawing.rate)
    return vectors[kept], grid[kept].round().astype(np.uint32)


Embed = Callable[[Piece | Recording, Checkpoint], tuple[np.ndarray, np.ndarray]]


def embed_item(
    item: Piece | Recording, model: Checkpoint, every: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Embed a file of a library as `embed_whole` does, and pack its vectors."""
    query = as_query(item, model.encoders.config.features)
    vectors, positions = embed_whole(query, model, every)
    return pack(vectors), positions


def embed_nothing(item: Piece | Recording, model: Checkpoint) -> tuple[np.ndarray, np.ndarray]:
    """Embed nothing of a file, where only what it is matters."""
    return np.zeros((0, 0), np.int8), np.zeros(0, np.uint32)


def embedded(item: Piece | Recording, model: Checkpoint, embed: Embed) -> Embedded:
    """Embed an item in some way, and make its row of the table."""
    query = as_query(item, model.encoders.config.features)
    vectors, positions = embed(item, model)
    title, damage, bars, notes = None, None, NO_BARS, np.zeros(0, NOTE_DTYPE)
    if isinstance(item, Piece):
        title, damage, bars = item.midi.title, item.midi.damage, item.midi.bars
        notes = mark_melody(item.midi.notes, item.midi.melody)
    size, changed = file_stat(item.path)
    counts = (0, len(positions), 0, len(notes))
    entry = Entry(item.name, title, query.seconds, item.digest, *counts, size, changed, bars)
    return Embedded(entry, query.kind, vectors, positions, notes, damage)


def file_stat(path: Path) -> tuple[int, int]:
    """Return the bytes of a piece's file and when it was changed, ns since 1970; else zeros."""
    try:
        stat = file_of(path).stat()
    except OSError:
        return 0, 0
    return stat.st_size, stat.st_mtime_ns


_worker: dict[str, Checkpoint] = {}
"""A worker process's own model."""


def _start_worker(model: Checkpoint, one_of_many: bool) -> None:
    if one_of_many or parent_process():
        torch.set_num_threads(1)
    _worker["model"] = model


def _embed_file(path: Path, root: Path, kind: Kind, embed: Embed) -> Embedded | BadFile:
    model = _worker["model"]
    item = read_item(path, root, kind, model.encoders.config.features)
    return item if isinstance(item, BadFile) else embedded(item, model, embed)


def embed_files(
    files: Sequence[Path],
    root: Path,
    kind: Kind,
    model: Checkpoint,
    embed: Embed,
    jobs: int | None,
    engine: Engine = parallel,
) -> Iterator[Embedded | BadFile]:
    """Read and embed files: in worker processes or on a cluster on CPUs, else reading only.

    A damaged one is warned of here, where workers' warnings would not be seen.
    """
    for item in _embed_files(files, root, kind, model, embed, jobs, engine):
        if isinstance(item, Embedded) and item.damage:
            warn(f"{label(item.entry.name)}: {item.damage}")
        yield item


def _embed_files(
    files: Sequence[Path],
    root: Path,
    kind: Kind,
    model: Checkpoint,
    embed: Embed,
    jobs: int | None,
    engine: Engine,
) -> Iterator[Embedded | BadFile]:
    batch, least = (32, 64) if kind == "midi" else (1, 8)
    if model.encoders.device.type == "cpu":
        task = partial(_embed_file, root=root, kind=kind, embed=embed)
        start = partial(_start_worker, model, engine is not parallel)
        yield from engine(task, files, jobs, batch=batch, least=least, start=start)
        return
    read = partial(read_item, root=root, kind=kind, params=model.encoders.config.features)
    for item in parallel(read, files, jobs, batch=batch, least=least):
        yield item if isinstance(item, BadFile) else embedded(item, model, embed)
