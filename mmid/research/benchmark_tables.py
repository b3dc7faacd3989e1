"""The tables of the documents in Markdown, made of results, and put where the documents mark them.

Conventions: results are those that ``--out`` writes, by the names of their benchmarks; a table
whose results are not all there raises KeyError.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from mmid.errors import MmidError
from mmid.evaluation.scores import length_name
from mmid.research.clip_tables import (
    Results,
    Row,
    by_kind,
    by_length,
    confidence_table,
    kind_lengths_table,
    music_table,
    readme_table,
    starts_table,
)
from mmid.research.comparison_tables import baselines_table, sounds_table
from mmid.research.markdown import markdown, percent

GROWTH = {
    "hours": ("hours of music", "{:,.0f}"),
    "snippets": ("snippets", "{:,.0f}"),
    "build_seconds": ("build", "{:.0f} s"),
    "music_per_second": ("seconds of music a second", "{:,.0f}"),
    "build_megabytes": ("peak memory of the build", "{:,.0f} MB"),
    "megabytes_per_hour": ("size, an hour of music", "{:.2f} MB"),
    "again_seconds": ("build again, nothing changed", "{:.1f} s"),
    "adding_seconds": ("add 100 files", "{:.1f} s"),
    "changing_seconds": ("change a file", "{:.1f} s"),
    "removing_seconds": ("remove a piece", "{:.1f} s"),
    "import_seconds": ('`python -c "import torch"`, for comparison', "{:.1f} s"),
    "cold_seconds": ("a query, the whole command", "{:.1f} s"),
    "warm_seconds": ("a query, in the file's key", "{:.2f} s"),
    "keys_seconds": ("a query, in 13 keys", "{:.2f} s"),
    "query_megabytes": ("peak memory of a query", "{:,.0f} MB"),
    "recall": ("recall@10 of the search", "{:.1%}"),
}
"""Rows of B7, and how their numbers are written."""

LONG = ("snippets", "music_per_second", "import_seconds", "query_megabytes")
"""Rows of B7 that its summary leaves out."""

MARKED = re.compile(r"(<!-- table ([\w-]+) -->\n).*?(<!-- end -->)", re.S)

NOT_MEASURED = "Not measured on this version."
"""What stands in place of a table without results."""


def fill(text: str, results: Results) -> tuple[str, list[str]]:
    """Replace the marked tables of a document; also return the names of those with results.

    Raises
    ------
    MmidError
        If a mark names no table, or has no end.
    """
    written: list[str] = []

    def table(found: re.Match[str]) -> str:
        begin, name, end = found.groups()
        if name not in TABLES or "<!-- table" in found[0][len(begin) :]:
            raise MmidError(f"no table {name!r}, or no <!-- end --> behind it")
        try:
            made = TABLES[name](results)
        except KeyError:
            return f"{begin}\n{NOT_MEASURED}\n\n{end}"
        written.append(name)
        return f"{begin}\n{made}\n\n{end}"

    new = MARKED.sub(table, text)
    if text.count("<!-- table ") != text.count("<!-- end -->"):
        raise MmidError("a <!-- table … --> has no <!-- end -->")
    return new, written


def snippets_table(results: Results) -> str:
    """Return B1."""
    rows = results["b1"]["scores"]
    ranks = [f"R@{rank}" for rank in next(iter(rows.values()))["recall"]]
    cells = (_snippets(name, scores) for name, scores in rows.items())
    return markdown(["direction", *ranks, "MRR", "median rank"], cells)


def _snippets(name: str, scores: Row) -> list[str]:
    shares = [*scores["recall"].values(), scores["mrr"]]
    return [name, *map(percent, shares), f"{scores['median_rank']:g}"]


def growth_table(results: Results) -> str:
    """Return B7, a column a size of the library."""
    return _growth(results["b7"], GROWTH)


def speed_table(results: Results) -> str:
    """Return the summary's part of it."""
    return _growth(results["b7"], [key for key in GROWTH if key not in LONG])


def _growth(sizes: Sequence[Row], keys: Iterable[str]) -> str:
    """Return the rows that all sizes have."""
    head = ["", *(f"{size['pieces']:,} pieces" for size in sizes)]
    rows = []
    for key in keys:
        name, form = GROWTH[key]
        if all(size.get(key) is not None for size in sizes):
            rows.append([name, *(form.format(size[key]).replace("%", " %") for size in sizes)])
    return markdown(head, rows)


def queries_table(results: Results) -> str:
    """Return how long queries take, with their piece in the library and without it."""
    rows = (
        [
            length_name(row["seconds"]),
            "in the library" if row["present"] else "taken out",
            *(f"{row[key]:.2f} s" for key in ("median", "slow", "processor")),
        ]
        for row in results["queries"]
    )
    head = ["clip", "its piece", "half of the queries", "nine in ten", "processor time, median"]
    return markdown(head, rows)


FITTED = {
    "top1": "top-1",
    "auroc": "AUROC",
    "brier": "Brier",
    "found_right": "found right",
    "found_wrong": "found wrong",
    "absent_found": "found, absent",
}
"""What `mmid.research.calibrate` reports, as the tables have it."""


def _fitted(first: str, rows: Iterable[tuple[str, Row]]) -> str:
    def cells(row: Row) -> Iterator[str]:
        for key in FITTED:
            yield f"{row[key]:.3f}" if key in ("auroc", "brier") else percent(row[key])

    named = ([name, f"{row['queries']:.0f}", *cells(row)] for name, row in rows)
    return markdown([first, "queries", *FITTED.values()], named)


def rankings_table(results: Results) -> str:
    """Return how the learned ranking compares with the one by hand, of pieces not fitted to."""
    return _fitted("ranking", results["calibration"]["rankings"].items())


def fitted_kinds_table(results: Results) -> str:
    """Return the same of each length and each kind of music, by the ranking that was chosen."""
    found = results["calibration"]
    lengths = ((f"of {name} s", row) for name, row in found["lengths"].items())
    return _fitted("clips", [*lengths, *found["kinds"].items()])


def reliability_table(results: Results) -> str:
    """Return of answers of about the same confidence how many are right."""
    rows = (
        [
            f"{100 * one['low']:.0f} to {100 * one['high']:.0f} %",
            str(one["answers"]),
            percent(one["confidence"]),
            percent(one["right"]),
        ]
        for one in results["calibration"]["reliability"]
    )
    return markdown(["confidence", "answers", "mean confidence", "right"], rows)


TABLES: Mapping[str, Callable[[Results], str]] = {
    **{name: by_length(name) for name in ("b2", "b3", "b4")},
    "b1": snippets_table,
    "b6": sounds_table,
    "b7": growth_table,
    "speed": speed_table,
    "queries": queries_table,
    "b8": by_kind("b8-30"),
    "b8-own": by_kind("b8-own"),
    "b8-lengths": kind_lengths_table,
    "baselines": baselines_table,
    "music": music_table,
    "confidence": confidence_table,
    "readme": readme_table,
    "starts": starts_table,
    "rankings": rankings_table,
    "fitted-kinds": fitted_kinds_table,
    "reliability": reliability_table,
}
"""What makes each table, by its name in the documents."""
