"""Where files about queries go: one file for one query, or a folder, a file a query.

Conventions: places are checked before the work begins, so that no answer is waited for in vain.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

from mmid.errors import MmidError, label
from mmid.system.files import written_whole

IS_FOLDER = "cannot be written (it is a folder)"


def check_file(path: Path, suffixes: Sequence[str]) -> Path:
    """Make sure that a file can be written.

    Parameters
    ----------
    path : Path
    suffixes : sequence of str
        One of them must be its own, in small or capital letters.

    Returns
    -------
    Path
        The path given.

    Raises
    ------
    MmidError
        If it has another suffix, is a folder, or its folder is missing or not to be written to.
    """
    if path.suffix.lower() not in suffixes:
        raise MmidError(f"{label(path)}: not named {' or '.join(suffixes)}; give such a name")
    if path.is_dir():
        raise MmidError(f"{label(path)}: {IS_FOLDER}")
    if not path.parent.is_dir():
        raise MmidError(f"{label(path)}: no folder {label(path.parent)}; make it first")
    _try_to_write(path)
    return path


def _try_to_write(path: Path) -> None:
    with _told(path):
        TemporaryFile(dir=path.parent).close()


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MmidError(f"{label(path)}: cannot be written ({error.strerror})") from error


@contextmanager
def written_target(path: Path) -> Iterator[Path]:
    """Give a place to write a file to, as `mmid.system.files.written_whole` does.

    Raises
    ------
    MmidError
        If it cannot be written.
    """
    with _told(path), written_whole(path) as part:
        yield part


def relative_path(file: str, target: Path) -> str:
    """Return how a file is named in one that is to be written: from its folder, where it can be."""
    whole = os.path.abspath(file)
    try:
        return os.path.relpath(whole, target.parent.absolute())
    except ValueError:  # on another drive
        return whole


def target_paths(
    place: Path, queries: Sequence[Path], suffixes: Sequence[str], ending: str
) -> list[Path]:
    """Say where the files about queries go, and make sure that they can be written.

    Parameters
    ----------
    place : Path
        A file for one query, or a folder, which is made if its name has no suffix. In a folder a
        file is called after its query; a number distinguishes queries of one name.
    queries : sequence of Path
    suffixes : sequence of str
        What the one file may have.
    ending : str
        What the files in a folder have after the query's name.

    Returns
    -------
    list of Path
        One a query.

    Raises
    ------
    MmidError
        If a place cannot be written to, or one file is to do for many queries.
    """
    if not (place.is_dir() or not place.suffix):
        if len(queries) > 1:
            raise MmidError(f"{label(place)}: one file for {len(queries)} answers; give a folder")
        return [check_file(place, suffixes)]
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"cannot be made a folder ({error.strerror})"
        raise MmidError(f"{label(place)}: {reason}") from error
    names = _different([query.stem or "query" for query in queries])
    paths = [place / f"{name}{ending}" for name in names]
    for path in paths:
        if path.is_dir():
            raise MmidError(f"{label(path)}: {IS_FOLDER}")
    _try_to_write(paths[0])
    return paths


def _different(names: Sequence[str]) -> list[str]:
    """Give names that are the same, in small letters too, a number from the second one on."""
    taken: dict[str, int] = {}
    different = []
    for name in names:
        one = name
        while one.casefold() in taken:
            taken[name.casefold()] += 1
            one = f"{name}-{taken[name.casefold()]}"
        taken[one.casefold()] = 1
        different.append(one)
    return different
