"""mmid names the MIDI file in your library that a recording is a performance of."""

__version__ = "0.1.0"
