"""The recordings that were named, as a playlist that players read.

Conventions: extended M3U in UTF-8. Paths are relative to the playlist's folder, where they can be,
so that a folder of recordings can be moved with its playlist.
"""

from __future__ import annotations

import os
from pathlib import Path

from mmid.errors import MmidError, label
from mmid.identify.answer import Identification
from mmid.identify.batch import Answered, Sink
from mmid.system.outputs import check_file, relative_path, written_target

SUFFIXES = (".m3u8",)
UNKNOWN = -1
"""How long a recording lasts of which only a span was the query."""


class Playlist(Sink):
    """A sink that lists the files whose piece was found.

    Parameters
    ----------
    path : Path
        The .m3u8 file, replaced if there is one.
    whole : bool
        Whether queries are whole files: their length is known then.

    Raises
    ------
    MmidError
        If it cannot be written.
    """

    def __init__(self, path: Path, *, whole: bool = True) -> None:
        self._path, self._whole = check_file(path, SUFFIXES), whole
        self._lines = ["#EXTM3U"]

    def take(self, answered: Answered) -> None:
        """List a file under its piece's name, if it has one.

        Raises
        ------
        MmidError
            If its path holds a line break, which a playlist cannot.
        """
        answer = answered.answer
        if answer.matched:
            seconds = round(answer.seconds) if self._whole else UNKNOWN
            line = self._line(answer)
            self._lines += [f"#EXTINF:{seconds},{label(answer.matches[0].piece)}", line]

    def _line(self, answer: Identification) -> str:
        if {"\n", "\r"} & set(answer.query):
            raise MmidError(f"{label(answer.query)}: a line break cannot stand in a playlist")
        path = relative_path(answer.query, self._path)
        return f".{os.sep}{path}" if path.startswith("#") else path

    def close(self) -> None:
        """Write the playlist.

        Raises
        ------
        MmidError
            If it cannot be written.
        """
        text = "".join(f"{line}\n" for line in self._lines)
        with written_target(self._path) as part:
            part.write_bytes(text.encode("utf-8", "surrogateescape"))
