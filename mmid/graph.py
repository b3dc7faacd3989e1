"""The HNSW graph of an index's vectors: built, extended, loaded.

Conventions: the label of a vector is its row. Rows that belong to no item any more are dead: not in
a new graph, marked deleted in an extended one. The graph is a cache of the vectors.

References
----------
.. [1] Y. Malkov, D. Yashunin, "Efficient and robust approximate nearest neighbor search using
   Hierarchical Navigable Small World graphs", IEEE TPAMI 42(4), 2020.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mmid.console import Tell, quiet

LINKS = 12
BUILD_BREADTH = 80
SEARCH_BREADTH = 128

TOGETHER = 20_000
"""Vectors added between two reports."""


def _empty(dimensions: int) -> Any:
    import hnswlib

    return hnswlib.Index(space="ip", dim=dimensions)


def build_graph(vectors: np.ndarray, live: np.ndarray, progress: Tell = quiet) -> Any:
    """Build the graph of unit vectors, with all cores.

    Parameters
    ----------
    vectors : np.ndarray [n, embedding]
    live : np.ndarray [m] int64
        Rows to take.
    progress : callable
        Told ``("Linking", vectors done, in all)``.
    """
    graph = _empty(vectors.shape[1])
    graph.init_index(len(vectors), M=LINKS, ef_construction=BUILD_BREADTH, random_seed=0)
    _add(graph, vectors, live, progress)
    return graph


def extend_graph(
    path: Path,
    vectors: np.ndarray,
    new: np.ndarray,
    dead: np.ndarray,
    progress: Tell = quiet,
) -> Any:
    """Load a graph, add rows and mark others deleted.

    Parameters
    ----------
    path : Path
        A graph whose hash was checked.
    vectors : np.ndarray [n, embedding]
        All of them, the graph's first.
    new, dead : np.ndarray int64
        Rows to add, and rows of the graph to delete that were not deleted before.
    progress : callable
        Told ``("Linking", vectors done, in all)``.
    """
    graph = load_graph(path, vectors.shape[1], len(vectors))
    for row in dead.tolist():
        graph.mark_deleted(row)
    _add(graph, vectors, new, progress)
    return graph


def _add(graph: Any, vectors: np.ndarray, rows: np.ndarray, progress: Tell) -> None:
    for first in range(0, len(rows), TOGETHER):
        some = rows[first : first + TOGETHER]
        graph.add_items(np.asarray(vectors[some], np.float32), some)
        progress("Linking", first + len(some), len(rows))


def load_graph(path: Path, dimensions: int, capacity: int = 0) -> Any:
    """Load a graph whose hash was checked, with room for more."""
    graph = _empty(dimensions)
    graph.load_index(str(path), capacity)
    return graph
