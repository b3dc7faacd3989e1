"""What an answer rests on, in one picture: the query, the passage found, the snippets that match.

Conventions: times in seconds, those of a query from where it was cut. Query time runs to the right,
piece time upwards where the two are set against each other, so a tempo ratio is a slope.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from mmid.errors import label
from mmid.identify.answer import Identification, Match
from mmid.identify.batch import Answered
from mmid.identify.identifier import Identifier, Trace
from mmid.identify.search import NEIGHBOURS, SearchResult
from mmid.identify.voting import Candidate, nearest
from mmid.model.embedding import Query, Score, Sound, Transcribed
from mmid.model.transcriber import LOWEST, PITCHES
from mmid.music.grid import FeatureParams
from mmid.music.spectrogram import band_centres
from mmid.output.figures import (
    COLOURS,
    DOTS_PER_INCH,
    STYLE,
    SUFFIXES,
    check_drawing,
    check_target,
    save_whole,
)
from mmid.system.outputs import target_paths, written_target
from mmid.system.tables import clock, in_cents

INCHES = (13.0, 8.0)

MOST_FAINT = 5_000
"""Matching snippets of other tempi and keys to draw, spread evenly over more."""

BESIDE = 1.0
"""How much of the piece to show before and after the passage, in lengths of the passage."""

LEAST_PASSAGE = 1.0
"""Shorter passages are shown as if they lasted so long, seconds."""

LONGEST_NAME = 56
"""Letters of a piece's name at most; of longer ones the end is shown."""

BARS = 0.6
"""How much of a match's row its bars take; its name takes the rest."""

OCTAVES_HZ = (50, 100, 200, 500, 1_000, 2_000, 5_000)
"""Where a spectrogram has ticks."""


@dataclass(frozen=True, eq=False)
class Points:
    """Snippets of the query beside snippets of the piece that are near them.

    Parameters
    ----------
    query, piece : np.ndarray [n] float64
        Where each begins, seconds.
    """

    query: np.ndarray
    piece: np.ndarray


@dataclass(frozen=True, eq=False)
class Passage:
    """Where in the piece the query lies.

    Parameters
    ----------
    start, end : float
        The stretch of the piece that the path covers, seconds.
    query, piece : np.ndarray [n] float64
        The path: matching times, seconds. A straight line where no notes were compared.
    notes : np.ndarray [m] of mmid.music.notes.NOTE_DTYPE
        Those that sound in it, at the piece's own times and in the key found; none of a recording.
    """

    start: float
    end: float
    query: np.ndarray
    piece: np.ndarray
    notes: np.ndarray


@dataclass(frozen=True, eq=False)
class Picture:
    """What speaks for an answer.

    Parameters
    ----------
    answer : Identification
    query : Query
        As it was read.
    params : FeatureParams
        Its grid.
    piece_seconds : float
        Length of the best piece; 0 where there is none.
    tempo_ratio, transpose : float, int
        The hypothesis that the best piece was voted for at: the query's speed against the piece.
    agreeing, others : Points
        Snippets of the best piece that were found at that hypothesis, and at all others.
    passage : Passage or None
        None without a match, or where the vote gives no position.
    """

    answer: Identification
    query: Query
    params: FeatureParams
    piece_seconds: float
    tempo_ratio: float
    transpose: int
    agreeing: Points
    others: Points
    passage: Passage | None

    @cached_property
    def png(self) -> bytes:
        """Return it drawn, as a PNG file holds it; drawn once, however many show it."""
        file = BytesIO()
        with _drawn(self) as figure:
            figure.savefig(file, format="png")
        return file.getvalue()


def picture_paths(plot: Path, queries: Sequence[Path]) -> list[Path]:
    """Say where the pictures of queries go, as `mmid.system.outputs.target_paths` does.

    Raises
    ------
    MmidError
        If matplotlib is missing, or as `mmid.system.outputs.target_paths` does.
    """
    check_drawing()
    return target_paths(plot, queries, SUFFIXES, SUFFIXES[0])


