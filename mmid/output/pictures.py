"""Answers as a picture each, which shows what they rest on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mmid.identify.batch import Answered, Sink
from mmid.identify.identifier import Identifier
from mmid.output.evidence import draw_evidence, gather_evidence, picture_paths


class Pictures(Sink):
    """A sink that draws what each answer rests on.

    Parameters
    ----------
    identifier : Identifier
        That answers.
    place : Path
        A .png or .svg file for one file, or a folder, as for `mmid.output.evidence.picture_paths`.
    files : sequence of Path
        The queries, in order.

    Raises
    ------
    MmidError
        If pictures cannot be drawn, or written there.
    """

    explains = True

    def __init__(self, identifier: Identifier, place: Path, files: Sequence[Path]) -> None:
        self._identifier, self._targets = identifier, iter(picture_paths(place, files))

    def take(self, answered: Answered) -> None:
        """Draw an answer, if there is one.

        Raises
        ------
        MmidError
            If the picture cannot be written.
        """
        target = next(self._targets)
        picture = gather_evidence(self._identifier, answered)
        if picture:
            draw_evidence(picture, target)
