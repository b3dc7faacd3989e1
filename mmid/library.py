"""A folder of MIDI files or of recordings: found, read in parallel, grouped by music, split.

Conventions: a file is named as `mmid.folders` does and known by its SHA-256. Pieces that hold the
same music share a group; a split never cuts a group.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing import parent_process
from pathlib import Path
from typing import TypeVar

import numpy as np

from mmid.choices import Kind, LibraryKind
from mmid.console import warn
from mmid.errors import MidiError, MmidError, label
from mmid.folders import find_all, guess_kind, item_name, library_root
from mmid.midi import Midi, read_midi
from mmid.params import FeatureParams
from mmid.regular import open_regular
from mmid.workers import parallel

QUIET = 0.25
"""Compressed magnitude below which a frame is silent: 45 dB under the recording's loud parts."""

SHINGLE = 8
"""Melody steps in a shingle; two tunes rarely share one by chance."""

SAME_MUSIC = 0.4
"""Pieces that share this part of the shorter one's shingles are the same music."""

COMMON = 12
"""A shingle in more pieces than this is a cliche and says nothing."""

SPLITS = {"train": 0.75, "valid": 0.05, "test": 0.20}
"""The 2020 report's shares, here of groups of pieces rather than of snippets."""


@dataclass(frozen=True, eq=False)
class Piece:
    """A readable MIDI file of a library.

    Parameters
    ----------
    name : str
        Path relative to the library folder.
    path : Path
        Where the file is.
    digest : str
        SHA-256 of the file, hexadecimal.
    midi : Midi
        Its notes.
    """

    name: str
    path: Path
    digest: str
    midi: Midi


