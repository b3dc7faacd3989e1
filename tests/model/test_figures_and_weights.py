"""`mmid.model.evidence`: named figures and what they weigh, by models of every age."""

from __future__ import annotations

import math

import pytest

from mmid.model.evidence import (
    CALIBRATION,
    CONSTANT,
    DEFAULT_WEIGHTS,
    RANKING,
    Evidence,
    Figures,
    weigh,
    weights_of,
)


def test_figures_that_are_not_known_weigh_nothing():
    figures = Figures(votes=0.5, melody=0.25)
    assert "claimed" not in figures.known() and figures.known()["melody"] == 0.25
    assert weigh(figures.known(), {"votes": 2.0, "claimed": 9.0, "melody": 4.0}) == 2.0


def test_weights_of_figures_that_are_no_more_are_ignored():
    assert weigh(Figures(votes=0.5).known(), {"votes": 2.0, "of old": 7.0, CONSTANT: 1.0}) == 2.0


def test_evidence_weighs_lengths_and_sizes_as_logarithms():
    found = Evidence(votes=0.5, lead=0.1, above=0.2, seconds=900.0, snippets=10_000)
    assert found.terms()["seconds"] == math.log1p(30.0) and found.terms()["snippets"] == 4.0
    assert found.terms().items() > found.known().items()


def test_a_model_without_weights_has_those_set_by_hand():
    assert weights_of({}) == weights_of({"epoch": 3}) == DEFAULT_WEIGHTS


def test_a_list_is_the_confidence_of_the_ranking_set_by_hand():
    listed = [float(n) for n in range(len(CALIBRATION))]
    weights = weights_of({"confidence": listed, "ranking": {"votes": 9.0}})
    assert weights.ranking == RANKING, "which it was fitted to"
    assert dict(weights.confidence) == dict(zip(CALIBRATION, listed, strict=True))
    assert weights_of({"confidence": listed[1:]}) == DEFAULT_WEIGHTS


def test_a_model_brings_weights_by_name():
    facts = {"confidence": {CONSTANT: -1.0, "lead": 2}, "ranking": {"melody": 3}}
    weights = weights_of(facts)
    assert dict(weights.confidence) == {CONSTANT: -1.0, "lead": 2.0}
    assert dict(weights.ranking) == {"melody": 3.0}
    assert weights_of({"confidence": facts["confidence"]}).ranking == RANKING
    assert weights_of({"ranking": facts["ranking"]}) == DEFAULT_WEIGHTS, (
        "no confidence is fitted to it"
    )


@pytest.mark.parametrize(
    "facts",
    [
        {"confidence": {"lead": math.nan}},
        {"confidence": {"lead": "x"}},
        {"confidence": {"lead": 1.0}, "ranking": {"votes": math.inf}},
        {"confidence": ["x"] * len(CALIBRATION)},
        {"confidence": {"lead": 1.0}, "ranking": [1.0]},
    ],
)
def test_weights_that_are_no_numbers_are_refused(facts):
    with pytest.raises((ValueError, TypeError, AttributeError)):
        weights_of(facts)
