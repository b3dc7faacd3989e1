"""Results as text: lines and tables for people, JSON for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.markup import escape
from rich.table import Table

from mmid.answer import Identification
from mmid.errors import label
from mmid.tables import FittingTable

if TYPE_CHECKING:
    from mmid.answer import Match
    from mmid.doctor import Finding
    from mmid.evaluate import ClipScores
    from mmid.pieces import Entry
    from mmid.recital import TimelineScores
    from mmid.retrieval import SnippetScores
    from mmid.speed import Growth
    from mmid.timeline import Timeline
    from mmid.train import Epoch
    from mmid.weights import Listed


def describe_epoch(epoch: Epoch) -> str:
    """Return an epoch's figures as one line."""
    forth, back = epoch.valid.audio_to_midi, epoch.valid.midi_to_audio
    found = ""
    if forth and back:
        recall = f"{forth.recall[1]:.1%} / {back.recall[1]:.1%}"
        found = f"  R@1 {recall}  MRR {forth.mrr:.1%} / {back.mrr:.1%}"
    return (
        f"epoch {epoch.epoch:3d}  loss {epoch.loss:.4f}  validation {epoch.valid.loss:.4f}{found}"
        f"  {epoch.pairs_per_second:.0f} pairs/s{'  best' if epoch.best else ''}"
    )


def clock(seconds: float | None) -> str:
    """Return seconds as minutes and seconds.

    Examples
    --------
    >>> clock(75.25), clock(59.97)
    ('1:15.2', '1:00.0')
    """
    if seconds is None:
        return ""
    minutes, tenths = divmod(round(10 * seconds), 600)
    return f"{minutes}:{tenths / 10:04.1f}"


def length_name(seconds: float | None) -> str:
    """Return a clip length as mmid shows it.

    Examples
    --------
    >>> length_name(10.0), length_name(None)
    ('10 s', 'whole')
    """
    return "whole" if seconds is None else f"{seconds:g} s"


def likely(match: Match) -> bool:
    """Tell whether the confidence of a match is shown as more than 0 %."""
    return f"{match.confidence:.0%}" != "0%"


def own_title(match: Match) -> str | None:
    """Return the title of a match, fit to be shown, unless its file's name says as much."""
    if match.title is None or match.title.casefold() == Path(match.piece).stem.casefold():
        return None
    return label(match.title)


def answer_table(answer: Identification, *, all_rows: bool = True) -> Table:
    """Return the matches of a recording or a MIDI file, best first; or those that are likely."""
    matches = [match for match in answer.matches if all_rows or likely(match)]
    table = FittingTable("")
    table.add_name_column("piece")
    keys = _keys(matches)
    for name in ("confidence", "votes", "notes", "position", "tempo", *keys):
        table.add_column(name, justify="right")
    for rank, match in enumerate(matches, 1):
        style = "bold green" if rank == 1 and answer.matched else ""
        table.add_row(str(rank), *_cells(match)[: 6 + len(keys)], style=style)
    return table


def _keys(matches: Sequence[Match]) -> tuple[str, ...]:
    """Return the heading of the column of keys, where any is not the piece's own."""
    return ("key",) if any(match.transpose for match in matches) else ()


def _cells(match: Match) -> tuple[str, ...]:
    place = f"{clock(match.start)}-{clock(match.end)}" if match.start is not None else "?"
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


def told_table(scores: TimelineScores) -> Table:
    """Return how well each piece of a recording was told."""
    from mmid.recital import NEAR_SECONDS

    figures = scores.to_dict()
    errors = [_error(figures[f"median_{side}_error"]) for side in ("start", "end")]
    title = (
        f"{escape(label(scores.query))}: {scores.right} of {len(scores.results)}"
        f" pieces right in order, {scores.told} told\n"
        f"starts within {NEAR_SECONDS:g} s: {figures['starts_near']}, median error {errors[0]}\n"
        f"ends within {NEAR_SECONDS:g} s: {figures['ends_near']}, median error {errors[1]}\n"
        f"took {figures['share_of_real_time']:.1%} of the time it lasts"
    )
    table = FittingTable(title=title)
    for name in ("from", "to"):
        table.add_column(name, justify="right")
    for name in ("played", "told as"):
        table.add_name_column(name)
    for name in ("start", "end"):
        table.add_column(name, justify="right")
    for one in scores.results:
        off = _error(one.start_error, "+"), _error(one.end_error, "+")
        named = escape(label(one.piece or ""))
        table.add_row(clock(one.start), clock(one.end), escape(label(one.id)), named, *off)
    return table


