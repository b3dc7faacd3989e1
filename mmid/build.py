"""Libraries to indexes: what is new is embedded, what is known is kept.

Conventions: embedded items go to ``pending-*`` in the index folder first, a file every few seconds,
so that a build that was stopped goes on from there; `mmid.writer` makes an index of them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmid.checkpoint import Checkpoint
from mmid.choices import Kind, LibraryKind
from mmid.encoders import embed_frames, fast_autocast, snippet_count
from mmid.errors import LibraryIndexError
from mmid.index import FORMAT, LibraryIndex
from mmid.library import (
    BadFile,
    Piece,
    Recording,
    file_digest,
    item_name,
    library_root,
    list_library,
    parallel,
    read_item,
)
from mmid.midi import NOTE_DTYPE
from mmid.pending import Embedded, Pending
from mmid.pieces import Entry
from mmid.query import Query, as_query
from mmid.writer import Origin, Tell, tell_nobody, write_index, writing

EVERY: dict[Kind, int] = {"midi": 2, "recordings": 1}
"""Of a pathway's snippets, every so many is kept: queries are embedded more densely. Recordings
keep all, as the votes alone tell the tempo there: no notes are compared."""


@dataclass(frozen=True)
class BuildReport:
    """What a build did.

    ``items`` and ``snippets`` count what the index holds now; the other counts are of files,
    ``moved`` those known under another name, ``gone`` those no longer in the library.
    """

    kind: Kind
    items: int
    snippets: int
    seconds_of_music: float
    bad: tuple[BadFile, ...]
    added: int = 0
    changed: int = 0
    moved: int = 0
    unchanged: int = 0
    gone: int = 0


# ---- embedding


def embed_whole(query: Query, model: Checkpoint) -> tuple[np.ndarray, np.ndarray]:
    """Embed music in snippets with something to recognise: a note's onset, or sound.

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
    every = EVERY[query.kind]
    vectors = np.concatenate(parts)[::every]
    places = np.arange(0, snippet_count(drawing.frames, params, shape), every) * shape.stride
    kept = drawing.heard_from(places, params.snippet)
    kept = kept if kept.any() else np.ones_like(kept)
    grid = places * (params.frame_rate / drawing.rate)
    return vectors[kept], grid[kept].round().astype(np.uint32)


Embed = Callable[[Piece | Recording, Checkpoint], tuple[np.ndarray, np.ndarray]]


def embed_item(item: Piece | Recording, model: Checkpoint) -> tuple[np.ndarray, np.ndarray]:
    """Embed a file of a library as `embed_whole` does."""
    return embed_whole(as_query(item, model.encoders.config.features), model)


def _embedded(item: Piece | Recording, model: Checkpoint, embed: Embed) -> Embedded:
    query = as_query(item, model.encoders.config.features)
    vectors, places = embed(item, model)
    title, notes = None, np.zeros(0, NOTE_DTYPE)
    if isinstance(item, Piece):
        title, notes = item.midi.title, item.midi.notes
    size, changed = file_stat(item.path)
    counts = (0, len(places), 0, len(notes))
    entry = Entry(item.name, title, query.seconds, item.digest, *counts, size, changed)
    return Embedded(entry, query.kind, vectors, places, notes)


def file_stat(path: Path) -> tuple[int, int]:
    """Return the bytes of a file and when it was changed, ns since 1970; zeros if not known."""
    try:
        stat = path.stat()
    except OSError:
        return 0, 0
    return stat.st_size, stat.st_mtime_ns


_worker: dict[str, Checkpoint] = {}
"""A worker process's own model."""


def _start_worker(model: Checkpoint) -> None:
    if parent_process():  # a worker, one of many
        torch.set_num_threads(1)
    _worker["model"] = model


def _embed_file(path: Path, root: Path, kind: Kind) -> Embedded | BadFile:
    model = _worker["model"]
    item = read_item(path, root, kind, model.encoders.config.features)
    return item if isinstance(item, BadFile) else _embedded(item, model, embed_item)


def _embed_files(
    files: Sequence[Path], root: Path, kind: Kind, model: Checkpoint, jobs: int | None
) -> Iterator[Embedded | BadFile]:
    """Read and embed files: in worker processes on the CPU, else reading only."""
    batch, least = (32, 64) if kind == "midi" else (1, 8)
    if model.encoders.device.type == "cpu":
        embed = partial(_embed_file, root=root, kind=kind)
        start = partial(_start_worker, model)
        yield from parallel(embed, files, jobs, batch=batch, least=least, start=start)
        return
    read = partial(read_item, root=root, kind=kind, params=model.encoders.config.features)
    for item in parallel(read, files, jobs, batch=batch, least=least):
        yield item if isinstance(item, BadFile) else _embedded(item, model, embed_item)


