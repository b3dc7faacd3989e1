"""What reads scores, and whether it is here: programs and packages that are not mmid's own.

Conventions: suffixes are in small letters, with their dot. `docs/formats.md` says how each was
chosen.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

INSTALL = "pip install 'mmid[scores]' to read them"


@dataclass(frozen=True)
class Converter:
    """What makes MIDI of some files.

    Parameters
    ----------
    name : str
    suffixes : tuple of str
        Of the files it reads.
    find : callable
        Gives what to run, or None where it is not installed.
    way_out : str
        What to do then.
    """

    name: str
    suffixes: tuple[str, ...]
    find: Callable[[], str | None]
    way_out: str


@cache
def find_verovio() -> str | None:
    """Return the folder of the package verovio, which is not loaded here."""
    return _package("verovio")


@cache
def find_abc2midi() -> str | None:
    """Return the program abc2midi: the one that symusic brings, else that of the machine."""
    folder = _package("symusic")
    name = "abc2midi.exe" if os.name == "nt" else "abc2midi"
    brought = Path(folder, "bin", name) if folder else None
    return os.fspath(brought) if brought and brought.is_file() else shutil.which("abc2midi")


@cache
def find_musescore() -> str | None:
    """Return the program MuseScore, the newest of those that are named as releases name it.

    What Debian calls ``mscore`` is MuseScore 2.
    """
    newest = ("mscore4portable", "MuseScore4", "musescore4", "mscore4")
    found = map(shutil.which, (*newest, "musescore3", "mscore3", "mscore", "musescore"))
    return next(filter(None, found), None)


def _package(name: str) -> str | None:
    spec = find_spec(name)
    places = spec.submodule_search_locations if spec else None
    return next(iter(places), None) if places else None


VEROVIO = Converter("verovio", (".musicxml", ".xml", ".mxl", ".krn", ".mei"), find_verovio, INSTALL)
ABC2MIDI = Converter("abc2midi", (".abc",), find_abc2midi, INSTALL)
MUSESCORE = Converter(
    "MuseScore",
    (".mscz", ".mscx"),
    find_musescore,
    "install MuseScore, which mmid runs to read them, or export as .mxl",
)
CONVERTERS = (VEROVIO, ABC2MIDI, MUSESCORE)
XML = ".xml"
"""Names much that is no music, so that what is in such a file counts."""

_SCORE = re.compile(rb"<(?:\w+:)?(?:score-partwise|score-timewise|mei|museScore)\b")
_HEAD = 8_192  # bytes; what a document is, it says at once


def holds_score(path: Path) -> bool:
    """Return whether an XML file looks like a score; one that cannot be read may be."""
    try:
        with open(path, "rb") as file:
            return _SCORE.search(file.read(_HEAD).replace(b"\0", b"")) is not None
    except OSError:
        return True


READABLE = tuple(suffix for converter in CONVERTERS for suffix in converter.suffixes)
"""All that can be read where everything is installed."""


def read_here() -> tuple[str, ...]:
    """Return the suffixes of the scores that can be read on this machine."""
    return tuple(suffix for c in CONVERTERS if c.find() for suffix in c.suffixes)
