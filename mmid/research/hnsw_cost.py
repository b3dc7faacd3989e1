"""What an HNSW graph of all vectors gains and costs against comparing every one.

Conventions: vectors are unit vectors ``[n, embedding]`` compared by cosine. Both ways run on one
thread. A neighbour found is right if it is as near as the k-th nearest one: indexes hold many equal
vectors, of bars that return, and any of them will do. An index has a graph of its centroids alone
(`mmid.index.inverted_lists`), which takes a hundredth of the room.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmid.errors import MmidError
from mmid.identify.search import NEIGHBOURS
from mmid.index.hnsw import SEARCH_BREADTH, build_graph
from mmid.index.quantization import unpack
from mmid.output.figures import Panel, Series, save_figure
from mmid.system.console import ProgressCallback, quiet

SIZES = (1_000, 10_000, 100_000, 1_000_000)
QUERIES = 1_000

SINGLY = 100
"""Queries made one at a time, at most."""

BATCH = 64
"""Queries compared with every vector in one product; bounds memory."""

LEAST_RUNS, LEAST_SECONDS = 3, 0.2
"""A search is timed at least so often and so long; the fastest run counts."""

SAME = 1e-5
"""Cosines that differ by less are equal: rounding in 32-bit sums."""


@dataclass(frozen=True)
class SearchRow:
    """Both ways to search at one size.

    Parameters
    ----------
    size : int
        Vectors searched.
    jittered : int
        How many of them are copies with noise; 0 unless wanted.
    exact_single, exact_batch : float
        Comparing every vector: milliseconds a query, one query at a time and many at once.
    graph_single, graph_batch : float
        The graph: the same.
    build_seconds : float
        Building the graph, on all cores.
    graph_bytes : int
        The graph as it is stored, its float32 vectors included.
    error_first, error_all : float
        1 - recall: share of wrong ones among first neighbours, and among all neighbours.
    """

    size: int
    jittered: int
    exact_single: float
    exact_batch: float
    graph_single: float
    graph_batch: float
    build_seconds: float
    graph_bytes: int
    error_first: float
    error_all: float

    @property
    def speedup_single(self) -> float:
        """How many times faster the graph is, one query at a time."""
        return self.exact_single / self.graph_single

    @property
    def speedup_batch(self) -> float:
        """How many times faster the graph is, many queries at once."""
        return self.exact_batch / self.graph_batch

    def to_dict(self) -> dict[str, Any]:
        """Return the row as JSON-ready names and values."""
        faster = {"speedup_single": self.speedup_single, "speedup_batch": self.speedup_batch}
        return asdict(self) | faster


@dataclass(frozen=True)
class SearchReport:
    """Every size searched.

    Parameters
    ----------
    queries, neighbours : int
        Vectors held out as queries, and neighbours wanted of each.
    available : int
        Vectors of the index that are left to search.
    jitter : float
        Standard deviation of the noise on copied vectors, a dimension; 0 without copies.
    rows : tuple of SearchRow
        By size.
    """

    queries: int
    neighbours: int
    available: int
    jitter: float
    rows: tuple[SearchRow, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-ready names and values."""
        return asdict(self) | {"rows": [row.to_dict() for row in self.rows]}


