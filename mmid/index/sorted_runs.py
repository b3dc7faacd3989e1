"""More numbers than memory should hold, sorted: in runs on disk, of which ranges are merged.

Conventions: numbers are uint64. A run is sorted; a range holds numbers from one to another, both
counted in.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryFile
from threading import Lock

import numpy as np

PAGE = 512
"""Of so many numbers of a run the first stays in memory."""


class SortedRuns:
    """Runs in a file that has no name, and is gone with them.

    Parameters
    ----------
    runs : iterable of np.ndarray [n] uint64
        Each is written before the next is made.
    folder : Path, optional
        On whose disk the file is; by default where temporary files go.

    Raises
    ------
    OSError
        If they cannot be written.
    """

    def __init__(self, runs: Iterable[np.ndarray], folder: Path | None = None) -> None:
        self._file = TemporaryFile(dir=folder)  # noqa: SIM115 (closed with this)
        weakref.finalize(self, self._file.close)
        self._reading = Lock()  # threads that read at once share where the file is read
        self._firsts, self._pages = [0], list[np.ndarray]()
        for run in runs:
            self._file.write(run.data)
            self._firsts.append(len(self) + len(run))
            self._pages.append(run[::PAGE].copy())

    def __len__(self) -> int:
        return self._firsts[-1]

    def samples(self) -> np.ndarray:
        """Return one of every `PAGE` numbers or so."""
        return np.concatenate([np.zeros(0, np.uint64), *self._pages])

    def within(self, low: int, high: int) -> np.ndarray:
        """Return the numbers of a range, sorted."""
        runs = (self._read(run, np.uint64(low), np.uint64(high)) for run in range(len(self._pages)))
        numbers = np.concatenate([np.zeros(0, np.uint64), *runs])
        numbers.sort(kind="stable")  # merges what is sorted already
        return numbers

    def _read(self, run: int, low: np.uint64, high: np.uint64) -> np.ndarray:
        """Read the numbers of a range that are in a run."""
        pages, first, end = self._pages[run], *self._firsts[run : run + 2]
        begin = first + PAGE * max(0, int(np.searchsorted(pages, low)) - 1)
        end = min(end, first + PAGE * int(np.searchsorted(pages, high, "right")))
        with self._reading:
            self._file.seek(8 * begin)
            data = self._file.read(8 * max(0, end - begin))
        numbers = np.frombuffer(data, np.uint64)
        return numbers[np.searchsorted(numbers, low) : np.searchsorted(numbers, high, "right")]
