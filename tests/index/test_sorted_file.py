"""`mmid.index.sorted_file`: what lies in ranges of sorted numbers is read, and little else."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from mmid.index.packed_numbers import (
    NO_HEAD,
    PAGE,
    PackedNumbers,
    SortedNames,
    heads_of,
    store_sorted,
)
from mmid.index.sorted_file import SortedFile
from mmid.system.forks import CAN_FORK, in_forks

NAMES = SortedNames("heads.npy", "fences.npy", "tails.npy")


@pytest.fixture
def numbers():
    """Return a hundred pages of sorted numbers, some of them repeated over pages.

    Fifty follow one another with the same head, more or less.
    """
    rng = np.random.default_rng(0)
    heads = rng.choice(2**24, 2 * PAGE).astype(np.uint64)
    drawn = rng.choice(heads, 90 * PAGE) << np.uint64(40)
    drawn += rng.integers(0, 2**40, len(drawn), dtype=np.uint64)
    return np.sort(np.concatenate([drawn, np.repeat(drawn[:4], 3 * PAGE)]))


@pytest.fixture
def stored(numbers, tmp_path):
    return store(tmp_path, numbers)


def store(folder: Path, numbers: np.ndarray) -> SortedFile:
    store_sorted(folder, NAMES, np.array_split(numbers, 9))
    return SortedFile(*map(folder.joinpath, NAMES))


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
    assert pages[0] >= 3 and pages[1] <= 2
    fences = numbers[::PAGE]
    expected = np.searchsorted(fences, high, "right") - np.searchsorted(fences, low) + 1
    assert np.array_equal(pages, expected)


def test_little_else_is_read(numbers, stored):
    low = numbers[[5, 20 * PAGE, 95 * PAGE]]
    of_the_same_heads = np.isin(heads_of(numbers), heads_of(low))
    assert np.array_equal(stored.near(low, low + np.uint64(1)), numbers[of_the_same_heads])
    assert of_the_same_heads.sum() < 4 * PAGE


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
    stored = store(tmp_path, none)
    packed = PackedNumbers.map(tmp_path / NAMES.heads, tmp_path / NAMES.tails)
    assert len(packed[:]) == 0 and packed.searchsorted(np.ones(2, np.uint64)).tolist() == [0, 0]
    assert len(stored.near(np.ones(2, np.uint64), np.ones(2, np.uint64) + np.uint64(5))) == 0


def test_packed_numbers_are_an_array(numbers, stored, tmp_path):
    packed = PackedNumbers.map(tmp_path / NAMES.heads, tmp_path / NAMES.tails)
    assert len(packed) == len(numbers) and np.array_equal(packed[:], numbers)
    for some in (slice(7, 9), slice(0, 0), slice(5 * PAGE, 9 * PAGE), slice(-3, None)):
        assert np.array_equal(packed[some], numbers[some])
    rng = np.random.default_rng(2)
    positions = rng.integers(0, len(numbers), 1_000)
    assert np.array_equal(packed[positions], numbers[positions])
    values = np.concatenate([numbers[positions], rng.integers(0, 2**63, 99, dtype=np.uint64)])
    values = np.concatenate([values, values + np.uint64(1), [np.uint64(0), np.uint64(2**64 - 1)]])
    for side in ("left", "right"):
        assert np.array_equal(packed.searchsorted(values, side), numbers.searchsorted(values, side))


def test_other_files_are_refused(tmp_path):
    store(tmp_path, np.arange(PAGE + 1, dtype=np.uint64))
    whole = [tmp_path / name for name in NAMES]
    heads, fences, tails = (np.load(path) for path in whole)
    others = [(path, np.load(path) * 1.0, "another kind of array") for path in whole]
    others.append((whole[2], tails[:, :4], "another kind of array"))
    others += [(whole[2], tails[:5], "counts do not"), (whole[1], fences[:1], "counts do not")]
    strange = heads[:, 1:1], heads[:1], heads % NO_HEAD
    others += [(whole[0], array, "counts do not agree") for array in strange]
    for path, array, reason in others:
        before = np.load(path)
        np.save(path, np.ascontiguousarray(array))
        with pytest.raises(ValueError, match=reason):
            SortedFile(*whole)
        np.save(path, before)
    assert len(SortedFile(*whole)) == PAGE + 1


@pytest.mark.skipif(not CAN_FORK, reason="this system's processes do not fork safely")
def test_reading_does_not_move_where_forks_read(numbers, stored):
    before = stored._file.tell()  # which this process and its forks share
    assert list(in_forks(lambda low: len(stored.near(low, low)), numbers[:4, None], 2))
    assert stored._file.tell() == before
