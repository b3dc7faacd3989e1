"""`mmid.model.confidence`: probabilities that grow with what speaks for an answer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mmid.model.confidence import (
    LEAST_NOTES,
    LEAST_PASSAGE,
    confidence,
    fit_confidence,
    is_proven,
)
from mmid.model.evidence import CONSTANT, VOTES_ALONE, Evidence


def evidence(
    votes: float, explained: float, lead: float, above: float, seconds: float, snippets: int
) -> Evidence:
    return Evidence(
        votes=votes,
        explained=explained,
        lead=lead,
        above=above,
        seconds=seconds,
        snippets=snippets,
    )


MIDDLE = evidence(0.3, 0.4, 0.2, 0.3, 10.0, 10_000)


def drawn(count: int, seed: int = 0) -> list[Evidence]:
    rng = np.random.default_rng(seed)
    return [
        evidence(*rng.uniform(0, 1, 4), rng.choice([3.0, 10.0, 30.0]), int(10 ** rng.uniform(3, 7)))
        for _ in range(count)
    ]


@pytest.fixture(scope="module")
def fitted() -> dict[str, float]:
    """Return weights fitted to answers that are right the likelier, the more speaks for them."""
    rng, answers = np.random.default_rng(1), drawn(1_000)
    support = np.array(
        [a.votes + a.explained + a.lead + a.above + 0.1 * np.log(a.seconds) for a in answers]
    )
    crowd = np.array([np.log10(a.snippets) for a in answers])
    right = support - 0.2 * crowd + rng.normal(0, 0.2, len(answers)) > 1.2
    return fit_confidence(answers, right)


def curve(name: str, values: list[float], weights) -> np.ndarray:
    return np.array([confidence(replace(MIDDLE, **{name: value}), weights) for value in values])


@pytest.mark.parametrize("name", ["votes", "explained", "lead", "above", "seconds"])
def test_more_that_speaks_for_it_makes_an_answer_surer(fitted, name):
    values = [3.0, 10.0, 100.0] if name == "seconds" else [0.0, 0.2, 0.5, 1.0]
    assert np.all(np.diff(curve(name, values, fitted)) > 0)


def test_a_model_without_a_calibration_is_surer_of_more_support_too():
    """More votes are more support, hence a wider lead."""
    for name in ("votes", "explained"):
        grown = [
            replace(MIDDLE, **{name: share, "lead": share, "above": share})
            for share in (0.0, 0.2, 0.5, 0.9)
        ]
        assert np.all(np.diff([confidence(answer) for answer in grown]) > 0)


def test_the_librarys_size_says_what_the_fit_has_seen(fitted):
    assert np.all(np.diff(curve("snippets", [1_000, 100_000, 10_000_000], fitted)) < 0)


def test_votes_alone_are_judged_by_their_lead():
    answers = [replace(MIDDLE, lead=x, above=x, explained=0.0) for x in (0.0, 0.1, 0.8)]
    sure = [confidence(answer, VOTES_ALONE) for answer in answers]
    assert sure[1] < 0.1 and sure[2] > 0.9 and sure == sorted(sure)


def test_a_probability_is_one(fitted):
    for answer in [*drawn(50), evidence(0, 0, 0, 0, 0, 0), evidence(1, 1, 2, 2, 1e5, 10**9)]:
        assert 0 <= confidence(answer, fitted) <= 1
        assert 0 <= confidence(answer) <= 1
    assert confidence(evidence(0, -9.0, -9.0, -9.0, 0.1, 10**6), fitted) == pytest.approx(0)


def test_a_fit_gives_back_the_probabilities_it_was_drawn_from():
    names = (CONSTANT, "votes", "explained", "lead", "above", "seconds", "snippets")
    truth = dict(zip(names, (-5.0, 4.0, 3.0, 2.0, 2.0, 0.8, -0.6), strict=True))
    answers = drawn(4_000)
    likely = np.array([confidence(answer, truth) for answer in answers])
    assert likely.min() < 0.05 and likely.max() > 0.95
    fitted = fit_confidence(answers, np.random.default_rng(2).random(4_000) < likely)
    again = [confidence(answer, fitted) for answer in answers]
    assert set(fitted) == set(truth) and np.abs(likely - again).max() < 0.1
    assert np.abs(likely - again).mean() < 0.02


def test_weights_stay_finite_where_right_and_wrong_do_not_meet():
    answers = [evidence(v, v, v, v, 10.0, 1_000) for v in np.linspace(0, 1, 20)]
    fitted = fit_confidence(answers, [answer.votes > 0.5 for answer in answers])
    assert all(np.isfinite(weight) and abs(weight) < 100 for weight in fitted.values())
    assert confidence(answers[-1], fitted) > 0.8 and confidence(answers[0], fitted) < 0.2


@pytest.mark.parametrize("right", [True, False])
def test_answers_of_one_kind_have_a_finite_fit(right):
    fitted = fit_confidence(drawn(30), [right] * 30)
    assert np.all(np.isfinite(list(fitted.values())))
    assert all((confidence(answer, fitted) > 0.5) == right for answer in drawn(30))


def test_a_figure_that_never_changes_does_not_hurt():
    answers = [replace(answer, explained=0.0, snippets=5_000) for answer in drawn(500)]
    right = [answer.votes > 0.5 for answer in answers]
    fitted = fit_confidence(answers, right)
    assert np.all(np.isfinite(list(fitted.values())))
    sure = [confidence(answer, fitted) > 0.5 for answer in answers]
    assert np.mean(np.equal(sure, right)) > 0.95


@pytest.mark.parametrize(
    ("sounding", "votes", "passage", "proven"),
    [
        (LEAST_NOTES, 0.01, LEAST_PASSAGE, True),
        (LEAST_NOTES, 0.01, None, True),
        (LEAST_NOTES - 0.1, 0.9, 9.0, False),
        (9.0, 0.0, 9.0, False),
        (9.0, 0.9, LEAST_PASSAGE - 0.1, False),
        (30.0, 0.4, -18.0, True),
    ],
)
def test_an_answer_must_rest_on_something(sounding, votes, passage, proven):
    assert is_proven(sounding, votes, passage) is proven
