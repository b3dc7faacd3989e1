"""The inverted lists of an index: its snippets, gathered about centroids that an HNSW graph finds.

Conventions: vectors are packed (`mmid.index.quantization`), centroids float32 unit vectors
``[lists, embedding]``. A row of the vectors lies in the inverted list of its nearest centroid.
``rows`` holds them list by list, list ``i`` from ``bounds[i]`` to before ``bounds[i + 1]``.
Inverted lists are a cache of the vectors.

References
----------
.. [1] H. Jégou, M. Douze, C. Schmid, "Product quantization for nearest neighbor search", IEEE TPAMI
   33(1), 2011: the inverted file.
.. [2] D. Baranchuk, A. Babenko, Y. Malkov, "Revisiting the inverted indices for billion-scale
   approximate nearest neighbors", ECCV 2018: its centroids found by HNSW.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from mmid.index.quantization import INT8_SCALE, unpack
from mmid.system.arrays import let_go, read_rows
from mmid.system.console import ProgressCallback, quiet

PER_ROOT = 3
"""Inverted lists for each unit of the square root of the vectors: 4,000 for two million."""

OUTGROWN = 1.5
"""Inverted lists are made anew once there should be so many times more, or fewer."""

ROUNDS, SAMPLED = 4, 24
"""Of k-means, and vectors a list that it learns from."""

PROBED, FLOOR_LISTS = 80, 3
"""Lists a query is compared with, and how many of them set what the others must surpass."""

ROWS_AT_ONCE = 8_192
"""Queries searched at once, or vectors a thread finds the lists of; bounds memory."""

PART = 1 << 14
"""Vectors of a list compared at once: of much the same music it may hold a million."""

COMPARED_AT_ONCE = 256
"""Vectors compared with all centroids at once: what comes of it stays in the processor's cache."""


def inverted_list_count(count: int) -> int:
    """Return into how many inverted lists so many vectors go.

    Examples
    --------
    >>> inverted_list_count(1_000_000)
    3000
    """
    return max(1, min(count, round(PER_ROOT * math.sqrt(count))))


def learn_centroids(vectors: np.ndarray, progress: ProgressCallback = quiet) -> np.ndarray:
    """Place centroids among vectors, by a few rounds of k-means on some of them.

    Parameters
    ----------
    vectors : np.ndarray [n, embedding] int8
        Packed.
    progress : callable
        Called with ``("Learning inverted lists", rounds done, in all)``.

    Returns
    -------
    np.ndarray [lists, embedding] float32
        The same for the same vectors.
    """
    count = inverted_list_count(len(vectors))
    rng = np.random.default_rng(0)
    some = rng.permutation(len(vectors))[: count * SAMPLED]
    sample = np.asarray(vectors[np.sort(some)])
    let_go(vectors)
    centroids = _to_unit(unpack(sample[np.sort(rng.permutation(len(sample))[:count])]))
    for done in range(ROUNDS):
        progress("Learning inverted lists", done, ROUNDS)
        number = nearest_centroids(sample, centroids)
        sums = np.zeros((count, vectors.shape[1]), np.float32)
        np.add.at(sums, number, unpack(sample))
        empty = np.bincount(number, minlength=count) == 0
        sums[empty] = centroids[empty]
        centroids = _to_unit(sums)
    progress("Learning inverted lists", ROUNDS, ROUNDS)
    return centroids


def _to_unit(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-9), np.float32)


def nearest_centroids(
    vectors: np.ndarray, centroids: np.ndarray, progress: ProgressCallback = quiet
) -> np.ndarray:
    """Return the number of the list that each vector lies in.

    Parameters
    ----------
    vectors : np.ndarray [n, embedding] int8
        Packed.
    centroids : np.ndarray [lists, embedding] float32
    progress : callable
        Called with ``("Sorting", vectors done, in all)``.

    Returns
    -------
    np.ndarray [n] int32
    """
    across = np.ascontiguousarray(centroids.T)

    def nearest(first: int) -> np.ndarray:
        some = unpack(vectors[first : first + ROWS_AT_ONCE])
        let_go(vectors)
        parts = (some[i : i + COMPARED_AT_ONCE] for i in range(0, len(some), COMPARED_AT_ONCE))
        return np.concatenate([(part @ across).argmax(1) for part in parts])

    number = np.zeros(len(vectors), np.int32)
    firsts = range(0, len(vectors), ROWS_AT_ONCE)
    with _blas().limit(limits=1), ThreadPoolExecutor(_threads()) as pool:
        for first, found in zip(firsts, pool.map(nearest, firsts), strict=True):
            number[first : first + len(found)] = found
            progress("Sorting", first + len(found), len(vectors))
    return number


