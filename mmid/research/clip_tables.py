"""Tables of how clips were named, made of results of ``mmid eval pieces``.

Conventions: results are by the names of their benchmarks; a table whose results are not all there
raises KeyError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from mmid.evaluation.scores import MMID, length_name
from mmid.research.markdown import markdown, percent, whole_percents

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


def own_rows(rows: Sequence[Row]) -> list[Row]:
    """Return mmid's rows, without those of baselines."""
    return [row for row in rows if row["system"] == MMID]


HEAD = ["clips", "top-1", "95 % interval", "top-5", "found right", "found wrong"]
ABSENT = ["AUROC", "found, absent"]
SHORT = (1, 2, 4, 5)
"""Columns of `HEAD` where two lengths share a row."""


def cells_of(row: Row, absent: bool) -> list[str]:
    """Return the cells of `HEAD`, and those of `ABSENT` if they are wanted."""
    verdicts = row["verdicts"]
    cells = [
        str(row["clips"]),
        percent(row["top1"]),
        whole_percents(row["top1_interval"]),
        percent(row["top5"]),
    ]
    cells += [percent(verdicts["found_right"]), percent(verdicts["found_wrong"])]
    if absent:
        cells += [f"{row['auroc']:.3f}", percent(row["falsely_matched"])]
    return cells


def named_rows(first: str, rows: Sequence[tuple[str, Row]]) -> str:
    """Return a table of clips, a named row each."""
    absent = all(row["auroc"] is not None for _, row in rows)
    head = [first, *HEAD, *(ABSENT if absent else [])]
    return markdown(head, ([name, *cells_of(row, absent)] for name, row in rows))


def by_length(name: str) -> Callable[[Results], str]:
    """Return what makes the table of a benchmark, a row a clip length."""
    return lambda results: named_rows(
        "clip", [(length_name(row["seconds"]), row) for row in own_rows(results[name])]
    )


def rows_of_kinds(results: Results, name: str) -> dict[str, Row]:
    """Return the rows of each kind of music in their order; the last is of all."""
    [whole] = own_rows(results[name])
    kinds = {row["kind"]: row for row in whole["kinds"]}
    order = [*(kind for kind in KINDS if kind in kinds), *kinds]
    return {**{kind: kinds[kind] for kind in order}, "all": whole}


def by_kind(name: str) -> Callable[[Results], str]:
    """Return what makes the table of a benchmark with one clip length, a row a kind of music."""
    return lambda results: named_rows("kind", list(rows_of_kinds(results, name).items()))


def kind_lengths_table(results: Results) -> str:
    """Return B8's clips of 10 s and whole recordings side by side."""
    sides = [rows_of_kinds(results, "b8-10"), rows_of_kinds(results, "b8-whole")]
    head = [f"{length}, {HEAD[n]}" for length in ("10 s", "whole") for n in SHORT]
    cells = {
        kind: [cells_of(side[kind], False)[n] for side in sides for n in SHORT] for kind in sides[0]
    }
    return markdown(["kind", *head], ([kind, *own] for kind, own in cells.items()))


def _music(results: Results) -> Iterator[tuple[str, str, Row]]:
    """Yield what each row of the summary is of: music, how many recordings, and its figures."""
    for number, row in enumerate(own_rows(results["b4"])):
        recordings = len({clip["source"] for clip in row["results"]})
        yield SOLO if not number else "", str(recordings) if not number else "", row
    for kind, row in rows_of_kinds(results, "b8-30").items():
        if kind != "all":
            yield KINDS.get(kind, kind), str(row["clips"]), row


def music_table(results: Results) -> str:
    """Return the summary's table of kinds of music."""
    rows = _music(results)
    named = ([n, c, length_name(r["seconds"]), *cells_of(r, False)[1:-1]] for n, c, r in rows)
    return markdown(["music", "recordings", "length", *HEAD[1:-1]], named)


def readme_table(results: Results) -> str:
    """Return the same in short, in whole percent."""

    def cells(row: Row) -> list[str]:
        shares = row["top1"], row["verdicts"]["found_right"]
        return [length_name(row["seconds"]), *(percent(share, 0) for share in shares)]

    head = ["music", "recordings", "length of a clip", "named right", "and reported as found"]
    return markdown(head, ([n, c, *cells(row)] for n, c, row in _music(results)))


def confidence_table(results: Results) -> str:
    """Return the summary's table of clips whose piece was taken out."""
    rows = (
        [n, length_name(r["seconds"]), *cells_of(r, True)[:-3:-1]] for n, _, r in _music(results)
    )
    return markdown(["music", "length", "still found", "AUROC"], rows)


def starts_table(results: Results) -> str:
    """Return by how much the reported start is off, where it is known: B2, rendered, and B3."""
    rows = []
    for name, music in (("b2", "rendered tunes"), ("b3", "rendered pianists")):
        for row in own_rows(results.get(name, ())):
            error, most = row["median_position_error"], row["position_error_95"]
            if error is not None:
                length = length_name(row["seconds"])
                rows.append([music, length, f"{error:.2f} s", f"{most:.2f} s"])
    if not rows:
        raise KeyError("median_position_error")
    return markdown(["music", "clip", "half of the answers", "95 of 100 answers"], rows)
