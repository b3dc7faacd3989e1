"""Variants of a tune: other files of a library that hold the same melody, in whatever key.

Two files are variants if their melodies' notes can be aligned, without regard to how long they
last, as Smith and Waterman align sequences ("Identification of common molecular subsequences",
1981): `SAME_TUNE` of the shorter melody's notes, and `LEAST_NOTES`, must agree.

Conventions: a melody is the pitch classes of its notes in order, those that repeat at once counted
once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmid.errors import LibraryIndexError
from mmid.index.protocol import Library

SAME_TUNE = 0.5
"""Of the shorter melody's notes, so many more must agree than do not."""

LEAST_NOTES = 40
"""And so many at least: fewer agree by chance."""

GAP = 0.7
"""What a note that is left out costs, in notes that agree; one that differs costs 1."""

STEPS = 5
"""Files that share runs of so many steps with a tune are aligned with it."""

ALIGNED = 120
"""So many of them, those that share the rarest."""

LONGEST = 600
"""Notes of a melody's beginning that are compared."""

CLASSES = 12


class Variants:
    """The melodies of a library, prepared to be compared.

    Parameters
    ----------
    index : Library
        Of MIDI files.

    Raises
    ------
    LibraryIndexError
        If it holds recordings.
    """

    def __init__(self, index: Library) -> None:
        if index.kind != "midi":
            raise LibraryIndexError(f"{index.where}: holds recordings; only notes can be compared")
        self._melodies = [_melody(index, piece) for piece in range(len(index.entries))]
        self._runs = [_runs(melody) for melody in self._melodies]
        sizes = [len(of_piece) for of_piece in self._runs]
        self._owners = np.repeat(np.arange(len(sizes)), sizes)
        self._every, self._numbers, counts = np.unique(
            np.concatenate(self._runs), return_inverse=True, return_counts=True
        )
        self._rarity = np.log(len(sizes) / counts)
        self._known: dict[int, frozenset[int]] = {}

    def of(self, piece: int) -> frozenset[int]:
        """Return the pieces that hold the same tune as one, itself left out."""
        if piece not in self._known:
            self._known[piece] = self._find(piece)
        return self._known[piece]

    def _find(self, piece: int) -> frozenset[int]:
        melody, near = self._melodies[piece], self._nearest(piece)
        others = [self._melodies[n] for n in near]
        shorter = np.array([min(len(melody), len(other)) for other in others])
        least = np.maximum(SAME_TUNE * shorter, LEAST_NOTES)
        return frozenset(near[notes_agreed(melody, others) >= least].tolist())

    def _nearest(self, piece: int) -> np.ndarray:
        """Return the pieces that share the rarest runs with one."""
        shared = np.isin(self._every, self._runs[piece])[self._numbers] & (self._owners != piece)
        owners, rarity = self._owners[shared], self._rarity[self._numbers[shared]]
        score = np.bincount(owners, rarity, len(self._runs))
        return np.argsort(-score, kind="stable")[: min(ALIGNED, np.count_nonzero(score))]


def _melody(index: Library, piece: int) -> np.ndarray:
    """Return the pitch classes of a piece's melody."""
    pitch = index.notes(piece)["pitch"][index.melody(piece)].astype(np.int64) % CLASSES
    return np.asarray(pitch[np.append(True, np.diff(pitch) != 0)[: len(pitch)]][:LONGEST])


def _runs(melody: np.ndarray) -> np.ndarray:
    """Return the runs of `STEPS` steps of a melody as numbers, sorted, each once."""
    steps = np.diff(melody) % CLASSES
    if len(steps) < STEPS:
        return np.zeros(0, np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(steps, STEPS)
    return np.unique(windows @ CLASSES ** np.arange(STEPS))


def notes_agreed(melody: np.ndarray, others: Sequence[np.ndarray]) -> np.ndarray:
    """Return how many notes of a melody agree with others', in the key in which most do.

    Parameters
    ----------
    melody : np.ndarray [n] int
        Pitch classes.
    others : sequence of np.ndarray [m] int

    Returns
    -------
    np.ndarray [others] float32
        Of the best passage: notes that agree, less those that differ and `GAP` for each left out.

    Examples
    --------
    >>> import numpy as np
    >>> tune = np.array([0, 2, 4, 5, 7])
    >>> notes_agreed(tune, [tune[1:] + 3, np.array([7, 8, 4])])
    array([4., 2.], dtype=float32)
    """
    longest = max(map(len, others), default=0)
    padded = np.full((len(others), 1, longest), -1, np.int8)
    for row, other in zip(padded, others, strict=True):
        row[0, : len(other)] = other % CLASSES
    keys = np.arange(CLASSES, dtype=np.int8)[:, None]
    left_out = (GAP * np.arange(longest + 1)).astype(np.float32)
    ends = np.zeros((len(others), CLASSES, longest + 1), np.float32)
    best, one = np.zeros((len(others), CLASSES), np.float32), np.float32(1)
    for note in melody.astype(np.int8):
        agrees = np.where(padded == (note + keys) % CLASSES, one, -one)
        ends[..., 1:] = np.maximum(ends[..., 1:] - GAP, ends[..., :-1] + agrees).clip(0)
        ends = np.maximum.accumulate(ends + left_out, -1) - left_out
        best = np.maximum(best, ends.max(-1))
    return np.asarray(best.max(-1))
