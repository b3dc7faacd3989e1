"""How well snippets find their match: retrieval among a pool, in both directions.

Conventions: shares are 0 to 1. Every draw depends on the seed alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from rich.table import Table
from torch import Tensor

from mmid.errors import MmidError
from mmid.model.checkpoint import Checkpoint
from mmid.model.encoders import cut, embed_positions
from mmid.model.metrics import Retrieval, ranks, summarize
from mmid.music.grid import FeatureParams
from mmid.music.library import Piece
from mmid.music.piano_roll import piano_roll
from mmid.music.spectrogram import frame_count, spectrogram
from mmid.system.console import ProgressCallback, quiet
from mmid.system.tables import FittingTable

SPACING = 10
"""Snippets of an evaluation pool begin at least so many frames apart."""

SAME_ROLL = 0.95
"""Rolls with at least this cosine are repeats of the same bars."""


@dataclass(frozen=True)
class SnippetScores:
    """Retrieval among a pool of snippets; ``strict`` counts repeats of the same bars as wrong.

    Parameters
    ----------
    pool : int
        Snippets of each kind.
    pieces : int
        Pieces they are from.
    scores : dict of str to Retrieval
        Both directions, strict and with repeats counted right.
    """

    pool: int
    pieces: int
    scores: dict[str, Retrieval]

    def to_dict(self) -> dict[str, Any]:
        """Return the scores as JSON-ready names and values."""
        return asdict(self)


def evaluate_snippets(
    pieces: Sequence[Piece],
    play: Callable[[Piece], np.ndarray],
    model: Checkpoint,
    *,
    pool: int = 2_000,
    seed: int = 0,
    progress: ProgressCallback = quiet,
) -> SnippetScores:
    """Retrieve the snippets of played pieces in both directions, exactly (benchmark B1).

    Parameters
    ----------
    pieces : sequence of Piece
        None of them trained on.
    play : callable
        Gives a piece's sound at the grid's rate, at the score's tempo, such as a rendering with a
        soundfont the model was not trained on.
    model : Checkpoint
    pool : int
        Snippets drawn from all those that hold an onset.
    seed : int

    Raises
    ------
    MmidError
        If the pieces hold fewer snippets than the pool.
    """
    params = model.encoders.config.features
    positions = _snippet_positions(pieces, params, np.random.default_rng(seed))
    if len(positions) < pool:
        raise MmidError(
            f"{len(pieces)} pieces hold {len(positions)} snippets, fewer than --pool {pool}"
        )
    chosen = np.random.default_rng(seed + 1).permutation(len(positions))[:pool]
    audio, rolls, seen = [], [], []
    for number, piece in enumerate(pieces):
        frames = sorted(positions[i][1] for i in chosen if positions[i][0] == number)
        if frames:
            bands = spectrogram(torch.from_numpy(play(piece)), params)
            roll = piano_roll(piece.midi.notes, bands.shape[1], params)
            sides = embed_positions(model.encoders, bands, roll, frames)
            audio.append(sides[0])
            rolls.append(sides[1])
            seen.append(cut(roll, frames, params.snippet).flatten(1).half())
        progress("Embedding", number + 1, len(pieces))
    scores = torch.cat(audio) @ torch.cat(rolls).T
    repeats = _repeats(torch.cat(seen))
    results = {
        "audio to MIDI": ranks(scores),
        "MIDI to audio": ranks(scores.T),
        "audio to MIDI, repeats right": ranks(scores, repeats),
        "MIDI to audio, repeats right": ranks(scores.T, repeats),
    }
    return SnippetScores(pool, len(seen), {name: summarize(r) for name, r in results.items()})


def _snippet_positions(
    pieces: Sequence[Piece], params: FeatureParams, rng: np.random.Generator
) -> list[tuple[int, int]]:
    """List the snippets with an onset: piece and first frame, from a random phase of each."""
    positions = []
    for number, piece in enumerate(pieces):
        last = frame_count(piece.midi.seconds, params) - params.snippet
        starts = np.arange(int(rng.integers(SPACING)), max(last, 0) + 1, SPACING)
        onsets = np.sort(piece.midi.notes["onset"]) * params.frame_rate
        begun = np.searchsorted(onsets, starts + params.snippet) > np.searchsorted(onsets, starts)
        positions += [(number, int(start)) for start in starts[begun]]
    return positions


def _repeats(rolls: Tensor) -> Tensor:
    unit = torch.nn.functional.normalize(rolls.float(), dim=1)
    parts = (unit[first : first + 1_000] for first in range(0, len(unit), 1_000))
    return torch.cat([part @ unit.T >= SAME_ROLL for part in parts])


def snippet_table(result: SnippetScores) -> Table:
    """Return snippet retrieval as a table."""
    title = f"{result.pool} snippets of {result.pieces} pieces"
    table = FittingTable("direction", "R@1", "R@5", "R@25", "MRR", "median rank", title=title)
    for name, scores in result.scores.items():
        recall = [f"{share:.1%}" for share in scores.recall.values()]
        table.add_row(name, *recall, f"{scores.mrr:.1%}", f"{scores.median_rank:g}")
    return table
