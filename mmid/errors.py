"""The errors mmid raises for what a user can mend: each message is one clear line."""

from __future__ import annotations

import os


def label(path: str | os.PathLike[str]) -> str:
    """Name a file in a message: on one line, with nothing a terminal would act on."""
    name = os.fspath(path)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


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
