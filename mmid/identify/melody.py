"""The melody as a voter: where in a library's melodies a query's own is found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor, nn

from mmid.identify.rolls import Notes
from mmid.identify.voting import Candidate, Hits, agree, share_at
from mmid.index.protocol import Library
from mmid.model.harmonic import SETTLED
from mmid.model.transcriber import LOWEST, transcribed_notes
from mmid.music.grid import FeatureParams
from mmid.music.log_frequency import HALVES

AGREED = 24
"""Positions that melodies agree on, at most, that are compared note by note."""

OCTAVE = 12

LEADING, BESIDE = 0.5, 0.5
"""A note is the melody's if it is at least such a share as likely to be as any that begins within
so many seconds of it."""

LEAST_LIKELY = 0.02
"""And at least so likely."""


def melody_notes(log_odds: Tensor, melody: Tensor, frame_rate: float) -> np.ndarray:
    """Return the notes that are likelier the melody's than those about them.

    There is nearly always a melody: where no note is likely to be its, as of an instrument that
    seldom leads, the likeliest are.

    Parameters
    ----------
    log_odds, melody : Tensor [2, PITCHES, frames]
        Of all notes of a query, and of its melody's.
    frame_rate : float
        Hz.

    Returns
    -------
    np.ndarray [n] of mmid.music.notes.NOTE_DTYPE
        Sorted by onset.
    """
    notes = transcribed_notes(log_odds, frame_rate)
    settled = SETTLED // HALVES
    ahead = nn.functional.pad(melody[0].float().sigmoid(), (0, settled - 1))
    likely = ahead.unfold(-1, settled, 1).amax(-1).cpu().numpy()
    frame = np.minimum((notes["onset"] * frame_rate).astype(np.int64), likely.shape[1] - 1)
    chance = likely[notes["pitch"] - LOWEST, frame]
    leader = _most_within(notes["onset"], chance, BESIDE)
    return np.asarray(notes[(chance >= LEADING * leader) & (chance >= LEAST_LIKELY)])


def _most_within(times: np.ndarray, values: np.ndarray, reach: float) -> np.ndarray:
    """Return the most of the values at times within a reach of each; times are sorted."""
    first = np.searchsorted(times, times - reach)
    end = np.searchsorted(times, times + reach, side="right")
    bounds = np.stack([first, end], 1).ravel()
    padded = np.append(values, -np.inf)
    return np.asarray(np.maximum.reduceat(padded, bounds)[::2]) if len(values) else values


def find_tunes(
    log_odds: Tensor,
    melody: Tensor,
    keys: Sequence[int],
    index: Library,
    params: FeatureParams,
    effort: float = 1.0,
) -> tuple[Candidate, ...]:
    """Look a query's melody up among the library's melodies.

    Parameters
    ----------
    log_odds, melody : Tensor [2, PITCHES, frames]
        Of all its notes, and of its melody's.
    keys : sequence of int
        To try, semitones: a melody may be sung an octave away from where it is written.
    index : Library
    params : FeatureParams
    effort : float
        How much of its note triples to look up (`mmid.index.fingerprint_search.QUICKLY`).

    Returns
    -------
    tuple of Candidate
        Those that most of the melody's note triples agree on, the best first.
    """
    rate = params.frame_rate
    notes = melody_notes(log_odds, melody, rate)
    return tuple(
        Candidate(
            piece=at.piece,
            share=0.0,
            tempo_ratio=at.tempo_ratio,
            start=at.start * rate,
            transpose=at.transpose,
            tune=at.share,
        )
        for at in index.search_triples(notes, AGREED, keys, melody=True, effort=effort)
    )


def with_tunes(
    candidates: Sequence[Candidate],
    tunes: Sequence[Candidate],
    frames: int,
    hits: Sequence[Hits] = (),
) -> list[Candidate]:
    """Put what melodies say of candidates beside them, and the other positions they found.

    Parameters
    ----------
    candidates : sequence of Candidate
        Of the other voters.
    tunes : sequence of Candidate
        As `find_tunes` gives them.
    frames : int
        Length of the query.
    hits : sequence of Hits
        What snippets say of positions that only melodies found.
    """
    said = [_said([t for t in tunes if _agrees(t, one, frames)]) for one in candidates]
    others = [tune for tune in tunes if not any(agree(one, tune, frames) for one in candidates)]
    return [
        *(
            replace(one, tune=tune, correlation=correlation)
            for one, (tune, correlation) in zip(candidates, said, strict=True)
        ),
        *(
            replace(one, share=max((share_at(h, one, frames) for h in hits), default=0.0))
            for one in others
        ),
    ]


def _said(tunes: Sequence[Candidate]) -> tuple[float, float]:
    """Return the most that tunes say of one position: triples' share, and correlation."""
    return max((t.tune for t in tunes), default=0.0), max(
        (t.correlation for t in tunes), default=0.0
    )


def read_both_ways(candidates: Sequence[Candidate], index: Library) -> list[Candidate]:
    """Add the melodies alone of the candidates in which the query's melody was found.

    A recording may be of the tune of a file that holds chords as well.
    """
    alone = (
        replace(one, alone=True)
        for one in candidates
        if (one.tune or one.correlation) and not index.melody(one.piece).all()
    )
    return [*candidates, *alone]


def notes_read(index: Library) -> Notes:
    """Return what gives the notes of a candidate's piece that count: all, or its melody's alone."""
    of_melody = notes_of_melody(index)
    return lambda one: of_melody(one) if one.alone else index.notes(one.piece)


def notes_of_melody(index: Library) -> Notes:
    """Return what gives the notes of the melody of a candidate's piece."""
    return lambda one: np.asarray(index.notes(one.piece)[index.melody(one.piece)])


def _agrees(tune: Candidate, one: Candidate, frames: int) -> bool:
    """Say whether a tune is found where another candidate is, in whichever octave."""
    same = tune.piece == one.piece and (tune.transpose - one.transpose) % OCTAVE == 0
    return same and agree(one, replace(tune, transpose=one.transpose), frames)
