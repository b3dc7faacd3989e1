"""A recording's timeline as a cue sheet, by which players and cutters know its pieces.

Conventions: a track is a piece, from where it begins; what lies before it, from where the piece
before ends, is its pregap (INDEX 00). Times are minutes, seconds and frames from the file's begin.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from mmid.errors import MmidError, label
from mmid.identify.timeline import Timeline
from mmid.output.timelines import TimelineSink
from mmid.system.outputs import relative_path, target_paths, written_target

SUFFIX = ".cue"
FRAMES = 75
"""Of a cue sheet, a second."""

FILE_TYPES = {".mp3": "MP3", ".aif": "AIFF", ".aiff": "AIFF"}
"""What a cue sheet calls files; all others are WAVE, as players expect of any sound."""


class CueSheets(TimelineSink):
    """A sink that writes a cue sheet for each recording that holds a piece.

    Parameters
    ----------
    place : Path
        A .cue file for one recording, or a folder, as for `mmid.system.outputs.target_paths`.
    files : sequence of Path
        The recordings, in order.
    start : float
        Where in each its timeline begins, seconds.

    Raises
    ------
    MmidError
        If they cannot be written there.
    """

    def __init__(self, place: Path, files: Sequence[Path], start: float = 0.0) -> None:
        self._targets, self._start = iter(target_paths(place, files, (SUFFIX,), SUFFIX)), start

    def take(self, timeline: Timeline) -> None:
        """Write a timeline, if anything is in it.

        Raises
        ------
        MmidError
            If it cannot be written, or the recording's path cannot stand in a cue sheet.
        """
        target = next(self._targets)
        if timeline.played:
            text = "".join(f"{line}\n" for line in cue_lines(timeline, target, self._start))
            with written_target(target) as part:
                part.write_bytes(text.encode("utf-8", "surrogateescape"))


def cue_lines(timeline: Timeline, target: Path, start: float = 0.0) -> Iterator[str]:
    """Give the lines of a timeline's cue sheet.

    Parameters
    ----------
    timeline : Timeline
    target : Path
        The cue sheet, from whose folder the recording is named.
    start : float
        Where in the recording the timeline begins, seconds.

    Raises
    ------
    MmidError
        If the recording's path holds what cannot stand in a cue sheet.
    """
    if {"\n", "\r", '"'} & set(timeline.query):
        unfit = "a line break or quotation mark cannot stand in a cue sheet"
        raise MmidError(f"{label(timeline.query)}: {unfit}")
    kind = FILE_TYPES.get(Path(timeline.query).suffix.lower(), "WAVE")
    yield f'FILE "{relative_path(timeline.query, target)}" {kind}'
    ended = cue_time(start)
    for number, one in enumerate(timeline.played, 1):
        begun = cue_time(start + one.start)
        yield f"  TRACK {number:02} AUDIO"
        yield f'    TITLE "{_quoted(one.match.title or Path(one.match.piece).stem)}"'
        yield f'    REM COMMENT "{_quoted(one.match.piece)}"'
        if ended != begun:
            yield f"    INDEX 00 {ended}"
        yield f"    INDEX 01 {begun}"
        ended = cue_time(start + one.end)


def cue_time(seconds: float) -> str:
    """Return a time as a cue sheet has it.

    Examples
    --------
    >>> cue_time(75.5), cue_time(59.999)
    ('01:15:37', '01:00:00')
    """
    whole, frames = divmod(round(seconds * FRAMES), FRAMES)
    return f"{whole // 60:02}:{whole % 60:02}:{frames:02}"


def _quoted(text: str) -> str:
    """Make text fit to stand between quotation marks; a cue sheet has no way to write them."""
    return label(text).replace('"', "'")
