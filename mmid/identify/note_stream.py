"""Long music, transcribed a stretch at a time, in memory that does not grow with its length.

Conventions: notes are log-odds ``[2, PITCHES, frames]`` as `mmid.model.transcriber` gives them, on
the frame grid of the model, frame 0 being where the span begins.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from mmid.errors import MmidError
from mmid.model.embedding import Query, Sound, open_query
from mmid.model.encoders import Encoders
from mmid.model.transcriber import PITCHES
from mmid.music.audio import sound_seconds, stream_audio
from mmid.music.formats import is_written
from mmid.music.grid import FeatureParams
from mmid.music.spectrogram import spectrogram

STRETCH_SECONDS = 30.0
"""Transcribed at once: so much has a loudness and a tuning of its own."""

AROUND = 12
"""Frames transcribed on either side of a stretch, or as many as its own depend on."""


QueryInput: TypeAlias = str | os.PathLike[str] | Query
"""A file, or music that is open already."""


def length_of(source: QueryInput, start: float = 0.0, duration: float | None = None) -> int:
    """Return how many seconds of music there seem to be, before they are read; 0 if unknown."""
    if not isinstance(source, (str, os.PathLike)):
        return int(source.seconds)
    if is_written(source):
        return 0
    left = max(0.0, sound_seconds(source) - start)
    return int(left if duration is None else min(left, duration))


def transcribe_stretches(
    encoders: Encoders,
    source: QueryInput,
    start: float = 0.0,
    duration: float | None = None,
) -> Iterator[Tensor]:
    """Transcribe a recording, or read a MIDI file, stretch by stretch.

    Parameters
    ----------
    encoders : Encoders
        Of a model that transcribes.
    source : path or Query
    start, duration : float
        The span of a file, seconds; to the end by default.

    Yields
    ------
    Tensor [2, PITCHES, frames] float32
        The notes of one stretch after the other.

    Raises
    ------
    MmidError
        If the file cannot be read, or the model does not transcribe.
    """
    params = encoders.config.features
    if not isinstance(source, (str, os.PathLike)):
        yield _notes(encoders, source)
        return
    if is_written(source):
        yield _notes(encoders, open_query(source, params, start, duration, encoders.device))
        return
    frames = round(STRETCH_SECONDS * params.frame_rate)
    blocks = stream_audio(source, params.sample_rate, start, duration)
    around = max(AROUND, encoders.config.reach)
    for samples, before in cut_stretches(blocks, frames, params, around):
        sound = Sound(spectrogram(torch.from_numpy(samples), params), params)
        yield _notes(encoders, sound)[..., before : before + frames]


def _notes(encoders: Encoders, query: Query) -> Tensor:
    log_odds = query.transcribed(encoders).log_odds
    if log_odds is None:
        raise MmidError("this model transcribes no notes to follow: give one that does")
    return log_odds.cpu()


def cut_stretches(
    blocks: Iterator[np.ndarray], frames: int, params: FeatureParams, around: int = AROUND
) -> Iterator[tuple[np.ndarray, int]]:
    """Cut a stream of samples into stretches with what is around them; count the frames before."""
    stretch, beside = frames * params.hop, around * params.hop
    samples, before = np.empty(0, np.float32), 0
    for block in blocks:
        samples = np.concatenate([samples, block])
        while len(samples) >= before * params.hop + stretch + beside:
            yield samples[: before * params.hop + stretch + beside], before
            samples = samples[before * params.hop + stretch - beside :]
            before = around
    if len(samples) > before * params.hop:
        yield samples, before


class Tape:
    """Music's notes, wound on as they are needed and forgotten when they are not needed.

    Parameters
    ----------
    stretches : iterator of Tensor [2, PITCHES, frames]
        From `transcribe_stretches`.
    """

    def __init__(self, stretches: Iterator[Tensor]) -> None:
        self._stretches = stretches
        self._held = torch.empty(2, PITCHES, 0)
        self.first = 0
        """Frame from which on it still knows the notes."""

    @property
    def end(self) -> int:
        """Frame up to which it has been wound."""
        return self.first + self._held.shape[-1]

    def between(self, first: int, last: int) -> Tensor:
        """Return the notes from a frame up to another; fewer where the music ends.

        Parameters
        ----------
        first, last : int
            Not before `first` of the tape.
        """
        while self.end < last and (stretch := next(self._stretches, None)) is not None:
            self._held = torch.cat([self._held, stretch], -1)
        return self._held[..., max(0, first - self.first) : max(0, last - self.first)]

    def forget(self, frame: int) -> None:
        """Forget what lies before a frame."""
        ahead = min(max(0, frame - self.first), self._held.shape[-1])
        self._held, self.first = self._held[..., ahead:].clone(), self.first + ahead
