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
from mmid.encoders import fast_autocast
from mmid.errors import MmidError
from mmid.features import recording_spectrogram, resample_frames
from mmid.index import LibraryIndex, Search
from mmid.params import FeatureParams
from mmid.vote import Candidate, Hits, Vote, elect

TEMPO_RATIOS = tuple(2 ** (step / 6) for step in range(-6, 7))
"""Speeds tried: half to double the score's, 12 % apart; training tolerates 6 % either way."""

NEIGHBOURS = 25
"""Nearest snippets that vote, for each snippet of the query (Dorfer et al. 2017)."""

MAX_SNIPPETS = 200
"""Query snippets that vote at each tempo, spread evenly over a longer recording."""

EXCERPTS, EXCERPT_SECONDS = 8, 10.0
"""A recording longer than these together is heard in so many excerpts."""

PHASES = 2
"""Query snippets for each stride of the index."""

QUIET = 0.25
"""Compressed magnitude below which a frame is silent: 45 dB under the recording's loud parts."""

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

    Snippets lie closer than in the index, so that one of them falls near each of the index's.

    Parameters
    ----------
    spectrogram : Tensor [bands, frames] float32
    model : Checkpoint
    tempo_ratio : float
        The recording's assumed speed against the score.

    Returns
    -------
    vectors : np.ndarray [n, embedding] float32
        Those of at most `MAX_SNIPPETS` snippets with sound in them.
    frames : np.ndarray [n] float64
        Where each begins, in frames of the recording.
    """
    config = model.encoders.config
    snippet, step = config.features.snippet, 1 / tempo_ratio
    total = max(int((spectrogram.shape[1] - 1) * tempo_ratio) + 1, snippet)
    origin = torch.zeros(1, device=spectrogram.device)
    whole = resample_frames(spectrogram[None], origin, origin + step, total)
    loud = (whole[0].amax(0) > QUIET).cpu().numpy()
    vectors, begins = [], []
    for first, last in _excerpts(total, config.features.frame_rate):
        for phase in range(0, config.audio.stride, config.audio.stride // PHASES):
            if last - first - phase >= snippet:
                embedded = _embed(whole[None, ..., first + phase : last], model)
                vectors.append(embedded)
                begins.append(first + phase + np.arange(len(embedded)) * config.audio.stride)
    frames = np.concatenate(begins)
    sounding = np.lib.stride_tricks.sliding_window_view(loud, snippet).max(1)
    order = np.argsort(frames, kind="stable")
    kept = order[sounding[frames[order]]]
    kept = kept[np.linspace(0, len(kept) - 1, min(len(kept), MAX_SNIPPETS)).astype(int)]
    return np.concatenate(vectors)[kept], frames[kept] * step


def _excerpts(frames: int, rate: float) -> list[tuple[int, int]]:
    """Cut a long recording down to excerpts spread evenly over it."""
    length = int(EXCERPT_SECONDS * rate)
    if frames <= EXCERPTS * length:
        return [(0, frames)]
    firsts = np.linspace(0, frames - length, EXCERPTS).astype(int)
    return [(int(first), int(first) + length) for first in firsts]


@torch.inference_mode()
def _embed(batch: Tensor, model: Checkpoint) -> np.ndarray:
    with fast_autocast(model.encoders.device):
        embedded: np.ndarray = model.encoders.audio(batch)[0].cpu().numpy()
    return embedded


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
        shortest = self.params.snippet / spectrogram.shape[1]
        ratios = [ratio for ratio in self._tempo_ratios if ratio >= min(1.0, shortest)]
        hypotheses = [self._hits(spectrogram, ratio, without) for ratio in ratios]
        hits = [hypothesis for hypothesis in hypotheses if len(hypothesis.query_frame)]
        elected = elect(hits, self._vote, max(2, self._top) + len(without))
        candidates = [c for c in elected if c.piece not in without]
        matches = tuple(self._match(c, seconds) for c in candidates[: self._top])
        matched = bool(matches) and matches[0].confidence >= self.min_confidence
        return Identification(query, seconds, matched, matches)

    def _hits(self, spectrogram: Tensor, tempo_ratio: float, without: frozenset[int]) -> Hits:
        vectors, frames = embed_query(spectrogram, self._model, tempo_ratio)
        wanted = NEIGHBOURS * (4 if without else 1)
        snippets, similarity = self._index.search(vectors, wanted, self._search)
        if without:
            hidden = np.isin(self._index.locate(snippets)[0], list(without))
            order = np.argsort(hidden, axis=1, kind="stable")[:, :NEIGHBOURS]
            snippets = np.take_along_axis(snippets, order, 1)
            similarity = np.take_along_axis(similarity, order, 1)
        piece, place = self._index.locate(snippets)
        return Hits(tempo_ratio, frames, piece, place, similarity)

    def _match(self, candidate: Candidate, seconds: float) -> Match:
        entry, rate = self._index.entries[candidate.piece], self.params.frame_rate
        start = end = None
        if candidate.start is not None:
            first = candidate.start / rate
            start = min(max(0.0, first), entry.seconds)
            end = min(entry.seconds, first + seconds * candidate.tempo_ratio)
        return Match(
            entry.name,
            self._confidence(candidate.share, seconds),
            candidate.share,
            start,
            end,
            candidate.tempo_ratio,
            0,
        )

    def _confidence(self, share: float, seconds: float) -> float:
        if self._vote == "majority":
            return share
        return confidence(share, seconds, self._model.facts.get("confidence", CALIBRATION))


def confidence(share: float, seconds: float, calibration: Sequence[float]) -> float:
    """Return the probability that a match is right, by logistic regression.

    Parameters
    ----------
    share : float
        Of the consistent votes.
    seconds : float
        Length of the query: the same share means more in a longer one.
    calibration : sequence of float
        Weights of one, the share and the logarithm of the length, from `fit_confidence`.

    Examples
    --------
    >>> round(confidence(0.5, 10.0, (-4.0, 8.0, 0.0)), 3)
    0.5
    """
    evidence = np.dot(calibration, [1.0, share, math.log1p(seconds)])
    return float(1 / (1 + np.exp(-evidence)))


def fit_confidence(
    shares: Sequence[float], seconds: Sequence[float], right: Sequence[bool]
) -> list[float]:
    """Fit the weights of `confidence` to first matches known to be right or wrong.

    A small penalty on the weights keeps them finite where right and wrong do not overlap.

    Returns
    -------
    list of float
        Weights of one, the share and the logarithm of the length.
    """
    evidence = np.stack([np.ones(len(shares)), shares, np.log1p(seconds)], 1)
    target, weights = np.asarray(right, float), np.zeros(3)
    for _ in range(100):
        likely = 1 / (1 + np.exp(-evidence @ weights))
        slope = evidence.T @ (likely - target) + PENALTY * weights
        curve = (evidence * (likely * (1 - likely))[:, None]).T @ evidence
        weights = weights - np.linalg.solve(curve + PENALTY * np.eye(3), slope)
    return [float(round(weight, 3)) for weight in weights]


PENALTY = 0.01

CALIBRATION = (-4.0, 10.0, 0.0)
"""For models that bring no calibration of their own."""
