"""Libraries to indexes: what is new is embedded, what is known is kept.

Conventions: embedded items go to ``pending-*`` in the index folder first, a file every few seconds,
so that a build that was stopped goes on from there; `mmid.index.folder_writer` makes an index of
them. `mmid.index.library_folders` says which folders, `mmid.index.update_plan` what has to be done.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from mmid.errors import LibraryIndexError, label
from mmid.index.embedder import KEPT_EVERY, Embed, embed_item, embed_nothing, embedded
from mmid.index.items import Entry, LeftOut
from mmid.index.library_folders import Followed, follow_folders, known_manifest, refuse_missing
from mmid.index.manifest import IndexOrigin
from mmid.index.pending import Embedded, Pending
from mmid.index.protocol import Library, Place, Store
from mmid.index.store import store_at
from mmid.index.update_plan import COUNTED, USUAL, Plan, Update, UpdateOptions
from mmid.model.checkpoint import Checkpoint
from mmid.music.folders import BadFile, item_name
from mmid.music.formats import unread_here
from mmid.music.library import Piece, Recording
from mmid.options import Kind, LibraryKind
from mmid.system.console import ProgressCallback, quiet, stage
from mmid.system.processes import Engine, parallel

EMBEDDED = "mmid-index-8"
"""Since which format of indexes embedded items are as they are now."""


@dataclass(frozen=True)
class BuildReport:
    """What a build did, or would do.

    Parameters
    ----------
    kind : {"midi", "recordings"}
    items, snippets, seconds_of_music : int, int, float
        What the index holds now. A dry run does not know the snippets of new files.
    bad : tuple of BadFile
        What is left out.
    added, changed, moved, unchanged, gone : int
        Files; ``moved`` counts those known under another name, ``gone`` those dropped.
    kept : int
        Files that are not there and whose pieces stay.
    broken : tuple of BadFile
        Of `bad`, what the index held before.
    missing : tuple of Path
        Folders it follows that are not there, or are empty.
    skipped : dict of str to int
        Other files of music, by their suffixes.
    folders : dict of str to dict of str to int
        The same counts, and that of files left out, of each folder.
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
    kept: int = 0
    broken: tuple[BadFile, ...] = ()
    missing: tuple[Path, ...] = ()
    skipped: dict[str, int] = field(default_factory=dict)
    folders: dict[str, dict[str, int]] = field(default_factory=dict)


def recipe_of(kind: Kind, every: int | None = None) -> dict[str, Any]:
    """Return how `embed_item` embeds; vectors made by another recipe are not mixed with these."""
    return {"every": every or KEPT_EVERY[kind]}


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
        Called with the number of files done.
    embed : callable
        Gives the vectors and positions of an item, as `embed_item` does.
    recipe : dict, optional
        What distinguishes this way of embedding; by default `recipe_of` its kind.

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
        kind = fresh[0].kind
        origin = _origin(kind, model, recipe or recipe_of(kind))
        store.write(origin, [], entries, fresh.__getitem__)
    return _report(kind, entries, bad, added=len(fresh))


def _origin(
    kind: Kind,
    model: Checkpoint,
    recipe: dict[str, Any],
    library: Followed | None = None,
    bad: Sequence[BadFile] = (),
) -> IndexOrigin:
    made = IndexOrigin(
        kind, model.fingerprint, model.encoders.config.features.to_dict(), recipe, "", ()
    )
    if library is None:
        return made
    root, folders = os.fspath(library.root), tuple(map(os.fspath, library.folders))
    left_out = tuple(LeftOut(item_name(b.path, library.root), b.why) for b in bad)
    return replace(made, root=root, folders=folders, left_out=left_out)


def _refuse_nothing(entries: Sequence[Entry], bad: Sequence[BadFile]) -> None:
    if not entries:
        fault = f"; the first fault: {bad[0].reason}" if bad else ""
        raise LibraryIndexError(f"nothing to index{fault}")


def _report(
    kind: Kind, entries: Sequence[Entry], bad: Sequence[BadFile], **more: Any
) -> BuildReport:
    snippets, seconds = sum(e.count for e in entries), sum(e.seconds for e in entries)
    return BuildReport(kind, len(entries), snippets, seconds, tuple(bad), **more)


