"""Pieces that hold the same music: grouped, dropped, and kept on one side of a split."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence

import numpy as np

from mmid.music.library import Piece

SHINGLE = 8
"""Melody steps in a shingle; two tunes rarely share one by chance."""

SAME_MUSIC = 0.4
"""Pieces that share this part of the shorter one's shingles are the same music."""

COMMON = 12
"""A shingle in more pieces than this is a cliche and says nothing."""

SPLITS = {"train": 0.75, "valid": 0.05, "test": 0.20}
"""The 2020 report's shares, here of groups of pieces rather than of snippets."""


def melody_shingles(notes: np.ndarray) -> np.ndarray:
    """Hash every run of melody steps: free of key and tempo, so copies share their hashes.

    Parameters
    ----------
    notes : np.ndarray [n] of mmid.music.notes.NOTE_DTYPE

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
    notes : sequence of np.ndarray of mmid.music.notes.NOTE_DTYPE

    Returns
    -------
    np.ndarray [pieces] int64
        The label is the lowest position of the group's pieces.
    """
    if not notes:
        return np.zeros(0, np.int64)
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
