"""Scores beside MIDI: MusicXML, MEI, kern, ABC and MuseScore files, read as they sound."""
