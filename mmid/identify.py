"""A recording to the piece of the library it is a performance of.

Conventions: times in seconds; ``tempo_ratio`` is the recording's speed against the score, 2 being
twice as fast; ``transpose`` is in semitones.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmid.checkpoint import Checkpoint
from mmid.encoders import embed_frames, fast_autocast, snippet_count
from mmid.errors import MmidError
from mmid.features import recording_spectrogram, resample_frames
from mmid.index import LibraryIndex, Search
from mmid.params import FeatureParams
from mmid.vote import Candidate, Hits, Vote, elect

TEMPO_RATIOS = tuple(2 ** (step / 6) for step in range(-6, 7))
"""Speeds tried: half to double the score's, 12 % apart; training tolerates 6 % either way."""

NEIGHBOURS = 25
"""Nearest snippets that vote, for each snippet of the query (Dorfer et al. 2017)."""

MAX_SNIPPETS = 120
"""Query snippets that vote at each tempo, spread evenly over a longer recording."""

MIN_CONFIDENCE = 0.5
TOP = 5


@dataclass(frozen=True)
class Match:
    """A piece the recording may be a performance of.

    Parameters
    ----------
    piece : str
        Path relative to the library folder.
    confidence : float
        Probability that the piece is right.
    votes : float
        Its share of the votes cast.
    start, end : float or None
        Where in the MIDI file, seconds; None where the vote does not tell.
    tempo_ratio : float
    transpose : int
    """

    piece: str
    confidence: float
    votes: float
    start: float | None
    end: float | None
    tempo_ratio: float
    transpose: int


@dataclass(frozen=True)
class Identification:
    """The answer for one recording.

    Parameters
    ----------
    query : str
        The recording.
    seconds : float
        Its length.
    matched : bool
        Whether the first match is sure enough.
    matches : tuple of Match
        Best first.
    error : str or None
        Why the recording could not be processed.
    """

    query: str
    seconds: float
    matched: bool
    matches: tuple[Match, ...]
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as JSON-ready names and values."""
        return asdict(self)


def embed_query(
    spectrogram: Tensor, model: Checkpoint, tempo_ratio: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Embed a recording as if it were played at the score's speed.

    Parameters
    ----------
    spectrogram : Tensor [bands, frames] float32
    model : Checkpoint
    tempo_ratio : float
        The recording's assumed speed against the score.

    Returns
    -------
    vectors : np.ndarray [n, embedding] float32
    frames : np.ndarray [n] float64
        Where each snippet begins, in frames of the recording.
    """
    encoders, config = model.encoders, model.encoders.config
    step = 1 / tempo_ratio
    total = max(int((spectrogram.shape[1] - 1) * tempo_ratio) + 1, config.features.snippet)
    batch, ratio = spectrogram[None], torch.tensor([step], device=spectrogram.device)

    def draw(first: int, count: int) -> Tensor:
        place = torch.tensor([first * step], device=spectrogram.device)
        return resample_frames(batch, place, ratio, count)

    with fast_autocast(encoders.device):
        parts = list(embed_frames(encoders.audio, config.audio, config.features, total, draw))
    count = snippet_count(total, config.features, config.audio)
    return torch.cat(parts).cpu().numpy(), np.arange(count) * config.audio.stride * step