def _error(seconds: float | None, sign: str = "") -> str:
    return "" if seconds is None else f"{seconds:{sign}.1f} s"


ANSWER_WIDTHS = {"asked about": None, "piece": None, "confidence": 10, "position": 17, "tempo": 6}
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


def answer_line(answer: Identification) -> Table:
    """Return the first match of a recording or a MIDI file as a line, below `answer_heading`."""
    name = escape(label(answer.query))
    if answer.error is not None:
        return _grid("", (name, "[red]failed[/]"))
    if not (answer.matched or any(map(likely, answer.matches[:1]))):
        return _grid("yellow", (name, "not found"))
    first = answer.matches[0]
    confidence, place, tempo = (_cells(first)[column] for column in (1, 4, 5))
    doubt = "" if answer.matched else "not found; nearest: "
    style = "" if answer.matched else "yellow"
    return _grid(style, (name, doubt + escape(label(first.piece)), confidence, place, tempo))


ANSWER_COLUMNS = (
    *("query", "seconds", "matched", "piece", "confidence", "votes", "explained", "lead", "above"),
    *("start", "end", "tempo_ratio", "transpose", "also", "tuning", "error", "title", "reason"),
)
"""Names of what an answer with its first match holds, as of `mmid.answer`."""


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
    values: dict[str, Any] = {**vars(answer), **found}
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


def pieces_table(entries: Sequence[Entry]) -> Table:
    """Return the items of an index as a table."""
    table = FittingTable(title=f"{len(entries)} in the index")
    titled = any(entry.title for entry in entries)
    for name in ("name", *["title"] * titled):
        table.add_name_column(name)
    for name in ("length", "snippets"):
        table.add_column(name, justify="right")
    for entry in entries:
        names = (entry.name, *[entry.title or ""] * titled)
        shown = (escape(label(name)) for name in names)
        table.add_row(*shown, clock(entry.seconds), str(entry.count))
    return table


def info_table(facts: dict[str, Any]) -> Table:
    """Return names and values, one a row; names within names are put together."""
    table = Table(show_header=False, box=None)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _flat(facts):
        if name == "bytes":
            name, value = "size", f"{value / 1e6:.1f} MB"
        elif isinstance(value, float):
            value = f"{value:.2f}"
        elif isinstance(value, (tuple, list)):
            apart = "\n" if any(isinstance(part, str) for part in value) else ", "
            value = apart.join(label(str(part)) for part in value)
        else:
            value = label(str(value))
        table.add_row(escape(label(name)), escape(value))
    return table


