"""`mmid.params`: the grid's derived numbers and its identity."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest

from mmid.errors import MmidError
from mmid.params import DEFAULT, FeatureParams


def test_derived_values_of_the_default_grid():
    assert DEFAULT.frame_rate == 22_050 / 1_024
    assert DEFAULT.snippet_seconds == 42 * 1_024 / 22_050
    assert DEFAULT.bins == 1_025
    assert DEFAULT.roll_channels == 2
    assert replace(DEFAULT, onsets=False).roll_channels == 1


def test_the_fingerprint_is_stable():
    assert DEFAULT.fingerprint == FeatureParams().fingerprint
    assert DEFAULT.fingerprint.startswith("af4a6d03c8bb2960")


@pytest.mark.parametrize("name", [field.name for field in fields(FeatureParams)])
def test_the_fingerprint_changes_with_every_field(name):
    value = getattr(DEFAULT, name)
    other = replace(DEFAULT, **{name: not value if isinstance(value, bool) else value + 1})
    assert other.fingerprint != DEFAULT.fingerprint


def test_round_trip_through_json():
    params = FeatureParams(hop=512, snippet=84, onsets=False)
    assert FeatureParams.from_dict(json.loads(json.dumps(params.to_dict()))) == params


@pytest.mark.parametrize("change", [{"colour": 3}, {"hop": None}])
def test_parameters_of_another_version_are_refused(change):
    values = {k: v for k, v in (DEFAULT.to_dict() | change).items() if v is not None}
    with pytest.raises(MmidError, match=f"another mmid version: {next(iter(change))}"):
        FeatureParams.from_dict(values)
