"""How a library is searched: one set of options, whose defaults stand here and nowhere else.

Conventions: a tempo ratio is the query's speed against the library's; keys are semitones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mmid.errors import MmidError
from mmid.options import FARTHEST, Search, Vote

TEMPO_RATIOS = tuple(2 ** (step / 6) for step in range(-12, 13))
"""Speeds tried: a quarter to four times the library's, 12 % apart; training tolerates 6 %."""

KEYS = tuple(sorted(range(-12, 13), key=abs))
"""Transpositions tried where the key is not known, semitones."""


@dataclass(frozen=True)
class SearchOptions:
    """What is tried for a query, and what of it is returned.

    Parameters
    ----------
    search : {"auto", "exact", "hnsw"}
    vote : {"consistent", "majority"}
    tempo_ratios : sequence of float
        Speeds of the query against the library to try.
    keys : sequence of int
        Transpositions to try, semitones.
    top : int
        Matches to return.
    min_confidence : float
        The first match counts as found from here on.
    """

    search: Search = "auto"
    vote: Vote = "consistent"
    tempo_ratios: Sequence[float] = TEMPO_RATIOS
    keys: Sequence[int] = KEYS
    top: int = 5
    min_confidence: float = 0.5


def keys_to_try(transpose: int | str) -> tuple[int, ...]:
    """Return the keys of a transposition in semitones, or of ``auto``, which tries -12 to 12.

    Raises
    ------
    MmidError
        If it is neither, or too far.
    """
    if transpose == "auto":
        return KEYS
    if isinstance(transpose, int) and abs(transpose) <= FARTHEST:
        return (transpose,)
    raise MmidError(
        f"transpose {transpose!r}: give 'auto', or semitones from -{FARTHEST} to {FARTHEST}"
    )
