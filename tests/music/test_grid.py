"""`mmid.music.grid`: the grid's derived numbers and its identity."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest

from mmid.errors import MmidError
from mmid.music.grid import DEFAULT, FeatureParams


def test_derived_values_of_the_default_grid():
    assert DEFAULT.frame_rate == 22_050 / 1_024
    assert DEFAULT.snippet_seconds == 42 * 1_024 / 22_050
    assert DEFAULT.bins == 1_025
    assert DEFAULT.roll_channels == 2
    assert replace(DEFAULT, onsets=False).roll_channels == 1


def another(name: str):
    """Return a value of a field that is not its default."""
    value = getattr(DEFAULT, name)
    if isinstance(value, str):
        return {"scale": "mel", "roll_rate": "adaptive"}[name]
    return not value if isinstance(value, bool) else value + 1


ROLL_ONLY = {"pitches", "onsets", "unstacked", "roll_rate", "snippet"}


@pytest.mark.parametrize("name", [field.name for field in fields(FeatureParams)])
def test_only_what_shapes_a_spectrogram_tells_spectrograms_apart(name):
    other = replace(DEFAULT, **{name: another(name)}).spectrogram_values
    assert (other == DEFAULT.spectrogram_values) == (name in ROLL_ONLY)


def test_the_adaptive_rate_runs_through_the_reports_points():
    adaptive = FeatureParams(roll_rate="adaptive")
    assert adaptive.roll_frame_rate(150.0) == pytest.approx(21.9)
    assert adaptive.roll_frame_rate(20.0) == pytest.approx(23.3)
    assert adaptive.roll_frame_rate(0.0) == adaptive.roll_frame_rate(1.0) < 26
    assert DEFAULT.roll_frame_rate(20.0) == DEFAULT.roll_frame_rate(150.0) == DEFAULT.frame_rate


def test_unstacked_rolls_have_channels_for_every_family():
    assert FeatureParams(unstacked=True).roll_channels == 32
    assert FeatureParams(unstacked=True, onsets=False).roll_channels == 16


def test_round_trip_through_json():
    params = FeatureParams(hop=512, snippet=84, onsets=False)
    assert FeatureParams.from_dict(json.loads(json.dumps(params.to_dict()))) == params


def test_parameters_of_a_later_version_are_refused():
    with pytest.raises(MmidError, match="another mmid version: colour"):
        FeatureParams.from_dict(DEFAULT.to_dict() | {"colour": 3})


def test_what_an_older_version_did_not_know_has_its_default():
    values = {k: v for k, v in DEFAULT.to_dict().items() if k not in ("scale", "roll_rate")}
    assert FeatureParams.from_dict(values) == DEFAULT
