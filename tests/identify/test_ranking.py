"""`mmid.identify.ranking` and `matches`: what candidates are ranked by is what the model says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mmid.identify.identifier import Identifier
from mmid.identify.ranking import Ranked, best_of_each, first_of_each_piece, rerank
from mmid.identify.voting import Candidate
from mmid.index.build import build_index
from mmid.index.folder import LibraryIndex
from mmid.model.embedding import Score
from mmid.model.evidence import DEFAULT_WEIGHTS, RANKING, Figures, Weights

BY_EXPLAINED = {"ranking": {"explained": 1.0}, "confidence": {"constant": 0.0, "of old": 3.0}}


@pytest.fixture
def identifiers(tmp_path, pieces, tiny_model) -> tuple[Identifier, Identifier]:
    """Return one of a model without weights, and one of a model that brings them."""
    build_index(tmp_path / "index", pieces, tiny_model)
    index = LibraryIndex(tmp_path / "index", tiny_model)
    learned = replace(tiny_model, facts=BY_EXPLAINED)
    return Identifier(tiny_model, index), Identifier(learned, index)


def ranked(piece: int, key: int, **figures: float) -> Ranked:
    return Ranked(Candidate(piece, 0.0, 1.0, None, key), Figures(**figures), 0.0)


def test_candidates_are_sorted_by_what_their_figures_weigh():
    some = [ranked(0, 0, votes=0.4), ranked(1, 0, melody=0.5), ranked(0, 2, votes=0.9)]
    by_votes = rerank(some, RANKING)
    assert [one.support for one in by_votes] == [1.8, 0.8, 0.0]
    by_melody = rerank(some, {"melody": 2.0, "key_cost": -1.0})
    assert by_melody[0].candidate.piece == 1 and by_melody[0].support == 1.0
    again = [*by_votes, ranked(0, 0, votes=0.1)]
    assert [one.candidate.piece for one in best_of_each(again)] == [0, 0, 1]
    assert [one.candidate.piece for one in first_of_each_piece(again)] == [0, 1]


def test_a_model_brings_the_weights_of_its_answers(identifiers, pieces):
    plain, learned = identifiers
    assert plain.weights == DEFAULT_WEIGHTS
    assert learned.weights == Weights(BY_EXPLAINED["ranking"], BY_EXPLAINED["confidence"])
    query = Score(pieces[2].midi.notes, pieces[2].midi.seconds).span(5.0, 8.0)
    first, second = learned.identify(query).matches[:2]
    assert first.piece == pieces[2].name and first.confidence == 0.5
    assert first.lead == pytest.approx(first.explained - second.explained)
    assert first.lead != pytest.approx(plain.identify(query).matches[0].lead)


def test_a_match_has_the_figures_it_was_ranked_by(identifiers, pieces):
    plain, _ = identifiers
    query = Score(pieces[1].midi.notes, pieces[1].midi.seconds).span(5.0, 8.0)
    best = plain.identify(query).matches[0]
    assert (best.figures.votes, best.figures.explained) == (best.votes, best.explained)
    onsets = pieces[1].midi.notes["onset"]
    within = ((onsets >= 5) & (onsets < 13)).sum()
    assert best.figures.notes == pytest.approx(np.log10(1 + within), abs=0.1)
    assert best.figures.key_cost == 0 and best.figures.claimed > 0.9
    assert best.to_dict()["figures"]["tempo_cost"] == best.figures.tempo_cost
