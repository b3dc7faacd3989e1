"""`inverted_lists`: what lies in the nearest cells is found, best first; nothing else is read."""

from __future__ import annotations

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from mmid.index import inverted_lists as module
from mmid.index.hnsw import build_graph
from mmid.index.inverted_lists import Cells, inverted_list_count, learn_centroids, nearest_centroids
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


def gathered(vectors: np.ndarray) -> Cells:
    packed = pack(vectors)
    centroids = learn_centroids(packed)
    return Cells.of(packed, centroids, nearest_centroids(packed, centroids), build_graph(centroids))


def test_each_vector_lies_in_the_cell_of_its_nearest_centroid(monkeypatch):
    monkeypatch.setattr(module, "COMPARED", 7)
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 100)
    cells, told = gathered(sphere(1_000)), []
    nearest = (unpack(cells.vectors) @ cells.centroids.T).argmax(1)
    assert np.array_equal(cells.cell_of_rows(), nearest)
    assert sorted(cells.rows.tolist()) == list(range(1_000)) and cells.bounds[-1] == 1_000
    for cell in range(len(cells.centroids)):
        inside = cells.rows[cells.bounds[cell] : cells.bounds[cell + 1]]
        assert (nearest[inside] == cell).all()
    nearest_centroids(cells.vectors, cells.centroids, lambda *now: told.append(now))
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
def test_all_cells_together_are_every_vector(monkeypatch, together):
    cells, queries = gathered(sphere(2_000)), sphere(100, 2)
    monkeypatch.setattr(module, "PROBED", 10_000)
    monkeypatch.setattr(module, "ROWS_AT_ONCE", together)
    rows, cosine = cells.search(queries, 25)
    scores = queries @ unpack(cells.vectors).T
    np.testing.assert_allclose(cosine, -np.sort(-scores, axis=1)[:, :25], atol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(scores, rows, 1), cosine, atol=1e-5)


def test_the_nearest_cells_hold_nearly_all_of_the_nearest():
    vectors = clustered(20_000)
    cells = gathered(vectors)
    rng = np.random.default_rng(3)
    queries = to_unit(vectors[:200] + 0.05 * rng.standard_normal((200, 16)))
    scores = queries @ unpack(cells.vectors).T
    least = -np.sort(-scores, axis=1)[:, 9:10]
    rows, cosine = cells.search(queries, 10)
    assert (cosine >= least - 1e-5).mean() > 0.97
    assert (np.diff(cosine, axis=1) <= 0).all()
    assert all(len(set(found)) == 10 for found in rows.tolist())


def test_a_cell_is_gathered_once(monkeypatch):
    monkeypatch.setattr(module, "PART", 30)
    cells, queries = gathered(sphere(2_000)), sphere(100, 2)
    first = cells.search(queries, 25)
    assert 0 < sum(len(part) for part in cells._kept.values()) <= 2_000
    cells.rows[:] = 0  # nothing is looked for there again
    again = cells.search(queries, 25)
    assert np.array_equal(first[1], again[1])


@pytest.mark.parametrize("rows", [1 << 14, 30])
def test_of_many_equal_vectors_as_many_are_found_as_asked_for(monkeypatch, rows):
    monkeypatch.setattr(module, "PART", rows)
    vectors = np.repeat(sphere(40), 100, 0)
    cells = gathered(vectors)
    rows, cosine = cells.search(vectors[::100], 25)
    assert (cosine > 0.98).all() and (rows // 100 == np.arange(40)[:, None]).all()


def test_where_the_cells_hold_too_few_it_is_told(monkeypatch):
    monkeypatch.setattr(module, "PROBED", 1)
    cells = gathered(sphere(400))
    _, cosine = cells.search(sphere(5, 4), 300)
    assert (cosine[:, -1] < -1).all() and (cosine[:, 0] > 0).all()


@pytest.mark.parametrize("count", [1, 2, 9])
def test_few_vectors_have_cells_too(count):
    cells = gathered(sphere(count))
    rows, cosine = cells.search(sphere(3, 1), count)
    assert (np.sort(rows, axis=1) == np.arange(count)).all() and (cosine >= -1).all()


def test_a_graph_that_reaches_too_few_is_done_without():
    cells = gathered(sphere(500))

    class Poor:
        def set_ef(self, _breadth):
            pass

        def knn_query(self, *_args):
            raise RuntimeError("Cannot return the results in a contiguous 2D array")

    poor = Cells(cells.vectors, cells.centroids, cells.rows, cells.bounds, Poor())
    queries = sphere(20, 5)
    assert np.array_equal(poor.search(queries, 5)[1], cells.search(queries, 5)[1])


def test_no_queries_have_no_answers():
    rows, cosine = gathered(sphere(50)).search(sphere(0), 5)
    assert rows.shape == cosine.shape == (0, 5)


def test_numpy_has_its_threads_back():
    def threads() -> list[int]:
        return [lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"]

    before, cells = threads(), gathered(sphere(50))
    cells.search(sphere(3), 5)
    assert threads() == before
