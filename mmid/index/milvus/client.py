"""A Milvus server or a milvus-lite file, as far as an index needs one: tables, texts and vectors.

Conventions: a table has a 64-bit key and either a text or a unit vector; rows are named by ranges
of keys, the end excluded. Errors of the server or of its client are `LibraryIndexError`.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from mmid.errors import LibraryIndexError, label
from mmid.index.hnsw import BUILD_BREADTH, LINKS, SEARCH_BREADTH
from mmid.index.milvus import SCHEME

FORM = "milvus://HOST:PORT/NAME or milvus:FILE.db/NAME"

MOST_TEXT = 65_535
"""Bytes of a text at most: Milvus's own limit."""

MOST_ASKED = 16_384
"""Vectors searched for in one round trip: Milvus's own limit."""

VECTORS_TOGETHER = 5_000
"""Vectors sent in one round trip; texts are heavier, and fewer go."""
TEXTS_TOGETHER = 200

RANGES_TOGETHER = 100
"""Ranges of keys deleted in one round trip."""

PATIENCE = 10.0
"""Seconds to wait for a server to answer the first time."""

Range = tuple[int, int]


@dataclass(frozen=True)
class Address:
    """Where an index lies.

    Parameters
    ----------
    uri : str
        Of the server, or the path of a milvus-lite file.
    name : str
        The index's; its collections begin with it.
    """

    uri: str
    name: str

    def __str__(self) -> str:
        if self.uri.startswith("http://"):
            return f"{SCHEME}{self.uri.removeprefix('http:')}/{self.name}"
        return f"{SCHEME}{label(self.uri)}/{self.name}"

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read an address as `FORM` says.

        Raises
        ------
        LibraryIndexError
            If it is none.

        Examples
        --------
        >>> Address.parse("milvus://localhost:19530/songs")
        Address(uri='http://localhost:19530', name='songs')
        >>> Address.parse("milvus:music/all.db/songs")
        Address(uri='music/all.db', name='songs')
        """
        place, _, name = text.removeprefix(SCHEME).rpartition("/")
        served = re.fullmatch(r"//[^/]+:\d+", place)
        if not re.fullmatch(r"[A-Za-z]\w{0,99}", name, re.ASCII) or not (
            served or (place.endswith(".db") and not place.startswith("//"))
        ):
            raise LibraryIndexError(f"{label(text)}: no address of an index; give {FORM}")
        return cls(f"http:{place}" if served else place, name)


class Milvus:
    """A connection to where an index lies.

    Parameters
    ----------
    address : Address
        The variable MILVUS_TOKEN holds what a server requires, as ``user:password`` or a key.

    Raises
    ------
    LibraryIndexError
        If pymilvus is not installed, or the server does not answer.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        try:
            from pymilvus import MilvusClient
        except ImportError as error:
            raise LibraryIndexError(
                f"{address}: needs pymilvus; pip install 'mmid[milvus]'"
            ) from error
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # what it logs is raised as well
        if not address.uri.startswith("http:"):
            self._refuse_missing_folder(Path(address.uri))
        with self._heard():
            self._client: Any = MilvusClient(
                address.uri, token=os.environ.get("MILVUS_TOKEN", ""), timeout=PATIENCE
            )

    def _refuse_missing_folder(self, file: Path) -> None:
        if not file.absolute().parent.is_dir():
            raise LibraryIndexError(
                f"{self.address}: no folder {label(file.parent)}; make it first"
            )

    @contextmanager
    def _heard(self) -> Iterator[None]:
        """Raise what goes wrong in one line."""
        from grpc import RpcError
        from pymilvus.exceptions import MilvusException

        try:
            yield
        except (MilvusException, RpcError, OSError, RuntimeError) as error:
            said = getattr(error, "message", None) or str(error)
            line = next(iter(str(said).splitlines()), type(error).__name__)
            raise LibraryIndexError(f"{self.address}: {line}") from error

    def tables(self) -> list[str]:
        """Name the tables that there are."""
        with self._heard():
            return list(self._client.list_collections())

    def make(self, table: str, dimensions: int = 0) -> None:
        """Make a table of vectors, or of texts: Milvus wants a vector there as well."""
        from pymilvus import DataType

        with self._heard():
            schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
            schema.add_field("key", DataType.INT64, is_primary=True)
            if not dimensions:
                schema.add_field("text", DataType.VARCHAR, max_length=MOST_TEXT)
            schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dimensions or 2)
            graph = {"M": LINKS, "efConstruction": BUILD_BREADTH}
            index = self._client.prepare_index_params()
            if dimensions:
                index.add_index("vector", index_type="HNSW", metric_type="IP", params=graph)
            else:
                index.add_index("vector", index_type="FLAT", metric_type="L2")
            self._client.create_collection(
                table, schema=schema, index_params=index, consistency_level="Strong"
            )

    def drop(self, table: str) -> None:
        """Delete a table."""
        with self._heard():
            self._client.drop_collection(table)

    def load(self, table: str) -> None:
        """Have the server hold a table ready."""
        with self._heard():
            self._client.load_collection(table)

    def put_vectors(self, table: str, keys: np.ndarray, vectors: np.ndarray) -> None:
        """Add vectors ``[n, embedding]``, by their keys."""
        rows = zip(keys.tolist(), np.asarray(vectors, np.float32), strict=True)
        self._put(table, ({"key": key, "vector": vector} for key, vector in rows), VECTORS_TOGETHER)

    def put_texts(self, table: str, texts: Iterable[tuple[int, str]]) -> None:
        """Add texts, or replace those of the same keys."""
        rows = ({"key": key, "text": text, "vector": [0.0, 0.0]} for key, text in texts)
        self._put(table, rows, TEXTS_TOGETHER)

    def _put(self, table: str, rows: Iterator[dict[str, Any]], together: int) -> None:
        while some := list(islice(rows, together)):
            with self._heard():
                self._client.upsert(table, some)

    def texts(self, table: str, keys: Range) -> dict[int, str]:
        """Return the texts of a range of keys, in order."""
        found = self._rows(table, keys, "text")
        return {row["key"]: row["text"] for row in found}

    def vectors(self, table: str, keys: Range) -> tuple[np.ndarray, np.ndarray]:
        """Return the vectors of a range, in order: keys ``[n]`` int64 and ``[n, embedding]``."""
        found = self._rows(table, keys, "vector")
        vectors = np.array([row["vector"] for row in found], np.float32)
        return np.array([row["key"] for row in found], np.int64), vectors

    def _rows(self, table: str, keys: Range, field: str) -> list[dict[str, Any]]:
        with self._heard():
            found = self._client.query(table, filter=_within(keys), output_fields=["key", field])
        return sorted(found, key=lambda row: int(row["key"]))

    def count(self, table: str) -> int:
        """Return how many rows a table has."""
        with self._heard():
            [row] = self._client.query(table, filter="", output_fields=["count(*)"])
        return int(row["count(*)"])

    def delete(self, table: str, ranges: Sequence[Range]) -> None:
        """Delete the rows of some ranges."""
        for first in range(0, len(ranges), RANGES_TOGETHER):
            some = ranges[first : first + RANGES_TOGETHER]
            with self._heard():
                self._client.delete(table, filter=" or ".join(map(_within, some)))

    def search(
        self, table: str, queries: np.ndarray, k: int, below: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find the nearest vectors, in one round trip for every `MOST_ASKED` queries.

        Parameters
        ----------
        table : str
        queries : np.ndarray [n, embedding] float32
        k : int
        below : int, optional
            Only vectors whose keys are less.

        Returns
        -------
        keys : np.ndarray [n, k] int64
            Where fewer are found, the last one is repeated.
        similarity : np.ndarray [n, k] float32
        """
        keys, similarity = np.zeros((len(queries), k), np.int64), np.zeros((len(queries), k))
        options = {
            "limit": k,
            "filter": "" if below is None else f"key < {below}",
            "output_fields": ["key"],
            "search_params": {"params": {"ef": max(SEARCH_BREADTH, 2 * k)}},
        }
        for first in range(0, len(queries), MOST_ASKED):
            with self._heard():
                found = self._client.search(
                    table, data=queries[first : first + MOST_ASKED], **options
                )
            for row, hits in enumerate(found, first):
                hits = [*hits, *[hits[-1]] * (k - len(hits))] if hits else []
                if not hits:
                    raise LibraryIndexError(f"{self.address}: nothing found; run mmid index verify")
                keys[row] = [hit["key"] for hit in hits]
                similarity[row] = [hit["distance"] for hit in hits]
        return keys, similarity.astype(np.float32)


def _within(keys: Range) -> str:
    return f"(key >= {keys[0]} and key < {keys[1]})"
