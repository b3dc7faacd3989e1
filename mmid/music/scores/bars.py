"""Bars of scores as the programs that read them give them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np

from mmid.music.bars import MOST_BARS, NO_BARS, Mark, bars_of
from mmid.music.midi_parser import Song

Bars: TypeAlias = Callable[[Song, np.ndarray], str]
"""Gives what is kept of the bars of a score that was made MIDI, as `mmid.music.bars` does."""

_PRINTED = re.compile(r"\d{1,6}")


def printed_bars(listed: bytes, song: Song, notes: np.ndarray) -> str:
    """Keep bars as verovio lists them (`mmid.music.scores.verovio_worker`)."""
    try:
        return bars_of(song, list(_marks(json.loads(listed), song.division)))
    except (ValueError, TypeError, OverflowError):
        return NO_BARS


def _marks(listed: list[list[object]], division: int) -> Iterator[Mark]:
    for quarters, name in listed[: MOST_BARS + 1]:
        printed = _PRINTED.match(name) if isinstance(name, str) else None
        yield Mark(round(float(str(quarters)) * division), int(printed[0]) if printed else None)