_traced: WeakKeyDictionary[Answered, Trace] = WeakKeyDictionary()
_gathered: WeakKeyDictionary[Answered, Picture | None] = WeakKeyDictionary()
"""What was collected for answers that are not let go yet."""


def traced(identifier: Identifier, answered: Answered) -> Trace:
    """Say how the first match of an answer was found, once: it takes as long as a comparison."""
    if answered not in _traced:
        assert answered.result is not None
        _traced[answered] = identifier.trace(answered.result, answered.answer.matches[0])
    return _traced[answered]


def find_passage(identifier: Identifier, answered: Answered) -> Passage | None:
    """Return the passage of an answer's first match; None where there is none, or no position."""
    if answered.result is None or not answered.answer.matches:
        return None
    return _passage(traced(identifier, answered), answered.answer.seconds, identifier.params)


def gather_evidence(identifier: Identifier, answered: Answered) -> Picture | None:
    """Collect what speaks for the first match of an answer, once; None where the file failed."""
    if answered not in _gathered:
        _gathered[answered] = _gather(identifier, answered)
    return _gathered[answered]


def _gather(identifier: Identifier, answered: Answered) -> Picture | None:
    answer, query, result = answered.answer, answered.query, answered.result
    if query is None or result is None:
        return None
    params, none = identifier.params, Points(np.zeros(0), np.zeros(0))
    if not answer.matches:
        return Picture(answer, query, params, 0.0, 1.0, 0, none, none, None)
    found = traced(identifier, answered)
    chosen = _nearest_hypothesis(result, found.candidate)
    agreeing, others = _matching(result, found.candidate.piece, chosen, params.frame_rate)
    passage = find_passage(identifier, answered)
    return Picture(answer, query, params, found.seconds, *chosen, agreeing, others, passage)


def _nearest_hypothesis(result: SearchResult, candidate: Candidate) -> tuple[float, int]:
    """Return the tempo tried that is nearest to a candidate's, and its key."""
    tried = {hits.tempo_ratio for hits in result.hits} or {candidate.tempo_ratio}
    ratio = min(tried, key=lambda one: abs(np.log2(one / candidate.tempo_ratio)))
    return ratio, candidate.transpose


def _matching(
    result: SearchResult, piece: int, chosen: tuple[float, int], frame_rate: float
) -> tuple[Points, Points]:
    """Return the snippets of a piece that voted, at the hypothesis chosen and at the others."""
    parts: dict[bool, list[np.ndarray]] = {True: [], False: []}
    for hypothesis in result.hits:
        hits = nearest(hypothesis, NEIGHBOURS)
        row, column = np.nonzero(hits.piece == piece)
        times = np.stack([hits.query_frame[row], hits.position[row, column]]) / frame_rate
        parts[(hits.tempo_ratio, hits.transpose) == chosen].append(times)
    agreeing, others = (np.concatenate([np.zeros((2, 0)), *p], 1) for p in parts.values())
    spread = np.linspace(0, others.shape[1] - 1, min(others.shape[1], MOST_FAINT)).astype(int)
    return Points(*agreeing), Points(*others[:, spread])


def _passage(found: Trace, seconds: float, params: FeatureParams) -> Passage | None:
    candidate = found.candidate
    if candidate.start is None:
        return None
    if found.path is not None:
        query, piece = found.path.query, found.path.score
    else:
        query = np.array([0.0, seconds])
        piece = candidate.start / params.frame_rate + query * candidate.tempo_ratio
    start = max(0.0, min(float(piece.min()), found.seconds))
    end = max(start, min(float(piece.max()), found.seconds))
    notes = Score(found.notes, found.seconds, params).transposed(candidate.transpose).notes
    sounding = (notes["offset"] >= start) & (notes["onset"] <= end)
    return Passage(start, end, query, piece, notes[sounding])


