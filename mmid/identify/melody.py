"""The melody as a voter: where in a library's melodies a query's own is found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from mmid.identify.voting import Candidate, Hits, agree, share_at
from mmid.index.protocol import Library
from mmid.model.transcriber import transcribed_notes
from mmid.music.grid import FeatureParams

AGREED = 24
"""Positions that melodies agree on, at most, that are compared note by note."""


def find_tunes(
    melody: Tensor,
    keys: Sequence[int],
    index: Library,
    params: FeatureParams,
    thorough: bool = False,
) -> tuple[Candidate, ...]:
    """Look a query's melody up among the library's melodies.

    Parameters
    ----------
    melody : Tensor [2, PITCHES, frames]
        Log-odds of its notes.
    keys : sequence of int
        To try, semitones: a melody may be sung an octave away from where it is written.
    index : Library
    params : FeatureParams
    thorough : bool
        Look up more of its note triples.

    Returns
    -------
    tuple of Candidate
        Those that most of the melody's note triples agree on, the best first.
    """
    rate = params.frame_rate
    notes = transcribed_notes(melody, rate)
    return tuple(
        Candidate(
            piece=at.piece,
            share=0.0,
            tempo_ratio=at.tempo_ratio,
            start=at.start * rate,
            transpose=at.transpose,
            tune=at.share,
        )
        for at in index.search_triples(notes, AGREED, keys, melody=True, thorough=thorough)
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
    said = [
        max((tune.tune for tune in tunes if agree(one, tune, frames)), default=0.0)
        for one in candidates
    ]
    others = [tune for tune in tunes if not any(agree(one, tune, frames) for one in candidates)]
    return [
        *(replace(one, tune=tune) for one, tune in zip(candidates, said, strict=True)),
        *(
            replace(one, share=max((share_at(h, one, frames) for h in hits), default=0.0))
            for one in others
        ),
    ]
