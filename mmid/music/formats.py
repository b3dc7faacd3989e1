"""Kinds of files, known by their suffixes: what is read, and what else lies in folders of music.

Conventions: suffixes are in small letters, with their dot. Only files found in folders are chosen
by them; one that a user names is opened whatever it is called.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from itertools import groupby

from mmid.music.scores.converters import CONVERTERS, READABLE, read_here
from mmid.music.scores.tune_books import file_part
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
OTHER_SCORE_SUFFIXES = (
    *(".gp", ".gp3", ".gp4", ".gp5", ".gpx", ".sib", ".mus", ".musx", ".ly", ".nwc"),
)
RECORDING_SUFFIXES = (*AUDIO_SUFFIXES, *VIDEO_SUFFIXES)
"""Of a video, its sound is read."""

WORDS: dict[Kind, str] = {"midi": "MIDI files", "recordings": "recordings"}
"""What the kinds are called."""

SHADOW = "._"
"""Begins the names of what macOS keeps beside files on foreign disks, whatever follows."""

SKIPPED = (
    *(("scores", c.suffixes, c.way_out) for c in CONVERTERS),
    ("scores", OTHER_SCORE_SUFFIXES, "export as MIDI or MusicXML to index"),
    ("MIDI files", MIDI_SUFFIXES, "for an index of MIDI files"),
    ("recordings", AUDIO_SUFFIXES, "for an index of recordings"),
    ("videos", VIDEO_SUFFIXES, "for an index of recordings, which takes their sound"),
    ("macOS shadow files", (SHADOW,), "no music"),
)
"""What is counted where it is not read, and what can be done about it."""

_COUNTED = frozenset(suffix for _, suffixes, _ in SKIPPED for suffix in suffixes)


def read_suffixes(kind: Kind) -> tuple[str, ...]:
    """Return what an index of a kind takes of a folder on this machine."""
    return (*MIDI_SUFFIXES, *read_here()) if kind == "midi" else RECORDING_SUFFIXES


def is_written(name: str | os.PathLike[str]) -> bool:
    """Return whether a file or a piece of an index is notes, not sound, by its name.

    Examples
    --------
    >>> is_written("a.MID"), is_written("book.abc#X:12 The Swallowtail Jig"), is_written("a.wav")
    (True, True, False)
    """
    return suffix_of(os.path.basename(name)) in (*MIDI_SUFFIXES, *READABLE)


def unread_here(name: str) -> bool:
    """Return whether a piece is in a score that can be read, but not on this machine."""
    suffix = suffix_of(os.path.basename(name))
    return suffix in READABLE and suffix not in read_here()


def suffix_of(name: str) -> str:
    """Return what shows the kind of a file: its suffix in small letters, or `SHADOW`.

    Examples
    --------
    >>> suffix_of("A.MID"), suffix_of("._A.MID"), suffix_of("mid")
    ('.mid', '._', '')
    """
    return SHADOW if name.startswith(SHADOW) else os.path.splitext(file_part(name))[1].lower()


def count_skipped(names: Counter[str], read: tuple[str, ...]) -> dict[str, int]:
    """Keep those of the counted suffixes that are of music and not read, most of them first."""
    found = sorted(names.items(), key=lambda item: (-item[1], item[0]))
    return {s: count for s, count in found if s in _COUNTED and s not in read}


def skipped_lines(skipped: Mapping[str, int]) -> list[str]:
    """Say what was skipped, a line a type.

    Examples
    --------
    >>> skipped_lines({".mxl": 2, ".abc": 1})
    ["3 scores (.mxl, .abc): pip install 'mmid[scores]' to read them"]
    """
    lines = []
    for (words, way_out), group in groupby(SKIPPED, key=lambda row: (row[0], row[2])):
        suffixes = {suffix for _, some, _ in group for suffix in some}
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