@cache
def _blas() -> ThreadpoolController:
    """Return what limits NumPy's threads: many small products wait for them more than they gain."""
    return ThreadpoolController().select(user_api="blas")


def _threads() -> int:
    """Return how many threads to use: PyTorch's share, where it is loaded."""
    torch = sys.modules.get("torch")
    return int(torch.get_num_threads()) if torch else os.cpu_count() or 1


@dataclass(frozen=True, eq=False)
class _Hits:
    """Rows found for queries: whose they are, where in ``rows``, and their cosines."""

    whose: np.ndarray
    position: np.ndarray
    cosine: np.ndarray

    @classmethod
    def concatenate(cls, parts: Iterable[_Hits]) -> _Hits:
        """Put them one behind the other."""
        found = list(parts)
        names = ("whose", "position", "cosine")
        return cls(*(np.concatenate([getattr(part, name) for part in found]) for name in names))

    def best(self, k: int) -> tuple[_Hits, np.ndarray]:
        """Keep the best of each query, best first; return them and their ranks, from 0 on."""
        order = np.argsort(self.whose - self.cosine / 4.0)
        whose = self.whose[order]
        rank = np.arange(len(whose)) - np.searchsorted(whose, whose)
        kept = rank < k
        order = order[kept]
        return _Hits(whose[kept], self.position[order], self.cosine[order]), rank[kept]


