"""Medleys: long recordings made of pieces with applause between them, and lists of what they hold.

Conventions: audio is mono float32 at full scale 1 and `SAMPLE_RATE`; times in seconds from the
start of the medley. Every draw is seeded, so that a folder and a seed give the same medley again:
``python -m mmid.evaluation.medley FOLDER OUT.flac --pieces 12 --minutes 60 --seed 0``. The list
lies beside the medley, named after it with the suffix .csv.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from io import StringIO
from pathlib import Path

import numpy as np

from mmid.errors import MmidError, label
from mmid.music.audio import read_audio, sound_seconds
from mmid.music.audio_writer import truncated, write_audio
from mmid.music.formats import AUDIO_SUFFIXES
from mmid.music.pairs import PAIRS_NAME, read_pairs_list
from mmid.system.files import read_regular, written_whole
from mmid.system.outputs import check_file

BETWEEN = "|"
"""What stands between several scores in the list."""

SAMPLE_RATE = 44_100
"""Of the medley, Hz."""

PEAK = 0.7
"""Of every piece, full scale being 1."""

FADE_SECONDS = 0.02
"""How long a cut piece takes to come and to go."""

APPLAUSE_SECONDS = (6.0, 14.0)
"""Shortest and longest applause."""

HUSH_SECONDS = (0.5, 2.0)
"""Shortest and longest silence before applause and after it."""

UNEVEN = (0.7, 1.3)
"""Shortest and longest share of a piece, against the mean of those that are cut."""

CLAPS_A_SECOND = 150.0
"""Of all hands together, when the applause is loudest."""

SWELL_SECONDS, EBB_SECONDS = 1.0, 4.0
"""How long applause takes to set in and to die down."""

HANDS = 16
"""Pairs of hands that sound different."""

CLAP_HZ = (600.0, 3_000.0)
"""Lowest and highest resonance of a pair of hands."""

CLAP_SECONDS = 0.006
"""In which a clap falls to a third."""

APPLAUSE_LEVEL = 0.06
"""Root mean square of applause."""


@dataclass(frozen=True)
class Span:
    """What a medley holds from when to when.

    Parameters
    ----------
    start, end : float
        In the medley.
    id : str
        Of the recording.
    midi : tuple of str
        Paths of the scores that are right; none where none is known.
    """

    start: float
    end: float
    id: str
    midi: tuple[str, ...]


@dataclass(frozen=True)
class Recorded:
    """A recording to take a stretch of.

    Parameters
    ----------
    id, midi
        As of `Span`.
    audio : Path
    seconds : float
        Its length.
    """

    id: str
    midi: tuple[str, ...]
    audio: Path
    seconds: float


def make_medley(
    folder: Path, target: Path, pieces: int = 12, minutes: float = 60.0, seed: int = 0
) -> list[Span]:
    """Join stretches of recordings, with applause between them, and list them.

    Recordings that are too short are taken whole; where all are, the medley is shorter.

    Parameters
    ----------
    folder : Path
        With a ``pairs.csv`` (id, audio, midi), or of recordings. Of rows with the same ``piece``,
        an optional column, the first is played and the scores of all are right.
    target : Path
        The .flac file to write; the list goes beside it.
    pieces : int
        How many to play.
    minutes : float
        Length of the whole.
    seed : int
        Of all that is drawn.

    Returns
    -------
    list of Span
        What it holds, in order.

    Raises
    ------
    MmidError
        If there are too few recordings, one cannot be read, or the medley has no place.
    """
    check_file(target, (".flac",))
    rng = np.random.default_rng(seed)
    gaps = [applause(rng) for _ in range(pieces - 1)]
    music = 60 * minutes - sum(map(len, gaps)) / SAMPLE_RATE
    chosen = _choose(_recordings(folder), pieces, music, rng)
    lengths = _share_out([one.seconds for one in chosen], music, rng)
    spans: list[Span] = []
    with written_whole(target) as part:
        sound = map(truncated, _played(chosen, lengths, gaps, rng, spans))
        write_audio(part, sound, SAMPLE_RATE, "flac")
    write_spans(spans, target.with_suffix(".csv"))
    return spans


def _recordings(folder: Path) -> list[Recorded]:
    """Return the recordings of a folder, each piece once."""
    if not (folder / PAIRS_NAME).is_file():
        paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES)
        return [Recorded(path.stem, (), path, sound_seconds(path)) for path in paths]
    pieces: dict[str, list[dict[str, str]]] = {}
    for row in read_pairs_list(folder):
        pieces.setdefault(row.get("piece") or row["id"], []).append(row)
    recorded = []
    for rows in pieces.values():
        scores, audio = tuple(str(folder / row["midi"]) for row in rows), folder / rows[0]["audio"]
        recorded.append(Recorded(rows[0]["id"], scores, audio, sound_seconds(audio)))
    return recorded


def _choose(
    found: Sequence[Recorded], pieces: int, seconds: float, rng: np.random.Generator
) -> list[Recorded]:
    """Draw recordings, and others for the shortest until they last long enough together."""
    if not 1 <= pieces <= len(found):
        raise MmidError(f"{pieces} pieces wanted, and {len(found)} there: give fewer")
    drawn = [found[place] for place in rng.permutation(len(found))]
    chosen = drawn[:pieces]
    for other in drawn[pieces:]:
        shortest = min(range(pieces), key=lambda place: chosen[place].seconds)
        if sum(one.seconds for one in chosen) >= seconds:
            break
        if other.seconds > chosen[shortest].seconds:
            chosen[shortest] = other
    return chosen


def _share_out(whole: Sequence[float], seconds: float, rng: np.random.Generator) -> list[float]:
    """Share a time among pieces, unevenly; what the short ones leave goes to the others."""
    wishes, lengths = rng.uniform(*UNEVEN, len(whole)), np.zeros(len(whole))
    open_ = np.ones(len(whole), bool)
    while open_.any():
        lengths[open_] = (seconds - lengths[~open_].sum()) * wishes[open_] / wishes[open_].sum()
        short = open_ & (lengths > whole)
        if not short.any():
            break
        lengths[short], open_[short] = np.asarray(whole)[short], False
    return lengths.tolist()


def _played(
    chosen: Sequence[Recorded],
    lengths: Sequence[float],
    gaps: Sequence[np.ndarray],
    rng: np.random.Generator,
    spans: list[Span],
) -> Iterator[np.ndarray]:
    """Yield the medley's sound, and note what it holds."""
    done = 0
    for place, (one, seconds) in enumerate(zip(chosen, lengths, strict=True)):
        sound = _stretch(one, seconds, rng)
        end = done + len(sound)
        spans.append(Span(done / SAMPLE_RATE, end / SAMPLE_RATE, one.id, one.midi))
        yield sound
        done = end
        if place < len(gaps):
            yield gaps[place]
            done += len(gaps[place])


