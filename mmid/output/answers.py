"""Answers as text: lines and tables for people, flat values for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.markup import escape
from rich.table import Table

from mmid.errors import label
from mmid.identify.answer import Identification
from mmid.system.tables import FittingTable, clock

if TYPE_CHECKING:
    from mmid.identify.answer import Match
    from mmid.identify.timeline import Timeline
    from mmid.index.items import LeftOut


def likely(match: Match) -> bool:
    """Say whether the confidence of a match is shown as more than 0 %."""
    return f"{match.confidence:.0%}" != "0%"


def own_title(match: Match) -> str | None:
    """Return the title of a match, fit to be shown, unless its file's name says as much."""
    if match.title is None or match.title.casefold() == Path(match.piece).stem.casefold():
        return None
    return label(match.title)


FIRST_STYLES = {"found": "bold green", "perhaps": "cyan", "absent": ""}
"""Of the first match in a table, by what the answer comes to."""


def answer_table(answer: Identification, *, all_rows: bool = True) -> Table:
    """Return the matches of a recording or a MIDI file, best first; or those that are likely."""
    matches = [match for match in answer.matches if all_rows or likely(match)]
    table = FittingTable("")
    table.add_name_column("piece")
    keys = _keys(matches)
    for name in ("confidence", "votes", "notes", "position", "tempo", *keys):
        table.add_column(name, justify="right")
    for rank, match in enumerate(matches, 1):
        style = FIRST_STYLES[answer.verdict] if rank == 1 else ""
        table.add_row(str(rank), *_cells(match)[: 6 + len(keys)], style=style)
    return table


def _keys(matches: Sequence[Match]) -> tuple[str, ...]:
    """Return the heading of the column of keys, where any is not the piece's own."""
    return ("key",) if any(match.transpose for match in matches) else ()


def _cells(match: Match) -> tuple[str, ...]:
    place = f"{clock(match.start)}-{clock(match.end)}" if match.start is not None else "?"
    place = "\n".join([place, *[str(match.first_beat)] * bool(match.first_beat)])
    title = own_title(match)
    names = (match.piece, *[f'"{title}"'] * bool(title), *(f"= {n}" for n in match.also))
    return (
        "\n".join(escape(label(name)) for name in names),
        f"{match.confidence:.0%}",
        f"{match.votes:.1%}",
        "" if match.explained is None else f"{max(match.explained, 0.0):.0%}",
        place,
        f"x{match.tempo_ratio:.2f}",
        f"{match.transpose:+d}" if match.transpose else "",
    )


def timeline_table(timeline: Timeline) -> Table:
    """Return what was played from when to when, and the gaps between."""
    table = FittingTable(title=f"{escape(label(timeline.query))}  ({clock(timeline.seconds)})")
    table.add_column("from", justify="right")
    table.add_column("to", justify="right")
    table.add_name_column("piece")
    keys = _keys([one.match for one in timeline.played])
    for name in ("confidence", "position", "tempo", *keys):
        table.add_column(name, justify="right")
    rows: list[tuple[float, float, tuple[str, ...], str]] = [
        (start, end, ("-",), "dim") for start, end in timeline.gaps
    ]
    for one in timeline.played:
        name, confidence, _, _, *place = _cells(one.match)
        rows.append((one.start, one.end, (name, confidence, *place[: 2 + len(keys)]), ""))
    for start, end, cells, style in sorted(rows):
        table.add_row(clock(start), clock(end), *cells, style=style)
    return table


ANSWER_WIDTHS = {"query": None, "piece": None, "confidence": 10, "position": 17, "tempo": 6}
"""Columns of answers that have a line each, and their letters; names share what is left."""


def _grid(style: str, cells: Sequence[str]) -> Table:
    grid = Table.grid(expand=True, padding=(0, 1))
    for width in ANSWER_WIDTHS.values():
        named = width is None
        justify: Literal["left", "right"] = "left" if named else "right"
        grid.add_column(width=width, ratio=named or None, justify=justify, overflow="fold")
    grid.add_row(*cells, style=style)
    return grid


