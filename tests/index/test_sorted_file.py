"""`mmid.index.sorted_file`: what lies in ranges of sorted numbers is read, and little else."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from mmid.index.sorted_file import PAGE, SortedFile, page_index_of


@pytest.fixture
def numbers():
    """Return a hundred pages of sorted numbers, some of them repeated over pages."""
    drawn = np.random.default_rng(0).integers(0, 2**63, 90 * PAGE, dtype=np.uint64)
    return np.sort(np.concatenate([drawn, np.repeat(drawn[:4], 3 * PAGE)]))


@pytest.fixture
def stored(numbers, tmp_path):
    return store(tmp_path, numbers, page_index_of(numbers))


def store(folder: Path, numbers: np.ndarray, fences: np.ndarray) -> SortedFile:
    np.save(folder / "numbers.npy", numbers)
    np.save(folder / "fences.npy", fences)
    return SortedFile(folder / "numbers.npy", folder / "fences.npy")


def inside(numbers: np.ndarray, low: int, high: int) -> np.ndarray:
    return numbers[(numbers >= low) & (numbers < high)]


def test_ranges_are_read_whole(numbers, stored):
    assert len(stored) == len(numbers)
    rng = np.random.default_rng(1)
    for count in (1, 2, 30):
        low = rng.choice(numbers, count)
        high = low + rng.integers(0, 2**58, count).astype(np.uint64)
        read = stored.near(low, high)
        assert (read[1:] >= read[:-1]).all()
        for a, b in zip(low, high, strict=True):
            assert np.array_equal(inside(read, a, b), inside(numbers, a, b))


def test_pages_are_counted_before_they_are_read(numbers, stored):
    values, counts = np.unique(numbers, return_counts=True)
    low = np.array([values[counts.argmax()], numbers[5], numbers[20 * PAGE]])
    high = low + np.uint64(1)
    pages = stored.pages_within(low, high)
    assert pages[0] >= 3 and (pages[1:] <= 2).all()
    for first, last, count in zip(low, high, pages, strict=True):
        read = stored.near(np.array([first]), np.array([last]))
        assert (count - 1) * PAGE < len(read) <= count * PAGE


def test_little_else_is_read(numbers, stored):
    low = numbers[[5, 20 * PAGE, 95 * PAGE]]
    assert len(stored.near(low, low + np.uint64(1))) <= 6 * PAGE


def test_the_ends_are_read(numbers, stored):
    everything = stored.near(np.zeros(1, np.uint64), numbers[-1:] + np.uint64(1))
    assert np.array_equal(everything, numbers)
    assert not len(
        inside(stored.near(numbers[-1:] + 1, numbers[-1:] + 2), numbers[-1] + 1, 2**64 - 1)
    )
    none = np.zeros(0, np.uint64)
    assert len(stored.near(none, none)) == 0


def test_threads_that_ask_at_once_get_their_own_pages(numbers, stored):
    distinct = np.unique(numbers)[:: PAGE // 2]

    def read(value):
        return stored.near(value[None], value[None] + np.uint64(1))

    alone = [read(value) for value in distinct]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(read, np.tile(distinct, 20)))
    for number, page in enumerate(together):
        assert np.array_equal(page, alone[number % len(alone)])


def test_nothing_is_a_file_too(tmp_path):
    none = np.zeros(0, np.uint64)
    stored = store(tmp_path, none, page_index_of(none))
    assert len(stored.near(np.ones(2, np.uint64), np.ones(2, np.uint64) + np.uint64(5))) == 0


def test_other_files_are_refused(tmp_path):
    numbers, fences = np.zeros(PAGE + 1, np.uint64), np.zeros(2, np.uint64)
    for others in ((numbers * 1.0, fences), (numbers, fences * 1.0), (numbers[None], fences)):
        with pytest.raises(ValueError, match="another kind of array"):
            store(tmp_path, *others)
    with pytest.raises(ValueError, match="counts do not agree"):
        store(tmp_path, numbers, fences[:1])
