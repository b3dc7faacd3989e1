"""Excerpts of MIDI files as kinds of music: bands, choirs, songs, in rooms and with noise."""
