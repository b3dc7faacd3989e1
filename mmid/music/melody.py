"""Which notes of a MIDI file are its melody: the voice or lead by name or program, else the top.

Conventions: ``notes`` is an array ``[n]`` of `mmid.music.notes.NOTE_DTYPE`, times in seconds.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from heapq import heappop, heappush

import numpy as np

NAMED = re.compile(
    r"melod|vo(ice|cal|x)|sopran|lead|canto|cantus|chant|gesang|singst|solo|fl(u|ö|oe)te|flauto",
    re.IGNORECASE,
)
NOT_NAMED = re.compile(r"piano|back|accomp|bass", re.IGNORECASE)
"""Names of the tracks that hold a melody; among those, names of tracks that do not."""

PROGRAMS = (*range(52, 55), *range(72, 88))
"""General MIDI's voices, pipes and synthesised leads."""

COVERED = 0.25
"""A melody's tracks must last for so much of a file."""

TOGETHER = 0.03
"""Onsets so close are one chord's, seconds."""

LEGATO, MOST_LEGATO = 0.1, 0.25
"""A held note may last into the next of its line for so many seconds, or such a share of it."""


def find_melody(notes: np.ndarray, tracks: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Mark the notes of the melody.

    It is the highest line of the tracks so named, else of those with a voice's program, else of
    all.

    Parameters
    ----------
    notes : np.ndarray [n] of NOTE_DTYPE
        Sorted by onset.
    tracks : np.ndarray [n] int
        The track of each.
    names : sequence of str
        Of the tracks.

    Returns
    -------
    np.ndarray [n] bool
    """
    by_name = (
        np.array([names_melody(name) for name in names], bool)[tracks]
        if len(names)
        else np.zeros(len(notes), bool)
    )
    by_program = np.isin(notes["program"], PROGRAMS)
    for chosen in (by_name, by_program):
        if _lasts(notes[chosen], notes):
            melody = np.zeros(len(notes), bool)
            melody[chosen] = skyline(notes[chosen])
            return melody
    return skyline(notes)


def names_melody(track: str) -> bool:
    """Say whether a track's name is a melody's.

    Examples
    --------
    >>> names_melody("Lead Vocals"), names_melody("Lead (piano)"), names_melody("Strings")
    (True, False, False)
    """
    return bool(NAMED.search(track)) and not NOT_NAMED.search(track)


def _lasts(part: np.ndarray, notes: np.ndarray) -> bool:
    """Say whether some of the notes go on for enough of them all."""
    return len(part) > 0 and bool(np.ptp(part["onset"]) >= COVERED * np.ptp(notes["onset"]))


def skyline(notes: np.ndarray) -> np.ndarray:
    """Mark the notes that nothing higher sounds with at their onset: the highest line.

    Parameters
    ----------
    notes : np.ndarray [n] of NOTE_DTYPE
        In any order.

    Returns
    -------
    np.ndarray [n] bool
    """
    order = np.argsort(notes["onset"], kind="stable")
    onset = notes["onset"][order].astype(np.float64)
    length = notes["offset"][order] - onset
    ends = (onset + length - np.minimum(LEGATO, MOST_LEGATO * length)).tolist()
    pitches, limits = notes["pitch"][order].tolist(), (onset + TOGETHER).tolist()
    together = np.searchsorted(onset, onset + TOGETHER, side="right").tolist()
    top, begun = np.zeros(len(notes), bool), 0
    sounding: list[tuple[int, float]] = []
    for i, limit in enumerate(limits):
        while begun < together[i]:
            heappush(sounding, (-pitches[begun], max(ends[begun], limits[begun])))
            begun += 1
        while sounding[0][1] < limit:
            heappop(sounding)
        top[order[i]] = -sounding[0][0] <= pitches[i]
    return top
