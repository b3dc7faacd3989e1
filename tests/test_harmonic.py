"""The transcriber that knows where harmonics lie."""

import numpy as np
import pytest
import torch

from mmid import harmonic
from mmid.features import piano_roll
from mmid.harmonic import (
    EDGE_REACH,
    EDGE_WEIGHT,
    HARMONICS,
    OUTPUTS,
    HarmonicConfig,
    HarmonicTranscriber,
    at_harmonics,
    on_roll_grid,
    transcribe_harmonically,
    transcribed_notes,
)
from mmid.log_frequency import BINS, BINS_PER_SEMITONE, FRAME_RATE
from mmid.midi import NOTE_DTYPE
from mmid.transcriber import LOWEST, PITCHES, heard_notes

SMALL = HarmonicConfig(stem=2, fine=3, width=4, again=2, dilations=(1, 2))


@pytest.fixture(scope="module")
def transcriber():
    torch.manual_seed(3)
    network = HarmonicTranscriber(SMALL).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return network


def test_each_pitch_sees_its_harmonics():
    x = torch.zeros(1, 2, 104, 3)
    x[0, 1, 40] = 1.0
    seen = at_harmonics(x).view(len(HARMONICS), 2, PITCHES, 3)
    assert (seen[:, 0] == 0).all()
    for shift, rows in zip(HARMONICS, seen[:, 1, :, 0], strict=True):
        expected = torch.zeros(PITCHES)
        if 0 <= 40 - shift < PITCHES:
            expected[40 - shift] = 1.0
        assert torch.equal(rows, expected)


@pytest.mark.parametrize("frames", [1, 2, 33])
def test_there_are_as_many_frames_as_in_the_input(transcriber, frames):
    with torch.no_grad():
        assert transcriber(torch.rand(2, BINS, frames)).shape == (2, len(OUTPUTS), PITCHES, frames)


def test_the_same_music_in_another_key_is_the_same_but_for_its_key(transcriber):
    shift = 5
    low = torch.zeros(1, BINS, 40)
    low[:, 90:180] = torch.rand(1, 90, 40)
    high = low.roll(shift * BINS_PER_SEMITONE, 1)
    with torch.no_grad():
        before, after = transcriber(low), transcriber(high)
    rows = slice(-min(HARMONICS) + 3, PITCHES - max(HARMONICS) - shift - 3)  # far from the edges
    moved = slice(rows.start + shift, rows.stop + shift)
    torch.testing.assert_close(after[:, :, moved], before[:, :, rows], atol=1e-4, rtol=1e-4)


def test_parts_of_a_recording_make_up_the_whole(transcriber, monkeypatch):
    spectrogram = torch.rand(BINS, 151)
    whole = transcribe_harmonically(transcriber, spectrogram, SMALL.reach)
    monkeypatch.setattr(harmonic, "AT_ONCE", 32)
    parts = transcribe_harmonically(transcriber, spectrogram, SMALL.reach)
    torch.testing.assert_close(parts, whole, atol=1e-4, rtol=1e-4)


def test_frames_farther_than_its_reach_do_not_matter(transcriber):
    one = torch.rand(1, BINS, 120)
    other = one.clone()
    other[..., : 60 - SMALL.reach] = torch.rand(1, BINS, 60 - SMALL.reach)
    with torch.no_grad():
        torch.testing.assert_close(transcriber(one)[..., 60:], transcriber(other)[..., 60:])


def test_it_learns_which_of_two_tones_is_the_fundamental():
    """A tone with its octave above is one note; the network is to say which."""
    torch.manual_seed(0)
    network = HarmonicTranscriber(SMALL)
    optimizer = torch.optim.Adam(network.parameters(), 0.02)
    x, pitches = torch.zeros(4, BINS, 8), torch.tensor([20, 26, 33, 45])
    wanted = torch.zeros(4, PITCHES, 8)
    for row, pitch in enumerate(pitches):
        for above in (0, 12):
            x[row, BINS_PER_SEMITONE * (int(pitch) + above) + 1] = 1.0
        wanted[row, pitch] = 1.0
    for _ in range(60):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(network(x)[:, 1], wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        assert torch.equal(network(x)[:, 1, :, 4].argmax(1), pitches)


@pytest.mark.parametrize("values", [{"width": 0}, {"fine": 1 << 20}, {"dilations": [1] * 40}])
def test_a_file_cannot_ask_for_an_absurd_network(values):
    with pytest.raises(ValueError, match="absurd"):
        HarmonicConfig.from_dict(values)


def test_its_shape_survives_a_file():
    assert HarmonicConfig.from_dict(SMALL.to_dict()) == SMALL


def certain(notes, frames):
    """Log-odds of a transcriber that is right: what training writes, weighed as in training."""
    probability = torch.full((len(OUTPUTS), PITCHES, frames), 1e-6)
    frame = torch.arange(frames)
    for onset, offset, pitch in notes:
        for output, time in (("onset", onset), ("offset", offset)):
            edge = (1 - (frame - time * FRAME_RATE).abs() / EDGE_REACH).clamp_min(0)
            row = probability[OUTPUTS.index(output), pitch - LOWEST]
            torch.maximum(row, EDGE_WEIGHT * edge / (EDGE_WEIGHT * edge + 1 - edge), out=row)
        sounding = (frame >= onset * FRAME_RATE) & (frame < offset * FRAME_RATE)
        probability[OUTPUTS.index("sustain"), pitch - LOWEST, sounding] = 1 - 1e-6
    return probability.clamp(1e-6, 1 - 1e-6).logit()


NOTES = [(0.2, 0.5, 60), (0.5, 0.81, 60), (0.333, 1.4, 67), (1.005, 1.2, 21), (1.3, 1.6, 108)]


def test_notes_are_found_between_frames_with_their_ends():
    found = transcribed_notes(certain(NOTES, 70))
    expected = sorted(NOTES)
    assert found["pitch"].tolist() == [pitch for _, _, pitch in expected]
    np.testing.assert_allclose(found["onset"], [onset for onset, _, _ in expected], atol=0.012)
    np.testing.assert_allclose(found["offset"], [offset for _, offset, _ in expected], atol=0.03)


def test_nothing_is_found_in_silence():
    assert len(transcribed_notes(torch.full((len(OUTPUTS), PITCHES, 9), -9.0))) == 0


def test_on_the_grid_of_rolls_it_says_what_the_roll_of_the_notes_does():
    log_odds = on_roll_grid(certain(NOTES, 70))
    notes = np.array([(on, off, p, 80, 0) for on, off, p in sorted(NOTES)], NOTE_DTYPE)
    roll = piano_roll(notes, 35)[:, LOWEST : LOWEST + PITCHES]
    assert log_odds.shape == roll.shape
    assert (log_odds.sigmoid() - roll).abs().max() < 0.35
    assert (log_odds.sigmoid() - roll).abs().mean() < 0.002
    again = heard_notes(log_odds, FRAME_RATE / 2)
    assert again["pitch"].tolist() == notes["pitch"].tolist()
    np.testing.assert_allclose(again["onset"], notes["onset"], atol=0.02)
