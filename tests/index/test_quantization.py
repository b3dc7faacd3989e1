"""`mmid.index.quantization`: unit vectors come back from a byte a coordinate all but the same."""

from __future__ import annotations

import numpy as np
import pytest

from mmid.index.quantization import INT8_SCALE, pack, unpack


@pytest.fixture
def units() -> np.ndarray:
    vectors = np.random.default_rng(0).normal(size=(500, 32))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_no_coordinate_is_off_by_more_than_half_a_step(units):
    packed = pack(units)
    assert packed.dtype == np.int8 and packed.shape == units.shape
    assert np.abs(unpack(packed) - units).max() <= 0.5 / INT8_SCALE + 1e-6
    cosines = (unpack(packed) * units).sum(1)
    assert np.abs(cosines - 1).max() < 0.01


def test_packed_vectors_are_packed_to_the_same(units):
    packed = pack(units)
    assert np.array_equal(pack(unpack(packed)), packed)


def test_the_longest_coordinates_fit():
    assert pack(np.array([[1.0, -1.0, 1.001, -1.001]])).tolist() == [[127, -127, 127, -127]]
