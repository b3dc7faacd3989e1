"""What fewer and smaller vectors cost: snippets left out, coordinates rounded or left out.

``python -m mmid.research.compression RECORDINGS --index INDEX`` queries clips whose pieces the
index holds, as `mmid.research.simulation` does, and prints what the votes say of vectors kept in
fewer bytes.

Conventions: vectors are float32 unit vectors ``[n, embedding]``. Those that are left out are gone;
the others are found as rounded as they are kept, and the best of them are compared again exactly if
the way says so, which takes more bytes on disk.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from torch import Tensor

from mmid.index.folder import LibraryIndex
from mmid.index.quantization import unpack
from mmid.index.store import folder_at
from mmid.model.encoders import pick_device
from mmid.model.loading import load_model
from mmid.research.simulation import BLOCK, Clip, Nearest, judge, quantised, read_clips
from mmid.system.console import progress

SAMPLE = 20_000
"""Vectors that centroids and principal axes are fitted to."""

CENTROIDS = 256
"""Of each part of a vector, so that a byte names one."""

ROUNDS = 10
"""Of k-means."""

Keep = Callable[[Tensor], Tensor]
"""Chooses rows of the vectors of a piece."""

Round = Callable[[Tensor], Tensor]
"""Returns vectors as they are read again."""


@dataclass(frozen=True)
class Way:
    """A way to keep vectors.

    Parameters
    ----------
    name : str
    size : float
        Bytes of a vector.
    keep : callable
    round : callable
    again : bool
        Whether the best are compared again exactly.
    """

    name: str
    size: float
    keep: Keep
    round: Round
    again: bool = True


@dataclass(frozen=True)
class Traded:
    """What the votes say of a way to keep vectors: the shares of `simulation.Simulated`."""

    way: str
    snippets: int
    bytes: float
    found: float
    top1: float
    shortlisted: float


def every(vectors: Tensor, step: int) -> Tensor:
    """Keep every so many-th snippet."""
    return torch.arange(0, len(vectors), step)


def distinct(vectors: Tensor, cosine: float) -> Tensor:
    """Keep snippets that are farther than this from all that are kept before them."""
    free = torch.ones(len(vectors), dtype=torch.bool)
    kept = []
    for row, vector in enumerate(vectors):
        if free[row]:
            kept.append(row)
            free[row:] &= vectors[row:] @ vector < cosine
    return torch.tensor(kept)


def product(sample: Tensor, parts: int, seed: int = 0) -> Round:
    """Return a product quantiser (Jégou et al. 2011) of a byte a part, fitted to a sample.

    Parameters
    ----------
    sample : Tensor [n, embedding]
        At least `CENTROIDS` vectors.
    parts : int
        Divides the embedding.
    seed : int
        Of the first centroids.
    """
    generator = torch.Generator().manual_seed(seed)
    books = [_centroids(part, generator) for part in sample.chunk(parts, 1)]

    def rounded(vectors: Tensor) -> Tensor:
        pairs = zip(books, vectors.chunk(parts, 1), strict=True)
        return torch.cat([book[_nearest(part, book)] for book, part in pairs], 1)

    return rounded


def _centroids(sample: Tensor, generator: torch.Generator) -> Tensor:
    """Return the centroids of k-means."""
    book = sample[torch.randperm(len(sample), generator=generator)[:CENTROIDS]].clone()
    for _ in range(ROUNDS):
        owner = _nearest(sample, book)
        sums = torch.zeros_like(book).index_add_(0, owner, sample)
        count = torch.bincount(owner, minlength=CENTROIDS)[:, None]
        book = torch.where(count > 0, sums / count.clamp_min(1), book)
    return book


def _nearest(vectors: Tensor, book: Tensor) -> Tensor:
    distance: Tensor = book.square().sum(1) - 2 * vectors @ book.T
    return distance.argmin(1)


def principal(sample: Tensor, dimensions: int) -> Round:
    """Return what leaves only so many principal axes of a sample."""
    axes = torch.linalg.svd(sample - sample.mean(0), full_matrices=False).Vh[:dimensions]
    return lambda vectors: vectors @ axes.T @ axes


def ways(sample: Tensor) -> Iterator[Way]:
    """Yield the ways that are tried, those of an index first."""
    whole = 1.0 * sample.shape[1]
    alone, unrounded = partial(every, step=1), partial(quantised, bits=16)
    yield Way("as the index has them", whole, alone, unrounded)
    for step in (2, 4):
        yield Way(f"one snippet in {step}", whole, partial(every, step=step), unrounded)
    for cosine in (0.99, 0.98, 0.95):
        keep = partial(distinct, cosine=cosine)
        yield Way(f"none nearer than {cosine} to one of its piece", whole, keep, unrounded)
    for again in (True, False):
        then = ", the best again exactly" if again else ""
        coarse = partial(quantised, bits=4)
        yield Way(f"4 bits a coordinate{then}", whole / 2, alone, coarse, again)
        for parts in (16, 8, 4):
            code = product(sample, parts)
            yield Way(f"product quantiser, {parts} bytes{then}", parts, alone, code, again)
    for dimensions in (24, 16, 8):
        code = principal(sample, dimensions)
        yield Way(f"{dimensions} principal axes", 1.0 * dimensions, alone, code, False)


def measure(index: LibraryIndex, clips: Sequence[Clip], way: Way) -> Traded:
    """Query clips of pieces that an index holds, its vectors kept in some way."""
    nearest = Nearest(torch.from_numpy(np.concatenate([clip.vectors for clip in clips])))
    kept = []
    for entry in index.entries:
        own = index.vectors[entry.first : entry.first + entry.count]
        kept.append(entry.first + way.keep(torch.from_numpy(unpack(own))).numpy())
    rows = np.concatenate(kept)
    for first in range(0, len(rows), BLOCK):
        vectors = torch.from_numpy(unpack(index.vectors[rows[first : first + BLOCK]]))
        rounded = way.round(vectors)
        nearest.offer(vectors if way.again else rounded, rounded, first)
    found, cosine = nearest.best()
    piece, position = index.locate(rows[found])
    return Traded(way.name, len(rows), way.size, *judge(clips, piece, position, cosine)[2:])


def draw_sample(index: LibraryIndex, seed: int = 0) -> Tensor:
    """Draw vectors of an index."""
    count = min(SAMPLE, index.snippets)
    rows = np.random.default_rng(seed).choice(index.held_rows, count, replace=False)
    return torch.from_numpy(unpack(index.vectors[np.sort(rows)]))


def main(
    recordings: Annotated[Path, typer.Argument(help="A folder with a pairs.csv.")],
    index: Annotated[str | None, typer.Option(help="The index folder.")] = None,
    seconds: Annotated[float, typer.Option(min=4.0, help="Length of the clips.")] = 5.0,
    clips: Annotated[int, typer.Option(min=1, help="Recordings to use, at most.")] = 1000,
) -> None:
    """Print a row for every way to keep vectors."""
    model = load_model(None, pick_device("cpu"))
    opened = LibraryIndex(folder_at(index, "this needs the folder of an index"), model)
    with progress() as advance:
        queries = read_clips(recordings, model, opened, clips, advance, seconds)
    for way in ways(draw_sample(opened)):
        typer.echo(json.dumps(asdict(measure(opened, queries, way))))


if __name__ == "__main__":
    typer.run(main)
