"""What tests that make sound need: fluidsynth, and the soundfont that pretty_midi brings."""

import ctypes.util
import importlib.util
from pathlib import Path

import pretty_midi
import pytest

SOUNDFONT = Path(pretty_midi.__file__).with_name("TimGM6mb.sf2")

needs_fluidsynth = pytest.mark.skipif(
    ctypes.util.find_library("fluidsynth") is None or not importlib.util.find_spec("fluidsynth"),
    reason="needs fluidsynth (apt-get install fluidsynth) and pip install 'mmid[train]'",
)
