"""Sound to magnitudes at three bins a semitone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mmid.errors import MmidError
from mmid.music.grid import FINE, FeatureParams
from mmid.music.log_frequency import (
    BINS,
    BINS_PER_SEMITONE,
    HALF_FRAME_RATE,
    HALVES,
    LOWEST_PITCH,
    SAMPLE_RATE,
    SPLIT,
    bin_filters,
    bin_frequencies,
    half_frame_magnitudes,
    half_frames,
    raise_bins,
    tuning,
)
from mmid.music.spectrogram import log_expand, spectrogram, stream_spectrogram


def tone(hertz, seconds=1.0, start=0.0):
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return torch.from_numpy((np.sin(2 * np.pi * hertz * time) * (time >= start)).astype(np.float32))


def magnitudes(samples):
    half = FINE.window // 2
    return half_frame_magnitudes(torch.nn.functional.pad(samples, (half, half)))


def centre_of(pitch):
    return BINS_PER_SEMITONE * (pitch - LOWEST_PITCH) + 1


@pytest.mark.parametrize("pitch", [45, 57, 73, 74, 100, 120])
def test_a_tone_is_loudest_in_the_bin_of_its_pitch(pitch):
    bins = half_frames(magnitudes(tone(bin_frequencies()[centre_of(pitch)])))
    loudest = int(bins[:, bins.shape[1] // 2].argmax())
    assert abs(loudest - centre_of(pitch)) <= (pitch < 60)  # low bins lie closer than the STFT's


def test_semitones_are_kept_apart_on_either_side_of_the_split():
    split = np.searchsorted(bin_frequencies(), SPLIT) // BINS_PER_SEMITONE + LOWEST_PITCH
    for pitch in (split - 1, split + 1):
        frame = half_frames(magnitudes(tone(bin_frequencies()[centre_of(pitch)])))[:, 20]
        beside = frame[[centre_of(pitch - 1), centre_of(pitch + 1)]]
        assert frame[centre_of(pitch)] > 5 * beside.max()


def test_every_bin_gathers_something_and_nothing_lies_beyond_the_stft():
    filters = bin_filters()
    assert sum(len(part) for part in filters) == BINS
    for part in filters:
        assert (part.sum(1) > 0.5).all()
        assert part[:, -1].max() == 0


def test_half_frames_follow_one_another():
    bins = magnitudes(tone(880, start=0.5))
    assert bins.shape == (FINE.bands, SAMPLE_RATE // FINE.hop + 1)
    apart = half_frames(bins)
    assert torch.equal(apart[:, ::HALVES], bins[:BINS])
    assert torch.equal(apart[:, 1::HALVES], bins[BINS:])
    energy = apart[centre_of(81)]
    half = int((energy > energy.max() / 2).int().argmax())
    assert abs(half / HALF_FRAME_RATE - 0.5) <= 1 / HALF_FRAME_RATE


def test_a_spectrogram_is_the_same_in_blocks_in_batches_and_at_any_gain():
    samples = tone(330, 2.0, start=0.5) + 0.001 * torch.randn(2 * SAMPLE_RATE)
    whole = spectrogram(samples, FINE)
    blocks = stream_spectrogram([block.numpy() for block in samples.split(3_000)], FINE)
    torch.testing.assert_close(blocks, whole, atol=1e-5, rtol=0)
    batch = spectrogram(torch.stack([samples, samples / 50]), FINE)
    torch.testing.assert_close(batch, whole.expand(2, -1, -1), atol=1e-4, rtol=0)


@pytest.mark.parametrize("cents", [-45, -20, 0, 13, 35])
def test_the_tuning_is_that_of_the_music(cents):
    partials = [262, 330, 392, 2 * 262, 3 * 330]
    samples = sum(tone(hertz * 2 ** (cents / 1200)) for hertz in partials)
    equal = 100 * 12 * np.log2(np.array(partials[:3]) / 440) % 100
    off = np.mean(np.where(equal > 50, equal - 100, equal))
    found = tuning(log_expand(spectrogram(samples, FINE), FINE))
    assert abs(found - cents - off) < 6


def test_silence_is_silent_and_in_tune():
    silence = spectrogram(torch.zeros(4_000), FINE)
    assert silence.abs().max() == 0 and tuning(silence) == 0


def test_the_fine_grid_has_one_shape():
    assert FeatureParams.from_dict(FINE.to_dict()) == FINE
    for change in ({"bands": 92}, {"window": 2_048}, {"hop": 512}):
        with pytest.raises(MmidError, match="go together"):
            FeatureParams.from_dict(replace(FINE, **change).to_dict())


@pytest.mark.parametrize("bins", [-2, -1, 0, 1])
def test_moving_bins_moves_them_in_both_half_frames_and_loses_those_at_the_end(bins):
    bands = torch.rand(2, FINE.bands, 5) + 0.1
    moved = half_frames(raise_bins(bands, bins))
    kept = slice(max(0, bins), BINS + min(0, bins))
    assert torch.equal(moved[:, kept], half_frames(bands)[:, kept.start - bins : kept.stop - bins])
    assert (moved == 0).sum() == abs(bins) * 2 * 5 * HALVES
