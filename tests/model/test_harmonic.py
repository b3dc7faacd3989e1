"""The transcriber that knows where harmonics lie."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import EAR, HARMONIC_EAR, shaken
from wrong_bf16 import CPU, spoil

from mmid.errors import ModelError
from mmid.identify.identifier import Identifier
from mmid.index.build import build_index
from mmid.index.folder import LibraryIndex
from mmid.model.embedding import Sound, Transcribed
from mmid.model.encoders import Encoders, ModelConfig
from mmid.model.harmonic import (
    EDGE_REACH,
    EDGE_WEIGHT,
    HARMONICS,
    OUTPUTS,
    HarmonicConfig,
    HarmonicTranscriber,
    at_harmonics,
    fine_notes,
    melody_on_roll_grid,
    on_roll_grid,
)
from mmid.model.loading import load_model
from mmid.model.transcriber import (
    CHANNELS,
    LOWEST,
    PITCHES,
    highest,
    transcribe,
    transcribed_notes,
)
from mmid.music.grid import DEFAULT, FINE
from mmid.music.log_frequency import (
    BINS,
    BINS_PER_SEMITONE,
    HALF_FRAME_RATE,
    HALVES,
    half_frames,
    raise_bins,
)
from mmid.music.notes import NOTE_DTYPE
from mmid.music.performance import Recipe
from mmid.music.piano_roll import piano_roll
from mmid.music.spectrogram import shift_bands, spectrogram
from mmid.training import corpus
from mmid.training.augmentation import Augmentation, roughen
from mmid.training.corpus import Job, make_features
from mmid.training.experiment import Experiment, preset
from mmid.training.snippet_pairs import PairSource
from mmid.training.tasks import make_task

SMALL = HARMONIC_EAR


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
def test_its_frames_are_those_of_the_input(transcriber, frames):
    x = torch.rand(2, 1, FINE.bands, frames)
    with torch.no_grad():
        assert transcriber.outputs(x).shape == (2, len(OUTPUTS), PITCHES, HALVES * frames)
        assert transcriber(x).shape == (2, CHANNELS, PITCHES, frames)


def test_the_same_music_in_another_key_is_the_same_but_for_its_key(transcriber):
    shift = 5
    low = torch.zeros(1, 1, HALVES, BINS, 20)
    low[:, :, :, 90:180] = torch.rand(1, 1, HALVES, 90, 20)
    high = low.roll(shift * BINS_PER_SEMITONE, 3)
    with torch.no_grad():
        before, after = (transcriber.outputs(x.flatten(2, 3)) for x in (low, high))
    rows = slice(-min(HARMONICS) + 3, PITCHES - max(HARMONICS) - shift - 3)  # far from the edges
    moved = slice(rows.start + shift, rows.stop + shift)
    torch.testing.assert_close(after[:, :, moved], before[:, :, rows], atol=1e-4, rtol=1e-4)


def test_a_frame_matters_as_far_as_the_reach_and_no_farther(transcriber):
    bands, frame = torch.rand(1, 1, FINE.bands, 61), 30
    other = bands.clone()
    other[..., frame] += 1
    with torch.no_grad():
        changed = (transcriber(other) - transcriber(bands)).abs().amax((0, 1, 2)) > 0
    touched = changed.nonzero()
    assert frame - SMALL.reach <= touched.min() < touched.max() <= frame + SMALL.reach


def test_parts_of_a_recording_make_up_the_whole(transcriber, monkeypatch):
    bands = torch.rand(1, 1, FINE.bands, 75)
    whole = transcribe(transcriber, bands, SMALL.reach)
    monkeypatch.setattr("mmid.model.transcriber.FRAMES_AT_ONCE", 80)
    parts = transcribe(transcriber, bands, SMALL.reach, share=4)
    torch.testing.assert_close(parts, whole, atol=1e-4, rtol=1e-4)


def test_it_learns_which_of_two_tones_is_the_fundamental():
    """A tone with its octave above is one note; the network is to say which."""
    torch.manual_seed(0)
    network = HarmonicTranscriber(SMALL)
    optimizer = torch.optim.Adam(network.parameters(), 0.02)
    x, pitches = torch.zeros(4, 1, HALVES, BINS, 4), torch.tensor([20, 26, 33, 45])
    wanted = torch.zeros(4, PITCHES, HALVES * 4)
    for row, pitch in enumerate(pitches):
        for above in (0, 12):
            x[row, 0, :, BINS_PER_SEMITONE * (int(pitch) + above) + 1] = 1.0
        wanted[row, pitch] = 1.0
    x = x.flatten(2, 3)
    for _ in range(60):
        sounding = network.outputs(x)[:, 1]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(sounding, wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        assert torch.equal(network.outputs(x)[:, 1, :, 4].argmax(1), pitches)


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
            edge = (1 - (frame - time * HALF_FRAME_RATE).abs() / EDGE_REACH).clamp_min(0)
            row = probability[OUTPUTS.index(output), pitch - LOWEST]
            torch.maximum(row, EDGE_WEIGHT * edge / (EDGE_WEIGHT * edge + 1 - edge), out=row)
        sounding = (frame >= onset * HALF_FRAME_RATE) & (frame < offset * HALF_FRAME_RATE)
        probability[OUTPUTS.index("sustain"), pitch - LOWEST, sounding] = 1 - 1e-6
    return probability.clamp(1e-6, 1 - 1e-6).logit()


NOTES = [(0.2, 0.5, 60), (0.5, 0.81, 60), (0.333, 1.4, 67), (1.005, 1.2, 21), (1.3, 1.6, 108)]


def test_notes_are_found_between_frames_with_their_ends():
    found = fine_notes(certain(NOTES, 70))
    expected = sorted(NOTES)
    assert found["pitch"].tolist() == [pitch for _, _, pitch in expected]
    np.testing.assert_allclose(found["onset"], [onset for onset, _, _ in expected], atol=0.012)
    np.testing.assert_allclose(found["offset"], [offset for _, offset, _ in expected], atol=0.03)


def test_nothing_is_found_in_silence():
    assert len(fine_notes(torch.full((len(OUTPUTS), PITCHES, 9), -9.0))) == 0


def test_on_the_grid_of_rolls_it_says_what_the_roll_of_the_notes_does():
    log_odds = on_roll_grid(certain(NOTES, 70))
    notes = np.array([(on, off, p, 80, 0) for on, off, p in sorted(NOTES)], NOTE_DTYPE)
    roll = piano_roll(notes, 35)[:, LOWEST : LOWEST + PITCHES]
    assert log_odds.shape == roll.shape
    assert (log_odds.sigmoid() - roll).abs().max() < 0.35
    assert (log_odds.sigmoid() - roll).abs().mean() < 0.002
    again = transcribed_notes(log_odds, FINE.frame_rate)
    assert again["pitch"].tolist() == notes["pitch"].tolist()
    np.testing.assert_allclose(again["onset"], notes["onset"], atol=0.02)


# ---- in a model


@pytest.fixture(scope="module")
def model(make_model, tiny_config):
    grid = replace(FINE, onsets=tiny_config.features.onsets)
    return make_model(0, replace(tiny_config, features=grid, transcriber=HARMONIC_EAR))


def test_a_model_with_it_survives_a_file(model):
    config = model.encoders.config
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert isinstance(model.encoders.transcriber, HarmonicTranscriber)
    assert config.reach == HARMONIC_EAR.reach


def test_a_recording_is_transcribed_with_its_tuning(model, draw_notes, play):
    bands = spectrogram(torch.from_numpy(play(draw_notes(0), 6.0)), FINE)
    transcribed = Sound(bands, FINE).transcribed(model.encoders)
    assert transcribed.melody.shape == transcribed.log_odds.shape
    assert not torch.equal(transcribed.melody, highest(transcribed.log_odds)), "its own"
    assert isinstance(transcribed, Transcribed)
    assert transcribed.log_odds.shape == (CHANNELS, PITCHES, bands.shape[1])
    assert abs(transcribed.tuning) <= 50


@pytest.mark.parametrize(("cents", "bins"), [(-38, 1), (-15, 0), (15, 0), (38, -1)])
def test_music_far_from_concert_pitch_is_moved_nearer(model, draw_notes, play, cents, bins):
    samples = torch.from_numpy(play(draw_notes(0), 6.0))
    position = torch.arange(0, len(samples) - 1, 2 ** (cents / 1200))
    first = position.long()
    bands = spectrogram(torch.lerp(samples[first], samples[first + 1], position % 1), FINE)
    transcribed = Sound(bands, FINE).transcribed(model.encoders)
    assert transcribed.tuning == pytest.approx(cents, abs=6)
    with model.encoders.autocast():
        moved = model.encoders.transcribe(raise_bins(bands, bins)[None, None])
    assert torch.equal(transcribed.log_odds, moved[0])


def test_a_recording_is_identified_with_it(model, tmp_path, pieces, play, write_wav):
    build_index(tmp_path / "index", pieces, model)
    identifier = Identifier(model, LibraryIndex(tmp_path / "index", model))
    path = write_wav(tmp_path / "query.wav", play(pieces[0].midi.notes))
    answer = identifier.identify_file(path)
    assert len(answer.matches) > 0
    assert answer.seconds == pytest.approx(pieces[0].midi.seconds, abs=0.1)


def test_its_precision_is_compared(sound, monkeypatch, tiny_config):
    config = replace(tiny_config, features=FINE, transcriber=HARMONIC_EAR)
    assert shaken(Encoders(config)).precision.name == "bf16"
    encoders = shaken(Encoders(config))
    own = set(encoders.transcriber.modules())
    spoil(monkeypatch, which=lambda layer: layer in own)
    assert encoders.precision.name == "float32"


def test_its_precision_is_compared_before_it_learns(sound, monkeypatch):
    monkeypatch.setattr("mmid.training.experiment.HarmonicConfig", lambda: HARMONIC_EAR)
    run = preset("transcription", "fine")
    assert make_task(run, CPU).precision.name == "bf16"
    spoil(monkeypatch, which=lambda layer: layer.in_channels > 2)
    assert make_task(run, CPU).precision.name == "float32"


def test_transcriber_and_spectrogram_go_together(tiny_config):
    for grid, ear in ((DEFAULT, HARMONIC_EAR), (FINE, EAR), (FINE, None)):
        with pytest.raises(ValueError, match="go together"):
            Encoders(replace(tiny_config, features=grid, transcriber=ear))


# ---- trained


@pytest.fixture
def rendered(tmp_path, monkeypatch, draw_notes):
    """Return a source of two renderings in which every note is a bin, easy to transcribe."""
    paths = []
    for number in range(2):
        notes = draw_notes(number, 120, 19.0)
        bands = torch.zeros(HALVES, BINS, 430)
        bands[:, 1 : PITCHES * BINS_PER_SEMITONE : BINS_PER_SEMITONE] = piano_roll(notes, 430)[
            0, LOWEST : LOWEST + PITCHES
        ]
        monkeypatch.setattr(corpus, "_sound", lambda job, b=bands: (job.notes, b.flatten(0, 1)))
        paths.append(tmp_path / f"rendered {number}.safetensors")
        make_features(Job(paths[-1], notes, Recipe("font.sf2"), FINE))
    return PairSource(paths, FINE, None, 1, targets=True)


def test_a_run_teaches_it_notes_and_pathways_begin_with_it(
    rendered, monkeypatch, tmp_path, tiny_config
):
    monkeypatch.setattr("mmid.training.experiment.HarmonicConfig", lambda: HARMONIC_EAR)
    monkeypatch.setattr("mmid.training.experiment.fit_config", lambda snippet: tiny_config.audio)
    run = replace(preset("transcription", "fine"), snippet=42, augment=(), validation_pairs=16)
    task = make_task(run, CPU)
    before = task.judge(rendered)
    assert task.judge(rendered) == before
    optimizer = torch.optim.AdamW(task.network.parameters(), 2e-2)
    task.network.train()
    for batch in rendered.batches(8, 60, 0):
        optimizer.zero_grad()
        task.loss(batch).backward()
        optimizer.step()
    after = task.judge(rendered)
    assert after.loss < before.loss / 4
    assert before.onset_f1["other"] < 0.2 < 0.6 < after.onset_f1["other"]
    task.save(tmp_path / "transcriber.safetensors", {})
    begun = make_task(Experiment(spectrogram="fine"), CPU, [tmp_path / "transcriber.safetensors"])
    for name, tensor in task.network["transcriber"].state_dict().items():
        assert torch.equal(begun.network.transcriber.state_dict()[name], tensor)


@pytest.mark.parametrize(("spectrogram", "model"), [("fine", None), ("log", "mmid-3")])
def test_pathways_take_the_packaged_transcriber_of_their_spectrograms(spectrogram, model):
    taken = make_task(Experiment(spectrogram=spectrogram), CPU).network.transcriber.state_dict()
    packaged = load_model(model).encoders.transcriber.state_dict()
    assert taken.keys() == packaged.keys()
    assert all(torch.equal(taken[name], tensor) for name, tensor in packaged.items())


def test_pathways_on_fine_spectrograms_need_it(monkeypatch):
    monkeypatch.setattr("mmid.training.tasks.WITH_TRANSCRIBERS", ("mmid-3",))
    with pytest.raises(ModelError, match="need a transcriber of these spectrograms"):
        make_task(Experiment(spectrogram="fine"), CPU)


def test_effects_do_the_same_to_both_half_frames():
    bands = torch.rand(3, BINS, 60).repeat(1, HALVES, 1)
    effects = Augmentation.only(["cents", "equalizer", "reverb", "telephone"])
    rough = roughen(bands, effects, FINE, torch.Generator().manual_seed(0))
    assert (rough - bands).abs().max() > 0.1
    torch.testing.assert_close(rough[:, :BINS], rough[:, BINS:])


def test_transposing_fine_spectrograms_moves_both_halves_by_bins():
    bands = torch.rand(2, FINE.bands, 6)
    third = 1 / BINS_PER_SEMITONE
    moved = shift_bands(bands, torch.tensor([third, -2 * third]), FINE)
    inner = slice(3, BINS - 3)
    for row, bins in enumerate((1, -2)):
        expected = half_frames(raise_bins(bands[row], bins))[inner]
        torch.testing.assert_close(half_frames(moved[row])[inner], expected, atol=1e-2, rtol=0)


def test_a_recording_in_parts_has_the_same_outputs(transcriber, monkeypatch):
    spectrograms = torch.rand(1, 1, FINE.bands, 150)
    with torch.no_grad():
        whole = transcriber.outputs(spectrograms)
    monkeypatch.setattr("mmid.model.transcriber.FRAMES_AT_ONCE", 64)
    parts = transcribe(transcriber.outputs, spectrograms, SMALL.reach, 1, HALVES)
    torch.testing.assert_close(parts, whole, atol=1e-4, rtol=1e-4)


def test_the_melody_is_what_sounds_and_leads():
    """Of two notes one leads, as its later frames say; the other is in the roll of all alone."""
    log_odds = torch.full((len(OUTPUTS), PITCHES, 40), -8.0)
    onset, sustain, _, melody = log_odds
    for pitch in (30, 50):
        onset[pitch, 10], sustain[pitch, 10:30] = 8.0, 8.0
    melody[50, 12:30] = 8.0
    sounding, beginning = melody_on_roll_grid(log_odds).sigmoid()
    assert beginning[50, 5] > 0.5 and beginning[30].max() < 0.01
    assert sounding[50, 7:14].min() > 0.5 and sounding[30].max() < 0.01
    everything = on_roll_grid(log_odds).sigmoid()[1]
    torch.testing.assert_close(everything[30], everything[50])
    assert (beginning <= everything + 1e-4).all()
