"""The MIDI file of an answer, moved to the recording's time: played together, they are in step.

Conventions: times in seconds; those written are the recording's own, from its beginning, also where
only a span of it was the query. Notes are in the key they were found in, with their velocities
and programs. Where the recording leaps in the score, for a repeat, so do the notes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from mmid.errors import MmidError, label
from mmid.identify.alignment import Alignment, align_closely
from mmid.identify.batch import Answered, Sink
from mmid.identify.identifier import Identifier, Trace
from mmid.model.embedding import Score
from mmid.music.grid import FeatureParams
from mmid.music.midi import write_midi
from mmid.music.notes import retimed, shifted
from mmid.output.evidence import traced
from mmid.system.outputs import target_paths, written_target

SUFFIXES = (".mid", ".midi")
ENDING = ".aligned.mid"
"""In a folder, so that ``take.mid``, which may lie beside ``take.wav``, stays what it is."""

LEAST_LEAP = 1.0
"""Paths that move farther than this from one frame to the next leap, seconds of the score."""


def warp_notes(notes: np.ndarray, path: Alignment) -> np.ndarray:
    """Move the notes of a score to the time of a query aligned with it.

    Parameters
    ----------
    notes : np.ndarray [n] of mmid.music.notes.NOTE_DTYPE
        The score's.
    path : Alignment
        With a position for every frame, as of `mmid.identify.alignment.align_closely`.

    Returns
    -------
    np.ndarray [m] of mmid.music.notes.NOTE_DTYPE
        Those that begin where the path goes, once for every time it does; cut where it leaves.
    """
    parts = [_warp(notes, score, query) for query, score in _stretches(path)]
    return np.concatenate([notes[:0], *parts])


def _warp(notes: np.ndarray, score: np.ndarray, query: np.ndarray) -> np.ndarray:
    begun = (notes["onset"] >= score[0]) & (notes["onset"] < score[-1])
    return retimed(notes[begun], lambda times: np.asarray(np.interp(times, score, query)))


def _stretches(path: Alignment) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield matching times of the query and the score, the score's rising, between leaps."""
    frame = float(path.query[1] - path.query[0]) if len(path.query) > 1 else 0.0
    leaps = np.flatnonzero(np.abs(np.diff(path.score)) > LEAST_LEAP) + 1
    for query, score in zip(np.split(path.query, leaps), np.split(path.score, leaps), strict=True):
        reached, first = np.unique(np.maximum.accumulate(score), return_index=True)
        end = query[-1] + frame, reached[-1] + frame * path.tempo_ratio
        yield np.append(query[first], end[0]), np.append(reached, end[1])


class AlignedMidi(Sink):
    """A sink that writes the MIDI file found, in the recording's time, for every match.

    Parameters
    ----------
    identifier : Identifier
        Of an index of MIDI files.
    place : Path
        A .mid file for one file, or a folder, as for `mmid.system.outputs.target_paths`.
    files : sequence of Path
        The queries, in order.
    start : float
        Where in the recordings the spans begin, seconds.

    Raises
    ------
    MmidError
        If the index holds recordings, or nothing can be written there.
    """

    explains = True

    def __init__(
        self, identifier: Identifier, place: Path, files: Sequence[Path], start: float = 0.0
    ) -> None:
        if identifier.kind != "midi":
            raise MmidError("an index of recordings holds no MIDI file to align")
        self._identifier, self._start = identifier, start
        self._targets = iter(target_paths(place, files, SUFFIXES, ENDING))

    def take(self, answered: Answered) -> None:
        """Write the notes of the passage found, if a piece was.

        Raises
        ------
        MmidError
            If the vote gave no position in it, or the file cannot be written.
        """
        target = next(self._targets)
        if not answered.answer.matched or answered.result is None:
            return
        notes = aligned_notes(self._identifier, answered)
        with written_target(target) as part:
            write_midi(shifted(notes, self._start), part)


def aligned_notes(identifier: Identifier, answered: Answered) -> np.ndarray:
    """Return the notes of the first match in the query's time and key.

    Parameters
    ----------
    identifier : Identifier
        That gave the answer, over an index of MIDI files.
    answered : Answered
        With a match.

    Returns
    -------
    np.ndarray [n] of mmid.music.notes.NOTE_DTYPE

    Raises
    ------
    MmidError
        If the vote gave no position in the piece.
    """
    found = traced(identifier, answered)
    path = _path(found, answered, identifier.params)
    if path is None:
        raise MmidError(f"{label(answered.answer.query)}: this vote gives no position to align")
    score = Score(found.notes, found.seconds, identifier.params)
    return warp_notes(score.transposed(found.candidate.transpose).notes, path)


def _path(found: Trace, answered: Answered, params: FeatureParams) -> Alignment | None:
    """Return the path of a query through the piece, frame by frame; straight if only voted for."""
    candidate, result = found.candidate, answered.result
    if candidate.start is None or result is None:
        return None
    log_odds = result.query.log_odds
    if found.path is not None and log_odds is not None:
        return align_closely(log_odds, found.path, candidate, lambda _: found.notes, params)
    query = np.arange(0.0, result.query.seconds, 1 / params.frame_rate)
    score = candidate.start / params.frame_rate + query * candidate.tempo_ratio
    return Alignment(candidate.share, query, score, candidate.tempo_ratio)
