"""`mmid.music.drums`: grooves fall on the beats given, and drum kits play them."""

from __future__ import annotations

import numpy as np
import pytest
from synth import SOUNDFONT, needs_fluidsynth

from mmid.music.drums import GROOVES, LOOSENESS, groove
from mmid.music.notes import NOTE_DTYPE
from mmid.music.synthesizer import Synthesizer

BEATS = np.cumsum(np.linspace(0.4, 0.7, 33))
"""Ever slower."""


@pytest.mark.parametrize("name", GROOVES)
def test_a_groove_falls_on_the_beats_given(name):
    strokes = groove(BEATS, np.random.default_rng(0), name)
    assert len(strokes) > len(BEATS) and strokes.dtype == NOTE_DTYPE
    at = np.interp(strokes["onset"], BEATS, np.arange(len(BEATS)))
    places = np.unique([at % 1 for parts in GROOVES[name].parts.values() for at in parts])
    fill = np.arange(8) / 8
    grid = np.concatenate([places, fill, [1]])
    off = np.abs((at % 1)[:, None] - grid).min(1)
    assert off.max() < 5 * LOOSENESS / 0.4
    first = GROOVES[name].parts[int(strokes["pitch"][0])] if len(strokes) else ()
    assert first and (np.diff(strokes["onset"]) >= 0).all()


def test_the_snare_is_on_two_and_four_of_rock():
    strokes = groove(np.arange(0, 40, 0.5), np.random.default_rng(1), "rock")
    beats = np.round(strokes["onset"][strokes["pitch"] == 38] / 0.5).astype(int)
    assert len(set(beats % 4)) == 2 and len(set(beats % 2)) == 1
    assert len(set(strokes["program"])) == 1


def test_one_seed_plays_alike_and_no_beats_play_nothing():
    one, again = (groove(BEATS, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(one, again)
    assert len(groove(np.zeros(0), np.random.default_rng(0))) == 0


@needs_fluidsynth
@pytest.mark.parametrize("kit", [0, 25, 99])
def test_kits_play_drums_rather_than_notes(kit):
    bass_drum = np.array([(0.5, 0.6, 36, 110, kit)], NOTE_DTYPE)
    with Synthesizer(SOUNDFONT, 22_050) as synthesizer:
        drum, tone = (synthesizer.render(bass_drum, drums=drums) for drums in (True, False))
    assert np.abs(drum[: 22_050 // 2 - 500]).max() < 1e-3 < np.abs(drum).max()
    assert abs(np.corrcoef(drum, tone)[0, 1]) < 0.5
