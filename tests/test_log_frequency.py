"""Sound to a spectrogram of three bins a semitone."""

import numpy as np
import pytest
import torch

from mmid.log_frequency import (
    BINS,
    BINS_PER_SEMITONE,
    FRAME_RATE,
    LOWEST_PITCH,
    SAMPLE_RATE,
    SPLIT,
    bin_filters,
    bin_frequencies,
    bin_magnitudes,
    log_frequency_spectrogram,
)
from mmid.params import DEFAULT


def tone(hertz, seconds=1.0, start=0.0):
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return torch.from_numpy((np.sin(2 * np.pi * hertz * time) * (time >= start)).astype(np.float32))


def centre_of(pitch):
    return BINS_PER_SEMITONE * (pitch - LOWEST_PITCH) + 1


@pytest.mark.parametrize("pitch", [45, 57, 73, 74, 100, 120])
def test_a_tone_is_loudest_in_the_bin_of_its_pitch(pitch):
    magnitudes = bin_magnitudes(tone(bin_frequencies()[centre_of(pitch)]))
    loudest = int(magnitudes[:, magnitudes.shape[1] // 2].argmax())
    assert abs(loudest - centre_of(pitch)) <= (pitch < 60)  # low bins lie closer than the STFT's


def test_semitones_are_told_apart_on_either_side_of_the_split():
    split = np.searchsorted(bin_frequencies(), SPLIT) // BINS_PER_SEMITONE + LOWEST_PITCH
    for pitch in (split - 1, split + 1):
        frame = bin_magnitudes(tone(bin_frequencies()[centre_of(pitch)]))[:, 20]
        assert (
            frame[centre_of(pitch)] > 5 * frame[[centre_of(pitch - 1), centre_of(pitch + 1)]].max()
        )


def test_every_bin_gathers_something_and_nothing_lies_beyond_the_stft():
    filters = bin_filters()
    assert sum(len(part) for part in filters) == BINS
    for part in filters:
        assert (part.sum(1) > 0.5).all()
        assert part[:, -1].max() == 0


def test_the_spectrogram_of_a_recording_keeps_its_gain_out():
    samples = tone(330, start=0.5) + 0.001 * torch.randn(SAMPLE_RATE)
    loud, quiet = log_frequency_spectrogram(samples), log_frequency_spectrogram(samples / 50)
    torch.testing.assert_close(loud, quiet, atol=1e-4, rtol=0)
    assert 0.9 < loud.max() < 1.2


def test_frames_are_twice_those_of_piano_rolls_and_keep_time():
    spectrogram = log_frequency_spectrogram(tone(880, start=0.5))
    assert 2 * DEFAULT.frame_rate == FRAME_RATE
    assert spectrogram.shape == (BINS, SAMPLE_RATE * 2 // DEFAULT.hop + 1)
    energy = bin_magnitudes(tone(880, start=0.5))[centre_of(81)]
    half = int((energy > energy.max() / 2).int().argmax())
    assert abs(half / FRAME_RATE - 0.5) <= 1 / FRAME_RATE


def test_silence_stays_silent():
    assert log_frequency_spectrogram(torch.zeros(4_000)).abs().max() == 0