# ---- building


RECIPE: dict[str, Any] = {"every": EVERY}
"""How `embed_item` embeds; vectors made another way are not mixed with these."""


def build_index(
    folder: Path,
    items: Iterable[Piece | Recording | BadFile],
    model: Checkpoint,
    progress: Callable[[int], None] = lambda done: None,
    embed: Embed = embed_item,
    recipe: dict[str, Any] = RECIPE,
) -> BuildReport:
    """Embed items that were read and write their index; nothing that was there is kept.

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
    recipe : dict
        What tells this way of embedding from others.

    Raises
    ------
    LibraryIndexError
        If the folder holds something else, no file could be read, the library is of both kinds, or
        another process writes the index.
    """
    with writing(folder):
        fresh: list[Embedded] = []
        bad: list[BadFile] = []
        for done, item in enumerate(items, 1):
            if isinstance(item, BadFile):
                bad.append(item)
            else:
                fresh.append(_embedded(item, model, embed))
            progress(done)
        if len({item.kind for item in fresh}) > 1:
            raise LibraryIndexError("MIDI files and recordings: build an index of each")
        entries = [item.entry for item in fresh]
        _refuse_nothing(entries, bad)
        origin = _origin(fresh[0].kind, model, recipe)
        write_index(folder, origin, [], entries, fresh.__getitem__)
    return _report(origin.kind, entries, bad, added=len(fresh))


def _origin(
    kind: Kind,
    model: Checkpoint,
    recipe: dict[str, Any],
    root: Path | None = None,
    folders: Sequence[Path] = (),
) -> Origin:
    features = model.encoders.config.features.to_dict()
    places = tuple(str(folder.absolute()) for folder in folders)
    return Origin(
        kind, model.fingerprint, features, recipe, str(root.absolute()) if root else "", places
    )


def _refuse_nothing(entries: Sequence[Entry], bad: Sequence[BadFile]) -> None:
    if not entries:
        fault = f"; the first fault: {bad[0].reason}" if bad else ""
        raise LibraryIndexError(f"nothing to index{fault}")


def _report(
    kind: Kind, entries: Sequence[Entry], bad: Sequence[BadFile], **counts: int
) -> BuildReport:
    snippets, seconds = sum(e.count for e in entries), sum(e.seconds for e in entries)
    return BuildReport(kind, len(entries), snippets, seconds, tuple(bad), **counts)


def update_index(
    folder: Path,
    library: Sequence[Path],
    model: Checkpoint,
    kind: LibraryKind = "auto",
    *,
    jobs: int | None = None,
    keep_missing: bool = False,
    anew: bool = False,
    progress: Tell = tell_nobody,
) -> BuildReport:
    """Bring an index up to its library; the first time, build it.

    A file is known by its name, size and time of change, else by its SHA-256: what only moved is
    not embedded again. What was embedded by a run that was stopped is taken up.

    Parameters
    ----------
    folder : Path
        The index.
    library : sequence of Path
        Folders, or single files.
    model : Checkpoint
        Where it is not the one the index was built with, everything is embedded again.
    kind : {"auto", "midi", "recordings"}
    jobs : int, optional
        Worker processes; all cores by default.
    keep_missing : bool
        Keep items whose files are not in the library any more.
    anew : bool
        Embed every file again.
    progress : callable
        Told ``(what, done, total)``.

    Raises
    ------
    LibraryIndexError
        As of `build_index`.
    MmidError
        If a folder of the library is missing or holds no file.
    """
    what, files = list_library(library, kind)
    root = library_root(library)
    origin = _origin(what, model, RECIPE, root, library)
    with writing(folder):
        old = None if anew else _reusable(folder, origin)
        pending = Pending(folder, _key(origin))
        if anew:
            pending.clear()
        update = _Update(old, pending, {item_name(path, root): path for path in files})
        try:
            for done, _ in enumerate(update.embed(root, model, what, jobs), 1):
                progress("Indexing", done, len(files))
        finally:
            pending.flush()
        kept, fresh, counts = update.plan(keep_missing)
        entries = [*(after for _, after in kept), *fresh]
        _refuse_nothing(entries, update.bad)
        as_it_was = (
            old and [b for b, _ in kept] == old.entries and Origin.of(old.manifest) == origin
        )
        if fresh or not as_it_was or any(before != after for before, after in kept):
            digests = [entry.digest for entry in fresh]
            load = lambda i: update.load(digests[i])  # noqa: E731
            write_index(folder, origin, kept, fresh, load, old, progress)
        pending.clear()
    return _report(what, entries, update.bad, **counts)


