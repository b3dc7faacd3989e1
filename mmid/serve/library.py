"""The library that is served: searched, looked through, changed one change at a time.

Conventions: methods may be called from any thread. A query goes on with the index it began with,
whatever becomes of the library meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event, Lock
from typing import Any

from mmid.errors import MmidError, label
from mmid.identify.identifier import Identifier
from mmid.identify.search_options import SearchOptions
from mmid.index.build import BuildReport, update_index
from mmid.index.items import Entry
from mmid.index.maintenance import describe, left_out, remove_pieces
from mmid.index.manifest import MANIFEST
from mmid.index.protocol import Library, Store
from mmid.index.store import FolderStore
from mmid.model.checkpoint import Checkpoint
from mmid.music.formats import skipped_lines
from mmid.serve.errors import Cancelled, Refused

MOST_LISTED = 500
"""Pieces on a page of the library, at most."""


@dataclass
class Work:
    """A change of the library that is under way.

    Parameters
    ----------
    what : str
        What is done, as a person would say it.
    stage : str
    done, total : int
        How far this stage is.
    """

    what: str
    stage: str = "Starting"
    done: int = 0
    total: int = 0


class ServedLibrary:
    """A model and an index in memory.

    Parameters
    ----------
    store : Store
        Where the index is, or will be.
    model : Checkpoint
    jobs : int
        Worker processes of a build.
    changed : callable
        Called, in whatever thread, when there is news of the work under way.

    Raises
    ------
    LibraryIndexError
        If there is an index that cannot be opened.
    """

    def __init__(
        self,
        store: Store,
        model: Checkpoint,
        jobs: int | None = 1,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._store, self._model, self._jobs, self.changed = store, model, jobs, changed
        self._opening, self._changing, self._cancelled = Lock(), Lock(), Event()
        self._index: Library | None = None
        self._seen: object = None
        self.work: Work | None = None
        self.last: dict[str, Any] | None = None
        self._reopen()

    @property
    def where(self) -> str:
        """Where the index is."""
        return self._store.where

    def identifier(self, options: SearchOptions = SearchOptions()) -> Identifier:
        """Return an identifier over the library as it is now.

        Raises
        ------
        Refused
            If nothing is indexed.
        """
        index = self.current()
        if index is None:
            raise Refused(409, "nothing is indexed yet; add a folder of MIDI files")
        return Identifier(self._model, index, options)

    def current(self) -> Library | None:
        """Return the index as it is on disk now; None where there is none."""
        if self._signature() != self._seen:
            self._reopen()
        return self._index

    def _signature(self) -> object:
        """Return what changes with the index, if it is in a folder."""
        if not isinstance(self._store, FolderStore):
            return ""
        with suppress(OSError):
            found = (self._store.folder / MANIFEST).stat()
            return found.st_mtime_ns, found.st_ino, found.st_size
        return None

    def _reopen(self) -> None:
        with self._opening:
            seen = self._signature()
            if seen == self._seen and seen is not None:
                return
            self._index = None if seen is None else self._store.open(self._model)
            self._seen = seen

    def listing(self, search: str = "", offset: int = 0, limit: int = 50) -> dict[str, Any]:
        """Return what is indexed, and those pieces whose names or titles hold all words.

        Parameters
        ----------
        search : str
            Words, in any case.
        offset, limit : int
            Of the pieces found, by name, those from the first on, and how many.
        """
        index, words = self.current(), search.casefold().split()
        if index is None:
            return {"kind": None, "items": 0, "hours": 0.0, "folders": [], "left_out": 0} | {
                "index": label(self.where),
                "found": 0,
                "pieces": [],
            }
        info = describe(index)
        found = sorted((e for e in index.entries if _holds(e, words)), key=lambda e: e.name)
        copies = _copies(index.entries)
        shown = found[offset : offset + min(limit, MOST_LISTED)]
        return {
            "kind": info.kind,
            "items": info.items,
            "hours": info.hours,
            "folders": list(info.folders),
            "left_out": info.left_out,
            "index": label(self.where),
            "found": len(found),
            "pieces": [_described(entry, copies) for entry in shown],
        }

    def left_out(self, offset: int = 0, limit: int = 50) -> dict[str, Any]:
        """Return what of its folders the library does not hold, and why."""
        index = self.current()
        items = left_out(index) if index else ()
        shown = items[offset : offset + min(limit, MOST_LISTED)]
        return {"found": len(items), "files": [asdict(item) for item in shown]}

    def build(self, folder: str | None) -> dict[str, Any]:
        """Add a folder of this machine, or bring the library up to those it follows.

        Returns
        -------
        dict
            How many files were added and so on, and the reasons why files were left out.

        Raises
        ------
        Refused
            If the library is being changed already, or no such folder can be named.
        Cancelled
            If `cancel` was called; what was embedded until then is used the next time.
        MmidError
            As of `mmid.index.build.update_index`.
        """
        folders = [_folder_named(folder)] if folder is not None else []
        what = f"Adding {label(folder)}" if folder is not None else "Rebuilding"
        return self._change(what, lambda: self._update(folders))

    def _update(self, folders: Sequence[Path]) -> dict[str, Any]:
        report = update_index(
            self._store, folders, self._model, jobs=self._jobs, progress=self._advance
        )
        return _reported(report)

    def remove(self, names: Sequence[str]) -> dict[str, Any]:
        """Take pieces, or a folder that is followed, out of the library.

        Raises
        ------
        Refused
            If the library is being changed already.
        LibraryIndexError
            If there is no such piece, or nothing would be left.
        """

        def work() -> dict[str, Any]:
            return {"removed": list(map(label, remove_pieces(self._store, names, self._advance)))}

        return self._change("Removing", work)

    def cancel(self) -> bool:
        """Stop the change that is under way; return whether there is one."""
        self._cancelled.set()
        return self.work is not None

    def _change(self, what: str, change: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        if not self._changing.acquire(blocking=False):
            raise Refused(409, "the library is being changed already; wait, or cancel that")
        try:
            self._cancelled.clear()
            self.work = Work(what)
            self.changed()
            self.last = {"what": what, "error": None, **change()}
            self._reopen()
        except (MmidError, OSError) as error:
            self.last = {"what": what, "error": str(error)}
            raise
        finally:
            self.work = None
            self._changing.release()
            self.changed()
        return self.last

    def _advance(self, stage: str, done: int, total: int) -> None:
        if self._cancelled.is_set():
            raise Cancelled("cancelled; what is done already is used the next time")
        self.work = Work(self.work.what if self.work else "", stage, done, total)
        self.changed()


def _holds(entry: Entry, words: Sequence[str]) -> bool:
    text = f"{entry.name} {entry.title or ''}".casefold()
    return all(word in text for word in words)


def _copies(entries: Sequence[Entry]) -> dict[str, list[str]]:
    """Return the names of files that are the same, by their digests."""
    names: dict[str, list[str]] = {}
    for entry in entries:
        names.setdefault(entry.digest, []).append(entry.name)
    return {digest: same for digest, same in names.items() if len(same) > 1}


def _described(entry: Entry, copies: dict[str, list[str]]) -> dict[str, Any]:
    return {
        "name": entry.name,
        "title": entry.title,
        "seconds": entry.seconds,
        "snippets": entry.count,
        "copies": [name for name in copies.get(entry.digest, ()) if name != entry.name],
    }


def _folder_named(text: str) -> Path:
    """Return the folder that a person names; it must be whole, as the server has no place."""
    try:
        path = Path(text.strip()).expanduser()
    except RuntimeError:
        path = Path(text)
    if not text.strip() or "\0" in text or not path.is_absolute():
        raise Refused(422, f"{label(text)}: give the whole path of a folder, such as /home/me/midi")
    return path


def _reported(report: BuildReport) -> dict[str, Any]:
    names = ("added", "changed", "moved", "unchanged", "gone", "kept")
    counts: dict[str, Any] = {name: getattr(report, name) for name in names}
    return counts | {
        "left_out": len(report.bad),
        "items": report.items,
        "missing": [label(folder) for folder in report.missing],
        "skipped": list(skipped_lines(report.skipped)),
    }
