"""Find the MIDI files or recordings of a library, and read them in parallel.

Conventions: the name of a file is its path relative to the library's folder (the common parent of
several), with forward slashes. Files are compared by their SHA-256.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing import parent_process
from pathlib import Path
from typing import TypeVar

import numpy as np

from mmid.errors import MidiError, MmidError, label
from mmid.music.folders import (
    BadFile,
    each_once,
    find_all,
    find_midi,
    guess_kind,
    item_name,
    library_root,
)
from mmid.music.grid import FeatureParams
from mmid.music.midi import Midi
from mmid.music.scores.reading import read_music
from mmid.music.scores.tune_books import piece_digest
from mmid.options import Kind, LibraryKind
from mmid.system.console import warn
from mmid.system.files import file_digest
from mmid.system.processes import parallel

QUIET = 0.25
"""Compressed magnitude below which a frame is silent: 45 dB under the recording's loud parts."""


@dataclass(frozen=True, eq=False)
class Piece:
    """A MIDI file or score of a library that was read, or a tune of an ABC file.

    Parameters
    ----------
    name : str
        Path relative to the library folder.
    path : Path
        Where the file is.
    digest : str
        SHA-256 of the file, or of a tune's text, hexadecimal.
    midi : Midi
        Its notes and title.
    """

    name: str
    path: Path
    digest: str
    midi: Midi


@dataclass(frozen=True, eq=False)
class Recording:
    """A recording of a library that was read.

    Parameters
    ----------
    name, path, digest
        As those of a `Piece`.
    spectrogram : np.ndarray [bands, frames] float32
        Compressed magnitudes, as `mmid.music.spectrogram` makes them.
    """

    name: str
    path: Path
    digest: str
    spectrogram: np.ndarray


def read_piece(path: Path, folder: Path) -> Piece | BadFile:
    """Read one MIDI file or score of a library; return a `BadFile` if it cannot be read."""
    try:
        midi = read_music(path)
        return Piece(item_name(path, folder), path, piece_digest(path), midi)
    except (MidiError, OSError) as error:
        return BadFile(path, str(error))


def read_recording(path: Path, folder: Path, params: FeatureParams) -> Recording | BadFile:
    """Read one recording of a library; return a `BadFile` if it cannot be read or is silent."""
    import torch

    from mmid.music.spectrogram import recording_spectrogram

    if parent_process():  # a worker, one of many
        torch.set_num_threads(1)
    try:
        bands = recording_spectrogram(path, params).numpy()
        if not (bands > QUIET).any():
            return BadFile(path, f"{label(path)}: silent from beginning to end")
        return Recording(item_name(path, folder), path, file_digest(path), bands)
    except (MmidError, OSError) as error:
        return BadFile(path, str(error))


def read_item(
    path: Path, root: Path, kind: Kind, params: FeatureParams
) -> Piece | Recording | BadFile:
    """Read one file of a library of that kind; names are relative to the root."""
    return read_piece(path, root) if kind == "midi" else read_recording(path, root, params)


def scan(folders: Sequence[Path], jobs: int | None = None) -> tuple[int, Iterator[Piece | BadFile]]:
    """Find the MIDI files below folders, and read them one by one in worker processes.

    Returns
    -------
    int, iterator of Piece or BadFile
        The number of files, and what was read of each.

    Raises
    ------
    MmidError
        If a folder is missing or without MIDI files.
    """
    files = each_once(path for folder in folders for path in find_midi(folder))
    read = partial(read_piece, folder=library_root(folders))
    return len(files), _warned(parallel(read, files, jobs))


Item = TypeVar("Item")


def _warned(items: Iterator[Item]) -> Iterator[Item]:
    """Pass items on, with a warning of each damaged MIDI file."""
    for item in items:
        if isinstance(item, Piece) and item.midi.damage:
            warn(f"{label(item.name)}: {item.midi.damage}")
        yield item


def list_library(folders: Sequence[Path], kind: LibraryKind) -> tuple[Kind, list[Path]]:
    """Find the files of a kind below folders.

    ``auto`` means recordings if there are any and no MIDI file, else MIDI files and scores.

    Returns
    -------
    Kind, list of Path
        The kind that was found, and its files.

    Raises
    ------
    MmidError
        If a folder is missing or without such files.
    """
    what = guess_kind(folders) if kind == "auto" else kind
    return what, find_all(folders, what)


def scan_library(
    folders: Sequence[Path],
    kind: LibraryKind,
    params: FeatureParams,
    jobs: int | None = None,
) -> tuple[int, Iterator[Piece | Recording | BadFile]]:
    """Find the files of a kind below folders, and read them in worker processes.

    Parameters
    ----------
    folders : sequence of Path
        Library folders, or single files.
    kind : {"auto", "midi", "recordings"}
    params : FeatureParams
        The grid of the recordings' spectrograms.
    jobs : int, optional
        Worker processes; all cores by default.

    Returns
    -------
    int, iterator of Piece, Recording or BadFile
        The number of files, and what was read of each.

    Raises
    ------
    MmidError
        If a folder is missing or without such files.
    """
    what, files = list_library(folders, kind)
    read = partial(read_item, root=library_root(folders), kind=what, params=params)
    batch, least = (32, 16) if what == "midi" else (1, 8)
    return len(files), _warned(parallel(read, files, jobs, batch=batch, least=least))


def read_library(
    folders: Sequence[Path],
    *,
    jobs: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[Piece], list[BadFile]]:
    """Read every MIDI file below the folders.

    Parameters
    ----------
    folders : sequence of Path
        Library folders, or single files.
    jobs : int, optional
        Worker processes; all cores by default.
    progress : callable, optional
        Called with ``(files done, files in all)``.

    Returns
    -------
    list of Piece, list of BadFile
        What was read, and the files that could not be.

    Raises
    ------
    MmidError
        If a folder is missing or without MIDI files, or no file can be read.
    """
    count, files = scan(folders, jobs)
    pieces: list[Piece] = []
    bad: list[BadFile] = []
    for done, piece in enumerate(files, 1):
        if isinstance(piece, Piece):
            pieces.append(piece)
        else:
            bad.append(piece)
        if progress:
            progress(done, count)
    if not pieces:
        raise MmidError(f"no readable MIDI file; the first fault: {bad[0].reason}")
    return pieces, bad
