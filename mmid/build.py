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
from pathlib import Path
from typing import Any

from mmid.checkpoint import Checkpoint
from mmid.choices import Kind, LibraryKind
from mmid.console import Tell, quiet, stage
from mmid.embed import EVERY, Embed, embed_files, embed_item, embedded, file_stat
from mmid.errors import LibraryIndexError
from mmid.index import FORMAT
from mmid.library import (
    BadFile,
    Piece,
    Recording,
    file_digest,
    item_name,
    library_root,
    list_library,
)
from mmid.pending import Embedded, Pending
from mmid.pieces import Entry
from mmid.store import Library, Place, Store, store_at
from mmid.workers import Engine, parallel
from mmid.writer import Origin


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


def recipe_of(kind: Kind, every: int | None = None) -> dict[str, Any]:
    """Tell how `embed_item` embeds; vectors made by another recipe are not mixed with these."""
    return {"every": every or EVERY[kind]}


def build_index(
    place: Place,
    items: Iterable[Piece | Recording | BadFile],
    model: Checkpoint,
    progress: Callable[[int], None] = lambda done: None,
    embed: Embed = embed_item,
    recipe: dict[str, Any] | None = None,
) -> BuildReport:
    """Embed items that were read and write their index; nothing that was there is kept.

    Parameters
    ----------
    place : str, Path or Store
        The index; an mmid index there is replaced, anything else is left alone.
    items : iterable of Piece, Recording or BadFile
        The library, of one kind; bad files are reported and skipped.
    model : Checkpoint
    progress : callable
        Told the files done.
    embed : callable
        Gives the vectors and places of an item, as `embed_item` does.
    recipe : dict, optional
        What tells this way of embedding from others; by default `recipe_of` its kind.

    Raises
    ------
    LibraryIndexError
        If the folder holds something else, no file could be read, the library is of both kinds, or
        another process writes the index.
    """
    store = store_at(place)
    with store.writing():
        fresh: list[Embedded] = []
        bad: list[BadFile] = []
        for done, item in enumerate(items, 1):
            if isinstance(item, BadFile):
                bad.append(item)
            else:
                fresh.append(embedded(item, model, embed))
            progress(done)
        if len({item.kind for item in fresh}) > 1:
            raise LibraryIndexError("MIDI files and recordings: build an index of each")
        entries = [item.entry for item in fresh]
        _refuse_nothing(entries, bad)
        origin = _origin(fresh[0].kind, model, recipe or recipe_of(fresh[0].kind))
        store.write(origin, [], entries, fresh.__getitem__)
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


@stage("bring the index up to date")
def update_index(
    place: Place,
    library: Sequence[Path],
    model: Checkpoint,
    kind: LibraryKind = "auto",
    *,
    jobs: int | None = None,
    keep_missing: bool = False,
    anew: bool = False,
    every: int | None = None,
    engine: Engine = parallel,
    progress: Tell = quiet,
) -> BuildReport:
    """Bring an index up to its library; the first time, build it.

    A file is known by its name, size and time of change, else by its SHA-256: what only moved is
    not embedded again. What was embedded by a run that was stopped is taken up.

    Parameters
    ----------
    place : str, Path or Store
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
    every : int, optional
        As of `mmid.embed.embed_whole`; by default as the index that is there, if any.
    engine : Engine
        What embeds, if not the processes of this machine; it does so on CPUs.
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
    store = store_at(place)
    every = every or _every_before(store)
    root = library_root(library)
    origin = _origin(what, model, recipe_of(what, every), root, library)
    with store.writing():
        old = None if anew else _reusable(store, origin)
        pending = Pending(store.work, _key(origin))
        if anew:
            pending.clear()
        update = _Update(old, pending, {item_name(path, root): path for path in files})
        embed = partial(embed_item, every=every)
        try:
            for done, _ in enumerate(update.embed(root, model, what, embed, jobs, engine), 1):
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

            def load(number: int) -> Embedded:
                return update.load(fresh[number].digest)

            store.write(origin, kept, fresh, load, old, progress)
        pending.clear()
    return _report(what, entries, update.bad, **counts)


def _every_before(store: Store) -> int | None:
    try:
        return int(store.manifest()["recipe"]["every"])
    except (LibraryIndexError, KeyError, TypeError, ValueError):
        return None


def _key(origin: Origin) -> str:
    """Name what embedded items depend on besides their files."""
    text = json.dumps([FORMAT, origin.kind, origin.model, origin.recipe], sort_keys=True)
    return sha256(text.encode()).hexdigest()[:12]


def _reusable(store: Store, origin: Origin) -> Library | None:
    """Open the index that lies there, if its vectors are as they would be made now."""
    try:
        old = store.open(None)
    except LibraryIndexError:
        return None
    return old if _key(Origin.of(old.manifest)) == _key(origin) else None


class _Update:
    """What is known of a library's files, and what has to be embedded.

    Parameters
    ----------
    old : Library or None
    pending : Pending
    files : dict of str to Path
        By their names in the index.
    """

    def __init__(self, old: Library | None, pending: Pending, files: dict[str, Path]) -> None:
        self._old, self._pending, self._files = old, pending, files
        self._entries = old.entries if old else []
        self._by_name = {entry.name: i for i, entry in enumerate(self._entries)}
        self._by_digest = {entry.digest: i for i, entry in enumerate(self._entries)}
        self._digests: dict[str, str] = {}
        self.bad: list[BadFile] = []

    def embed(
        self,
        root: Path,
        model: Checkpoint,
        kind: Kind,
        embed: Embed,
        jobs: int | None,
        engine: Engine,
    ) -> Iterator[str]:
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
        for name, item in zip(
            unknown, embed_files(paths, root, kind, model, embed, jobs, engine), strict=True
        ):
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
