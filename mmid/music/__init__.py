"""Audio, MIDI, notes, spectrograms, piano rolls, libraries and synthesis."""
