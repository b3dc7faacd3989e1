"""`mmid.music.spectrogram`: recordings and notes on one frame grid."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmid.errors import AudioError
from mmid.music.grid import DEFAULT, FeatureParams
from mmid.music.notes import NOTE_DTYPE
from mmid.music.piano_roll import draw_rolls, piano_roll, roll_frame_count
from mmid.music.spectrogram import (
    band_centres,
    design_filterbank,
    filterbank,
    frame_count,
    log_compress,
    log_expand,
    recording_spectrogram,
    resample_frames,
    spectrogram,
)

pytestmark = pytest.mark.numerical

RATE = DEFAULT.frame_rate


def sine(frequency: float, seconds: float = 2.0) -> torch.Tensor:
    time = torch.arange(int(seconds * DEFAULT.sample_rate)) / DEFAULT.sample_rate
    return torch.sin(2 * torch.pi * frequency * time)


def one_note(onset: float, offset: float, pitch: int = 60) -> np.ndarray:
    return np.array([(onset, offset, pitch, 80, 0)], NOTE_DTYPE)


# ---- the filterbank


def test_the_frozen_filterbank_is_the_designed_one():
    assert torch.equal(filterbank(DEFAULT), torch.from_numpy(design_filterbank(DEFAULT)))


def test_bands_overlap_within_the_range_and_peak_at_one():
    weights = design_filterbank(DEFAULT)
    assert weights.shape == (92, 1_025) and weights.dtype == np.float32
    assert (weights.max(1) == 1).all() and weights.min() == 0
    centres = band_centres(DEFAULT)
    assert (np.diff(centres) > 0).all()
    assert centres[0] >= 30 and centres[-1] <= 6_000
    spanned = np.flatnonzero(weights.any(0))
    assert (np.diff(spanned) == 1).all(), "no gap between bands"
    inner = weights.sum(0)[weights[0].argmax() : weights[-1].argmax() + 1]
    np.testing.assert_allclose(inner, 1, atol=1e-6)


def test_another_grid_gets_its_own_filterbank():
    params = replace(DEFAULT, window=4_096, bands=len_of_bands(4_096))
    assert filterbank(params).shape == (params.bands, 2_049)
    with pytest.raises(ValueError, match="gives 92 bands"):
        design_filterbank(replace(DEFAULT, bands=91))


def len_of_bands(window: int) -> int:
    for bands in range(60, 140):
        try:
            design_filterbank(replace(DEFAULT, window=window, bands=bands))
        except ValueError:
            continue
        return bands
    raise AssertionError("no number of bands fits")


@pytest.mark.parametrize("band", [5, 30, 50, 70, 91])
def test_a_sine_peaks_in_its_band(band):
    bands = spectrogram(sine(float(band_centres(DEFAULT)[band])))
    assert (bands[:, 5:-5].argmax(0) == band).all()


# ---- spectrograms


@pytest.mark.parametrize("count", [1, 2, 1_023, 1_024, 1_025, 22_051, 150_000, 200_001])
def test_streaming_a_file_equals_the_whole_at_once(count, tmp_path, write_wav):
    noise = np.random.default_rng(count).normal(0, 0.2, count).clip(-1, 1)
    path = write_wav(tmp_path / "noise.wav", noise)
    samples = (np.clip(noise, -1, 1) * 32_767).astype("<i2").astype(np.float32) / 32_768
    whole = spectrogram(torch.from_numpy(samples))
    streamed = recording_spectrogram(path)
    assert streamed.shape == whole.shape == (92, count // 1_024 + 1)
    torch.testing.assert_close(streamed, whole, atol=1e-5, rtol=0)


def test_a_span_is_the_span(tmp_path, write_wav):
    noise = np.random.default_rng(0).normal(0, 0.2, 5 * DEFAULT.sample_rate).clip(-1, 1)
    path = write_wav(tmp_path / "noise.wav", noise)
    part = recording_spectrogram(path, start=1.0, duration=2.0)
    first = DEFAULT.sample_rate
    expected = spectrogram(torch.from_numpy(noise[first : 3 * first].astype(np.float32)))
    torch.testing.assert_close(part, expected, atol=5e-3, rtol=0)
    with pytest.raises(AudioError, match="past the end"):
        recording_spectrogram(path, start=60.0)


@pytest.mark.parametrize("gain", [0.01, 0.5, 30.0])
def test_gain_does_not_matter(gain, draw_notes, play):
    samples = torch.from_numpy(play(draw_notes(0, 20, 5.0)))
    quiet = samples * gain
    torch.testing.assert_close(spectrogram(quiet), spectrogram(samples), atol=1e-4, rtol=0)


def test_values_lie_around_zero_to_one(draw_notes, play):
    bands = spectrogram(torch.from_numpy(play(draw_notes(0, 60, 10.0))))
    assert bands.min() >= 0 and 0.95 < bands.max() < 1.3


def test_silence_stays_silent():
    assert spectrogram(torch.zeros(30_000)).max() == 0
    hiss = torch.randn(30_000, generator=torch.Generator().manual_seed(0)) * 1e-7
    assert spectrogram(hiss).max() < 0.5  # noise at a recording's level reaches 1


def test_a_batch_is_levelled_one_by_one(draw_notes, play):
    samples = torch.from_numpy(play(draw_notes(0, 20, 3.0), seconds=3.0))
    both = spectrogram(torch.stack([samples, samples * 0.1]))
    torch.testing.assert_close(both[0], both[1], atol=1e-4, rtol=0)


@given(st.floats(0, 50, width=32))
@settings(max_examples=50, deadline=None)
def test_expanding_undoes_compression(value):
    x = torch.tensor(value)
    torch.testing.assert_close(log_expand(log_compress(x)), x, atol=1e-5, rtol=1e-4)


def test_compression_keeps_one_and_sixty_decibels():
    x = log_compress(torch.tensor([0.0, 1e-3, 1.0]))
    np.testing.assert_allclose(x, [0, np.log(2) / np.log(1_001), 1], atol=1e-6)


# ---- rolls


def slow_roll(notes: np.ndarray, frames: int, first: int = 0) -> np.ndarray:
    """Draw note by note and frame by frame in float64, as `draw_rolls` says it is."""
    roll = np.zeros((2, 128, frames))
    for note in notes:
        onset = float(note["onset"]) * RATE - first
        offset = float(note["offset"]) * RATE - first
        for frame in range(frames):
            sounding = min(offset, frame + 0.5) - max(onset, frame - 0.5)
            roll[0, note["pitch"], frame] += max(0.0, sounding)
            roll[1, note["pitch"], frame] += max(0.0, 1 - abs(frame - onset))
    return roll.clip(0, 1)


times = st.tuples(st.floats(0, 3, width=32), st.floats(0.0625, 2, width=32), st.integers(0, 127))


@given(st.lists(times, max_size=12), st.integers(1, 80), st.integers(0, 30))
@settings(max_examples=60, deadline=None)
def test_a_roll_equals_the_slow_reference(events, frames, first):
    rows = [(onset, onset + length, pitch, 80, 0) for onset, length, pitch in events]
    notes = np.array(rows, NOTE_DTYPE)
    drawn = piano_roll(notes, frames, first=first)
    assert drawn.shape == (2, 128, frames) and drawn.dtype == torch.float32
    np.testing.assert_allclose(drawn, slow_roll(notes, frames, first), atol=1e-4)


def test_a_note_on_a_frame_and_between_two():
    roll = piano_roll(one_note(10 / RATE, 12 / RATE), 20)
    np.testing.assert_allclose(roll[0, 60, 9:14], [0, 0.5, 1, 0.5, 0], atol=1e-4)
    np.testing.assert_allclose(roll[1, 60, 9:12], [0, 1, 0], atol=1e-4)
    roll = piano_roll(one_note(10.25 / RATE, 30 / RATE), 20)
    np.testing.assert_allclose(roll[0, 60, 10:12], [0.25, 1], atol=1e-4)
    np.testing.assert_allclose(roll[1, 60, 9:13], [0, 0.75, 0.25, 0], atol=1e-4)


def test_one_channel_where_onsets_are_not_asked_for(draw_notes):
    notes = draw_notes(0)
    params = FeatureParams(onsets=False)
    roll = piano_roll(notes, 100, params)
    assert roll.shape == (1, 128, 100)
    assert torch.equal(roll, piano_roll(notes, 100)[:1])


def test_drawing_in_chunks_equals_slices_of_the_whole(draw_notes):
    notes = draw_notes(3, 300, 60.0)
    frames = frame_count(60.0)
    whole = piano_roll(notes, frames)
    for first in range(0, frames, 137):
        count = min(137, frames - first)
        chunk = piano_roll(notes, count, first=first)
        torch.testing.assert_close(chunk, whole[..., first : first + count], atol=1e-3, rtol=0)
    assert piano_roll(notes, 30, first=frames + 60).max() == 0


def test_a_batch_of_rolls_keeps_its_rolls_apart(draw_notes):
    sides = [draw_notes(seed) for seed in range(3)]
    owner = torch.cat([torch.full((len(n),), i) for i, n in enumerate(sides)])
    notes = np.concatenate(sides)
    onset, offset = (torch.from_numpy(notes[s] * RATE).float() for s in ("onset", "offset"))
    pitch = torch.from_numpy(notes["pitch"].astype(np.int64))
    rolls = draw_rolls(owner, onset, offset, pitch, 3, 200)
    for roll, side in zip(rolls, sides, strict=True):
        torch.testing.assert_close(roll, piano_roll(side, 200), atol=1e-3, rtol=0)


def test_no_notes_draw_an_empty_roll():
    assert piano_roll(np.zeros(0, NOTE_DTYPE), 10).abs().max() == 0


def test_frames_cover_a_time():
    assert frame_count(0.0) == 1
    assert frame_count(10 / RATE - 1e-6) == 10
    assert frame_count(10 / RATE + 1e-6) == 11


# ---- resampling


def test_ratio_one_is_identity():
    batch = torch.rand(2, 5, 30, generator=torch.Generator().manual_seed(0))
    same = resample_frames(batch, torch.tensor([0.0, 7.0]), torch.ones(2), 20)
    torch.testing.assert_close(same[0], batch[0, :, :20], atol=0, rtol=0)
    torch.testing.assert_close(same[1], batch[1, :, 7:27], atol=0, rtol=0)


def test_a_ramp_is_resampled_exactly_and_ends_are_repeated():
    ramp = torch.arange(50.0).repeat(2, 3, 1)
    first, ratio = torch.tensor([2.5, 40.0]), torch.tensor([0.75, 1.5])
    read = resample_frames(ramp, first, ratio, 12)
    expected = (first[:, None] + ratio[:, None] * torch.arange(12)).clamp(0, 49)
    torch.testing.assert_close(read, expected[:, None].expand(2, 3, 12))
    alone = resample_frames(ramp[:, :, :1], first, ratio, 4)
    assert alone.shape == (2, 3, 4) and alone.max() == 0


# ---- one grid


def test_onsets_of_sound_and_roll_fall_on_the_same_frames_for_a_minute():
    rng = np.random.default_rng(0)
    onsets = np.cumsum(rng.uniform(0.5, 0.9, 80))
    onsets = onsets[onsets < 59]
    samples = np.zeros(60 * DEFAULT.sample_rate, np.float32)
    burst = np.sin(2 * np.pi * 880 * np.arange(4_000) / DEFAULT.sample_rate)
    for onset in onsets:
        first = round(onset * DEFAULT.sample_rate)
        samples[first : first + 4_000] = burst * np.exp(-np.arange(4_000) / 1_500)
    notes = np.zeros(len(onsets), NOTE_DTYPE)
    notes["onset"], notes["offset"], notes["pitch"] = onsets, onsets + 0.2, 81
    roll = piano_roll(notes, frame_count(60.0))
    flux = spectrogram(torch.from_numpy(samples)).sum(0).diff(prepend=torch.zeros(1))
    worst = 0
    for onset in onsets:
        near = int(onset * RATE)
        span = slice(max(0, near - 4), near + 6)
        heard = int(flux[span].argmax()) + span.start
        read = int(roll[1, 81, span].argmax()) + span.start
        worst = max(worst, abs(heard - read))
    assert worst <= 1


# ---- variants


def test_mel_bands_rise_evenly_on_the_mel_scale():
    params = FeatureParams(scale="mel")
    weights = design_filterbank(params)
    assert weights.shape == (92, 1_025) and weights.dtype == np.float32 and weights.min() >= 0
    centres = weights.argmax(1) * params.sample_rate / params.window
    mels = 2_595 * np.log10(1 + centres / 700)
    steps = np.diff(mels)
    assert centres[0] >= 30 and centres[-1] <= 6_000
    assert np.all(steps > 0) and np.std(np.diff(mels[20:])) < 0.3 * steps.mean()
    assert torch.equal(filterbank(params), torch.from_numpy(weights))
    assert torch.equal(filterbank(FeatureParams(snippet=21)), filterbank()), "frozen all the same"


def test_an_unstacked_roll_adds_up_to_the_stacked_one(draw_notes):
    notes = draw_notes(0)
    notes["program"] = np.arange(len(notes)) * 3 % 128
    unstacked = piano_roll(notes, 400, FeatureParams(unstacked=True))
    stacked = piano_roll(notes, 400)
    assert unstacked.shape == (32, 128, 400)
    torch.testing.assert_close(unstacked[:16].sum(0).clamp_max(1), stacked[0])
    torch.testing.assert_close(unstacked[16:].sum(0).clamp_max(1), stacked[1])
    for family in range(16):
        alone = piano_roll(notes[notes["program"] // 8 == family], 400, FeatureParams())
        torch.testing.assert_close(unstacked[family], alone[0])


def test_an_adaptive_roll_is_the_exact_one_at_another_rate(draw_notes):
    notes, params = draw_notes(0), FeatureParams(roll_rate="adaptive")
    rate = params.roll_frame_rate(float(notes["offset"].max()))
    moved = notes.copy()
    for side in ("onset", "offset"):
        moved[side] = notes[side] * rate / params.frame_rate
    torch.testing.assert_close(
        piano_roll(notes, 500, params), piano_roll(moved, 500), atol=1e-3, rtol=0
    )
    seconds = float(notes["offset"].max())
    assert roll_frame_count(seconds, params) == int(seconds * rate) + 1 > frame_count(seconds)
    assert roll_frame_count(seconds) == frame_count(seconds)
