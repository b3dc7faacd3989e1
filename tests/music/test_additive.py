"""`mmid.music.additive`: notes sound where they are, at their pitch, in any timbre."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mmid.music.additive import draw_timbre, synthesize
from mmid.music.notes import NOTE_DTYPE

RATE = 22_050


def test_timbres_have_unit_power_and_differ():
    timbres = [draw_timbre(np.random.default_rng(seed)) for seed in range(20)]
    for timbre in timbres:
        assert (timbre.strengths**2).sum() == pytest.approx(1)
    assert {timbre.decay > 0 for timbre in timbres} == {True, False}
    assert len({timbre.attack for timbre in timbres}) == 20


@pytest.mark.parametrize("seed", range(4))
def test_a_note_sounds_from_its_onset_at_its_pitch(seed):
    notes = np.array([(0.5, 1.5, 69, 100, 0), (9, 10, 60, 100, 0)], NOTE_DTYPE)
    rng = np.random.default_rng(seed)
    timbre = replace(draw_timbre(rng), breath=0.0, vibrato=0.0)
    sound = synthesize(notes, 2.0, RATE, rng, timbre)
    assert len(sound) == 2 * RATE and not sound[: int(0.49 * RATE)].any()
    assert not sound[int(1.8 * RATE) :].any()
    part = sound[int(0.6 * RATE) : int(1.4 * RATE)]
    power = np.abs(np.fft.rfft(part * np.hanning(len(part)))) ** 2
    hertz = np.fft.rfftfreq(len(part), 1 / RATE)
    near = np.abs(hertz / 440 - np.round(hertz / 440).clip(1)) < 0.05
    assert power[near].sum() > 0.98 * power.sum()


def test_one_seed_gives_the_same_sound():
    notes = np.array([(0.0, 0.5, 60, 90, 0)], NOTE_DTYPE)
    one, again, other = (
        synthesize(notes, 1.0, RATE, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert np.array_equal(one, again) and not np.array_equal(one, other)
