"""What a library of a million pieces would do to the votes: pieces that are made up, searched.

``python -m mmid.research.simulation RECORDINGS --index INDEX`` queries clips whose pieces the
index holds, among ever more pieces that are made up, and prints what the votes say.

Conventions: a made-up piece is a copy of a real one that is right for no clip, every vector moved
by noise and scaled to a unit vector again; neighbouring snippets share half of their noise, as
neighbouring snippets of real pieces agree by 0.45. How far the noise moves a vector is measured:
from a tenth of the pieces and nine copies of each, the nearest snippets to those of the clips are
to be as near as among all real pieces, or come closest to that. Vectors are quantised to a few bits
a coordinate and every one is compared; the best are compared again exactly. A clip is queried
at its right tempo, by some of its snippets: the alignment that follows the votes is not simulated.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import Tensor

from mmid.errors import MmidError
from mmid.evaluation.sources import recorded_sources
from mmid.identify.identifier import Identifier
from mmid.identify.search import NEIGHBOURS
from mmid.identify.search_options import TEMPO_RATIOS
from mmid.identify.voting import Hits, consistent
from mmid.index.folder import LibraryIndex
from mmid.index.quantization import unpack
from mmid.index.store import folder_at
from mmid.model.checkpoint import Checkpoint
from mmid.model.embedding import embed_query
from mmid.model.encoders import pick_device
from mmid.model.loading import load_model
from mmid.music.pairs import read_pairs
from mmid.system.console import ProgressCallback, progress, quiet

CLIP_SECONDS = 30.0
QUERIED = 12
"""Snippets of a clip that are queried, spread evenly."""

BLOCK = 20_000
"""Vectors compared at once."""

RERANKED = 100
"""Of each snippet's best by quantised vectors, so many are compared again exactly."""

RANGE = 0.7
"""Coordinates of unit vectors beyond this are cut off where they are quantised."""

SHORTLIST = 33
"""Positions of 30 s clips that are compared note by note: the votes must bring the piece in."""

CLOSENESS = (0.75, 0.8, 0.85, 0.9, 0.95)
"""Cosines of a made-up vector and its original that are tried."""


@dataclass(frozen=True, eq=False)
class Clip:
    """A clip that mmid names right, at its tempo.

    Parameters
    ----------
    tempo_ratio : float
    frames : np.ndarray [QUERIED] float64
        Where its snippets begin.
    vectors : np.ndarray [QUERIED, embedding] float32
    right : frozenset of int
        The pieces of the index that are it.
    """

    tempo_ratio: float
    frames: np.ndarray
    vectors: np.ndarray
    right: frozenset[int]


@dataclass(frozen=True)
class Simulated:
    """What the votes say in a library.

    Parameters
    ----------
    real, pieces, snippets : int
        Real pieces, all pieces, and all snippets.
    bits : int
        A coordinate's.
    nearest : float
        Median cosine of a clip's snippet and the nearest snippet of another piece.
    farthest : float
        The same of the last neighbour that votes.
    found : float
        Share of snippets that have a snippet of the right piece among their neighbours.
    top1, shortlisted : float
        Share of clips whose right piece has most votes, and is among `SHORTLIST`.
    """

    real: int
    pieces: int
    snippets: int
    bits: int
    nearest: float
    farthest: float
    found: float
    top1: float
    shortlisted: float