def _key(origin: Origin) -> str:
    """Name what embedded items depend on besides their files."""
    text = json.dumps([FORMAT, origin.kind, origin.model, origin.recipe], sort_keys=True)
    return sha256(text.encode()).hexdigest()[:12]


def _reusable(folder: Path, origin: Origin) -> LibraryIndex | None:
    """Open the index that lies there, if its vectors are as they would be made now."""
    try:
        old = LibraryIndex(folder, None)
    except LibraryIndexError:
        return None
    return old if _key(Origin.of(old.manifest)) == _key(origin) else None


class _Update:
    """What is known of a library's files, and what has to be embedded.

    Parameters
    ----------
    old : LibraryIndex or None
    pending : Pending
    files : dict of str to Path
        By their names in the index.
    """

    def __init__(self, old: LibraryIndex | None, pending: Pending, files: dict[str, Path]) -> None:
        self._old, self._pending, self._files = old, pending, files
        self._entries = old.entries if old else []
        self._by_name = {entry.name: i for i, entry in enumerate(self._entries)}
        self._by_digest = {entry.digest: i for i, entry in enumerate(self._entries)}
        self._digests: dict[str, str] = {}
        self.bad: list[BadFile] = []

    def embed(self, root: Path, model: Checkpoint, kind: Kind, jobs: int | None) -> Iterator[str]:
        """Embed what is not known; yields the name of each file that is done."""
        unknown = []
        for name, path in self._files.items():
            digest = self._known(name, path)
            if digest is None:
                unknown.append(name)
            else:
                self._digests[name] = digest
                yield name
        paths = [self._files[name] for name in unknown]
        for name, item in zip(unknown, _embed_files(paths, root, kind, model, jobs), strict=True):
            if isinstance(item, BadFile):
                self.bad.append(item)
            else:
                self._digests[name] = item.entry.digest
                self._pending.add(item)
            yield name

    def _known(self, name: str, path: Path) -> str | None:
        """Return the digest of a file that was embedded before."""
        if name in self._by_name:
            entry = self._entries[self._by_name[name]]
            if (entry.size, entry.changed) == file_stat(path) != (0, 0):
                return entry.digest
        if not (self._by_digest or len(self._pending)):
            return None
        try:
            digest = file_digest(path)
        except OSError:
            return None
        return digest if digest in self._by_digest or digest in self._pending else None

    def plan(
        self, keep_missing: bool
    ) -> tuple[list[tuple[Entry, Entry]], list[Entry], dict[str, int]]:
        """Return the old rows kept, with what they say now, the new rows, and counts of files."""
        kept: dict[int, Entry] = {}
        fresh: list[Entry] = []
        counts = Counter(dict.fromkeys(("added", "changed", "moved", "unchanged", "gone"), 0))
        for name, digest in self._digests.items():
            place = self._place(name, digest)
            size, changed = file_stat(self._files[name])
            if place is None or place in kept:
                entry = self.load_entry(digest)
                fresh.append(replace(entry, name=name, size=size, changed=changed))
                counts["changed" if name in self._by_name else "added"] += 1
            else:
                before = self._entries[place]
                kept[place] = replace(before, name=name, size=size, changed=changed)
                counts["unchanged" if before.name == name else "moved"] += 1
        left = [
            i for i, e in enumerate(self._entries) if i not in kept and e.name not in self._files
        ]
        if keep_missing:
            kept |= {i: self._entries[i] for i in left}
        else:
            counts["gone"] = len(left)
        return [(self._entries[i], kept[i]) for i in sorted(kept)], fresh, counts

    def _place(self, name: str, digest: str) -> int | None:
        """Find the old row of a file: of its name if it is the same, else of its content."""
        place = self._by_name.get(name)
        if place is not None and self._entries[place].digest == digest:
            return place
        place = self._by_digest.get(digest)
        if place is not None and self._entries[place].name in self._files:
            return None  # that file is there still, this is a copy of it
        return place

    def load_entry(self, digest: str) -> Entry:
        """Return what is known of a content."""
        if digest in self._pending:
            return self._pending.entries[digest]
        return self._entries[self._by_digest[digest]]

    def load(self, digest: str) -> Embedded:
        """Return a content, embedded."""
        if digest in self._pending:
            return self._pending[digest]
        assert self._old
        return self._old.item(self._by_digest[digest])
