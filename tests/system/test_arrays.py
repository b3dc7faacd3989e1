"""Arrays that are mapped: rows read of them, and what of them stays in memory."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from mmid.system import arrays
from mmid.system.arrays import joined, let_go, map_array, read_rows


@pytest.fixture
def stored(tmp_path) -> Path:
    values = np.random.default_rng(0).integers(-99, 99, (20_000, 32)).astype(np.int8)
    np.save(tmp_path / "values.npy", values)
    return tmp_path / "values.npy"


def resident(path: Path) -> int:
    """Return how many kilobytes of a mapped file the system counts as this process's."""
    maps = re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text(), flags=re.M)
    own = [one for one in maps if one.partition("\n")[0].endswith(str(path))]
    return sum(int(found) for one in own for found in re.findall(r"^Rss: +(\d+)", one, re.M))


@pytest.mark.parametrize("count", [3, 300, 20_000])
def test_rows_are_read_in_any_number_and_order(stored, monkeypatch, count):
    monkeypatch.setattr(arrays, "BLOCK_ROWS", 700)
    rows = np.random.default_rng(1).permutation(20_000)[:count].astype(np.uint32)
    mapped, values = map_array(stored, np.int8, 2), np.load(stored)
    for array in (mapped, values, joined([mapped[:9_000], mapped[9_000:]])):
        assert np.array_equal(read_rows(array, rows), values[rows])


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux says of a process's memory")
def test_a_large_array_is_not_left_in_memory(stored, monkeypatch):
    mapped = np.asarray(map_array(stored, np.int8, 2))
    whole = mapped.sum(dtype=int)
    let_go(mapped)
    assert resident(stored) > 100, "small ones may stay"
    monkeypatch.setattr(arrays, "LARGE_BYTES", 1000)
    let_go(joined([mapped, np.zeros((9, 32), np.int8)]))
    assert resident(stored) == 0
    assert mapped.sum(dtype=int) == whole
    read_rows(mapped, np.arange(20_000))
    assert resident(stored) == 0
