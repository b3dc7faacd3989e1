"""What mmid answers when it is asked what a piece of music is.

Conventions: times in seconds. ``tempo_ratio`` is the recording's speed against the score, 2 being
twice as fast, whichever of them was asked about; between two recordings or two scores it is the
query's speed against the library's. ``transpose`` is in semitones.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Match:
    """Something of the library that may be the same music.

    Parameters
    ----------
    piece : str
        Path of the MIDI file or recording, relative to the library folder.
    confidence : float
        Probability that it is right.
    votes : float
        Its share of the votes cast.
    explained : float or None
        Share of the notes heard that its score explains; None where none were compared.
    lead, above : float
        How far its support exceeds that of the best other music, and of the crowd farther down.
    start, end : float or None
        Where in it, seconds; None where the vote does not tell.
    tempo_ratio : float
        The recording's speed against the score.
    transpose : int
        Semitones that take the piece to the key it was asked for in.
    also : tuple of str
        Other files of the library that hold the same music.
    """

    piece: str
    confidence: float
    votes: float
    explained: float | None
    lead: float
    above: float
    start: float | None
    end: float | None
    tempo_ratio: float
    transpose: int
    also: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the match as JSON-ready names and values."""
        return asdict(self)


@dataclass(frozen=True)
class Identification:
    """The answer for one recording or MIDI file.

    Parameters
    ----------
    query : str
        What was asked about.
    seconds : float
        Its length.
    matched : bool
        Whether the first match is sure enough.
    matches : tuple of Match
        Best first.
    tuning : int
        Of a recording, cents above concert pitch.
    error : str or None
        Why it could not be processed.
    """

    query: str
    seconds: float
    matched: bool
    matches: tuple[Match, ...]
    tuning: int = 0
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as JSON-ready names and values."""
        return asdict(self)

    def to_records(self) -> list[dict[str, Any]]:
        """Return a flat row a match, best first: what a data frame is made of.

        A row is a match with the ``query``, its ``seconds``, and the match's ``rank`` from 1 on;
        ``matched`` is true of a first match that is sure enough.
        """
        return [
            {
                "query": self.query,
                "seconds": self.seconds,
                "rank": rank,
                "matched": self.matched and rank == 1,
                **match.to_dict(),
            }
            for rank, match in enumerate(self.matches, 1)
        ]