def read_clips(
    folder: Path,
    model: Checkpoint,
    index: LibraryIndex,
    count: int,
    advance: ProgressCallback,
    seconds: float = CLIP_SECONDS,
) -> list[Clip]:
    """Cut a clip out of the middle of each recording; keep those that mmid names right."""
    identifier, pairs = Identifier(model, index), read_pairs(folder)[:count]
    clips = []
    for done, source in enumerate(recorded_sources(pairs, identifier.params), 1):
        right = frozenset(i for i, e in enumerate(index.entries) if e.digest in source.right)
        size = source.size(identifier.params)
        length = min(size, int(seconds * identifier.params.sample_rate))
        query = source.clip((size - length) // 2, length, identifier.params)
        transcribed = identifier.listen(query)
        matches = identifier.identify(transcribed).matches
        advance("Clips", done, len(pairs))
        if not matches or not any(index.entries[i].name == matches[0].piece for i in right):
            continue
        ratio = min(TEMPO_RATIOS, key=lambda r: abs(np.log(r / matches[0].tempo_ratio)))
        [vectors], frames = embed_query(transcribed, model.encoders, ratio)
        if len(frames) >= QUERIED:
            some = np.linspace(0, len(frames) - 1, QUERIED).astype(int)
            clips.append(Clip(ratio, frames[some], vectors[some], right))
    if not clips:
        raise MmidError(f"{folder}: no recording is named right by this index")
    return clips


def quantised(vectors: Tensor, bits: int) -> Tensor:
    """Round unit vectors to so many bits a coordinate; 16 leaves them as they are."""
    if bits == 16:
        return vectors
    steps = (2**bits - 1) / (2 * RANGE)
    whole: Tensor = ((vectors.clamp(-RANGE, RANGE) + RANGE) * steps).round()
    return whole / steps - RANGE  # type: ignore[no-any-return]


def moved(vectors: Tensor, closeness: float, seed: Sequence[int]) -> Tensor:
    """Move unit vectors ``[n, embedding]`` so that they have about this cosine with themselves."""
    generator = torch.Generator().manual_seed(int(np.random.default_rng(seed).integers(2**62)))
    noise = torch.randn((len(vectors) + 1, vectors.shape[1]), generator=generator)
    size = np.sqrt((1 / closeness**2 - 1) / (2 * vectors.shape[1]))
    noisy: Tensor = vectors + size * (noise[1:] + noise[:-1])
    return noisy / noisy.norm(dim=1, keepdim=True)  # type: ignore[no-any-return]


class Nearest:
    """The best so far for each of some queries, by quantised vectors, and their exact cosines."""

    def __init__(self, queries: Tensor) -> None:
        self._queries = queries
        self._coarse = torch.full((len(queries), RERANKED), -1.0)
        self._exact = torch.full((len(queries), RERANKED), -1.0)
        self._rows = torch.zeros((len(queries), RERANKED), dtype=torch.int64)

    def offer(self, vectors: Tensor, rounded: Tensor, first: int) -> None:
        """Compare a block of vectors, as rounded as they are kept; the rows from ``first`` on."""
        coarse = self._queries @ rounded.T
        better = torch.nonzero(coarse.amax(1) > self._coarse[:, -1])[:, 0]
        found, position = coarse[better].topk(min(RERANKED, len(vectors)))
        exact = (self._queries[better, None] * vectors[position]).sum(2)
        both = torch.cat([self._coarse[better], found], 1)
        self._coarse[better], kept = both.topk(RERANKED)
        for own, new in ((self._exact, exact), (self._rows, position + first)):
            own[better] = torch.cat([own[better], new], 1).gather(1, kept)

    def best(self) -> tuple[np.ndarray, np.ndarray]:
        """Return rows and exact cosines of the neighbours that vote, best first."""
        cosine, kept = self._exact.topk(NEIGHBOURS)
        return self._rows.gather(1, kept).numpy(), cosine.numpy()


def judge(
    clips: Sequence[Clip], piece: np.ndarray, position: np.ndarray, cosine: np.ndarray
) -> tuple[float, float, float, float, float]:
    """Let each clip's neighbours vote.

    Parameters
    ----------
    clips : sequence of Clip
    piece, position, cosine : np.ndarray [clips * QUERIED, NEIGHBOURS]
        Of the neighbours of the clips' snippets, best first.

    Returns
    -------
    nearest, farthest, found, top1, shortlisted : float
        As of `Simulated`.
    """
    found, other, ranks = [], [], []
    for number, clip in enumerate(clips):
        part = slice(number * QUERIED, (number + 1) * QUERIED)
        is_right = np.isin(piece[part], list(clip.right))
        found.append(is_right.any(1))
        other.append(np.where(is_right, -1, cosine[part]).max(1))
        hits = Hits(clip.tempo_ratio, clip.frames, piece[part], position[part], cosine[part])
        order = [candidate.piece in clip.right for candidate in consistent(hits, SHORTLIST)]
        ranks.append(order.index(True) if True in order else SHORTLIST)
    ranked = np.array(ranks)
    return (
        float(np.median(np.concatenate(other))),
        float(np.median(cosine[:, -1])),
        float(np.concatenate(found).mean()),
        float((ranked == 0).mean()),
        float((ranked < SHORTLIST).mean()),
    )


class Simulation:
    """An index, clips, and pieces made up around them.

    Parameters
    ----------
    index : LibraryIndex
    clips : sequence of Clip
    seed : int
        Of the choice of pieces and the noise.
    """

    def __init__(self, index: LibraryIndex, clips: Sequence[Clip], seed: int = 0) -> None:
        self._index, self._clips, self._seed = index, clips, seed
        self._right = sorted(frozenset[int]().union(*(clip.right for clip in clips)))
        self._queries = torch.from_numpy(np.concatenate([clip.vectors for clip in clips]))
        others = np.setdiff1d(np.arange(len(index)), self._right)
        self._others = np.random.default_rng(seed).permutation(others)

    @property
    def real(self) -> int:
        """How many pieces there are to copy."""
        return len(self._others)

    def measure(
        self,
        base: int,
        copies: int = 0,
        closeness: float = 1.0,
        bits: int = 8,
        advance: ProgressCallback = quiet,
    ) -> Simulated:
        """Query the clips among the right pieces, others, and copies of these.

        Parameters
        ----------
        base, copies : int
            Real pieces beside the right ones, and made-up ones of each.
        closeness : float
            Of a made-up vector and its original.
        bits : int
        advance : callable
            Called with ``(what, done, total)``.
        """
        chosen = [*self._right, *np.sort(self._others[:base]).tolist()]
        entries = [self._index.entries[i] for i in chosen]
        vectors = torch.from_numpy(
            unpack(np.concatenate([self._index.item(i).vectors for i in chosen]))
        )
        counts = np.array([entry.count for entry in entries])
        own = int(counts[: len(self._right)].sum())
        nearest = Nearest(self._queries)
        for copy, first in self._blocks(own, len(vectors), copies):
            part = vectors[first : first + BLOCK]
            if copy:
                part = moved(part, closeness, [self._seed, copy, first])
            nearest.offer(part, quantised(part, bits), copy * len(vectors) + first)
            advance("Comparing", copy, copies)
        rows, cosine = nearest.best()
        owner = np.repeat(np.arange(len(chosen)), counts)
        positions = np.concatenate([self._index.item(i).positions for i in chosen]).astype(np.int64)
        piece = np.array([*chosen])[owner[rows % len(vectors)]]
        piece = piece + rows // len(vectors) * len(self._index)
        total = len(chosen) + copies * base
        snippets = len(vectors) + copies * (len(vectors) - own)
        figures = judge(self._clips, piece, positions[rows % len(vectors)], cosine)
        return Simulated(len(chosen), total, snippets, bits, *figures)

    def _blocks(self, own: int, count: int, copies: int) -> Iterator[tuple[int, int]]:
        """Yield the copy and the first row of blocks; right pieces are not copied."""
        yield from ((0, first) for first in range(0, count, BLOCK))
        for copy in range(1, copies + 1):
            yield from ((copy, first) for first in range(own, count, BLOCK))

    def fit(self, advance: ProgressCallback) -> float:
        """Return the closeness with which a tenth of the pieces come closest to all of them."""
        wanted = self.measure(self.real, bits=16, advance=advance).nearest
        tenth = self.real // 10
        reached = [self.measure(tenth, 9, c, 16, advance).nearest for c in CLOSENESS]
        return CLOSENESS[int(np.argmin(np.abs(np.array(reached) - wanted)))]


def main(
    recordings: Annotated[Path, typer.Argument(help="A folder with a pairs.csv.")],
    index: Annotated[str | None, typer.Option(help="The index folder.")] = None,
    copies: Annotated[str, typer.Option(help="Made-up pieces of each real one.")] = "9,99",
    clips: Annotated[int, typer.Option(min=1, help="Recordings to use, at most.")] = 100,
    out: Annotated[Path | None, typer.Option(help="A JSON file for the figures.")] = None,
) -> None:
    """Validate made-up pieces where real ones can be had, then make up many more."""
    model = load_model(None, pick_device("cpu"))
    opened = LibraryIndex(folder_at(index, "simulations need the folder of an index"), model)
    rows: list[dict[str, Any]] = []
    with progress() as advance:
        queries = read_clips(recordings, model, opened, clips, advance)
        simulation = Simulation(opened, queries)
        closeness, real = simulation.fit(advance), simulation.real
        measure = partial(simulation.measure, closeness=closeness, advance=advance)
        plan = [(real // 100, 0, 8), (real // 10, 0, 8), *((real, 0, bits) for bits in (16, 8, 4))]
        plan += [(real // 10, 9, 8), (real // 100, 99, 8)]
        plan += [(real, int(count), 8) for count in copies.split(",")]
        for base, count, bits in plan:
            rows.append(asdict(measure(base, count, bits=bits)))
            typer.echo(json.dumps(rows[-1]))
    if out:
        out.write_text(json.dumps({"clips": len(queries), "closeness": closeness, "rows": rows}))


if __name__ == "__main__":
    typer.run(main)
