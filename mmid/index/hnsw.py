"""The HNSW graph of an index's centroids: built, checked, loaded.

Conventions: the label of a centroid is its row.

References
----------
.. [1] Y. Malkov, D. Yashunin, "Efficient and robust approximate nearest neighbor search using
   Hierarchical Navigable Small World graphs", IEEE TPAMI 42(4), 2020.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mmid.system.files import open_regular

LINKS = 12
BUILD_BREADTH = 80
SEARCH_BREADTH = 128

GRAPH_HEADER = np.dtype(
    [
        *((name, "<u8") for name in ("level0", "capacity", "count", "stride", "label", "vector")),
        *(("top", "<i4"), ("entry", "<u4")),
        *((name, "<u8") for name in ("links", "links0", "M")),
        *(("scale", "<f8"), ("breadth", "<u8")),
    ]
)
"""What a graph's file begins with, as hnswlib writes it."""

CHECKED = 1 << 14
"""Vectors checked at once."""

MOST_LINKS = 64
"""Of a vector above the lowest level; there it has twice as many."""


def _empty(dimensions: int) -> Any:
    import hnswlib

    return hnswlib.Index(space="ip", dim=dimensions)


def build_graph(vectors: np.ndarray) -> Any:
    """Build the graph of unit vectors, with all cores.

    Parameters
    ----------
    vectors : np.ndarray [n, embedding] float32
    """
    graph = _empty(vectors.shape[1])
    graph.init_index(len(vectors), M=LINKS, ef_construction=BUILD_BREADTH, random_seed=0)
    graph.add_items(vectors, np.arange(len(vectors)))
    return graph


def check_graph(path: Path, rows: int) -> None:
    """Make sure that hnswlib, which trusts what it loads, stays within a graph's file.

    Parameters
    ----------
    path : Path
    rows : int
        How many vectors there are, and so inverted lists at most.

    Raises
    ------
    ValueError
        If the file is not as hnswlib writes it: of another layout, with a link to a vector that is
        not there or not on its level, or a vector that is no number.
    """
    header = _read_header(path)
    count, stride, size = header["count"], header["stride"], path.stat().st_size
    if not (0 < count <= header["capacity"] <= rows and header["entry"] < count):
        raise ValueError("counts more than there is")
    upper = GRAPH_HEADER.itemsize + count * stride
    if size < upper + 4 * count or size % 4:
        raise ValueError("is cut short")
    levels = _check_upper(np.memmap(path, "<u4", "r", upper), count, header["M"])
    if levels[header["entry"]] != header["top"] or levels.max() != header["top"]:
        raise ValueError("begins on another level")
    node = _node(header["dimensions"], header["M"])
    for first in range(0, count, CHECKED):  # each mapped for itself, as a map stays in memory
        some, begin = min(CHECKED, count - first), GRAPH_HEADER.itemsize + first * stride
        _check_nodes(np.memmap(path, node, "r", begin, (some,)), count)


def _read_header(path: Path) -> dict[str, Any]:
    """Read what a graph's file says of itself, and the ``dimensions`` that follow from it."""
    with open_regular(path) as file:
        head = np.fromfile(file, GRAPH_HEADER, 1)
    if not len(head):
        raise ValueError("is cut short")
    header = {name: head[name][0].item() for name in GRAPH_HEADER.names or ()}
    links = header["M"]
    vector = 4 + 4 * 2 * links
    header["dimensions"], rest = divmod(header["label"] - vector, 4)
    like = {"level0": 0, "vector": vector, "links": links, "links0": 2 * links}
    like["stride"] = header["label"] + 8
    if (
        rest
        or not 0 < links <= MOST_LINKS
        or not 0 < header["dimensions"] < 2**16
        or any(header[n] != like[n] for n in like)
    ):
        raise ValueError("has another layout")
    return header


def _node(dimensions: int, links: int) -> np.dtype:
    """Return what is kept of a vector on the lowest level."""
    linked = [("used", "<u2"), ("deleted", "<u2"), ("to", "<u4", 2 * links)]
    return np.dtype([*linked, ("vector", "<f4", dimensions), ("label", "<u8")])


def _check_nodes(nodes: np.ndarray, count: int) -> None:
    most = nodes["to"].shape[1]
    used = np.arange(most) < nodes["used"][:, None]
    if (nodes["used"] > most).any() or (nodes["to"][used] >= count).any():
        raise ValueError("links to what is not there")
    if (nodes["label"] >= count).any() or not np.isfinite(nodes["vector"]).all():
        raise ValueError("holds other vectors")


def _check_upper(words: np.ndarray, count: int, links: int) -> np.ndarray:
    """Check the lists of links above the lowest level; return each vector's level.

    They follow one another: bytes of a vector's lists, then a list a level, each its length and
    room for links. Most vectors have none.
    """
    levels = np.zeros(count, np.int64)
    size = links + 1
    high, begins = _find_lists(words, count, 4 * size)
    levels[high] = words[begins] // (4 * size)
    for level in range(1, int(levels.max()) + 1):
        reaching = begins[levels[high] >= level] + 1 + (level - 1) * size
        lists = words[reaching[:, None] + np.arange(size)]
        to = lists[:, 1:][np.arange(links) < lists[:, :1]]
        if (lists[:, 0] > links).any() or (to >= count).any() or (levels[to] < level).any():
            raise ValueError("links to what is not there")
    return levels


def _find_lists(words: np.ndarray, count: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which vectors have lists, of so many bytes each, and where the word before them is."""
    filled = np.flatnonzero(words)
    found, node, position = [], 0, 0
    while (after := int(np.searchsorted(filled, position))) < len(filled):
        first = int(filled[after])
        node, size = node + first - position, int(words[first])
        position = first + 1 + size // 4
        if size % length or node >= count or position > len(words):
            raise ValueError("is cut short")
        found.append((node, first))
        node += 1
    if node + len(words) - position != count:
        raise ValueError("is cut short")
    high, begins = np.array(found, np.int64).reshape(-1, 2).T
    return high, begins


def load_graph(path: Path, dimensions: int) -> Any:
    """Load a graph that was checked.

    Raises
    ------
    RuntimeError
        If it cannot be loaded, or is of vectors of another size.
    """
    if _read_header(path)["dimensions"] != dimensions:
        raise RuntimeError("a graph of vectors of another size")
    graph = _empty(dimensions)
    graph.load_index(str(path))
    return graph