def _flat(facts: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in facts.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{name} ")
        else:
            yield above + name, value


def models_table(models: Sequence[Listed]) -> Table:
    """Return models, one a row, the default one starred."""
    table = FittingTable("")
    table.add_name_column("model")
    table.add_column("where")
    table.add_column("size", justify="right")
    for model in models:
        size = "" if model.bytes is None else f"{model.bytes / 1e6:.1f} MB"
        table.add_row("*" if model.default else "", escape(label(model.name)), model.where, size)
    return table


STATE_STYLES = {"ok": "green", "absent": "yellow", "broken": "bold red"}


def findings_table(findings: Sequence[Finding]) -> Table:
    """Return what a look at the installation found, with the way out of what is wrong."""
    table = FittingTable("", "")
    table.add_name_column("found")
    for finding in findings:
        state = f"[{STATE_STYLES[finding.state]}]{finding.state}[/]"
        lines = [finding.said, f"-> {finding.mend}"] if finding.mend else [finding.said]
        table.add_row(escape(finding.subject), state, escape("\n".join(lines)))
    return table


def growth_table(rows: Sequence[Growth]) -> Table:
    """Return what libraries of several sizes cost, a size a column."""
    table = FittingTable("", *(f"{row.pieces} pieces" for row in rows))
    for name, unit in GROWTH_UNITS.items():
        values = [getattr(row, name) for row in rows]
        table.add_row(name.replace("_", " "), *(f"{value:,.4g} {unit}" for value in values))
    return table


GROWTH_UNITS = {
    "hours": "h",
    "snippets": "",
    "build_seconds": "s",
    "music_per_second": "s/s",
    "build_megabytes": "MB",
    "megabytes_per_hour": "MB/h",
    "again_seconds": "s",
    "adding_seconds": "s",
    "import_seconds": "s",
    "cold_seconds": "s",
    "query_megabytes": "MB",
    "lookup_seconds": "s",
    "warm_seconds": "s",
    "keys_seconds": "s",
    "recall": "",
}


def snippet_table(result: SnippetScores) -> Table:
    """Return snippet retrieval as a table."""
    title = f"{result.pool} snippets of {result.pieces} pieces"
    table = FittingTable("direction", "R@1", "R@5", "R@25", "MRR", "median rank", title=title)
    for name, scores in result.scores.items():
        recall = [f"{share:.1%}" for share in scores.recall.values()]
        table.add_row(name, *recall, f"{scores.mrr:.1%}", f"{scores.median_rank:g}")
    return table


def clip_table(results: list[ClipScores]) -> Table:
    """Return how clips were identified as a table, one row a system and clip length."""
    compared = any(row.lead is not None for row in results)
    asked_absent = any(row.auroc is not None for row in results)
    title = "within: 95 % bootstrap interval over pieces, in percent"
    table = FittingTable(title=title)
    columns = ["system"] * compared
    columns += ["clip", "clips", "top-1", "within", "top-5", "MRR", "matched", "start error"]
    columns += ["AUROC, absent", "matched, absent", "accepted at 95 %"] * asked_absent
    columns += ["mmid ahead", "within"] * compared
    for name in columns:
        table.add_column(name, no_wrap=" " not in name)
    for row in results:
        error, false = row.median_position_error, row.falsely_matched
        cells = [row.system] * compared + [
            length_name(row.seconds),
            str(row.clips),
            f"{row.top1:.1%}",
            _interval(row.top1_interval),
            f"{row.top5:.1%}",
            f"{row.mrr:.1%}",
            f"{row.matched:.1%}" if row.lead is None else "",
            "" if error is None else f"{error:.2f} / {row.position_error_95:.2f} s",
        ]
        if asked_absent:
            cells += [f"{row.auroc:.3f}", "" if false is None else f"{false:.1%}"]
            cells.append(f"{row.false_accepts:.1%}")
        if row.lead is not None:
            cells += [f"{row.lead:+.1%}", _interval(row.lead_interval, "+")]
        table.add_row(*cells)
    return table


def _interval(interval: tuple[float, float] | None, sign: str = "") -> str:
    return "..".join(f"{100 * end:{sign}.0f}" for end in interval or ())


def recording_table(results: list[ClipScores]) -> Table:
    """Return the right answers of each recording or score, one column a clip length."""
    results = [row for row in results if row.lead is None]
    names = list(dict.fromkeys(clip.source for row in results for clip in row.results))
    lengths = [length_name(row.seconds) for row in results]
    table = FittingTable(title="right first answers")
    table.add_name_column("asked about")
    for length in lengths:
        table.add_column(length, justify="right")
    for name in names:
        cells = []
        for row in results:
            clips = [clip for clip in row.results if clip.source == name]
            cells.append(f"{sum(clip.rank == 1 for clip in clips)}/{len(clips)}")
        table.add_row(escape(label(name)), *cells)
    return table
