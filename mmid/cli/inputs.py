"""What a user names on the command line, as the files to query.

Conventions: a file is named as the user did, or by its path below the folder that was named; each
file is queried once, by whatever names it is reached. Nothing is opened here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from glob import glob, has_magic
from pathlib import Path

from mmid.errors import label
from mmid.music.folders import BadFile, files_below, pieces_of
from mmid.music.formats import RECORDING_SUFFIXES, read_suffixes
from mmid.options import Kind

LISTED = "-"
"""Stands for the paths that are listed on standard input."""


def find_inputs(named: Sequence[str], kind: Kind, listed: Iterable[bytes]) -> list[Path | BadFile]:
    """Find the files that a user wants queried.

    Parameters
    ----------
    named : sequence of str
        Files; folders, searched through; patterns with ``*``, ``?``, ``[...]`` and ``**``; and
        `LISTED`.
    kind : {"midi", "recordings"}
        What the index holds. Of a folder, recordings are queried; MIDI files and scores, too, where
        the index holds recordings or the folder does not.
    listed : iterable of bytes
        Lines to take in place of `LISTED`, a file or folder each.

    Returns
    -------
    list of Path or BadFile
        In the order named, those of a folder or pattern by name, take 2 before take 10; a
        `BadFile` for what finds nothing.
    """
    found: dict[str, Path | BadFile] = {}
    for name in named:
        for file in _listed(listed, kind) if name == LISTED else _named(name, kind):
            key = os.path.realpath(file) if isinstance(file, Path) else file.reason
            found.setdefault(key, file)
    return list(found.values())


def _listed(lines: Iterable[bytes], kind: Kind) -> Iterator[Path | BadFile]:
    names = [name for line in lines if (name := os.fsdecode(line).rstrip("\r\n"))]
    if not names:
        yield BadFile(Path(LISTED), f"{LISTED}: no path on standard input")
    for name in names:
        yield from _at(Path(name), kind)


def _named(name: str, kind: Kind) -> Iterator[Path | BadFile]:
    """Find what a name stands for; a pattern only where no file has that name."""
    if not has_magic(name) or os.path.lexists(name):
        yield from _at(Path(name), kind)
        return
    matching = sorted(map(Path, glob(os.path.expanduser(name), recursive=True)), key=_natural)
    found = [file for path in matching for file in _files(path, kind)]
    if not found:
        yield BadFile(Path(name), f"{label(name)}: no file matches")
    yield from found


def _at(path: Path, kind: Kind) -> Iterator[Path | BadFile]:
    """Find the files of a folder; anything else is a file, which opening will say more about."""
    found = _files(path, kind)
    if not found:
        yield BadFile(path, f"{label(path)}: no recording, MIDI file or score in it")
    yield from found


def _files(path: Path, kind: Kind) -> list[Path]:
    if not path.is_dir():
        return pieces_of(path)
    sound, written = RECORDING_SUFFIXES, read_suffixes("midi")
    files = list(files_below(path, sound if kind == "midi" else (*sound, *written)))
    files = files or list(files_below(path, written))
    return [piece for file in sorted(files, key=_natural) for piece in pieces_of(file)]


def _natural(path: Path) -> tuple[list[list[str | int]], Path]:
    """Return what sorts paths as people do: numbers in them by their value."""
    parts = [re.split(r"(\d+)", part) for part in path.parts]
    numbered: list[list[str | int]]
    numbered = [[int(run) if run.isdecimal() else run for run in part] for part in parts]
    return numbered, path
