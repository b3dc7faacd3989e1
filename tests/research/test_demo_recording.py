"""The demo's recording: an excerpt of a tune, in a room, with noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from synth import SOUNDFONT, needs_fluidsynth

from mmid.cli.demo import prepare_demo
from mmid.music.audio import read_audio
from mmid.research.demo_recording import (
    NOISE_DECIBELS,
    RECORDED_SECONDS,
    ROOM_SECONDS,
    SAMPLE_RATE,
    add_room,
    background_noise,
    make_recording,
    render_dry,
)


def decibels(sound: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.square(sound, dtype=np.float64)) + 1e-20))


def test_packaged_recording_decodes_at_its_length(tmp_path: Path) -> None:
    _, recording = prepare_demo(tmp_path)
    assert recording.stat().st_size < 150_000
    sound = read_audio(recording, 22_050)
    assert len(sound) / 22_050 == pytest.approx(RECORDED_SECONDS, abs=0.05)
    assert 0.3 < np.abs(sound).max() <= 1
    loud = [decibels(part) for part in np.array_split(sound, 15)]
    assert min(loud) > max(loud) - 20, "music throughout"


def test_a_room_dies_away_in_its_time() -> None:
    click = np.zeros(SAMPLE_RATE, np.float32)
    click[0] = 1
    heard = add_room(click, np.random.default_rng(0))
    assert heard[0] == 1
    window = SAMPLE_RATE // 20
    early, half = heard[1 : 1 + window], round(ROOM_SECONDS / 2 * SAMPLE_RATE)
    assert decibels(early) - decibels(heard[1 + half :][:window]) == pytest.approx(30, abs=1)


def test_background_noise_is_pink() -> None:
    noise = background_noise(4 * SAMPLE_RATE, np.random.default_rng(0))
    assert decibels(noise) == pytest.approx(0, abs=0.01)
    power = np.abs(np.fft.rfft(noise)) ** 2
    octaves = [power[4 * f : 8 * f].sum() for f in (100, 400, 1_600, 6_400)]
    assert max(octaves) / min(octaves) < 1.3


@needs_fluidsynth
def test_a_made_recording_is_the_excerpt_in_a_room_with_noise(tmp_path: Path) -> None:
    make_recording(tmp_path / "a.ogg", SOUNDFONT)
    make_recording(tmp_path / "b.ogg", SOUNDFONT)
    assert (tmp_path / "a.ogg").read_bytes() == (tmp_path / "b.ogg").read_bytes()
    dry = render_dry(SOUNDFONT)
    sound = read_audio(tmp_path / "a.ogg", SAMPLE_RATE)[: len(dry)]
    dry = dry[: len(sound)]
    likeness = float(np.corrcoef(dry, sound)[0, 1])
    assert 0.4 < likeness < 0.95, "the same music, changed"
    floor = decibels(sound[:1_000]) - decibels(sound)
    assert floor == pytest.approx(NOISE_DECIBELS, abs=6)
    assert decibels(dry[:1_000]) < decibels(dry) - 40, "silence before the first note"
