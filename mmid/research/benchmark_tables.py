"""The tables of the documents in Markdown, made of results of ``mmid eval``.

Conventions: results are those that ``--out`` writes, by the names of their benchmarks; a table
whose results are not all there raises KeyError.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from mmid.errors import MmidError
from mmid.evaluation.scores import MMID, length_name

Row: TypeAlias = Mapping[str, Any]
Results: TypeAlias = Mapping[str, Any]

KINDS = {
    "game": "game music",
    "band or orchestra": "bands, orchestras, choirs",
    "Irish": "Irish tunes",
    "songs": "songs with voice and drums, indexed by melody alone",
}
"""Kinds of music of B8 in their order, and what the summary calls them."""

SOLO = "piano, solo violin"
"""What B4 holds."""

GROWTH = {
    "hours": ("hours of music", "{:,.0f}"),
    "snippets": ("snippets", "{:,.0f}"),
    "build_seconds": ("build", "{:.0f} s"),
    "music_per_second": ("seconds of music a second", "{:,.0f}"),
    "build_megabytes": ("peak memory of the build", "{:,.0f} MB"),
    "megabytes_per_hour": ("size, an hour of music", "{:.2f} MB"),
    "again_seconds": ("build again, nothing changed", "{:.1f} s"),
    "adding_seconds": ("add 100 files", "{:.1f} s"),
    "cold_seconds": ("a query, the whole command", "{:.1f} s"),
    "warm_seconds": ("a query, in the file's key", "{:.2f} s"),
    "keys_seconds": ("a query, in 13 keys", "{:.2f} s"),
    "query_megabytes": ("peak memory of a query", "{:,.0f} MB"),
    "recall": ("recall@10 of the search", "{:.1%}"),
}
"""Rows of B7, and how their numbers are written."""

MARKED = re.compile(r"(<!-- table ([\w-]+) -->\n).*?(<!-- end -->)", re.S)


def fill(text: str, results: Results) -> tuple[str, list[str]]:
    """Replace the marked tables of a document, as far as results suffice; also return their names.

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
            return found[0]
        written.append(name)
        return f"{begin}\n{made}\n\n{end}"

    new = MARKED.sub(table, text)
    if text.count("<!-- table ") != text.count("<!-- end -->"):
        raise MmidError("a <!-- table … --> has no <!-- end -->")
    return new, written


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table.

    Examples
    --------
    >>> print(markdown(["clip", "right"], [["3 s", "90.0 %"]]))
    | clip | right |
    | --- | --- |
    | 3 s | 90.0 % |
    """
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f} %"


def _interval(row: Row) -> str:
    low, high = row["top1_interval"]
    return f"{100 * low:.0f} to {100 * high:.0f}"


def _own(rows: Sequence[Row]) -> list[Row]:
    """Return mmid's rows, without those of baselines."""
    return [row for row in rows if row["system"] == MMID]


HEAD = ["clips", "top-1", "95 % interval", "top-5", "found right", "found wrong"]
ABSENT = ["AUROC", "found, absent"]
SHORT = (1, 2, 4, 5)
"""Columns of `HEAD` where two lengths share a row."""


def _cells(row: Row, absent: bool) -> list[str]:
    verdicts = row["verdicts"]
    cells = [str(row["clips"]), _percent(row["top1"]), _interval(row), _percent(row["top5"])]
    cells += [_percent(verdicts["found_right"]), _percent(verdicts["found_wrong"])]
    if absent:
        cells += [f"{row['auroc']:.3f}", _percent(row["falsely_matched"])]
    return cells


def _named(first: str, rows: Sequence[tuple[str, Row]]) -> str:
    """Return a table of clips, a named row each."""
    absent = all(row["auroc"] is not None for _, row in rows)
    head = [first, *HEAD, *(ABSENT if absent else [])]
    return markdown(head, ([name, *_cells(row, absent)] for name, row in rows))


def by_length(name: str) -> Callable[[Results], str]:
    """Return what makes the table of a benchmark, a row a clip length."""
    return lambda results: _named(
        "clip", [(length_name(row["seconds"]), row) for row in _own(results[name])]
    )


def _of_kinds(results: Results, name: str) -> dict[str, Row]:
    """Return the rows of each kind of music in their order; the last is of all."""
    [whole] = _own(results[name])
    kinds = {row["kind"]: row for row in whole["kinds"]}
    order = [*(kind for kind in KINDS if kind in kinds), *kinds]
    return {**{kind: kinds[kind] for kind in order}, "all": whole}


