"""A moment of a piece by bar and beat, for answers that are shown without NumPy."""

from __future__ import annotations

from typing import NamedTuple


class Moment(NamedTuple):
    """A moment of a piece, as musicians name it."""

    bar: int
    beat: int

    def __str__(self) -> str:
        return f"bar {self.bar}, beat {self.beat}"
