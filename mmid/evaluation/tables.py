"""Scores as tables: clips, recordings, snippets, timelines and growth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from mmid.errors import label
from mmid.system.tables import FittingTable, clock

if TYPE_CHECKING:
    from mmid.evaluation.growth import Growth
    from mmid.evaluation.scores import ClipScores
    from mmid.evaluation.snippets import SnippetScores
    from mmid.evaluation.timelines import TimelineScores

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


def length_name(seconds: float | None) -> str:
    """Return a clip length as mmid shows it.

    Examples
    --------
    >>> length_name(10.0), length_name(None)
    ('10 s', 'whole')
    """
    return "whole" if seconds is None else f"{seconds:g} s"


def told_table(scores: TimelineScores) -> Table:
    """Return how well each piece of a recording's timeline was found."""
    from mmid.evaluation.timelines import NEAR_SECONDS

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


def growth_table(rows: Sequence[Growth]) -> Table:
    """Return what libraries of several sizes cost, a size a column."""
    table = FittingTable("", *(f"{row.pieces} pieces" for row in rows))
    for name, unit in GROWTH_UNITS.items():
        values = [getattr(row, name) for row in rows]
        table.add_row(name.replace("_", " "), *(f"{value:,.4g} {unit}" for value in values))
    return table


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
    return _clip_table(results, "")


def kind_table(results: list[ClipScores]) -> Table:
    """Return the same of each kind of music: one row a kind, system and clip length."""
    by_kind = zip(*(row.kinds for row in results), strict=True)
    return _clip_table([row for rows in by_kind for row in rows], "kind")


def _clip_table(results: list[ClipScores], first: str) -> Table:
    compared = any(row.lead is not None for row in results)
    asked_absent = any(row.auroc is not None for row in results)
    title = "within: 95 % bootstrap interval over pieces, in percent"
    table = FittingTable(title=title)
    columns = [first] * bool(first) + ["system"] * compared
    columns += ["clip", "clips", "top-1", "within", "top-5", "MRR", "matched", "start error"]
    columns += ["AUROC, absent", "matched, absent", "accepted at 95 %"] * asked_absent
    columns += ["mmid ahead", "within"] * compared
    for name in columns:
        table.add_column(name, no_wrap=" " not in name)
    for row in results:
        error, false = row.median_position_error, row.falsely_matched
        cells = (
            [escape(label(row.kind or "-"))] * bool(first)
            + [row.system] * compared
            + [
                length_name(row.seconds),
                str(row.clips),
                f"{row.top1:.1%}",
                _interval(row.top1_interval),
                f"{row.top5:.1%}",
                f"{row.mrr:.1%}",
                f"{row.matched:.1%}" if row.lead is None else "",
                "" if error is None else f"{error:.2f} / {row.position_error_95:.2f} s",
            ]
        )
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