def _stretch(one: Recorded, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Read a recording, or cut a stretch out of it, at one loudness."""
    start = rng.uniform(0, max(one.seconds - seconds, 0))
    if seconds >= one.seconds:
        sound = read_audio(one.audio, SAMPLE_RATE)
    else:
        sound = read_audio(one.audio, SAMPLE_RATE, start, seconds)
        fade = np.linspace(0, 1, int(FADE_SECONDS * SAMPLE_RATE), dtype=np.float32)
        sound[: len(fade)] *= fade[: len(sound)]
        sound[-len(fade) :] *= fade[::-1][-len(sound) :]
    return sound * np.float32(PEAK / max(np.abs(sound).max(), 1e-6))


def applause(rng: np.random.Generator) -> np.ndarray:
    """Draw applause between two silences: many hands, each a band of noise that dies away.

    Returns
    -------
    np.ndarray [samples] float32
    """
    seconds = rng.uniform(*APPLAUSE_SECONDS)
    hands = [_clap(rng) for _ in range(HANDS)]
    times = np.sort(rng.uniform(0, seconds, rng.poisson(CLAPS_A_SECOND * seconds)))
    swell = np.minimum(times / SWELL_SECONDS, (seconds - times) / EBB_SECONDS)
    times = times[rng.random(len(times)) < swell]
    sound = np.zeros(int(seconds * SAMPLE_RATE) + len(hands[0]))
    for first in (times * SAMPLE_RATE).astype(int):
        clap = hands[rng.integers(HANDS)]
        sound[first : first + len(clap)] += rng.uniform(0.3, 1.0) * clap
    sound *= APPLAUSE_LEVEL / np.sqrt(np.mean(sound**2))
    hushes = [np.zeros(int(rng.uniform(*HUSH_SECONDS) * SAMPLE_RATE)) for _ in range(2)]
    return np.concatenate([hushes[0], sound, hushes[1]]).astype(np.float32)


def _clap(rng: np.random.Generator) -> np.ndarray:
    """Draw the sound of one pair of hands: noise around a resonance, dying away."""
    time = np.arange(int(10 * CLAP_SECONDS * SAMPLE_RATE)) / SAMPLE_RATE
    decay = np.exp(-time / CLAP_SECONDS)
    centre = np.exp(rng.uniform(*np.log(CLAP_HZ)))
    tone = np.cos(2 * np.pi * centre * time + rng.uniform(0, 2 * np.pi))
    clap: np.ndarray = decay * (tone + 0.5 * rng.standard_normal(len(time)))
    return clap


def write_spans(spans: Sequence[Span], path: Path) -> None:
    """Write what a medley holds as CSV."""
    with written_whole(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Span)])
        writer.writeheader()
        for span in spans:
            times = {"start": f"{span.start:.3f}", "end": f"{span.end:.3f}"}
            writer.writerow({**asdict(span), **times, "midi": BETWEEN.join(span.midi)})


def read_spans(path: Path) -> list[Span]:
    """Read what `write_spans` wrote.

    Raises
    ------
    MmidError
        If it cannot be read.
    """
    try:
        spans = [
            Span(
                float(row["start"]),
                float(row["end"]),
                row["id"],
                tuple(filter(None, row["midi"].split(BETWEEN))),
            )
            for row in csv.DictReader(StringIO(read_regular(path).decode(), newline=""))
        ]
    except (OSError, KeyError, AttributeError, TypeError, ValueError, csv.Error) as error:
        raise MmidError(
            f"{label(path)}: no list with the columns start, end, id and midi ({error})"
        ) from error
    if not spans:
        raise MmidError(f"{label(path)}: lists nothing")
    return spans


def main(arguments: Sequence[str] | None = None) -> int:
    """Make a medley and print what it holds."""
    parser = argparse.ArgumentParser("python -m mmid.evaluation.medley", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("target", type=Path, metavar="OUT.flac")
    parser.add_argument("--pieces", type=int, default=12)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    try:
        spans = make_medley(**vars(parser.parse_args(arguments)))
    except MmidError as error:
        print(f"mmid: {error}", file=sys.stderr)
        return 1
    for span in spans:
        print(f"{span.start:8.1f} {span.end:8.1f}  {label(span.id)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