@stage("bring the index up to date")
def update_index(
    place: Place,
    library: Sequence[Path],
    model: Checkpoint,
    kind: LibraryKind = "auto",
    options: UpdateOptions = USUAL,
    *,
    jobs: int | None = None,
    engine: Engine = parallel,
    progress: ProgressCallback = quiet,
) -> BuildReport:
    """Bring an index up to the folders it follows and those named now; the first time, build it.

    A file is known by its name, size and time of change, else by its SHA-256: what only moved is
    not embedded again. What was embedded by a run that was stopped is taken up. Pieces of a folder
    that is not there, or is empty, or cannot be read, stay.

    Parameters
    ----------
    place : str, Path or Store
        The index.
    library : sequence of Path
        Folders, or single files; they are added to those that the index follows.
    model : Checkpoint
        Where it is not the one the index was built with, everything is embedded again.
    kind : {"auto", "midi", "recordings"}
        What a new index holds; an old one's stays.
    options : UpdateOptions
    jobs : int, optional
        Worker processes; all cores by default.
    engine : Engine
        What embeds, if not the processes of this machine; it does so on CPUs.
    progress : callable
        Called with ``(what, done, total)``.

    Raises
    ------
    LibraryIndexError
        As of `build_index`; if the index holds the other kind; or if pieces would be lost for good.
    MmidError
        If a folder of the library is missing or holds no file.
    """
    store = store_at(place)
    refuse_missing(library)
    with nullcontext() if options.dry_run else store.writing():
        followed = follow_folders(store, library, kind, only=options.replace)
        every = options.every or _every_before(store, followed.kind)
        origin = _origin(followed.kind, model, recipe_of(followed.kind, every), followed)
        update = _prepared(store, origin, followed, options)
        embed = embed_nothing if options.dry_run else partial(embed_item, every=every)
        update.embed(model, embed, jobs, engine, progress)
        plan = update.plan(options.keep_missing)
        if update.held and not options.replace:
            _refuse_dropping(update.held, plan.total("gone"))
        _refuse_nothing(plan.entries, update.bad)
        followed = update.still_followed(plan)
        if not options.dry_run:
            origin = _origin(followed.kind, model, origin.recipe, followed, update.bad)
            _write(store, origin, plan, update, progress)
    return _update_report(followed, plan, update)


def _prepared(
    store: Store, origin: IndexOrigin, followed: Followed, options: UpdateOptions
) -> Update:
    """Open what is there, which must not be lost."""
    held = _opened(store)
    reused = None if options.anew else _reusable(held, origin)
    if held and not reused and not options.replace:
        _refuse_losing(held, followed)
    pending = None if options.dry_run else _pending(store, origin, options.anew)
    return Update(held, reused, pending, followed)


def _update_report(followed: Followed, plan: Plan, update: Update) -> BuildReport:
    return _report(
        followed.kind,
        plan.entries,
        update.bad,
        **{name: plan.total(name) for name in COUNTED},
        broken=tuple(update.broken),
        missing=followed.missing,
        skipped=followed.skipped,
        folders=plan.by_folder(),
    )


def _refuse_dropping(held: Library, gone: int) -> None:
    """Refuse to drop what may lie in folders that an index was built from but does not name."""
    if gone and not held.manifest["root"]:
        raise LibraryIndexError(
            f"{held.where}: does not name its library, and {gone} of its pieces are not in what"
            " you named; --replace drops them"
        )


def _write(
    store: Store, origin: IndexOrigin, plan: Plan, update: Update, progress: ProgressCallback
) -> None:
    """Write the index, unless it is there as it should be; nothing is pending then."""
    old = update.reused
    as_it_was = old is not None and IndexOrigin.of(old.manifest) == origin
    if not (old and as_it_was and not plan.fresh and plan.keeps_all(old.entries)):

        def load(number: int) -> Embedded:
            return update.load(plan.fresh[number].digest)

        store.write(origin, plan.kept, plan.fresh, load, old, progress)
    if update.pending is not None:
        update.pending.clear()


def _lost(folder: Path) -> str:
    return (
        f"{label(folder)} is not there, and its pieces would have to be embedded again; connect"
        " it, or drop them with --replace"
    )


def _every_before(store: Store, kind: Kind) -> int | None:
    """Return how densely the index holds its items; it says nothing of another kind."""
    known = known_manifest(store)
    try:
        return int(known["recipe"]["every"]) if known and known["kind"] == kind else None
    except (KeyError, TypeError, ValueError):
        return None


def _key(origin: IndexOrigin) -> str:
    """Name what embedded items depend on besides their files."""
    text = json.dumps([EMBEDDED, origin.kind, origin.model, origin.recipe], sort_keys=True)
    return sha256(text.encode()).hexdigest()[:12]


def _pending(store: Store, origin: IndexOrigin, anew: bool) -> Pending:
    pending = Pending(store.work, _key(origin))
    if anew:
        pending.clear()
    return pending


def _opened(store: Store) -> Library | None:
    """Open the index that lies there, if it can be."""
    try:
        return store.open(None)
    except LibraryIndexError:
        return None


def _reusable(old: Library | None, origin: IndexOrigin) -> Library | None:
    """Return an index if its vectors are as they would be made now."""
    return old if old and _key(IndexOrigin.of(old.manifest)) == _key(origin) else None


def _refuse_losing(held: Library, followed: Followed) -> None:
    """Refuse to embed everything again where the files of some pieces are not there."""
    for entry in held.entries:
        name = followed.renamed(entry.name, held.manifest["root"])
        folder = followed.folder_of(name)
        if folder in followed.missing:
            raise LibraryIndexError(f"{held.where}: {_lost(folder)}")
        if unread_here(name):
            raise LibraryIndexError(
                f"{held.where}: {label(name)} cannot be read here, and would have to be embedded"
                " again; install what reads it (mmid doctor), or drop it with --replace"
            )
