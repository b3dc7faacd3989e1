"""What fluidsynth logs stays off the terminal, and says in an error what was wrong."""

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from synth import SOUNDFONT, needs_fluidsynth

from mmid.errors import RenderError
from mmid.music.fluidsynth_library import load_fluidsynth, logged
from mmid.music.notes import NOTE_DTYPE
from mmid.music.synthesizer import Synthesizer

pytestmark = needs_fluidsynth

WHOLE = 44
"""Bytes from the beginning of a soundfont that promise more."""


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"RIFF nothing", "Not a SoundFont file"),
        (b"", "EOF while attempting to read 8 bytes"),
        (SOUNDFONT.read_bytes()[:WHOLE], "SoundFont file size mismatch"),
    ],
    ids=["other", "empty", "cut short"],
)
def test_a_soundfont_that_cannot_be_loaded_is_one_line_with_the_first_reason(
    content, why, tmp_path, capfd
):
    path = tmp_path / "fake.sf2"
    path.write_bytes(content)
    with pytest.raises(RenderError) as caught:
        Synthesizer(path, 22_050)
    assert str(caught.value) == f"{path}: fluidsynth cannot load this soundfont: {why}"
    assert capfd.readouterr() == ("", "")


def test_an_instrument_that_a_soundfont_lacks_is_not_complained_of(capfd):
    notes = np.array([(0.0, 0.2, 60, 100, 5)], NOTE_DTYPE)
    with Synthesizer(SOUNDFONT, 22_050) as synthesizer:
        synthesizer._font += 1  # of which there is none
        synthesizer.render(notes)
        with logged() as said:
            synthesizer.render(notes)
    assert said and "no preset" in said[0] and "\n" not in said[0]
    assert capfd.readouterr() == ("", "")


def test_threads_read_what_they_caused(tmp_path):
    def missing(name: str) -> list[str]:
        with Synthesizer(SOUNDFONT, 22_050) as synthesizer, logged() as said:
            synthesizer._synth.sfload(str(tmp_path / name))
        return said

    with ThreadPoolExecutor(2) as threads:
        for name, said in zip("ab", threads.map(missing, "ab"), strict=True):
            assert str(tmp_path / name) in said[0]
            assert not any(
                str(tmp_path / other) in line for line in said for other in {*"ab"} - {name}
            )


def test_where_the_library_is_goes_to_no_output(tmp_path, monkeypatch, capsys):
    (tmp_path / "fluidsynth.py").write_text("print('found at /usr/lib')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "fluidsynth", None)
    del sys.modules["fluidsynth"]
    assert load_fluidsynth.__wrapped__().__file__ == str(tmp_path / "fluidsynth.py")
    assert capsys.readouterr() == ("", "")
