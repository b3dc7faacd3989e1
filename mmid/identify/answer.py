"""What mmid answers to a query.

Conventions: times in seconds. ``tempo_ratio`` is the recording's speed against the score, 2 being
twice as fast, whichever of them was the query; between two recordings or two scores it is the
query's speed against the library's. ``transpose`` is in semitones.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from mmid.errors import label
from mmid.model.evidence import NO_FIGURES, Figures
from mmid.music.moment import Moment
from mmid.options import Reason, Verdict

LONG_QUERY_SECONDS = 60.0
"""From this length on, music may well be a concert of several pieces."""


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
        Share of the transcribed notes that its score explains; None where none were compared.
    lead, above : float
        How far its support exceeds that of the best other music, and of the crowd farther down.
    start, end : float or None
        Where in it, seconds; None where the vote does not say.
    tempo_ratio : float
        The recording's speed against the score.
    transpose : int
        Semitones that take the piece to the key of the query.
    also : tuple of str
        Other files of the library that hold the same music.
    title : str or None
        Of a MIDI file that has one.
    start_bar, start_beat, end_bar, end_beat : int or None
        The same positions in bars, each the nearest beat; None where they are not known.
    figures : Figures
        All that its support is made of.
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
    title: str | None = None
    start_bar: int | None = None
    start_beat: int | None = None
    end_bar: int | None = None
    end_beat: int | None = None
    figures: Figures = NO_FIGURES

    @property
    def passage(self) -> float | None:
        """Seconds from its start to its end, less than none where a repeat goes back; or None."""
        return None if self.start is None or self.end is None else self.end - self.start

    @property
    def first_beat(self) -> Moment | None:
        """Where in its bars the query begins; None where that is not known."""
        if self.start_bar is None or self.start_beat is None:
            return None
        return Moment(self.start_bar, self.start_beat)

    def to_dict(self) -> dict[str, Any]:
        """Return the match as JSON-ready names and values."""
        return asdict(self)


@dataclass(frozen=True)
class Identification:
    """The answer for one recording or MIDI file.

    Parameters
    ----------
    query : str
        The file or name.
    seconds : float
        Its length.
    matched : bool
        Whether the first match is confident enough.
    matches : tuple of Match
        Best first.
    tuning : int
        Of a recording, cents above concert pitch.
    error : str or None
        Why it could not be processed.
    reason : {"no_notes", "too_short", "nothing_fits", "not_confident"} or None
        Why nothing was found; None where something was, or the query could not be processed.
    keys : tuple of int
        Transpositions that were tried, semitones.
    stretch : tuple of (float, float) or None
        What of the query the matches rest on, seconds, where that is not all of it: they begin and
        end where it does, and their figures are of it.
    """

    query: str
    seconds: float
    matched: bool
    matches: tuple[Match, ...]
    tuning: int = 0
    error: str | None = None
    reason: Reason | None = None
    keys: tuple[int, ...] = (0,)
    stretch: tuple[float, float] | None = None

    @property
    def rests_on(self) -> tuple[float, float]:
        """Where in the query its matches begin and end, seconds."""
        return self.stretch or (0.0, self.seconds)

    @property
    def verdict(self) -> Verdict:
        """What it comes to: perhaps is what is worth naming, though not confident enough."""
        if self.matched:
            return "found"
        return "perhaps" if self.reason == "not_confident" else "absent"

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as JSON-ready names and values; without a verdict where it failed."""
        return {**asdict(self), "verdict": None if self.error is not None else self.verdict}

    def to_records(self) -> list[dict[str, Any]]:
        """Return a flat row a match, best first: what a data frame is made of.

        A row is a match with the ``query``, its ``seconds``, and the match's ``rank`` from 1 on;
        ``matched`` is true of a first match that is confident enough; ``verdict`` is the answer's.
        """
        return [
            {
                "query": self.query,
                "seconds": self.seconds,
                "rank": rank,
                "matched": self.matched and rank == 1,
                "verdict": self.verdict,
                **{name: value for name, value in match.to_dict().items() if name != "figures"},
            }
            for rank, match in enumerate(self.matches, 1)
        ]


def advice(answer: Identification) -> str:
    """Return in one sentence why nothing was found, and what to do next.

    Parameters
    ----------
    answer : Identification

    Returns
    -------
    str
        Nothing where something was found, or the query could not be processed.

    Examples
    --------
    >>> advice(Identification("door.wav", 1.0, False, (), reason="too_short"))
    'Too short to identify: give at least 3 seconds of music, better 10.'
    """
    if answer.reason is None:
        return ""
    if answer.reason == "no_notes":
        return "No notes were transcribed (silence, noise or speech?): give a span with music."
    if answer.reason == "too_short":
        return "Too short to identify: give at least 3 seconds of music, better 10."
    perhaps = answer.verdict == "perhaps"
    said = f"Perhaps {label(answer.matches[0].piece)}" if perhaps else "Nothing here fits"
    return f"{said}: try {to_try(answer)}."


def to_try(answer: Identification) -> str:
    """Return what may find more than an answer without a piece, as words to go after "try"."""
    return _listed(_next_steps(answer))


def _next_steps(answer: Identification) -> list[str]:
    """Return what may find more, for a query with notes; at least one thing."""
    steps = []
    if len(answer.keys) < 2:
        steps.append("other keys (--transpose auto)")
    compared = any(match.explained is not None for match in answer.matches)
    if answer.seconds >= LONG_QUERY_SECONDS and compared:
        steps.append("--every 30 if it is a concert of several pieces")
    if answer.seconds < LONG_QUERY_SECONDS or not steps:
        steps.insert(0, "a longer or clearer clip")
    return steps


def _listed(steps: list[str]) -> str:
    return " or ".join([", ".join(steps[:-1]), steps[-1]] if len(steps) > 1 else steps)
