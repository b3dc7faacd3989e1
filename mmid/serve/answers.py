"""What the server says of a recording: the answer, and what the page shows and plays beside it.

Conventions: what is said of an answer is made at once and sent with it; nothing of a recording
stays in the server.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np
from jinja2 import Environment

from mmid.errors import MmidError
from mmid.identify.answer import Identification
from mmid.identify.batch import Answered
from mmid.identify.identifier import Identifier
from mmid.identify.timeline import Timeline
from mmid.music.midi import write_midi
from mmid.output.aligned_midi import aligned_notes
from mmid.output.answers import ANSWER_COLUMNS, TIMELINE_COLUMNS, flat_answer, flat_timeline
from mmid.output.evidence import find_passage
from mmid.output.page.page import page_templates
from mmid.output.page.piano_roll_svg import Roll, draw_roll
from mmid.output.sinks import csv_row
from mmid.output.verdict import sentence, verdict
from mmid.serve.uploads import Upload, unnamed_file

MOST_PLAYED = 20_000
"""Notes that are sent to be played, at most: those that begin first."""


def identified(
    identifier: Identifier, upload: Upload, start: float, duration: float | None, *, shown: bool
) -> dict[str, Any]:
    """Return what a recording is, as JSON-ready names and values.

    Parameters
    ----------
    identifier : Identifier
    upload : Upload
    start, duration : float
        The span of it, seconds.
    shown : bool
        Whether to say what a page shows and plays as well, under ``shown``.

    Raises
    ------
    Refused
        If it cannot be read.
    """
    with upload.named():
        query = upload.open(identifier, start, duration)
        result = identifier.search(query)
        answer = identifier.answer(result, upload.name)
        said = described(answer)
        if shown:
            said["shown"] = _shown(identifier, Answered(answer, query, result))
        return said


def described(answer: Identification) -> dict[str, Any]:
    """Return an answer with its verdict and its sentence."""
    return {"verdict": verdict(answer), **answer.to_dict(), "sentence": sentence(answer)}


def _shown(identifier: Identifier, answered: Answered) -> dict[str, Any]:
    """Return what a page shows of an answer (HTML), plays (notes), and lets one take along."""
    answer, remarks = answered.answer, []
    roll = _roll(identifier, answered)
    notes = np.zeros(0)
    try:
        if answer.matches and identifier.kind == "midi":
            notes = aligned_notes(identifier, answered)
    except MmidError:
        remarks.append("The score cannot be played along: its place in the piece is not known.")
    html = _templates().get_template("answer.html")
    return {
        "html": html.render(answer=answer, roll=roll, remarks=remarks),
        "notes": _played(notes[:MOST_PLAYED]) if len(notes) else [],
        "midi": b64encode(_midi_file(notes)).decode() if len(notes) else None,
        "csv": _csv(ANSWER_COLUMNS, [flat_answer(answer)]),
    }


@cache
def _templates() -> Environment:
    return page_templates()


def _roll(identifier: Identifier, answered: Answered) -> Roll | None:
    passage = find_passage(identifier, answered)
    return draw_roll(passage, answered.answer.seconds) if passage else None


def _played(notes: np.ndarray) -> list[list[float]]:
    """Return onsets and ends in the recording, seconds, pitches and velocities."""
    columns = ("onset", "offset", "pitch", "velocity")
    in_order = np.sort(notes, order="onset")
    return [[round(float(note[name]), 3) for name in columns] for note in in_order]


def _midi_file(notes: np.ndarray) -> bytes:
    with unnamed_file() as (file, path):
        write_midi(notes, path)
        file.seek(0)
        return file.read()


def _csv(columns: Iterable[str], rows: Iterable[dict[str, Any]]) -> str:
    lines = [csv_row(columns), *(csv_row(row.values()) for row in rows)]
    return "".join(f"{line}\r\n" for line in lines)


def followed(timeline: Timeline) -> dict[str, Any]:
    """Return what was played in a recording from when to when, as JSON-ready names and values."""
    return timeline.to_dict() | {"csv": _csv(TIMELINE_COLUMNS, flat_timeline(timeline))}
