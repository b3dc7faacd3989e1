"""An answer in words: whether it was found, what it is, from where on, how fast, in which key.

Conventions: the verdict on a query is that of `mmid.identify.answer.Identification.verdict`, and
here also that it failed.
"""

from __future__ import annotations

import math
from typing import get_args

from rich.console import Group, RenderableType
from rich.text import Text

from mmid.errors import label
from mmid.identify.answer import Identification, Match, advice, to_try
from mmid.music.formats import is_written
from mmid.options import Verdict
from mmid.output.answers import answer_table, likely, own_title
from mmid.output.reasons import reasons
from mmid.system.tables import clock

FAILED = "failed"
VERDICTS = (*get_args(Verdict), FAILED)
"""All that answers come to."""

STYLES = {"found": "green", "perhaps": "cyan", "absent": "yellow"}
"""Of verdicts on a terminal."""

SAME, A_LITTLE, MUCH = 0.05, 0.3, 0.8
"""Octaves between two tempi: up to the first they count as the same; much is from the last on."""

INTERVALS = {1: "a semitone", 12: "an octave", 24: "two octaves"}
"""Those that have a name, by their semitones."""


def verdict(answer: Identification) -> str:
    """Return the one of `VERDICTS` that an answer comes to."""
    return FAILED if answer.error is not None else answer.verdict


def sentence(answer: Identification) -> str:
    """Return what an answer comes to in a sentence or two; names are on one line, as labels.

    Examples
    --------
    >>> sentence(Identification("door.wav", 1.0, False, (), reason="too_short"))
    'Not found. Too short to identify: give at least 3 seconds of music, better 10.'
    """
    if answer.error is not None:
        return f"Failed: {label(answer.error)}"
    if answer.verdict == "absent":
        return f"Not found. {advice(answer)}".rstrip()
    best = answer.matches[0]
    facts = (
        _named(best),
        _start(best),
        _tempo(answer.query, best),
        _key(best.transpose),
        _stretch(answer),
    )
    said = f"{', '.join(filter(None, facts))} - {100 * best.confidence:.0f} % confident"
    if answer.matched:
        return f"Found: {said}"
    why = "; ".join(filter(None, [said, reasons(answer)]))
    return f"Perhaps: {why}. To be more certain, try {to_try(answer)}."


def _named(match: Match) -> str:
    title, name = own_title(match), label(match.piece)
    return f"{title} ({name})" if title else name


def _start(match: Match) -> str | None:
    if match.start is None:
        return None
    bars = f" ({match.first_beat})" if match.first_beat else ""
    return f"from {clock(match.start)}{bars}"


def _stretch(answer: Identification) -> str | None:
    """Say what of the query it rests on, where that is not all."""
    if answer.stretch is None:
        return None
    start, end = map(clock, answer.stretch)
    return f"by {start}-{end} of the recording"


def _tempo(query: str, match: Match) -> str:
    """Say how fast it is; of two recordings none is written."""
    written = any(map(is_written, (query, match.piece)))
    octaves = abs(math.log2(match.tempo_ratio))
    if octaves < SAME:
        return "at the tempo written" if written else "at the same tempo"
    degree = "a little " if octaves < A_LITTLE else "much " if octaves >= MUCH else ""
    way = "faster" if match.tempo_ratio > 1 else "slower"
    return f"{degree}{way}{' than written' if written else ''} (x{match.tempo_ratio:.2f})"


def _key(semitones: int) -> str:
    if not semitones:
        return "in the file's key"
    far = INTERVALS.get(abs(semitones), f"{abs(semitones)} semitones")
    return f"{far} {'above' if semitones > 0 else 'below'} the file's key"


def answer_view(answer: Identification, *, all_rows: bool = False) -> RenderableType:
    """Return an answer as a terminal shows it: the query, the verdict, and a table of matches.

    Parameters
    ----------
    answer : Identification
    all_rows : bool
        Show matches with a confidence of 0 %, too.
    """
    heading = Text(f"{label(answer.query)}  ({clock(answer.seconds)})", style="bold")
    verdict_line = Text(sentence(answer), style=STYLES[answer.verdict])
    if all_rows or any(map(likely, answer.matches)):
        return Group(heading, verdict_line, answer_table(answer, all_rows=all_rows))
    return Group(heading, verdict_line)
