"""`sorted_runs`: what is too much for memory comes out of its runs sorted."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from mmid.index.sorted_runs import PAGE, SortedRuns


@pytest.fixture
def numbers():
    """Return some numbers, the highest and the lowest and repeated ones among them."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, 2**64, 20 * PAGE, np.uint64)
    edges = np.array([0, 2**64 - 1, *drawn[:1].repeat(3 * PAGE)], np.uint64)
    return np.concatenate([drawn[: 7 * PAGE], edges, drawn[7 * PAGE :]])


def runs_of(numbers: np.ndarray, count: int, folder=None) -> SortedRuns:
    return SortedRuns(map(np.sort, np.array_split(numbers, count)), folder)


@pytest.mark.parametrize("count", [1, 3, 40])
def test_ranges_hold_all_numbers_sorted(numbers, count, tmp_path):
    runs = runs_of(numbers, count, tmp_path)
    assert len(runs) == len(numbers)
    assert np.array_equal(runs.within(0, 2**64 - 1), np.sort(numbers))
    whole = np.sort(numbers)
    for low, high in ([0, 0], [2**64 - 1] * 2, whole[[900, 9_000]], whole[[500, 501]] + 1):
        inside = whole[(whole >= low) & (whole <= high)]
        assert np.array_equal(runs.within(int(low), int(high)), inside)


def test_samples_are_spread_over_all_numbers(numbers):
    different = np.unique(numbers)
    samples = np.sort(runs_of(np.random.default_rng(1).permutation(different), 3).samples())
    places = np.searchsorted(different, samples)
    assert np.diff([*places, len(different)]).max() <= 3 * PAGE


def test_no_file_stays(numbers, tmp_path):
    runs = runs_of(numbers, 3, tmp_path)
    assert len(runs.within(0, 2**63)) > 0
    del runs
    gc.collect()
    assert not list(tmp_path.iterdir())


def test_of_no_runs_nothing_is_read():
    runs = SortedRuns([])
    assert len(runs) == len(runs.samples()) == len(runs.within(0, 2**64 - 1)) == 0