@dataclass(frozen=True, eq=False)
class Recording:
    """A readable recording of a library.

    Parameters
    ----------
    name, path, digest
        As of a `Piece`.
    spectrogram : np.ndarray [bands, frames] float32
        From `mmid.features`.
    """

    name: str
    path: Path
    digest: str
    spectrogram: np.ndarray


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


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a regular file, hexadecimal."""
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_piece(path: Path, folder: Path) -> Piece | BadFile:
    """Read one MIDI file of a library; a bad one is returned as such, not raised."""
    try:
        midi = read_midi(path)
        return Piece(item_name(path, folder), path, file_digest(path), midi)
    except (MidiError, OSError) as error:
        return BadFile(path, str(error))


def read_recording(path: Path, folder: Path, params: FeatureParams) -> Recording | BadFile:
    """Read one recording of a library; a bad or silent one is returned as such, not raised."""
    import torch

    from mmid.features import recording_spectrogram

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
    """Read one file of a library of a kind; names begin at the root."""
    return read_piece(path, root) if kind == "midi" else read_recording(path, root, params)


def scan(folders: Sequence[Path], jobs: int | None = None) -> tuple[int, Iterator[Piece | BadFile]]:
    """Find the MIDI files below folders, and read them one by one in worker processes.

    Returns
    -------
    int, iterator of Piece or BadFile
        How many files there are, and each as read.

    Raises
    ------
    MmidError
        If a folder is missing or without MIDI files.
    """
    files = find_all(folders, "midi")
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

    ``auto`` means recordings where there are any but no MIDI file, else MIDI files.

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
    """Find the files of a kind below folders and read them, as `scan` does."""
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
        Told ``(files done, files in all)``.

    Returns
    -------
    list of Piece, list of BadFile

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


def melody_shingles(notes: np.ndarray) -> np.ndarray:
    """Hash every run of melody steps: free of key and tempo, so copies share their hashes.

    Parameters
    ----------
    notes : np.ndarray [n] of mmid.midi.NOTE_DTYPE

    Returns
    -------
    np.ndarray [m] uint64
        Sorted, each once. Very short pieces have a single one.
    """
    order = np.lexsort((-notes["pitch"].astype(int), np.round(notes["onset"], 2)))
    onset, first = np.unique(np.round(notes["onset"][order], 2), return_index=True)
    pitch = notes["pitch"][order][first].astype(np.int64)
    gaps = np.diff(onset)
    steps = np.diff(pitch)[1:] * 16 + np.clip(np.round(2 * np.log2(gaps[1:] / gaps[:-1])), -7, 7)
    if len(steps) < SHINGLE:
        digest = hashlib.sha256(steps.tobytes() + bytes([len(pitch)])).digest()
        return np.frombuffer(digest[:8], np.uint64)
    windows = np.lib.stride_tricks.sliding_window_view(steps.astype(np.int64), SHINGLE)
    multipliers = np.random.default_rng(0).integers(1, 2**63, SHINGLE, np.uint64) | np.uint64(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        hashes = (windows.astype(np.uint64) * multipliers).sum(1, dtype=np.uint64)
    return np.unique(hashes)


def group_duplicates(notes: Sequence[np.ndarray]) -> np.ndarray:
    """Label pieces so that those with the same music, in any key or tempo, share a label.

    Parameters
    ----------
    notes : sequence of np.ndarray of mmid.midi.NOTE_DTYPE

    Returns
    -------
    np.ndarray [pieces] int64
        The label is the lowest position of the group's pieces.
    """
    shingles = [melody_shingles(n) for n in notes]
    known: dict[bytes, int] = {}
    twin = np.array([known.setdefault(s.tobytes(), i) for i, s in enumerate(shingles)])
    shingles = [s if twin[i] == i else s[:0] for i, s in enumerate(shingles)]  # any number is one
    sizes = np.array([len(s) for s in shingles])
    owner = np.repeat(np.arange(len(notes)), sizes)
    hashes = np.concatenate(shingles)
    order = np.lexsort((owner, hashes))
    owner, hashes = owner[order], hashes[order]
    _, run, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    rare = counts[run] <= COMMON
    owner, run = owner[rare], run[rare]
    pairs = [np.stack([owner[:-k], owner[k:]], 1)[run[:-k] == run[k:]] for k in range(1, COMMON)]
    edges, shared = np.unique(np.concatenate(pairs), axis=0, return_counts=True)
    same = shared >= SAME_MUSIC * np.minimum(sizes[edges[:, 0]], sizes[edges[:, 1]])
    labels: np.ndarray = _components(len(notes), edges[same])[twin]
    return labels


def _components(count: int, edges: np.ndarray) -> np.ndarray:
    label = np.arange(count)

    def root(i: int) -> int:
        while label[i] != i:
            label[i] = label[label[i]]
            i = int(label[i])
        return i

    for a, b in edges:
        low, high = sorted((root(int(a)), root(int(b))))
        label[high] = low
    return np.array([root(i) for i in range(count)])


def split_groups(labels: np.ndarray, seed: int = 0) -> np.ndarray:
    """Split pieces 75/5/20 into train, valid and test, whole groups at a time.

    Parameters
    ----------
    labels : np.ndarray [pieces]
        From `group_duplicates`.
    seed : int
        Order in which groups are dealt.

    Returns
    -------
    np.ndarray [pieces] of str
    """
    groups, sizes = np.unique(labels, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(groups))
    middle = (np.cumsum(sizes[order]) - sizes[order] / 2) / sizes.sum()
    bounds = np.cumsum(list(SPLITS.values()))[:-1]
    names = np.array(list(SPLITS))[np.searchsorted(bounds, middle, side="right")]
    chosen = dict(zip(groups[order], names, strict=True))
    return np.array([chosen[label] for label in labels])


def drop_duplicates(pieces: Sequence[Piece], of: Sequence[Piece]) -> list[Piece]:
    """Return the pieces whose music is in none of the others."""
    if not of:
        return list(pieces)
    labels = group_duplicates([piece.midi.notes for piece in [*of, *pieces]])
    taken = set(labels[: len(of)])
    return [p for p, label in zip(pieces, labels[len(of) :], strict=True) if label not in taken]


def split_library(pieces: Sequence[Piece], seed: int = 0) -> dict[str, list[Piece]]:
    """Split pieces 75/5/20, duplicates kept together.

    Returns
    -------
    dict of str to list of Piece
        Under ``train``, ``valid`` and ``test``; the same for the same files and seed.
    """
    sides = split_groups(group_duplicates([piece.midi.notes for piece in pieces]), seed)
    return {
        name: [piece for piece, side in zip(pieces, sides, strict=True) if side == name]
        for name in SPLITS
    }
