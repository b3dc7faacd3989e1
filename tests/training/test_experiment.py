"""`mmid.training.experiment`: presets, and choices that do not go together."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest

from mmid import options
from mmid.errors import MmidError
from mmid.model.encoders import ModelConfig
from mmid.model.harmonic import HarmonicConfig
from mmid.model.pathways import LIGHT, DorferConfig, EncoderConfig
from mmid.model.transcriber import CHANNELS, TranscriberConfig
from mmid.music.grid import FINE
from mmid.training.experiment import PRESETS, Experiment, preset

REPORT = PRESETS["report-2020"]


def test_the_report_is_what_it_says_it_was():
    assert (REPORT.loss, REPORT.margin, REPORT.negatives) == ("ranking", 0.7, "sampled")
    assert (REPORT.optimizer, REPORT.learning_rate, REPORT.weight_decay) == ("adam", 2e-3, 1e-5)
    assert (REPORT.batch, REPORT.epochs, REPORT.schedule) == (64, 200, "constant")
    assert REPORT.model.audio == REPORT.model.roll == DorferConfig()
    assert REPORT.features.roll_rate == "adaptive" and REPORT.features.roll_channels == 1
    assert not any(vars(REPORT.augmentation).values())


def test_the_default_is_the_grid_and_shape_of_mmid_3():
    """Later models learned with options of their own; the trainer's default stays."""
    from mmid.model.loading import load_model

    assert PRESETS["default"] == Experiment()
    packaged = load_model("mmid-3").encoders.config
    assert replace(Experiment().model, cca=packaged.cca, roll=LIGHT) == packaged
    assert Experiment().model.audio == Experiment().model.roll == EncoderConfig()


def test_the_transcription_is_of_what_the_default_listens_to():
    transcription = PRESETS["transcription"]
    assert transcription.task == "transcription" and not transcription.cca
    default = Experiment().model
    assert default.transcriber == transcription.model.transcriber == TranscriberConfig()
    for grid in (default.features, transcription.features):
        assert grid.spectrogram_values == default.features.spectrogram_values
        assert grid.roll_channels == CHANNELS
    stretched = transcription.augmentation
    assert stretched.mismatch == stretched.shift == 0 < stretched.stretch, "notes stay in place"


@pytest.mark.parametrize(("encoder", "reach"), [("notes", 8), ("conv", 0), ("dorfer", 0)])
def test_only_one_encoder_hears_notes(encoder, reach):
    model = Experiment(encoder=encoder).model
    assert (model.transcriber is not None) == (encoder == "notes") and model.reach == reach
    assert ModelConfig.from_dict(model.to_dict()) == model


def test_how_to_transcribe_is_learned_depends_on_the_spectrogram():
    for name in PRESETS:
        assert preset(name) == PRESETS[name] and preset(name, "log") == PRESETS[name]
    fine = preset("transcription", "fine")
    assert fine.performance == "mixed" and fine.features == replace(FINE, snippet=fine.snippet)
    off = {name for name, value in vars(fine.augmentation).items() if not value}
    assert off >= {"stretch", "mismatch", "shift"}, "notes and frames stay in place"
    assert preset("default", "fine") == PRESETS["default"]


def test_every_preset_has_its_name_among_the_choices():
    assert set(PRESETS) == set(get_args(options.Preset))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"augment": ("noise", "echo")}, "no effect 'echo'"),
        ({"negatives": "sampled"}, "InfoNCE needs negatives from the batch"),
        ({"epoch_pairs": 0}, "give --epoch-pairs"),
        ({"encoder": "dorfer", "snippet": 10}, "at least 16 frames"),
        ({"spectrogram": "fine", "encoder": "conv"}, "fine spectrogram is a transcriber's"),
        ({"spectrogram": "fine", "task": "audio-autoencoder"}, "is a transcriber's"),
    ],
)
def test_choices_that_do_not_go_together_are_refused(change, match):
    with pytest.raises(MmidError, match=match):
        replace(Experiment(), **change)


def test_choices_reach_the_grid():
    chosen = Experiment(spectrogram="mel", onsets=False, unstacked=True, snippet=21).features
    assert (chosen.scale, chosen.roll_channels, chosen.snippet) == ("mel", 16, 21)


def test_fine_spectrograms_are_transcribed_by_harmonics():
    for name in ("default", "transcription"):
        chosen = replace(PRESETS[name], spectrogram="fine")
        assert chosen.transcriber == HarmonicConfig()
        assert chosen.features.spectrogram_values == FINE.spectrogram_values
        assert chosen.features.snippet == chosen.snippet
        assert chosen.model.reach == HarmonicConfig().reach
