"""`inverted_lists`: what lies in the nearest lists is found, best first; nothing else is read."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info

from mmid.index import inverted_lists as module
from mmid.index.hnsw import build_graph
from mmid.index.inverted_lists import (
    InvertedLists,
    inverted_list_count,
    learn_centroids,
    nearest_centroids,
)
from mmid.index.quantization import pack, unpack


def sphere(count: int, seed: int = 0, dimensions: int = 16) -> np.ndarray:
    points = np.random.default_rng(seed).standard_normal((count, dimensions))
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


def clustered(count: int, seed: int = 0) -> np.ndarray:
    """Return vectors about a hundred points."""
    rng = np.random.default_rng(seed)
    vectors = sphere(100, 1)[rng.integers(100, size=count)]
    return to_unit(vectors + 0.12 * rng.standard_normal(vectors.shape))


def to_unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def gathered(vectors: np.ndarray) -> InvertedLists:
    packed = pack(vectors)
    centroids = learn_centroids(packed)
    return InvertedLists.of(
        packed, centroids, nearest_centroids(packed, centroids), build_graph(centroids)
    )


def test_each_vector_lies_in_the_list_of_its_nearest_centroid(monkeypatch):
    monkeypatch.setattr(module, "COMPARED_AT_ONCE", 7)
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 100)
    lists, told = gathered(sphere(1_000)), []
    nearest = (unpack(lists.vectors) @ lists.centroids.T).argmax(1)
    assert np.array_equal(lists.list_of_rows(), nearest)
    assert sorted(lists.rows.tolist()) == list(range(1_000)) and lists.bounds[-1] == 1_000
    for number in range(len(lists.centroids)):
        inside = lists.rows[lists.bounds[number] : lists.bounds[number + 1]]
        assert (nearest[inside] == number).all()
    nearest_centroids(lists.vectors, lists.centroids, lambda *now: told.append(now))
    assert told[-1] == ("Sorting", 1_000, 1_000)


def test_centroids_are_the_same_again_and_unit_vectors():
    packed = pack(clustered(3_000))
    first, again = learn_centroids(packed), learn_centroids(packed)
    assert np.array_equal(first, again) and len(first) == inverted_list_count(3_000) == 164
    np.testing.assert_allclose(np.linalg.norm(first, axis=1), 1, atol=1e-5)


def test_centroids_gather_what_is_alike():
    packed = pack(clustered(3_000))
    centroids = learn_centroids(packed)
    near = (unpack(packed) @ centroids.T).max(1).mean()
    random = (unpack(packed) @ unpack(packed[: len(centroids)]).T)[500:].max(1).mean()
    assert near > random + 0.02


@pytest.mark.parametrize("together", [8_192, 37])
def test_all_lists_together_are_every_vector(monkeypatch, together):
    lists, queries = gathered(sphere(2_000)), sphere(100, 2)
    monkeypatch.setattr(module, "PROBED", 10_000)
    monkeypatch.setattr(module, "ROWS_AT_ONCE", together)
    rows, cosine = lists.search(queries, 25)
    scores = queries @ unpack(lists.vectors).T
    np.testing.assert_allclose(cosine, -np.sort(-scores, axis=1)[:, :25], atol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(scores, rows, 1), cosine, atol=1e-5)


def test_the_nearest_lists_hold_nearly_all_of_the_nearest():
    vectors = clustered(20_000)
    lists = gathered(vectors)
    rng = np.random.default_rng(3)
    queries = to_unit(vectors[:200] + 0.05 * rng.standard_normal((200, 16)))
    scores = queries @ unpack(lists.vectors).T
    least = -np.sort(-scores, axis=1)[:, 9:10]
    rows, cosine = lists.search(queries, 10)
    assert (cosine >= least - 1e-5).mean() > 0.97
    assert (np.diff(cosine, axis=1) <= 0).all()
    assert all(len(set(found)) == 10 for found in rows.tolist())


def test_a_list_is_gathered_once(monkeypatch):
    monkeypatch.setattr(module, "PART", 30)
    lists, queries = gathered(sphere(2_000)), sphere(100, 2)
    first = lists.search(queries, 25)
    assert 0 < sum(len(part) for part in lists._kept.values()) <= 2_000
    lists.rows[:] = 0  # nothing is looked for there again
    again = lists.search(queries, 25)
    assert np.array_equal(first[1], again[1])


def test_several_threads_find_the_same():
    vectors, queries, threads = clustered(3_000), clustered(100, 2), torch.get_num_threads()
    found = []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            found.append(gathered(vectors).search(queries, 25))
    finally:
        torch.set_num_threads(threads)
    assert all(np.array_equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.parametrize("rows", [1 << 14, 30])
def test_of_many_equal_vectors_as_many_are_found_as_asked_for(monkeypatch, rows):
    monkeypatch.setattr(module, "PART", rows)
    vectors = np.repeat(sphere(40), 100, 0)
    lists = gathered(vectors)
    rows, cosine = lists.search(vectors[::100], 25)
    assert (cosine > 0.98).all() and (rows // 100 == np.arange(40)[:, None]).all()


def test_where_the_lists_hold_too_few_it_is_told(monkeypatch):
    monkeypatch.setattr(module, "PROBED", 1)
    lists = gathered(sphere(400))
    _, cosine = lists.search(sphere(5, 4), 300)
    assert (cosine[:, -1] < -1).all() and (cosine[:, 0] > 0).all()


@pytest.mark.parametrize("count", [1, 2, 9])
def test_few_vectors_have_lists_too(count):
    lists = gathered(sphere(count))
    rows, cosine = lists.search(sphere(3, 1), count)
    assert (np.sort(rows, axis=1) == np.arange(count)).all() and (cosine >= -1).all()


def test_a_graph_that_reaches_too_few_is_done_without():
    lists = gathered(sphere(500))

    class Poor:
        def set_ef(self, _breadth):
            pass

        def knn_query(self, *_args):
            raise RuntimeError("Cannot return the results in a contiguous 2D array")

    poor = InvertedLists(lists.vectors, lists.centroids, lists.rows, lists.bounds, Poor())
    queries = sphere(20, 5)
    assert np.array_equal(poor.search(queries, 5)[1], lists.search(queries, 5)[1])


def test_no_queries_have_no_answers():
    rows, cosine = gathered(sphere(50)).search(sphere(0), 5)
    assert rows.shape == cosine.shape == (0, 5)


def test_numpy_has_its_threads_back():
    def threads() -> list[int]:
        return [lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"]

    before, lists = threads(), gathered(sphere(50))
    lists.search(sphere(3), 5)
    assert threads() == before
