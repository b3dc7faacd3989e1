"""The errors mmid raises for what a user can mend: each message is one clear line."""

from __future__ import annotations

import os
import re


def label(path: str | os.PathLike[str]) -> str:
    r"""Name a file in a message: on one line, with nothing a terminal or a CI log would act on.

    Examples
    --------
    >>> label("a\x1b[31m b\n::error::c")
    'a\\x1b[31m b\\n:\\x3aerror:\\x3ac'
    """
    return _plain(_COMMAND.sub(lambda mark: rf"\x{ord(mark[0]):x}", os.fspath(path)))


_COMMAND = re.compile(r"(?<=:):|#(?=#\[)")
"""What begins a command of GitHub Actions, wherever a line is broken."""


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class MmidError(Exception):
    """Bad input or a missing resource; the message says what and how to go on."""


class AudioError(MmidError):
    """A recording that cannot be read."""


class MidiError(MmidError):
    """A MIDI file that cannot be read."""


class LibraryIndexError(MmidError):
    """An index that is missing, damaged or made for another model."""


class ModelError(MmidError):
    """A checkpoint that is missing, damaged or of another kind."""


class RenderError(MmidError):
    """MIDI that cannot be turned into sound: no synthesiser or no soundfont."""
