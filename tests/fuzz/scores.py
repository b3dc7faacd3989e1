"""What is done with mutated scores: each is read as a build reads it, by the programs that do.

Conventions: as of `fuzz.cases`; a refusal is told with its reason. Half of the cases change what
the text means (numbers, lines or tags moved, doubled or left out), half its bytes; of an archive
that is done to what it holds or to the archive. Readers have less time than users give them.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from io import BytesIO
from pathlib import Path
from unittest.mock import patch

import numpy as np
from scores import BOOK, KERN, MEI, MUSESCORE, REPEATED_MUSESCORE, music_xml, note

from fuzz.cases import Case, Corpus, pick
from fuzz.mutators import Rng, mutate_bytes
from mmid.errors import MidiError
from mmid.music.folders import pieces_of
from mmid.music.scores import reading
from mmid.music.scores.bounded import ScoreWorker
from mmid.music.scores.converters import find_verovio

SECONDS, MUSESCORE_SECONDS, MEGABYTES = 2.0, 20.0, 2_048
MOST_TUNES = 3
"""Of a book that are read."""

ODD = [b"0", b"-1", b"99999999999", b"1e308", b"2147483648", b"4294967295", b"", b"nan", b"1/0"]
_NUMBER, _TAG, _LINE = (re.compile(p) for p in (rb"\d+", rb"(?<=>)(?=[^>])", rb"(?<=\n)"))

XML = music_xml(note("C", 2) + note("G", 2), note("D", 4), note("E", 4)).encode()
TEXTS: dict[str, list[bytes]] = {
    ".musicxml": [XML],
    ".mei": [MEI.encode()],
    ".krn": [KERN.encode()],
    ".abc": [BOOK.encode()],
    ".mscx": [MUSESCORE.encode(), REPEATED_MUSESCORE.encode()],
}
ARCHIVES = {".mxl": ".musicxml", ".mscz": ".mscx"}
"""What they hold."""


def mutate_score(text: bytes, rng: Rng) -> bytes:
    """Change what a text means, or its bytes."""
    if rng.random() < 0.4:
        return mutate_bytes(text, rng)
    parts = _TAG if text.lstrip().startswith(b"<") else _LINE
    for _ in range(int(rng.integers(1, 4))):
        numbers = list(_NUMBER.finditer(text))
        if numbers and rng.random() < 0.6:
            found = numbers[rng.integers(len(numbers))]
            text = text[: found.start()] + pick(rng, ODD) + text[found.end() :]
        else:
            text = _rearranged(parts.split(text), rng)
    return text


def _rearranged(parts: list[bytes], rng: Rng) -> bytes:
    one, other = rng.integers(len(parts), size=2)
    kind = rng.integers(3)
    if kind == 0:
        del parts[one]
    elif kind == 1:
        parts[one:one] = [parts[one]] * int(rng.integers(1, 60))
    else:
        parts[one], parts[other] = parts[other], parts[one]
    return b"".join(parts)


def pack(text: bytes, name: str) -> bytes:
    """Return an archive that holds a score."""
    container = f'<container><rootfiles><rootfile full-path="{name}"/></rootfiles></container>'
    data = BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("META-INF/container.xml", container)
        archive.writestr(name, text)
    return data.getvalue()


def draw_score(suffix: str, rng: Rng) -> bytes:
    """Draw a mutated file."""
    held = ARCHIVES.get(suffix)
    if held is None:
        return mutate_score(pick(rng, TEXTS[suffix]), rng)
    name, text = f"score{held}", pick(rng, TEXTS[held])
    if rng.random() < 0.5:
        return pack(mutate_score(text, rng), name)
    return mutate_bytes(pack(text, name), rng)


def score_case(suffix: str, corpus: Corpus, folder: Path, rng: Rng) -> str:
    """Read a score that was changed."""
    path = folder / f"score{suffix}"
    path.write_bytes(draw_score(suffix, rng))
    ended = {}
    with bounded():
        for piece in pieces_of(path)[:MOST_TUNES]:
            ended[_read(piece)] = True
    return next((how for how in ended if how.startswith("fault")), " and ".join(sorted(ended)))


def _read(path: Path) -> str:
    try:
        midi = reading.read_music(path)
    except MidiError as error:
        reason = str(error).removeprefix(f"{path.name}: ")
        return f"refused: {reason}" if "\n" not in reason else f"fault: no line: {reason!r}"
    notes = midi.notes
    if not (np.isfinite(notes["offset"]).all() and (notes["offset"] > notes["onset"]).all()):
        return "fault: notes without an end"
    if midi.title is not None and not midi.title.isprintable():
        return "fault: a title that is not printable"
    return "read, with bars" if midi.bars else "read"


@contextmanager
def bounded() -> Iterator[None]:
    """Give readers less time and memory."""
    values = {"TUNE_SECONDS": SECONDS, "MUSESCORE_SECONDS": MUSESCORE_SECONDS, "_worker": _worker}
    with ExitStack() as stack:
        for name, value in {**values, "MUSESCORE_MEGABYTES": MEGABYTES}.items():
            stack.enter_context(patch.object(reading, name, value))
        yield


@cache
def _worker() -> ScoreWorker:
    folder = find_verovio()
    assert folder
    return ScoreWorker(folder, SECONDS)


SCORE_CASES: dict[str, Case] = {
    suffix[1:]: partial(score_case, suffix) for suffix in (*TEXTS, *ARCHIVES)
}
