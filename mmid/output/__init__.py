"""Answers for people and programs: tables, JSON, CSV, plots, aligned MIDI."""
