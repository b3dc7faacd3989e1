"""The folders that an index follows: those it was built from before and those that are named now.

Conventions: folders are absolute, and none lies within another. Files are named by their paths from
the root, the folder or what the folders have in common, and each is there once.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from mmid.errors import LibraryIndexError, MmidError, label
from mmid.index.manifest import Manifest
from mmid.index.protocol import Store
from mmid.index.store import library_of
from mmid.music.folders import Found, each_once, find, guess_kind, holds, item_name, survey
from mmid.music.formats import WORDS, read_suffixes, suffix_of
from mmid.music.scores.tune_books import file_part
from mmid.options import Kind, LibraryKind

OTHER: dict[Kind, Kind] = {"midi": "recordings", "recordings": "midi"}


@dataclass(frozen=True)
class Followed:
    """The folders an index follows, and what lies in them now.

    Parameters
    ----------
    kind : {"midi", "recordings"}
    root : Path
        Where names begin.
    folders : tuple of Path
    files : dict of str to Path
        By name.
    missing : tuple of Path
        Those of the folders that are not there, or hold no file of the kind any more, as the
        folder of a disk does that is not mounted.
    skipped : dict of str to int
        Other files of music, by their suffixes.
    dropped : tuple of Path
        Folders that the index followed before.
    """

    kind: Kind
    root: Path
    folders: tuple[Path, ...]
    files: dict[str, Path]
    missing: tuple[Path, ...]
    skipped: dict[str, int]
    dropped: tuple[Path, ...] = ()

    @cached_property
    def _beginnings(self) -> list[tuple[str, Path]]:
        every = (*self.folders, *self.dropped)
        return [(item_name(folder, self.root), folder) for folder in every]

    def folder_of(self, name: str) -> Path:
        """Return the folder that a name belongs to; the root, if it is none that was followed."""
        for beginning, folder in self._beginnings:
            below = beginning == "." and not name.startswith("../")
            if below or file_part(name) == beginning or name.startswith(f"{beginning}/"):
                return folder
        return self.root

    def without(self, folders: Sequence[Path]) -> Followed:
        """Follow some folders no more."""
        return replace(
            self,
            folders=tuple(path for path in self.folders if path not in folders),
            missing=tuple(path for path in self.missing if path not in folders),
        )

    def renamed(self, name: str, root: str) -> str:
        """Return how a file is named here whose name began at another root."""
        if root in ("", os.fspath(self.root)):
            return name
        return item_name(Path(root, name), self.root)


def follow_folders(
    store: Store, library: Sequence[Path], kind: LibraryKind, *, only: bool = False
) -> Followed:
    """Find what an index has to follow now, and what lies there.

    Parameters
    ----------
    store : Store
        Where the index is, or will be.
    library : sequence of Path
        Folders, or single files, that are followed from now on; may be empty where others are.
    kind : {"auto", "midi", "recordings"}
        ``auto`` is what the index holds.
    only : bool
        Follow nothing else, whatever its kind; none named, only those folders that are there.

    Raises
    ------
    LibraryIndexError
        If the index holds the other kind, or it follows nothing.
    MmidError
        If a folder that was named is missing or holds no file of the kind.
    """
    known = known_manifest(store)
    given = [_whole(path) for path in library]
    refuse_missing(given)
    before = [Path(path) for path in known["folders"]] if known else []
    if not given and not before:
        library_of(store)  # says why there is none
    held = known["kind"] if known and not (only and given) else None
    what = _kind_of(store.where, held, given, kind)
    named = {path: find(path, what) for path in given}
    folders = _outermost(given if only and given else [*before, *given])
    found = {path: named.get(path) or survey(path, what) or Found((), {}) for path in folders}
    missing = [path for path in folders if not found[path].files]
    if only:
        folders, missing = [path for path in folders if found[path].files], []
    if len(missing) == len(folders):
        raise MmidError(f"{label(folders[0] if folders else before[0])}: {_absence(what)}")
    root = _root(folders, what)
    files = each_once(path for folder in folders for path in found[folder].files)
    skipped = sum((Counter(found[folder].skipped) for folder in folders), Counter[str]())
    names = {item_name(path, root): path for path in files}
    dropped = tuple(path for path in before if path not in folders)
    return Followed(what, root, tuple(folders), names, tuple(missing), dict(skipped), dropped)


def _absence(kind: Kind) -> str:
    return f"not there, or without {WORDS[kind]}; nothing was changed"


def known_manifest(store: Store) -> Manifest | None:
    """Return the manifest of the index, if there is one that can be read."""
    try:
        return store.manifest()
    except LibraryIndexError:
        return None


def refuse_missing(library: Sequence[Path]) -> None:
    """Refuse folders that are named and not there.

    Raises
    ------
    MmidError
        If one is missing.
    """
    for path in library:
        if not path.exists():
            raise MmidError(f"{label(path)}: no such folder")


def _kind_of(where: str, held: Kind | None, given: Sequence[Path], kind: LibraryKind) -> Kind:
    """Choose what to index: what the index holds, if it holds anything."""
    if held is None:
        return guess_kind(given) if kind == "auto" else kind
    other, way_out = OTHER[held], "give them an index of their own (--index), or --replace this one"
    if kind == other:
        raise LibraryIndexError(f"{where}: holds {WORDS[held]}, not {WORDS[other]}; {way_out}")
    for folder in given:
        if not holds([folder], held) and holds([folder], other):
            raise LibraryIndexError(
                f"{where}: holds {WORDS[held]}, and {label(folder)} {WORDS[other]}; {way_out}"
            )
    return held


def _whole(path: Path) -> Path:
    """Make a path absolute; links in it stay, as far as they can."""
    return path.resolve() if ".." in path.parts else path.absolute()


def _outermost(folders: Sequence[Path]) -> list[Path]:
    """Leave out folders that others hold, and those named twice."""
    real: dict[Path, Path] = {}
    for folder in folders:
        real.setdefault(Path(os.path.realpath(folder)), folder)
    return [
        folder
        for place, folder in real.items()
        if folder.is_file() or not any(parent in real for parent in place.parents)
    ]


def _root(folders: Sequence[Path], kind: Kind) -> Path:
    """Return the folder that names begin at: the only one, or the common parent."""

    def is_file(path: Path) -> bool:
        return path.is_file() or (not path.exists() and suffix_of(path.name) in read_suffixes(kind))

    return Path(os.path.commonpath([path.parent if is_file(path) else path for path in folders]))
