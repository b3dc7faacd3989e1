"""Pieces found by dynamic time warping of chroma features, with librosa.

Conventions: chroma is ``[12, frames]`` float32, from C up, every frame of unit length or, where
nothing sounds, zero. A frame lasts `HOP` samples at `RATE`; times in seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mmid.errors import MmidError

RATE = 22_050
HOP = 4_096
"""5.4 frames a second: coarse enough to compare a clip with hundreds of hours."""

FINE = 8
"""Frames of the constant-Q transform, and samples of a score, in each frame."""

MOST_FRAMES = 330
"""One minute; of longer recordings the middle is compared."""

CELLS = 2_000_000
"""Pairs of frames compared at once; bounds the memory a search needs."""

STEPS = np.array([[1, 1], [1, 2], [2, 1]])
"""Frames of the query and of the piece that a path goes on by: half to double the piece's speed."""

WALL, WALL_FRAMES = 1e3, 2
"""Distance at, and width of, what parts two pieces side by side; no step is wider."""


def _librosa() -> Any:
    try:
        import librosa
    except ImportError as error:
        raise MmidError("librosa is not installed: pip install 'mmid[baselines]'") from error
    return librosa


def _unit(chroma: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(chroma, axis=0)
    unit: np.ndarray = (chroma / np.where(length > 0, length, 1)).astype(np.float32)
    return unit


def _average(chroma: np.ndarray) -> np.ndarray:
    """Average every `FINE` frames."""
    frames = -(-chroma.shape[1] // FINE)
    padded = np.pad(chroma, ((0, 0), (0, frames * FINE - chroma.shape[1])))
    average: np.ndarray = padded.reshape(12, frames, FINE).mean(2)
    return average


def recording_chroma(samples: np.ndarray) -> np.ndarray:
    """Return the chroma of a recording, tuned to itself; from a constant-Q transform.

    Parameters
    ----------
    samples : np.ndarray [n] float32
        At `RATE`.

    Raises
    ------
    MmidError
        If librosa is not installed.
    """
    librosa = _librosa()
    whole = -(-len(samples) // HOP) * HOP
    padded = np.pad(samples, (0, max(whole, RATE) - len(samples)))  # a second is long enough
    fine = librosa.feature.chroma_cqt(y=padded, sr=RATE, hop_length=HOP // FINE, norm=None)
    return _unit(_average(fine[:, : whole // HOP * FINE]))


def score_chroma(notes: np.ndarray) -> np.ndarray:
    """Return the chroma of a score: how many notes of each pitch class sound, all as loud.

    Parameters
    ----------
    notes : np.ndarray of mmid.music.notes.NOTE_DTYPE
    """
    step = HOP / FINE / RATE
    first = np.round(notes["onset"].astype(np.float64) / step).astype(np.int64)
    last = np.maximum(np.round(notes["offset"] / step).astype(np.int64), first + 1)
    changes = np.zeros((12, int(last.max(initial=0)) + 1), np.float32)
    np.add.at(changes, (notes["pitch"] % 12, first), 1)
    np.add.at(changes, (notes["pitch"] % 12, last), -1)
    return _unit(_average(changes.cumsum(1)[:, :-1]))


class ChromaLibrary:
    """The chroma of a library, ready for queries.

    Parameters
    ----------
    notes : sequence of np.ndarray of mmid.music.notes.NOTE_DTYPE
        One a piece.

    Raises
    ------
    MmidError
        If librosa is not installed.

    References
    ----------
    .. [1] M. Müller, "Fundamentals of Music Processing", Springer 2015, sections 3.2 and 7.2.
    """

    def __init__(self, notes: Sequence[np.ndarray]) -> None:
        self._dtw = _librosa().sequence.dtw
        wall = ((0, 0), (0, WALL_FRAMES))
        self._chroma = [np.pad(score_chroma(piece), wall) for piece in notes]

    def search(self, query: np.ndarray) -> np.ndarray:
        """Align a query with its best stretch of each piece, by subsequence DTW.

        Parameters
        ----------
        query : np.ndarray [12, frames] float32
            From `recording_chroma`.

        Returns
        -------
        np.ndarray [pieces] float64
            Mean cosine distance of the query's frames along the cheapest path, 0 to 1; 1 where the
            piece is too short for any.
        """
        if query.shape[1] > MOST_FRAMES:
            first = (query.shape[1] - MOST_FRAMES) // 2
            query = query[:, first : first + MOST_FRAMES]
        return np.concatenate([self._costs(query, b) for b in self._batches(query.shape[1])])

    def _batches(self, frames: int) -> Iterator[list[np.ndarray]]:
        """Yield some pieces at a time: as many as can be compared at once, at least one."""
        batch: list[np.ndarray] = []
        size = 0
        for chroma in self._chroma:
            if batch and (size + chroma.shape[1]) * frames > CELLS:
                yield batch
                batch, size = [], 0
            batch.append(chroma)
            size += chroma.shape[1]
        if batch:
            yield batch

    def _costs(self, query: np.ndarray, pieces: Sequence[np.ndarray]) -> np.ndarray:
        """Align a query with pieces laid side by side, a wall after each."""
        ends = np.cumsum([piece.shape[1] for piece in pieces])
        distance = np.maximum(1 - query.T @ np.concatenate(pieces, 1), 0)
        for column in range(1, WALL_FRAMES + 1):
            distance[:, ends - column] = WALL
        total = self._dtw(
            C=distance,
            step_sizes_sigma=STEPS,
            weights_mul=STEPS[:, 0].astype(float),  # every frame of the query counts once
            subseq=True,
            backtrack=False,
        )
        cheapest = np.minimum.reduceat(total[-1], [0, *ends[:-1]]) / query.shape[1]
        costs: np.ndarray = np.minimum(cheapest, 1)
        return costs
