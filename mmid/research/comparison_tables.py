"""Tables of differences on the same pieces: degraded against clean sound, mmid against baselines.

Conventions: as of `mmid.research.clip_tables`. Differences are paired, in points of percent; their
intervals are 95 %, by bootstrap over pieces.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import mean

from mmid.evaluation.intervals import mean_interval
from mmid.evaluation.scores import length_name
from mmid.research.clip_tables import KINDS, Results, Row, own_rows
from mmid.research.markdown import markdown, percent, whole_percents

SOUNDS = {
    "noise-10": "noise, 10 dB below the music",
    "noise-0": "noise as loud as the music",
    "room": "a reverberant room",
    "phone": "the band of a telephone",
    "mp3": "mp3 of 64 kbit/s",
    "flat": "a tape that runs a quarter tone flat",
    "sharp": "a tape that runs a quarter tone sharp",
    "half": "half the tempo",
    "slower": "0.8 times the tempo",
    "faster": "1.25 times the tempo",
    "double": "twice the tempo",
    "down": "two semitones down",
    "up": "two semitones up",
    "introduction": "30 s, the first 10 s other music",
    "skip": "30 s, 10 s in the middle skipped",
    "repeat": "30 s, the first 10 s played twice",
}
"""Rows of B6 in their order."""

COMPARED = {"b3": "rendered pianists (B3)", "b4": "piano, solo violin (B4)", "b8": "other (B8)"}
"""What mmid and the baselines are compared on, by how the names of the results begin."""


def _ahead(difference: float, interval: tuple[float, float]) -> str:
    return f"{100 * difference:+.1f} ({whole_percents(interval, '+')})"


def sounds_table(results: Results) -> str:
    """Return B6: a row a way in which the sound is degraded or played, against B3 as it is."""
    clean = {row["seconds"]: row for row in own_rows(results["b3"])}
    rows = [_sound("as it is", clean[10.0]), *_degraded(results, clean)]
    if len(rows) == 1:
        raise KeyError("b6")
    head = ["sound", "clips", "top-1", "against clean sound, points", "found right", "found wrong"]
    return markdown(head, rows)


def _degraded(results: Results, clean: Mapping[float, Row]) -> Iterator[list[str]]:
    for how, name in SOUNDS.items():
        for row in own_rows(results.get(f"b6-{how}", ())):
            yield _sound(name, row, _ahead(*_difference(row, clean[row["seconds"]])))


def _sound(name: str, row: Row, against: str = "") -> list[str]:
    verdicts = row["verdicts"]
    found = (percent(verdicts[f"found_{how}"]) for how in ("right", "wrong"))
    return [name, str(row["clips"]), percent(row["top1"]), against, *found]


def _difference(row: Row, other: Row) -> tuple[float, tuple[float, float]]:
    """Return by how much top-1 is higher than another row's on the same pieces."""
    ours, theirs = _by_piece(row), _by_piece(other)
    both = [piece for piece in ours if piece in theirs]
    leads = [ours[piece] - theirs[piece] for piece in both]
    interval = mean_interval(leads, both)
    if interval is None:
        raise KeyError("no clips of the same pieces")
    return mean(leads), interval


def _by_piece(row: Row) -> dict[str, float]:
    """Return the share of right answers of each piece."""
    right: dict[str, list[bool]] = {}
    for clip in row["results"]:
        right.setdefault(clip["piece"], []).append(clip["rank"] == 1)
    return {piece: mean(clips) for piece, clips in right.items()}


def baselines_table(results: Results) -> str:
    """Return mmid beside the baselines on the same clips, a row a length and kind of music."""
    compared = list(_compared(results))
    systems = list(dict.fromkeys(name for _, _, others in compared for name in others))
    if not systems:
        raise KeyError("baselines")
    head = ["music", "clip", "clips", "mmid"]
    head += [cell for name in systems for cell in (name, "mmid ahead, points")]
    rows = []
    for music, own, others in compared:
        cells = [music, length_name(own["seconds"]), str(own["clips"]), percent(own["top1"])]
        for name in systems:
            cells += _beside(others[name]) if name in others else ["", ""]
        rows.append(cells)
    return markdown(head, rows)


def _beside(row: Row) -> list[str]:
    return [percent(row["top1"]), _ahead(row["lead"], row["lead_interval"])]


def _compared(results: Results) -> Iterator[tuple[str, Row, dict[str, Row]]]:
    """Yield what baselines were compared on: music, mmid's row, and theirs by name."""
    for begin, music in COMPARED.items():
        for name in (name for name in results if name.startswith(begin)):
            for own in own_rows(results[name]):
                others = {
                    row["system"]: row
                    for row in results[name]
                    if row["lead"] is not None and row["seconds"] == own["seconds"]
                }
                if others:
                    yield from _by_kind(own, others) if begin == "b8" else ()
                    yield "all of these kinds" if begin == "b8" else music, own, others


def _by_kind(own: Row, others: dict[str, Row]) -> Iterator[tuple[str, Row, dict[str, Row]]]:
    for number, row in enumerate(own["kinds"]):
        theirs = {name: other["kinds"][number] for name, other in others.items()}
        yield KINDS.get(row["kind"], row["kind"]), row, theirs