class Identifier:
    """A model and an index, ready for queries.

    Parameters
    ----------
    model : Checkpoint
    index : LibraryIndex
    search : {"auto", "exact", "hnsw"}
    vote : {"consistent", "majority"}
    tempo_ratios : sequence of float
        Speeds to try.
    top : int
        Matches to return.
    min_confidence : float
        The first match counts as found from here on.
    """

    def __init__(
        self,
        model: Checkpoint,
        index: LibraryIndex,
        *,
        search: Search = "auto",
        vote: Vote = "consistent",
        tempo_ratios: Sequence[float] = TEMPO_RATIOS,
        top: int = TOP,
        min_confidence: float = MIN_CONFIDENCE,
    ) -> None:
        self._model, self._index = model, index
        self._search: Search = search
        self._vote: Vote = vote
        self._tempo_ratios, self._top, self.min_confidence = tempo_ratios, top, min_confidence

    @property
    def names(self) -> list[str]:
        """The pieces of the index, by position."""
        return [entry.name for entry in self._index.entries]

    @property
    def params(self) -> FeatureParams:
        """The grid queries must be on."""
        return self._model.encoders.config.features

    def identify_file(
        self, path: str | os.PathLike[str], start: float = 0.0, duration: float | None = None
    ) -> Identification:
        """Identify a recording, or a span of it.

        Raises
        ------
        AudioError
            If it cannot be decoded.
        """
        bands = recording_spectrogram(
            path,
            self.params,
            start=start,
            duration=duration,
            device=self._model.encoders.device,
        )
        return self.identify(bands, os.fspath(path))

    def identify_files(
        self, paths: Sequence[Path], start: float = 0.0, duration: float | None = None
    ) -> Iterator[Identification]:
        """Identify recordings one by one; one that fails says so in its answer."""
        for path in paths:
            try:
                yield self.identify_file(path, start, duration)
            except MmidError as error:
                yield Identification(os.fspath(path), 0.0, False, (), str(error))

    def identify(
        self, spectrogram: Tensor, query: str = "", without: frozenset[int] = frozenset()
    ) -> Identification:
        """Identify a spectrogram.

        Parameters
        ----------
        spectrogram : Tensor [bands, frames] float32
            From `mmid.features`.
        query : str
            What to call it in the answer.
        without : frozenset of int
            Positions of pieces to act as if they were not in the index.
        """
        seconds = spectrogram.shape[1] / self.params.frame_rate
        hits = [self._hits(spectrogram, ratio, without) for ratio in self._tempo_ratios]
        elected = elect(hits, self._vote, max(2, self._top) + len(without))
        candidates = [c for c in elected if c.piece not in without]
        matches = tuple(self._match(c, candidates, seconds) for c in candidates[: self._top])
        matched = bool(matches) and matches[0].confidence >= self.min_confidence
        return Identification(query, seconds, matched, matches)

    def _hits(self, spectrogram: Tensor, tempo_ratio: float, without: frozenset[int]) -> Hits:
        vectors, frames = embed_query(spectrogram, self._model, tempo_ratio)
        kept = np.linspace(0, len(frames) - 1, min(len(frames), MAX_SNIPPETS)).astype(int)
        wanted = NEIGHBOURS * (4 if without else 1)
        snippets, similarity = self._index.search(vectors[kept], wanted, self._search)
        if without:
            hidden = np.isin(self._index.locate(snippets)[0], list(without))
            order = np.argsort(hidden, axis=1, kind="stable")[:, :NEIGHBOURS]
            snippets = np.take_along_axis(snippets, order, 1)
            similarity = np.take_along_axis(similarity, order, 1)
        piece, place = self._index.locate(snippets)
        return Hits(tempo_ratio, frames[kept], piece, place, similarity)

    def _match(self, candidate: Candidate, all_: list[Candidate], seconds: float) -> Match:
        entry = self._index.entries[candidate.piece]
        start = end = None
        if candidate.start is not None:
            rate = self.params.frame_rate
            start = min(max(0.0, candidate.start / rate), entry.seconds)
            end = min(entry.seconds, candidate.start / rate + seconds * candidate.tempo_ratio)
        return Match(
            entry.name,
            self._confidence(candidate, all_),
            candidate.share,
            start,
            end,
            candidate.tempo_ratio,
            0,
        )

    @staticmethod
    def _confidence(candidate: Candidate, all_: list[Candidate]) -> float:
        rivals = [other.share for other in all_ if other.piece != candidate.piece]
        margin = candidate.share - max(rivals, default=0.0)
        return 1 / (
            1
            + math.exp(
                -(CALIBRATION[0] + CALIBRATION[1] * candidate.share + CALIBRATION[2] * margin)
            )
        )


CALIBRATION = (-4.0, 8.0, 12.0)
"""Intercept and weights of share and margin in the logistic confidence."""
