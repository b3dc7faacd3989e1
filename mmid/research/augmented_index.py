"""Sounding copies of pieces for an index: augmented renderings beside the notes.

``python -m mmid.research.augmented_index FOLDER --index NEW-FOLDER`` makes one.

Conventions: copies keep the score's time, so the snippets of all copies that begin at one frame
hold the same music. They share a label: the piece and the frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from mmid.index.build import build_index
from mmid.index.embedder import embed_whole
from mmid.index.quantization import pack
from mmid.model.checkpoint import Checkpoint
from mmid.model.embedding import Sound, as_query
from mmid.model.encoders import pick_device
from mmid.model.loading import load_model
from mmid.music.folders import BadFile
from mmid.music.grid import FeatureParams
from mmid.music.library import Piece, Recording, scan_library
from mmid.music.performance import Recipe, performed
from mmid.music.spectrogram import spectrogram
from mmid.music.synthesizer import Synthesizer, pick_soundfonts
from mmid.options import Collapse
from mmid.research.embedding_space import claim_folder
from mmid.system.console import progress
from mmid.system.processes import parallel
from mmid.training.augmentation import Augmentation, roughen

EFFECTS = ("cents", "equalizer", "noise", "reverb")
"""What may be done to a copy without moving it in time."""


@dataclass(frozen=True, eq=False)
class CopiedPiece(Piece):
    """A piece and the sound of its copies.

    Parameters
    ----------
    name, path, digest, midi
        As of every `Piece`.
    spectrograms : tuple of np.ndarray [bands, frames] float32
        One a copy.
    """

    spectrograms: tuple[np.ndarray, ...]


def copy_piece(
    piece: Piece | Recording | BadFile,
    soundfonts: Sequence[Path],
    copies: int,
    params: FeatureParams,
) -> Piece | Recording | BadFile:
    """Render a piece several times, each time with the next soundfont, instruments and room.

    Returns
    -------
    CopiedPiece
        Or what was given, if that is no piece. The same for the same piece and soundfonts.
    """
    if not isinstance(piece, Piece):
        return piece
    rng = np.random.default_rng(int(piece.digest[:12], 16))
    made = tuple(_copy(piece, soundfonts[i % len(soundfonts)], params, rng) for i in range(copies))
    return CopiedPiece(piece.name, piece.path, piece.digest, piece.midi, made)


def _copy(
    piece: Piece, soundfont: Path, params: FeatureParams, rng: np.random.Generator
) -> np.ndarray:
    seed = int(rng.integers(2**31))
    recipe = Recipe(str(soundfont), programs=seed, reverb=bool(seed % 2), seed=seed)
    _, played = performed(piece.midi.notes, recipe)
    with Synthesizer(soundfont, params.sample_rate) as synthesizer:
        bands = spectrogram(torch.from_numpy(synthesizer.render(played)), params)
    generator = torch.Generator().manual_seed(seed)
    [degraded] = roughen(bands[None], Augmentation.only(EFFECTS), params, generator)
    return np.asarray(degraded)


def copy_library(
    pieces: Sequence[Piece | Recording | BadFile],
    soundfonts: Sequence[Path],
    copies: int,
    params: FeatureParams,
    jobs: int | None = None,
) -> Iterator[Piece | Recording | BadFile]:
    """Render every piece of a library several times, in worker processes.

    Parameters
    ----------
    pieces : sequence of Piece or BadFile
    soundfonts : sequence of Path
    copies : int
        Renderings of each piece.
    params : FeatureParams
        The model's grid.
    jobs : int, optional
        Worker processes; all cores by default.

    Yields
    ------
    CopiedPiece or BadFile
    """
    copy = partial(copy_piece, soundfonts=soundfonts, copies=copies, params=params)
    yield from parallel(copy, pieces, jobs, batch=4, least=4)


def embed_copies(
    piece: Piece | Recording, model: Checkpoint, collapse: Collapse = "none"
) -> tuple[np.ndarray, np.ndarray]:
    """Embed a piece's notes and its copies.

    Parameters
    ----------
    piece : CopiedPiece
        Anything else is embedded by itself.
    model : Checkpoint
    collapse : {"none", "kmeans"}
        Keep every vector, or the centroid of those that share a label: of one group, what k-means
        gives is their mean.

    Returns
    -------
    vectors : np.ndarray [n, embedding] int8
    positions : np.ndarray [n] uint32
        First frame of each.
    """
    params = model.encoders.config.features
    vectors, positions = embed_whole(as_query(piece, params), model)
    if not isinstance(piece, CopiedPiece):
        return pack(vectors), positions
    parts = [(vectors, positions)]
    for bands in piece.spectrograms:
        copied, where = embed_whole(Sound(torch.from_numpy(bands), params), model)
        shared = np.isin(where, positions)
        parts.append((copied[shared], where[shared]))
    every, label = (np.concatenate(side) for side in zip(*parts, strict=True))
    if collapse == "kmeans":
        every, label = _centroids(every, label)
    return pack(every), label


def _centroids(vectors: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    positions, group = np.unique(label, return_inverse=True)
    sums = np.zeros((len(positions), vectors.shape[1]), np.float32)
    np.add.at(sums, group, vectors)
    centroids = sums / np.linalg.norm(sums, axis=1, keepdims=True).clip(1e-6)
    return centroids, positions.astype(np.uint32)


def main(
    library: Annotated[list[Path], typer.Argument(help="Folders of MIDI files.")],
    index: Annotated[Path, typer.Option(help="A new folder for the index.")],
    copies: Annotated[int, typer.Option(min=1, help="Renderings of each MIDI file.")] = 4,
    collapse: Annotated[
        Collapse, typer.Option(help="Keep all copies of a snippet, or their centroid.")
    ] = "none",
    soundfont: Annotated[
        list[str] | None, typer.Option(help="Of the renderings; may be repeated.")
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Worker processes.")] = None,
) -> None:
    """Index renderings of MIDI files beside their notes, with the packaged model."""
    model = load_model(None, pick_device("auto"))
    grid, fonts = model.encoders.config.features, pick_soundfonts(soundfont)
    count, items = scan_library(library, "midi", grid, jobs)
    with progress() as report:
        built = build_index(
            claim_folder(index),
            copy_library(list(items), fonts, copies, grid, jobs),
            model,
            lambda done: report("Indexing", done, count),
            partial(embed_copies, collapse=collapse),
            {"copies": copies, "collapse": collapse},
        )
    typer.echo(f"{built.items} pieces, {built.snippets} snippets in {index}")


if __name__ == "__main__":
    typer.run(main)