def answer_heading() -> Table:
    """Return the heading above the lines of many answers."""
    return _grid("bold", tuple(ANSWER_WIDTHS))


LINES = {
    "found": ("", ""),
    "perhaps": ("perhaps: ", "cyan"),
    "absent": ("absent; nearest: ", "yellow"),
}
"""What stands before the first match in its line, and the line's style, by the verdict."""


def answer_line(answer: Identification) -> Table:
    """Return the first match of a recording or a MIDI file as a line, below `answer_heading`."""
    name = escape(label(answer.query))
    if answer.error is not None:
        return _grid("", (name, "[red]failed[/]"))
    if not (answer.matched or any(map(likely, answer.matches[:1]))):
        return _grid("yellow", (name, "absent"))
    first = answer.matches[0]
    confidence, position, tempo = (_cells(first)[column] for column in (1, 4, 5))
    position = position.partition("\n")[0]
    doubt, style = LINES[answer.verdict]
    return _grid(style, (name, doubt + escape(label(first.piece)), confidence, position, tempo))


BAR_COLUMNS = ("start_bar", "start_beat", "end_bar", "end_beat")
ANSWER_COLUMNS = (
    *("query", "seconds", "matched", "piece", "confidence", "votes", "explained", "lead", "above"),
    *("start", "end", "tempo_ratio", "transpose", "also", "tuning", "error", "title", "reason"),
    "verdict",
    *BAR_COLUMNS,
)
"""Names of what an answer with its first match holds, as of `mmid.identify.answer`."""


def flat_answer(answer: Identification) -> dict[str, Any]:
    """Return an answer and its first match as names and values without a list among them.

    Parameters
    ----------
    answer : Identification

    Returns
    -------
    dict
        A value for each of `ANSWER_COLUMNS`; None or nothing for what is not known. Names are on
        one line, and those of ``also`` are set apart by ``; ``. One that a spreadsheet would take
        for a formula begins with ``./``, which is the same file; such a title with ``'``.
    """
    found = vars(answer.matches[0]) if answer.matches else {}
    verdict = None if answer.error is not None else answer.verdict
    values: dict[str, Any] = {**vars(answer), **found, "verdict": verdict}
    for name in ("query", "piece", "error", "title"):
        values[name] = label(values.get(name) or "")
    values["also"] = "; ".join(map(label, values.get("also", ())))
    for name in ("query", "piece", "also", "error"):
        values[name] = _no_formula(values[name])
    values["title"] = _no_formula(values["title"], "'")
    return {name: values.get(name) for name in ANSWER_COLUMNS}


TIMELINE_COLUMNS = (
    *("query", "seconds", "from", "to", "piece", "confidence", "votes", "explained"),
    *("start", "end", "tempo_ratio", "transpose", "also", "title", "error"),
    *BAR_COLUMNS,
)
"""Names of what a piece of a timeline holds: from and to in the recording, start and end in it."""


def flat_timeline(timeline: Timeline) -> Iterator[dict[str, Any]]:
    """Give the pieces of a timeline as `flat_answer` does, by `TIMELINE_COLUMNS`.

    A recording in which nothing was found, or that failed, has one row without a piece.
    """
    query, seconds = timeline.query, timeline.seconds
    for one in timeline.played:
        row = flat_answer(Identification(query, seconds, True, (one.match,)))
        row |= {"from": one.start, "to": one.end}
        yield {name: row[name] for name in TIMELINE_COLUMNS}
    if not timeline.played:
        row = flat_answer(Identification(query, seconds, False, (), error=timeline.error))
        yield {name: row.get(name) for name in TIMELINE_COLUMNS}


def _no_formula(text: str, before: str = "./") -> str:
    return f"{before}{text}" if text.startswith(("=", "+", "-", "@")) else text


def left_out_table(items: Sequence[LeftOut]) -> Table:
    """Return what an index does not hold of its library as a table."""
    table = FittingTable(title=f"{len(items)} left out")
    table.add_name_column("name")
    table.add_column("why", overflow="fold")
    for item in items:
        table.add_row(escape(label(item.name)), escape(label(item.reason)))
    return table
