"""One writer at a time, in a folder that is an index or becomes one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from mmid.errors import LibraryIndexError
from mmid.index.manifest import DATA_NAME, MANIFEST
from mmid.system.files import read_regular

LOCK = "writing.lock"


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Be the only writer of an index.

    Raises
    ------
    LibraryIndexError
        If the folder holds something else, or another process writes the index.
    """
    _refuse_foreign(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise LibraryIndexError(
            f"{folder}: another mmid is writing this index; try again when it is done"
        ) from None
    try:
        yield
    finally:
        nothing_made = all(path.name == LOCK for path in folder.iterdir())
        lock.release()
        if nothing_made:
            (folder / LOCK).unlink(missing_ok=True)
            folder.rmdir()


def _refuse_foreign(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise LibraryIndexError(f"{folder}: is a file; an index is a folder")
    if folder.is_dir() and any(folder.iterdir()) and not (_own(folder) or _named(folder)):
        raise LibraryIndexError(
            f"{folder}: not empty and not an mmid index; choose another --index"
        )


def _own(folder: Path) -> bool:
    return bool(data_folders(folder)) or (folder / LOCK).exists()


def data_folders(folder: Path) -> list[Path]:
    """Return the data folders of an index, old ones too."""
    return [path for path in folder.glob("data-*") if DATA_NAME.fullmatch(path.name)]


def _named(folder: Path) -> bool:
    """Return whether a manifest, maybe damaged, is mmid's: many programs have a file so called."""
    return b"mmid-index-" in manifest_bytes(folder)


def manifest_bytes(folder: Path) -> bytes:
    """Return the manifest as it is on disk; nothing where it cannot be read."""
    try:
        return read_regular(folder / MANIFEST)
    except (OSError, ValueError):
        return b""
