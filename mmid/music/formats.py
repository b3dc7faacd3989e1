"""Kinds of files, known by their suffixes: what is read, and what else lies in folders of music.

Conventions: suffixes are in small letters, with their dot. Only files found in folders are chosen
by them; one that a user names is opened whatever it is called.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping

from mmid.options import Kind

MIDI_SUFFIXES = (".mid", ".midi", ".kar", ".rmi")
AUDIO_SUFFIXES = (
    *(".wav", ".flac", ".ogg", ".mp3", ".m4a", ".opus", ".oga", ".aac", ".aiff", ".aif", ".aifc"),
    *(".wma", ".caf", ".mka", ".mp2", ".ape", ".wv", ".au", ".amr", ".ac3", ".spx", ".tta"),
)
VIDEO_SUFFIXES = (
    *(".mp4", ".mov", ".mkv", ".webm", ".3gp", ".3g2", ".m4v", ".avi", ".mpg", ".mpeg", ".wmv"),
    *(".flv", ".ogv"),
)
SCORE_SUFFIXES = (
    *(".musicxml", ".xml", ".mxl", ".mscz", ".mscx", ".krn", ".mei", ".abc"),
    *(".gp", ".gp3", ".gp4", ".gp5", ".gpx", ".sib", ".mus", ".musx", ".ly", ".nwc"),
)

READ: dict[Kind, tuple[str, ...]] = {
    "midi": MIDI_SUFFIXES,
    "recordings": (*AUDIO_SUFFIXES, *VIDEO_SUFFIXES),
}
"""What an index of each kind takes of a folder; of a video, its sound."""

WORDS: dict[Kind, str] = {"midi": "MIDI files", "recordings": "recordings"}
"""What the kinds are called."""

SHADOW = "._"
"""Begins the names of what macOS keeps beside files on foreign disks, whatever follows."""

SKIPPED = {
    "scores": (SCORE_SUFFIXES, "export as MIDI to index"),
    "MIDI files": (MIDI_SUFFIXES, "for an index of MIDI files"),
    "recordings": (AUDIO_SUFFIXES, "for an index of recordings"),
    "videos": (VIDEO_SUFFIXES, "for an index of recordings, which takes their sound"),
    "macOS shadow files": ((SHADOW,), "no music"),
}
"""What is counted where it is not read, and what can be done about it."""

_COUNTED = frozenset(suffix for suffixes, _ in SKIPPED.values() for suffix in suffixes)


def suffix_of(name: str) -> str:
    """Return what shows the kind of a file: its suffix in small letters, or `SHADOW`.

    Examples
    --------
    >>> suffix_of("A.MID"), suffix_of("._A.MID"), suffix_of("mid")
    ('.mid', '._', '')
    """
    return SHADOW if name.startswith(SHADOW) else os.path.splitext(name)[1].lower()


def count_skipped(names: Counter[str], read: tuple[str, ...]) -> dict[str, int]:
    """Keep those of the counted suffixes that are of music and not read, most of them first."""
    found = sorted(names.items(), key=lambda item: (-item[1], item[0]))
    return {s: count for s, count in found if s in _COUNTED and s not in read}


def skipped_lines(skipped: Mapping[str, int]) -> list[str]:
    """Say what was skipped, a line a type.

    Examples
    --------
    >>> skipped_lines({".mxl": 2, ".abc": 1})
    ['3 scores (.mxl, .abc): export as MIDI to index']
    """
    lines = []
    for words, (suffixes, way_out) in SKIPPED.items():
        met = [suffix for suffix in skipped if suffix in suffixes]
        if met:
            total = sum(skipped[suffix] for suffix in met)
            lines.append(f"{counted(total, words)} ({', '.join(met)}): {way_out}")
    return lines


def counted(count: int, words: str) -> str:
    """Put a number before words in the plural.

    Examples
    --------
    >>> counted(1, "MIDI files"), counted(1_200, "scores")
    ('1 MIDI file', '1,200 scores')
    """
    return f"{count:,} {words.removesuffix('s') if count == 1 else words}"
