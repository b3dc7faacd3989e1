"""`frame_rates`: what the roll frame rates do to the length and to the end of a song."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from synth import SOUNDFONT, needs_fluidsynth
from typer.testing import CliRunner

from mmid.cli.app import app
from mmid.errors import MmidError
from mmid.music.grid import DEFAULT
from mmid.music.midi import write_midi
from mmid.music.notes import NOTE_DTYPE
from mmid.music.pairs import read_pairs
from mmid.music.spectrogram import spectrogram
from mmid.research.frame_rates import (
    compare_lengths,
    draw_lengths,
    onset_novelty,
    rate_names,
    roll_rates,
    sound_lag,
    summarize_rates,
)

SECONDS = (15.0, 30.0, 60.0)


def tune(seconds: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    onsets = np.cumsum(rng.choice([0.25, 0.25, 0.5, 0.75], int(4 * seconds)))
    notes = np.zeros(int((onsets < seconds - 1).sum()), NOTE_DTYPE)
    notes["onset"] = onsets[: len(notes)]
    notes["offset"] = np.append(notes["onset"][1:], seconds)
    notes["pitch"] = rng.integers(55, 80, len(notes))
    notes["velocity"] = 90
    return notes


@pytest.fixture(scope="module")
def songs(tmp_path_factory, write_wav) -> Path:
    """Return a folder of three tunes rendered in their score's time."""
    from mmid.music.synthesizer import Synthesizer

    folder = tmp_path_factory.mktemp("rendered")
    rows = ["id,audio,midi"]
    with Synthesizer(SOUNDFONT, DEFAULT.sample_rate) as synthesizer:
        for number, seconds in enumerate(SECONDS):
            notes = tune(seconds, number)
            write_midi(notes, folder / f"{number}.mid")
            write_wav(folder / f"{number}.wav", synthesizer.render(notes))
            rows.append(f"{number},{number}.wav,{number}.mid")
    (folder / "pairs.csv").write_text("\n".join(rows))
    return folder


@needs_fluidsynth
def test_only_the_exact_grid_keeps_a_songs_end(songs):
    report = compare_lengths(read_pairs(songs))
    slow, fast, adaptive, exact = np.array([song.lags for song in report.songs]).T
    assert np.abs(exact).max() <= 1
    assert np.all(np.diff(fast) > 20) and fast[-1] > 100
    assert np.all(np.diff(slow) < 0) and slow[-1] > -10
    assert np.all(adaptive > 20)
    differences = np.array([song.differences for song in report.songs])
    tail = 1.5 * DEFAULT.frame_rate
    assert np.abs(differences[:, 3] - tail).max() < 2
    assert np.all(np.abs(differences[:, 2]) < differences[:, 3])


@needs_fluidsynth
def test_the_command_prints_and_draws(songs, tmp_path):
    out = tmp_path / "lengths.png"
    arguments = ["eval", "lengths", str(songs), "--limit", "2", "--out", str(out)]
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert [song["name"] for song in report["songs"]] == ["0", "1"]
    assert [rate["name"] for rate in report["rates"]] == list(rate_names())
    assert abs(report["rates"][3]["median_lag"]) <= 1 and out.stat().st_size > 1_000
    assert "exact 21.533 Hz" in CliRunner().invoke(app, arguments).stdout


def test_rates_are_those_of_the_report_and_the_grid():
    assert rate_names() == ("fixed 21.43 Hz", "fixed 23.43 Hz", "adaptive", "exact 21.533 Hz")
    for seconds, adaptive in ((150.0, 21.9), (20.0, 23.3)):
        assert roll_rates(seconds) == pytest.approx((21.43, 23.43, adaptive, 22_050 / 1_024))


@pytest.mark.parametrize("late", [-12, 0, 7, 39])
def test_late_sound_is_heard_as_late(play, late):
    import torch

    notes = tune(25.0, 4)
    samples = np.zeros(22_050 * 28, np.float32)
    shifted = notes.copy()
    for side in ("onset", "offset"):
        shifted[side] = np.maximum(0, notes[side] + late / DEFAULT.frame_rate)
    sound = play(shifted)
    samples[: len(sound)] = sound[: len(samples)]
    assert abs(sound_lag(spectrogram(torch.from_numpy(samples)).numpy(), notes) - late) <= 1


def test_a_song_shorter_than_what_is_listened_to(play):
    import torch

    notes = tune(4.0, 1)
    bands = spectrogram(torch.from_numpy(play(notes))).numpy()
    assert abs(sound_lag(bands, notes)) <= 1
    assert abs(sound_lag(bands[:, :-20], notes)) <= 1


def test_novelty_is_what_gets_louder():
    bands = np.array([[0.0, 0.5, 0.2, 0.2], [1.0, 1.0, 1.25, 0.0]], np.float32)
    assert onset_novelty(bands) == pytest.approx([0, 0.5, 0.25, 0])


def test_summaries_are_of_all_songs(songs_by_hand):
    least = summarize_rates(songs_by_hand)[2]
    assert (least.least, least.most, least.mean) == (-21, 21, 14.0)
    assert (least.least_lag, least.most_lag, least.median_lag) == (-3.0, 2.0, 2.0)


def test_no_song_is_refused():
    with pytest.raises(MmidError, match="no song to compare"):
        summarize_rates([])


def test_the_figure_shows_every_rate_in_both_panels(songs_by_hand, tmp_path):
    from mmid.research.frame_rates import LengthReport

    report = LengthReport(summarize_rates(songs_by_hand), tuple(songs_by_hand))
    draw_lengths(report, tmp_path / "lengths.svg")
    drawn = (tmp_path / "lengths.svg").read_text()
    assert all(drawn.count(f"<!-- {name} -->") == 2 for name in rate_names())


@pytest.fixture
def songs_by_hand():
    from mmid.research.frame_rates import SongLengths

    facts = [(20.0, -21, -3.0), (60.0, 0, 1.0), (150.0, 21, 2.0)]
    return [
        SongLengths(f"{seconds}", seconds, 1_000, (1, 2, difference, 4), (0.0, 0.0, lag, 0.0))
        for seconds, difference, lag in facts
    ]
