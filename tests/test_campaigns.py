"""A few rounds of the long campaigns."""

import sys

import pytest
from campaigns import damage, prepare_fuzz, queries
from fuzz.cases import CASES
from fuzz.pool import fuzz
from fuzz.scores import SCORE_CASES
from killing import kills

from mmid.music.scores.converters import CONVERTERS

ROUNDS = {"midi": 80, "audio": 25, "index": 10, "checkpoint": 40, "pairs": 40, "registry": 30}


def faults(seen: dict[str, int]) -> set[str]:
    return {what for what, count in seen.items() if what.startswith("fault") and count}


@pytest.mark.parametrize(("campaign", "rounds"), [(kills, 2), (damage, 25), (queries, 15)])
def test_no_round_of_a_campaign_ends_in_a_fault(tmp_path, campaign, rounds, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)  # takes seconds to import
    seen = campaign(rounds, tmp_path, seed=1)
    assert sum(seen.values()) >= rounds
    assert not faults(seen) - {"fault: memory grows"}  # which it does until it is settled


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return prepare_fuzz(tmp_path_factory.mktemp("fuzz"))


@pytest.mark.parametrize("kind", CASES)
def test_mutated_files_are_read_or_refused(kind, corpus):
    said: list[str] = []
    seen = fuzz(kind, ROUNDS.get(kind, 10), corpus, corpus.index.parent, 1, said.append)
    assert not said and seen["refused"] and seen["read"]


@pytest.mark.parametrize("kind", SCORE_CASES)
def test_mutated_scores_are_read_or_refused(kind, tmp_path, corpus):
    converter = next(c for c in CONVERTERS if f".{kind}" in c.suffixes)
    if not converter.find():
        pytest.skip(f"needs {converter.name}")
    said: list[str] = []
    seen = fuzz(kind, 12, corpus, tmp_path, 1, said.append)
    assert not said and any(how.startswith("read") for how in seen)
    assert any(how.startswith("refused") for how in seen)
