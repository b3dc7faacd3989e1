"""The errors mmid raises for what a user can mend: each message is one clear line."""


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