@dataclass(frozen=True, eq=False)
class InvertedLists:
    """Vectors in inverted lists, ready to be searched.

    Parameters
    ----------
    vectors : np.ndarray [n, embedding] int8
        Packed; may be mapped.
    centroids : np.ndarray [lists, embedding] float32
    rows : np.ndarray [n] uint32
    bounds : np.ndarray [lists + 1] int64
    graph : hnswlib.Index
        Of the centroids.
    """

    vectors: np.ndarray
    centroids: np.ndarray
    rows: np.ndarray
    bounds: np.ndarray
    graph: Any
    _kept: dict[int, np.ndarray] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        vectors: np.ndarray,
        centroids: np.ndarray,
        number: np.ndarray,
        graph: Any,
        rows: np.ndarray | None = None,
    ) -> InvertedLists:
        """Gather vectors, or some rows of them, by the lists that `nearest_centroids` gave."""
        order = np.argsort(number, kind="stable")
        rows = (order if rows is None else rows[order]).astype(np.uint32)
        counts = np.bincount(number, minlength=len(centroids))
        bounds = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return cls(vectors, centroids, rows, bounds, graph)

    def list_of_rows(self) -> np.ndarray:
        """Return the number of the list that each row lies in, int32; 0 of one in none."""
        number = np.zeros(len(self.vectors), np.int32)
        number[self.rows] = np.repeat(np.arange(len(self.centroids)), np.diff(self.bounds))
        return number

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Find the nearest vectors of queries, in the lists nearest to them.

        Parameters
        ----------
        queries : np.ndarray [m, embedding] float32
        k : int

        Returns
        -------
        rows : np.ndarray [m, k] int64
        cosine : np.ndarray [m, k] float32
            Best first; below -1 where those lists hold fewer.
        """
        firsts = range(0, max(1, len(queries)), ROWS_AT_ONCE)
        with _blas().limit(limits=1):
            parts = [self._search(queries[first : first + ROWS_AT_ONCE], k) for first in firsts]
        rows, cosine = zip(*parts, strict=True)
        return np.concatenate(rows), np.concatenate(cosine)

    def _search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        scaled = np.asarray(queries, np.float32) / np.float32(INT8_SCALE)
        near = self._near(queries)
        self._gather(np.unique(near))
        first, rank = self._visit(scaled, near[:, :FLOOR_LISTS], k, None).best(k)
        floor = np.full(len(queries), -np.inf, np.float32)
        last = rank == k - 1
        floor[first.whose[last]] = first.cosine[last]
        others = self._visit(scaled, near[:, FLOOR_LISTS:], k, floor)
        found, rank = _Hits.concatenate([first, others]).best(k)
        rows = np.zeros((len(queries), k), np.int64)
        cosine = np.full((len(queries), k), -2, np.float32)
        rows[found.whose, rank] = self.rows[found.position]
        cosine[found.whose, rank] = found.cosine
        return rows, cosine

    def _near(self, queries: np.ndarray) -> np.ndarray:
        """Return the lists that queries look into, nearest first."""
        probed = min(PROBED, len(self.centroids))
        self.graph.set_ef(probed)
        try:
            threads = _threads()
            return np.asarray(self.graph.knn_query(queries, probed, threads)[0].astype(np.int64))
        except RuntimeError:  # it reaches too few of them
            return np.argsort(-(queries @ self.centroids.T), axis=1)[:, :probed]

    def _visit(
        self, queries: np.ndarray, near: np.ndarray, k: int, floor: np.ndarray | None
    ) -> _Hits:
        """Look into lists, each once for all queries that do; the hits are above their floor."""
        order = np.argsort(near, axis=None, kind="stable")
        number, whose = near.ravel()[order], order // max(1, near.shape[1])
        firsts = np.flatnonzero(np.diff(number, prepend=-1)).tolist()
        querying = queries.take(whose, 0)
        floors = None if floor is None else floor.take(whose)[:, None]

        def look(lists: Iterable[tuple[int, int]]) -> _Hits:
            """Look into lists, given where their queries begin and end."""
            found = [(0, np.zeros(0, np.int64), np.zeros(0, np.float32))]
            parts = [(0, 0, 1)]
            for a, b in lists:
                for start, vectors in self._parts(int(number[a])):
                    cosine = querying[a:b] @ vectors.astype(np.float32).T
                    over = _kth(cosine, k) if floors is None else floors[a:b]
                    hit = np.flatnonzero(cosine > over)
                    if len(hit):
                        found.append((len(hit), hit, cosine.ravel()[hit]))
                        parts.append((a, start, len(vectors)))
            counts, hits, cosines = zip(*found, strict=True)
            first, start, width = np.repeat(parts, counts, 0).T
            which, position = np.divmod(np.concatenate(hits), width)
            return _Hits(whose[first + which], start + position, np.concatenate(cosines))

        lists, threads = [*pairwise([*firsts, len(number)])], _threads()
        share = max(1, -(-len(lists) // threads))
        with ThreadPoolExecutor(threads) as pool:
            shares = (lists[i : i + share] for i in range(0, max(1, len(lists)), share))
            return _Hits.concatenate(pool.map(look, shares))

    def _parts(self, number: int) -> Iterator[tuple[int, np.ndarray]]:
        """Yield a list's vectors, some at a time, and where in ``rows`` they begin."""
        begin, vectors = int(self.bounds[number]), self._kept[number]
        for start in range(0, len(vectors), PART):
            yield begin + start, vectors[start : start + PART]

    def _gather(self, lists: np.ndarray) -> None:
        """Read the vectors of lists, unless they are kept: each list's next to one another."""
        new = [number for number in lists.tolist() if number not in self._kept]
        if new:
            spans = [slice(*self.bounds[number : number + 2]) for number in new]
            vectors = read_rows(self.vectors, np.concatenate([self.rows[span] for span in spans]))
            ends = np.cumsum([span.stop - span.start for span in spans])
            self._kept.update(zip(new, np.split(vectors, ends[:-1]), strict=True))


def _kth(cosine: np.ndarray, k: int) -> np.ndarray:
    """Return what each row's k best are above, and what equals the last, ``[queries, 1]``."""
    if cosine.shape[1] <= k:
        return np.full((len(cosine), 1), -np.inf, np.float32)
    worst = np.partition(cosine, -k, axis=1)[:, -k, None]
    return np.asarray(np.nextafter(worst, np.float32(-np.inf)))