def compare_search(
    vectors: np.ndarray,
    sizes: Sequence[int] = SIZES,
    *,
    queries: int = QUERIES,
    neighbours: int = NEIGHBOURS,
    jitter: float = 0.0,
    seed: int = 0,
    progress: ProgressCallback = quiet,
) -> SearchReport:
    """Search ever more vectors of an index, exactly and by a graph of them.

    The vectors are shuffled, and the queries held out of them. Neighbouring snippets of a piece
    overlap, so a held-out vector has nearer neighbours than the snippet of a recording would.

    Parameters
    ----------
    vectors : np.ndarray [n, embedding] int8
        Packed, as `LibraryIndex.vectors`; may be mapped from a file.
    sizes : sequence of int
        Vectors to search; sizes beyond those there are become one, all there are.
    queries, neighbours : int
    jitter : float
        If above 0, larger sizes are reached by copies of vectors with so much Gaussian noise.
    seed : int
    progress : callable
        Called with ``(what, done, total)``.

    Raises
    ------
    MmidError
        If too few vectors are left to search.

    References
    ----------
    .. [1] Y. A. Malkov, D. A. Yashunin, "Efficient and robust approximate nearest neighbor search
       using hierarchical navigable small world graphs", IEEE TPAMI 42(4), 2020.
    .. [2] C. Fu, D. Cai, "EFANNA: an extremely fast approximate nearest neighbor search algorithm
       based on kNN graph", arXiv:1609.07228, 2016.
    """
    available = len(vectors) - queries
    kept = pick_sizes(sizes, available, grow=jitter > 0)
    if not kept or kept[0] < neighbours:
        raise MmidError(
            f"{len(vectors)} vectors are too few: {queries} queries are held out of them, and each"
            f" size needs the {neighbours} neighbours wanted; give fewer --queries"
        )
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(vectors))[: queries + kept[-1]]
    held_out, base = np.split(unpack(vectors[order]), [queries])
    rows = []
    for done, size in enumerate(kept):
        progress("Sizes", done, len(kept))
        searched = grow_vectors(base, size, jitter, rng)
        rows.append(measure_size(searched, held_out, neighbours, jittered=max(0, size - available)))
    progress("Sizes", len(kept), len(kept))
    return SearchReport(queries, neighbours, available, jitter, tuple(rows))


def pick_sizes(sizes: Sequence[int], available: int, *, grow: bool = False) -> list[int]:
    """Return the sizes to search, ascending: no more vectors than there are, unless they may grow.

    Examples
    --------
    >>> pick_sizes([1000, 10_000, 100_000], 5_000)
    [1000, 5000]
    """
    wanted = sizes if grow else [min(size, available) for size in sizes]
    return sorted({size for size in wanted if size > 0})


def grow_vectors(
    vectors: np.ndarray, size: int, jitter: float, rng: np.random.Generator
) -> np.ndarray:
    """Return the first vectors, and where there are too few, noisy unit copies of them behind.

    Parameters
    ----------
    vectors : np.ndarray [n, embedding] float32
    size : int
    jitter : float
        Standard deviation of the noise, a dimension.
    rng : np.random.Generator

    Returns
    -------
    np.ndarray [size, embedding] float32
    """
    missing = size - len(vectors)
    if missing <= 0:
        return vectors[:size]
    copies = vectors[np.arange(missing) % len(vectors)]
    copies += jitter * rng.standard_normal(copies.shape, np.float32)
    copies /= np.linalg.norm(copies, axis=1, keepdims=True)
    return np.concatenate([vectors, copies])


def measure_size(
    vectors: np.ndarray, queries: np.ndarray, neighbours: int, *, jittered: int = 0
) -> SearchRow:
    """Time both ways to search and count the graph's errors.

    Parameters
    ----------
    vectors : np.ndarray [n, embedding] float32
    queries : np.ndarray [queries, embedding] float32
    neighbours : int
        At most n.
    jittered : int
        How many of the vectors are copies with noise.
    """
    started = time.perf_counter()
    graph = build_graph(vectors)
    built = time.perf_counter() - started
    graph.set_ef(max(SEARCH_BREADTH, 2 * neighbours))
    transposed = torch.from_numpy(vectors).T.contiguous()
    by_comparing = partial(search_exact, transposed, neighbours=neighbours)

    def by_graph(batch: np.ndarray) -> np.ndarray:
        found: np.ndarray = graph.knn_query(batch, neighbours, num_threads=1)[0]
        return found.astype(np.int64)

    with one_thread():
        true, exact_batch = _time(by_comparing, queries)
        found, graph_batch = _time(by_graph, queries)
        exact_single = _time_singly(by_comparing, queries)
        graph_single = _time_singly(by_graph, queries)
    wrong = find_errors(vectors, queries, found, true)
    return SearchRow(
        len(vectors),
        jittered,
        exact_single,
        exact_batch,
        graph_single,
        graph_batch,
        built,
        graph.index_file_size(),
        *wrong,
    )


