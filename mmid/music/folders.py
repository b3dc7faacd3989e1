"""Folders looked through: the files of a kind in them, and what else of music lies there.

Conventions: `mmid.music.formats` says what belongs to a kind. A file is named by its path relative
to the library's folder (the common parent, where there are several), with forward slashes. Links to
folders are not followed. A tune of an ABC book stands for a file, as `mmid.music.scores.tune_books`
names it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path

from mmid.errors import MmidError, label
from mmid.music.formats import (
    MIDI_SUFFIXES,
    WORDS,
    count_skipped,
    read_suffixes,
    skipped_lines,
    suffix_of,
    unread_here,
)
from mmid.music.scores.converters import XML, holds_score
from mmid.music.scores.tune_books import is_book, tune_paths
from mmid.options import Kind


@dataclass(frozen=True)
class Found:
    """What is in a folder.

    Parameters
    ----------
    files : tuple of Path
        Those of a kind, sorted, a book's tunes in its order; a folder that cannot be read stands
        for its files.
    skipped : dict of str to int
        Other files of music, by their suffixes.
    """

    files: tuple[Path, ...]
    skipped: dict[str, int]


@dataclass(frozen=True)
class BadFile:
    """A file that could not be read, and why.

    Parameters
    ----------
    path : Path
    reason : str
        A line that names it.
    """

    path: Path
    reason: str

    @property
    def why(self) -> str:
        """The reason alone."""
        for name in (label(self.path), label(self.path.name)):
            if self.reason.startswith(f"{name}: "):
                return self.reason.removeprefix(f"{name}: ")
        return self.reason


def find_midi(folder: Path) -> list[Path]:
    """List the MIDI files below a folder, but no scores, sorted; a file is its own list.

    Raises
    ------
    MmidError
        If the folder does not exist or holds no MIDI file.
    """
    return list(_some(folder, _survey(folder, MIDI_SUFFIXES), "midi", MIDI_SUFFIXES).files)


def find(folder: Path, kind: Kind) -> Found:
    """Find the files of a kind below a folder; a file is all there is of itself.

    Raises
    ------
    MmidError
        If the folder does not exist or holds no such file.
    """
    return _some(folder, survey(folder, kind), kind, read_suffixes(kind))


def _some(folder: Path, found: Found | None, kind: Kind, read: tuple[str, ...]) -> Found:
    """Refuse a folder that is not there or holds no file."""
    if found is None:
        raise MmidError(f"{label(folder)}: no such folder")
    if not found.files:
        there = "; ".join(["", *skipped_lines(found.skipped)])
        wanted = f"{WORDS[kind]} ({', '.join(read)})" if kind == "midi" else WORDS[kind]
        raise MmidError(f"{label(folder)}: no {wanted} in it{there}")
    return found


def survey(folder: Path, kind: Kind) -> Found | None:
    """Find the files of a kind below a folder, if any; None where there is no folder."""
    return _survey(folder, read_suffixes(kind))


def _survey(folder: Path, read: tuple[str, ...]) -> Found | None:
    if not folder.exists():
        return None
    if folder.is_file():
        return Found(tuple(pieces_of(folder)), {})
    files: list[str] = []
    closed: list[Path] = []
    names: Counter[str] = Counter()
    for place, name in _names_below(folder, closed):
        suffix = suffix_of(name)
        if _is_other_xml(place, name):
            continue
        names[suffix] += 1
        if suffix in read:
            files.append(os.path.join(place, name))
    found = sorted([*files, *map(os.fspath, closed)], key=lambda text: text.split(os.sep))
    pieces = (piece for text in found for piece in pieces_of(Path(text)))
    return Found(tuple(pieces), count_skipped(names, read))


def pieces_of(path: Path) -> list[Path]:
    """Return what a file stands for: the tunes of a book, in their order, else itself."""
    book = is_book(path.name) and not unread_here(path.name) and not path.is_dir()
    return tune_paths(path) if book else [path]


def files_below(folder: Path, suffixes: Sequence[str]) -> Iterator[Path]:
    """Find the files below a folder, by their suffixes in small letters; in no order.

    Links to folders are not followed. A folder that cannot be read is given in the place of its
    files, so that they are not taken for gone.
    """
    closed: list[Path] = []
    for place, name in _names_below(folder, closed):
        if suffix_of(name) in suffixes and not _is_other_xml(place, name):
            yield Path(place, name)
    yield from closed


def _is_other_xml(place: str, name: str) -> bool:
    """Return whether a file is XML, but no score."""
    return suffix_of(name) == XML and not holds_score(Path(place, name))


def _names_below(folder: Path, closed: list[Path]) -> Iterator[tuple[str, str]]:
    """Yield where each file lies and its name; add the folders that cannot be read to a list."""

    def note(error: OSError) -> None:
        if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
            closed.append(Path(error.filename))

    for place, _, names in os.walk(folder, onerror=note):
        yield from ((place, name) for name in names)


def guess_kind(folders: Sequence[Path]) -> Kind:
    """Return what folders hold: recordings where there are any but no MIDI file, else MIDI."""
    sound = holds(folders, "recordings") and not _holds(folders, MIDI_SUFFIXES)
    return "recordings" if sound else "midi"


def holds(folders: Sequence[Path], kind: Kind) -> bool:
    """Return whether there is any file of a kind below folders."""
    return _holds(folders, read_suffixes(kind))


def _holds(folders: Sequence[Path], suffixes: tuple[str, ...]) -> bool:
    files = (path for path in folders if path.is_file())
    found = (path for folder in folders for path in files_below(folder, suffixes))
    return any(suffix_of(path.name) in suffixes for path in chain(files, found))


def find_all(folders: Sequence[Path], kind: Kind) -> list[Path]:
    """List the files below folders, each once."""
    return each_once(path for folder in folders for path in find(folder, kind).files)


def each_once(paths: Iterable[Path]) -> list[Path]:
    """Leave out what an earlier path leads to as well, by folders within folders or by links."""
    resolved = cache(os.path.realpath)
    found: dict[str, Path] = {}
    for path in paths:
        text = os.fspath(path)
        folder, name = os.path.split(text)
        linked = os.path.islink(text)
        place = os.path.realpath(text) if linked else os.path.join(resolved(folder), name)
        found.setdefault(place, path)
    return list(found.values())


def item_name(path: Path, folder: Path) -> str:
    """Return the name of a file below a library's folder."""
    text, beginning = os.fspath(path), os.path.join(folder, "")
    if text.startswith(beginning) and os.pardir not in text:  # most are, and this is soon seen
        return text[len(beginning) :].replace(os.sep, "/")
    return Path(os.path.relpath(path, folder)).as_posix()


def library_root(folders: Sequence[Path]) -> Path:
    """Return the folder that piece names are relative to: the one given, or the common parent."""
    bases = [folder.parent if folder.is_file() else folder for folder in folders]
    return bases[0] if len(bases) == 1 else Path(os.path.commonpath([b.absolute() for b in bases]))
