"""`mmid.identify.answer`: why nothing was found, and what to do next."""

from __future__ import annotations

import pytest

from mmid.identify.answer import Identification, Match, advice

MATCH = Match("a.mid", 0.3, 0.5, 0.8, 0.3, 0.4, 1.0, 9.0, 1.5, 0)


def said(reason, seconds: float = 10.0, keys: tuple[int, ...] = (0,)) -> str:
    return advice(Identification("q.wav", seconds, False, (MATCH,), reason=reason, keys=keys))


@pytest.mark.parametrize("reason", ["no_notes", "too_short", "nothing_fits", "not_confident"])
@pytest.mark.parametrize("seconds", [0.5, 10.0, 3_600.0])
@pytest.mark.parametrize("keys", [(0,), (-1, 0, 1)])
def test_advice_is_one_sentence(reason, seconds, keys):
    sentence = said(reason, seconds, keys)
    assert sentence[0].isupper() and sentence[-1] == "." and "\n" not in sentence
    assert sentence.count(". ") == 0


def test_there_is_no_advice_on_what_was_found_or_failed():
    assert advice(Identification("q.wav", 8.0, True, (MATCH,))) == ""
    assert advice(Identification("q.wav", 0.0, False, (), error="q.wav: empty")) == ""


def test_what_is_probable_is_named():
    assert "a.mid" in said("not_confident") and "a.mid" not in said("nothing_fits")


def test_only_what_was_not_tried_is_advised():
    assert "--transpose auto" in said("nothing_fits")
    assert "--transpose auto" not in said("nothing_fits", keys=(-1, 0, 1))
    assert "--every 30" in said("nothing_fits", 600.0)
    assert "--every 30" not in said("nothing_fits")