def draw_evidence(picture: Picture, path: Path) -> None:
    """Draw what speaks for an answer.

    Parameters
    ----------
    picture : Picture
        From `gather_evidence`.
    path : Path
        The .png or .svg file to write; it is written whole or not at all.

    Raises
    ------
    MmidError
        If matplotlib is missing or the file cannot be written.
    """
    check_target(path)
    if path.suffix.lower() == ".png":
        with written_target(path) as part:
            part.write_bytes(picture.png)
    else:
        with _drawn(picture) as figure:
            save_whole(figure, path)


@contextmanager
def _drawn(picture: Picture) -> Iterator[Any]:
    """Draw it as a matplotlib figure, to be saved in the same style."""
    check_drawing()
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({**STYLE, "text.parse_math": False}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        figure = Figure(INCHES, dpi=DOTS_PER_INCH, layout="constrained")
        (query, votes), (found, scores) = figure.subplots(2, 2, width_ratios=(3, 2))
        figure.suptitle(_title(picture.answer), x=0.01, ha="left")
        _draw_query(query, picture)
        _draw_passage(found, picture)
        _draw_points(votes, picture)
        _draw_scores(scores, picture.answer.matches)
        yield figure


TITLES = {"found": "found: ", "perhaps": "perhaps: ", "absent": "not found; nearest: "}
"""What stands before the first match above a picture, by the verdict."""


def _title(answer: Identification) -> str:
    """Return the verdict and the first match as two lines."""
    query = f"{label(Path(answer.query).name)} ({clock(answer.seconds)})"
    if not answer.matches:
        return f"{query}: not found\nnothing in it is near the query"
    best = answer.matches[0]
    verdict = TITLES[answer.verdict]
    span = "" if best.start is None else f"    {clock(best.start)} - {clock(best.end)}"
    key = f"    key {best.transpose:+d}" if best.transpose else ""
    tuning = f"    tuning {in_cents(answer.tuning, sign='+')}" if answer.tuning else ""
    return (
        f"{query}: {verdict}{label(best.piece)}\n"
        f"confidence {best.confidence:.0%}{span}    tempo x{best.tempo_ratio:.2f}{key}{tuning}"
    )


def _draw_query(axes: Any, picture: Picture) -> None:
    query, rate = picture.query, picture.params.frame_rate
    seconds = picture.answer.seconds
    if isinstance(query, Score):
        _draw_notes(axes, query.notes, 0.0, seconds)
        axes.set_title("query: its notes")
    elif isinstance(query, Sound):
        _draw_spectrogram(axes, query)
    elif isinstance(query, Transcribed):
        _draw_image(axes, query.log_odds[0].sigmoid().cpu().numpy(), rate, LOWEST - 0.5)
        axes.set(title="query: the transcribed notes", ylabel="MIDI pitch")
    axes.set(xlim=(0, max(seconds, 1 / rate)), xlabel="time in the query")
    _label_times(axes.xaxis)


def _draw_spectrogram(axes: Any, sound: Sound) -> None:
    halves = sound.params.halves
    apart = sound.spectrogram.cpu().reshape(halves, -1, sound.spectrogram.shape[1])
    bands = apart.movedim(0, -1).flatten(1)
    centres = band_centres(sound.params)[: len(bands)]
    ticks = [hz for hz in OCTAVES_HZ if centres[0] <= hz <= centres[-1]]
    _draw_image(axes, bands.numpy(), sound.params.frame_rate * halves, -0.5)
    axes.set_yticks(np.interp(ticks, centres, np.arange(len(centres))), ticks)
    axes.set(title="query: its spectrogram", ylabel="frequency (Hz)")


def _draw_image(axes: Any, values: np.ndarray, rate: float, bottom: float) -> None:
    """Draw ``[rows, frames]`` of values from 0 to 1."""
    rows, frames = values.shape
    extent = (-0.5 / rate, (frames - 0.5) / rate, bottom, bottom + rows)
    style = {"aspect": "auto", "origin": "lower", "cmap": "magma", "vmin": 0, "vmax": 1}
    axes.imshow(values, extent=extent, **style)
    axes.grid(False)


def _draw_notes(axes: Any, notes: np.ndarray, start: float, end: float) -> None:
    axes.hlines(notes["pitch"], notes["onset"], notes["offset"], COLOURS[0], lw=2.5)
    pitches = notes["pitch"].astype(int)
    low, high = (pitches.min(), pitches.max()) if len(notes) else (LOWEST, LOWEST + PITCHES - 1)
    axes.set(xlim=(start, end), ylim=(low - 2, high + 2), ylabel="MIDI pitch")


def _draw_passage(axes: Any, picture: Picture) -> None:
    passage = picture.passage
    if passage is None:
        reason = "this vote gives no position" if picture.answer.matches else "no passage"
        return _say(axes, "passage found", reason)
    key = f", {picture.transpose:+d} semitones" if picture.transpose else ""
    end = max(passage.end, passage.start + 1 / picture.params.frame_rate)
    _draw_notes(axes, passage.notes, passage.start, end)
    _label_times(axes.xaxis)
    axes.set(title=f"passage found: its notes{key}", xlabel="time in the piece")
    if not len(passage.notes):
        axes.text(0.5, 0.5, "no notes known of it", ha="center", transform=axes.transAxes)
    return None


def _draw_points(axes: Any, picture: Picture) -> None:
    passage, title = picture.passage, "snippets that match"
    if not picture.answer.matches:
        return _say(axes, title, "none that votes")
    key = f", {picture.transpose:+d}" if picture.transpose else ""
    marks = {"ls": "", "marker": "o", "markeredgewidth": 0}
    for points, name, colour, alpha, size in (
        (picture.others, "at other tempi and keys", "#888888", 0.25, 3),
        (picture.agreeing, f"at x{picture.tempo_ratio:.2f}{key}", COLOURS[0], 0.7, 4),
    ):
        style = {"color": colour, "alpha": alpha, "markersize": size, **marks}
        axes.plot(points.query, points.piece, label=name, **style)
    low, high = 0.0, picture.piece_seconds
    if passage is not None:
        axes.plot(passage.query, passage.piece, label="path", color=COLOURS[1])
        beside = BESIDE * max(passage.end - passage.start, LEAST_PASSAGE)
        low, high = max(low, passage.start - beside), min(high, passage.end + beside)
    least = 1 / picture.params.frame_rate
    axes.set(xlim=(0, max(picture.answer.seconds, least)), ylim=(low, max(high, low + least)))
    _label_times(axes.xaxis)
    _label_times(axes.yaxis)
    axes.set(title=title, xlabel="time in the query", ylabel="time in the piece")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=3)
    return None