def kinds_table(results: Results) -> str:
    """Return B8 at 30 s, a row a kind of music."""
    return _named("kind", list(_of_kinds(results, "b8-30").items()))


def kind_lengths_table(results: Results) -> str:
    """Return B8's clips of 10 s and whole recordings side by side."""
    sides = [_of_kinds(results, "b8-10"), _of_kinds(results, "b8-whole")]
    head = [f"{length}, {HEAD[n]}" for length in ("10 s", "whole") for n in SHORT]
    cells = {
        kind: [_cells(side[kind], False)[n] for side in sides for n in SHORT] for kind in sides[0]
    }
    return markdown(["kind", *head], ([kind, *own] for kind, own in cells.items()))


def sounds_table(results: Results) -> str:
    """Return B6, a row a way in which the sound is harmed or played."""
    plain = [("as it is", row) for row in _own(results["b3"]) if row["seconds"] == 10]
    ways = [name for name in results if name.startswith("b6-")]
    harmed = [(name[3:], row) for name in ways for row in _own(results[name])]
    if not harmed:
        raise KeyError("b6")
    return _named("sound", [*plain, *harmed])


def snippets_table(results: Results) -> str:
    """Return B1."""
    rows = results["b1"]["scores"].items()
    ranks = [f"R@{rank}" for rank in next(iter(dict(rows).values()))["recall"]]
    cells = ([name, *map(_percent, s["recall"].values()), _percent(s["mrr"])] for name, s in rows)
    return markdown(["direction", *ranks, "MRR"], cells)


def growth_table(results: Results) -> str:
    """Return B7, a column a size of the library."""
    return _growth(results["b7"], GROWTH)


def speed_table(results: Results) -> str:
    """Return the summary's part of it."""
    left_out = ("snippets", "music_per_second", "query_megabytes")
    return _growth(results["b7"], [key for key in GROWTH if key not in left_out])


def _growth(sizes: Sequence[Row], keys: Iterable[str]) -> str:
    head = ["", *(f"{size['pieces']:,} pieces" for size in sizes)]
    rows = []
    for key in keys:
        name, form = GROWTH[key]
        rows.append([name, *(form.format(size[key]).replace("%", " %") for size in sizes)])
    return markdown(head, rows)


def _music(results: Results) -> Iterator[tuple[str, str, Row]]:
    """Yield what each row of the summary is of: music, how many recordings, and its figures."""
    for number, row in enumerate(_own(results["b4"])):
        recordings = len({clip["source"] for clip in row["results"]})
        yield SOLO if not number else "", str(recordings) if not number else "", row
    for kind, row in _of_kinds(results, "b8-30").items():
        if kind != "all":
            yield KINDS.get(kind, kind), str(row["clips"]), row


def music_table(results: Results) -> str:
    """Return the summary's table of kinds of music."""
    rows = _music(results)
    named = ([n, c, length_name(r["seconds"]), *_cells(r, False)[1:-1]] for n, c, r in rows)
    return markdown(["music", "recordings", "length", *HEAD[1:-1]], named)


def readme_table(results: Results) -> str:
    """Return the same in short, in whole percent."""

    def cells(row: Row) -> list[str]:
        shares = row["top1"], row["verdicts"]["found_right"]
        return [length_name(row["seconds"]), *(_percent(share, 0) for share in shares)]

    head = ["music", "recordings", "length of a clip", "named right", "and reported as found"]
    return markdown(head, ([n, c, *cells(row)] for n, c, row in _music(results)))


def confidence_table(results: Results) -> str:
    """Return the summary's table of clips whose piece was taken out."""
    rows = ([n, length_name(r["seconds"]), *_cells(r, True)[:-3:-1]] for n, _, r in _music(results))
    return markdown(["music", "length", "still found", "AUROC"], rows)


TABLES: dict[str, Callable[[Results], str]] = {
    **{name: by_length(name) for name in ("b2", "b3", "b4")},
    "b1": snippets_table,
    "b6": sounds_table,
    "b7": growth_table,
    "speed": speed_table,
    "b8": kinds_table,
    "b8-lengths": kind_lengths_table,
    "music": music_table,
    "confidence": confidence_table,
    "readme": readme_table,
}
"""What makes each table, by its name in the documents."""
