"""The named baselines that mmid is measured beside, on the same clips and the same library.

Conventions: a baseline takes samples at the grid's rate and ranks the pieces of an index, by their
positions there. A higher score is better; scores of different baselines do not compare.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from threading import local
from typing import Protocol

import numpy as np
import torch

from mmid.errors import MmidError
from mmid.evaluation.baselines.basic_pitch import RATE as TRANSCRIPTION_RATE
from mmid.evaluation.baselines.basic_pitch import BasicPitch
from mmid.evaluation.baselines.chroma import RATE as CHROMA_RATE
from mmid.evaluation.baselines.chroma import ChromaLibrary, recording_chroma
from mmid.evaluation.baselines.note_fingerprints import FingerprintIndex
from mmid.index.protocol import Library
from mmid.model.checkpoint import Checkpoint
from mmid.model.embedding import Sound, embed_query
from mmid.music.spectrogram import spectrogram
from mmid.options import BaselineName

EXCERPTS, CANDIDATES = 100, 25
"""Snippets of a query that vote, and the nearest snippets that each votes for."""

Ranking = list[tuple[int, float]]
"""Positions of pieces in the index, best first, and their scores."""


class Baseline(Protocol):
    """A way to name the piece of a recording."""

    name: BaselineName

    def rank(self, samples: np.ndarray, without: frozenset[int] = frozenset()) -> Ranking:
        """Rank the pieces that speak for themselves at all.

        Parameters
        ----------
        samples : np.ndarray [n] float32
            At the grid's rate.
        without : frozenset of int
            Positions of pieces to act as if they were not in the index.
        """


class Majority:
    """Dorfer's plain majority vote with mmid's own snippets; no tempo is searched for.

    Parameters
    ----------
    model : Checkpoint
    index : Library

    References
    ----------
    .. [1] M. Dorfer, A. Arzt, G. Widmer, "Learning audio-sheet music correspondences for score
       identification and offline alignment", ISMIR 2017.
    """

    name: BaselineName = "majority"

    def __init__(self, model: Checkpoint, index: Library) -> None:
        self._encoders, self._index = model.encoders, index

    def rank(self, samples: np.ndarray, without: frozenset[int] = frozenset()) -> Ranking:
        """Rank pieces by their share of the nearest snippets, wherever in the piece these lie."""
        params = self._encoders.config.features
        query = Sound(spectrogram(torch.from_numpy(samples), params), params)
        [vectors], _ = embed_query(query.transcribed(self._encoders), self._encoders)
        chosen = np.linspace(0, len(vectors) - 1, min(len(vectors), EXCERPTS)).astype(int)
        if not len(chosen):
            return []
        wanted = CANDIDATES * (4 if without else 1)
        snippets, _ = self._index.search(vectors[chosen], wanted)
        pieces = self._index.locate(snippets)[0]
        order = np.argsort(np.isin(pieces, list(without)), axis=1, kind="stable")[:, :CANDIDATES]
        votes = np.bincount(np.take_along_axis(pieces, order, 1).ravel()) / order.size
        return _ranking(votes, without)


class _Listener(ABC):
    """Scores every piece by itself, so that leaving some out takes no second search."""

    def __init__(self) -> None:
        self._last = local()

    @abstractmethod
    def score(self, samples: np.ndarray) -> np.ndarray:
        """Return a score for each piece, 0 to 1."""

    def rank(self, samples: np.ndarray, without: frozenset[int] = frozenset()) -> Ranking:
        """Rank the pieces by their scores; the last clip's are kept, of each thread."""
        samples_before: np.ndarray | None = getattr(self._last, "samples", None)
        if samples_before is None or not np.array_equal(samples, samples_before):
            self._last.samples, self._last.scores = samples.copy(), self.score(samples)
        return _ranking(self._last.scores, without)


class Chroma(_Listener):
    """Subsequence DTW of chroma features against every piece.

    Parameters
    ----------
    notes : sequence of np.ndarray of mmid.music.notes.NOTE_DTYPE
        One a piece, in the index's order.
    """

    name: BaselineName = "chroma"

    def __init__(self, notes: Sequence[np.ndarray]) -> None:
        super().__init__()
        self._library = ChromaLibrary(notes)

    def score(self, samples: np.ndarray) -> np.ndarray:
        """Return one less the cost of the best alignment."""
        return 1 - self._library.search(recording_chroma(samples))


class Fingerprints(_Listener):
    """Transcription by basic-pitch, and the note triples it shares with every piece.

    Parameters
    ----------
    notes : sequence of np.ndarray of mmid.music.notes.NOTE_DTYPE
        One a piece, in the index's order.
    """

    name: BaselineName = "fingerprints"

    def __init__(self, notes: Sequence[np.ndarray]) -> None:
        super().__init__()
        self._transcriber = BasicPitch()
        self._index = FingerprintIndex(notes)

    def score(self, samples: np.ndarray) -> np.ndarray:
        """Return the share of the triples that agree on a position."""
        return self._index.search(self._transcriber.transcribe(samples))


def _ranking(scores: np.ndarray, without: frozenset[int]) -> Ranking:
    order = np.argsort(-scores, kind="stable").tolist()
    return [(i, float(scores[i])) for i in order if scores[i] > 0 and i not in without]


def open_baselines(
    names: Sequence[BaselineName], model: Checkpoint, index: Library
) -> list[Baseline]:
    """Make baselines ready for the library of an index, each once.

    Raises
    ------
    MmidError
        If the index holds recordings, the grid has a rate that the baselines do not take, or a
        package that one needs is not installed.
    """
    if not names:
        return []
    if index.kind != "midi":
        raise MmidError("baselines name the pieces of recordings: they need an index of MIDI files")
    rate = model.encoders.config.features.sample_rate
    if not rate == CHROMA_RATE == TRANSCRIPTION_RATE:
        raise MmidError(f"baselines take {CHROMA_RATE} samples a second, the model {rate}")
    notes = [index.notes(position) for position in range(len(index))]
    made: dict[BaselineName, Baseline] = {}
    for name in names:
        if name == "majority":
            made[name] = Majority(model, index)
        else:
            made[name] = (Chroma if name == "chroma" else Fingerprints)(notes)
    return list(made.values())