def _draw_scores(axes: Any, matches: Sequence[Match]) -> None:
    title = "best matches"
    if not matches:
        return _say(axes, title, "none")
    columns = {
        "confidence": [match.confidence for match in matches],
        "votes": [match.votes for match in matches],
        "notes explained": [max(match.explained or 0.0, 0.0) for match in matches],
    }
    if all(match.explained is None for match in matches):
        del columns["notes explained"]
    rows, height = np.arange(len(matches)), BARS / len(columns)
    for number, (name, values) in enumerate(columns.items()):
        middle = rows + 1 - BARS + (number + 0.5) * height
        axes.barh(middle, values, 0.9 * height, label=name, color=COLOURS[number])
    for row, match in enumerate(matches):
        axes.text(0.005, row + 0.96 - BARS, _shortened(label(match.piece)))
    axes.set(xlim=(0, 1), ylim=(len(matches) + 0.1, 0), yticks=[], title=title)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=3)
    return None


def _shortened(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"...{name[3 - LONGEST_NAME :]}"


def _say(axes: Any, title: str, text: str) -> None:
    axes.set_axis_off()
    axes.set_title(title)
    axes.text(0.5, 0.5, text, ha="center", transform=axes.transAxes)


def _label_times(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter

    axis.set_major_formatter(FuncFormatter(lambda seconds, _: clock(seconds).removesuffix(".0")))