def search_exact(transposed: torch.Tensor, queries: np.ndarray, neighbours: int) -> np.ndarray:
    """Find the nearest vectors by comparing every one.

    Parameters
    ----------
    transposed : Tensor [embedding, n] float32
    queries : np.ndarray [queries, embedding] float32
    neighbours : int

    Returns
    -------
    np.ndarray [queries, neighbours] int64
        Best first.
    """
    batch = torch.from_numpy(queries)
    parts = (batch[first : first + BATCH] for first in range(0, len(batch), BATCH))
    return torch.cat([(part @ transposed).topk(neighbours).indices for part in parts]).numpy()


def find_errors(
    vectors: np.ndarray, queries: np.ndarray, found: np.ndarray, true: np.ndarray
) -> tuple[float, float]:
    """Compare neighbours found with the true ones.

    Parameters
    ----------
    vectors : np.ndarray [n, embedding] float32
    queries : np.ndarray [queries, embedding] float32
    found, true : np.ndarray [queries, k] int64
        Places in the vectors, best first.

    Returns
    -------
    float, float
        Share of wrong ones among the first neighbours found, and among all; 0 to 1.
    """

    def cosines(positions: np.ndarray) -> np.ndarray:
        near: np.ndarray = np.einsum("qkd,qd->qk", vectors[positions], queries)
        return near

    here, there = cosines(found), cosines(true)
    first = here[:, 0] < there[:, 0] - SAME
    farther = here < there.min(1, keepdims=True) - SAME
    return float(first.mean()), float(farther.mean())


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _time(
    search: Callable[[np.ndarray], np.ndarray], queries: np.ndarray
) -> tuple[np.ndarray, float]:
    """Search until long enough; return the answer, and milliseconds a query of the fastest run."""
    answer = search(queries[:1])
    runs: list[float] = []
    while len(runs) < LEAST_RUNS or sum(runs) < LEAST_SECONDS:
        started = time.perf_counter()
        answer = search(queries)
        runs.append(time.perf_counter() - started)
    return answer, 1_000 * min(runs) / len(queries)


def _time_singly(search: Callable[[np.ndarray], np.ndarray], queries: np.ndarray) -> float:
    def one_by_one(batch: np.ndarray) -> np.ndarray:
        return np.concatenate([search(batch[row : row + 1]) for row in range(len(batch))])

    return _time(one_by_one, queries[:SINGLY])[1]


def draw_search(report: SearchReport, path: Path) -> None:
    """Draw speed-up and error against size.

    Parameters
    ----------
    report : SearchReport
    path : Path
        The .png or .svg file to write.
    """
    rows, k = report.rows, report.neighbours
    sizes = [row.size for row in rows]
    copies = f", {rows[-1].jittered:,} of them noisy copies" if rows[-1].jittered else ""
    size = f"vectors searched{copies}"
    faster = [
        Series("one query at a time", sizes, [row.speedup_single for row in rows], "both"),
        Series("many at once", sizes, [row.speedup_batch for row in rows], "both"),
    ]
    wrong = [
        Series("first neighbour", sizes, [100 * row.error_first for row in rows], "both"),
        Series(f"{k} neighbours", sizes, [100 * row.error_all for row in rows], "both"),
    ]
    least = 100 / (report.queries * k)
    save_figure(
        [
            Panel("HNSW against brute force", size, "times faster", faster, "log", "log"),
            Panel("neighbours missed", size, "error (%)", wrong, "log", "symlog", least),
        ],
        path,
    )
