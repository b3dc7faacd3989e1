"""`mmid.output.verdict`: an answer in words."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.console import Console

from mmid.identify.answer import Identification, Match
from mmid.model.evidence import Figures
from mmid.output.answers import flat_answer
from mmid.output.reasons import reasons
from mmid.output.verdict import VERDICTS, answer_view, sentence, verdict

BEST = Match("tunes/swallowtail.mid", 0.957, 0.5, 0.6, 0.3, 0.4, 10.6, 23.7, 0.87, 0)
FOUND = Identification("take.wav", 15.0, True, (replace(BEST, title="Swallowtail Jig"),))
LOST = Identification("take.wav", 15.0, False, (), reason="nothing_fits")
MAYBE = replace(FOUND, matched=False, reason="not_confident")


def shown(answer: Identification, width: int = 120, **how: bool) -> str:
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(answer_view(answer, **how))
    return captured.get()


def of(**changes: object) -> Identification:
    return replace(FOUND, matches=(replace(BEST, **changes),))


def test_what_is_found_is_said_in_a_sentence():
    assert sentence(FOUND) == (
        "Found: Swallowtail Jig (tunes/swallowtail.mid), from 0:10.6,"
        " a little slower than written (x0.87), in the file's key - 96 % confident"
    )


def test_what_part_of_the_recording_it_rests_on_is_said():
    partly = replace(FOUND, stretch=(15.0, 30.0))
    assert "in the file's key, by 0:15.0-0:30.0 of the recording - 96 %" in sentence(partly)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tempo_ratio": 1.02}, "at the tempo written"),
        ({"tempo_ratio": 1.1}, "a little faster than written (x1.10)"),
        ({"tempo_ratio": 0.7}, "from 0:10.6, slower than written (x0.70)"),
        ({"tempo_ratio": 2.0}, "much faster than written (x2.00)"),
        ({"piece": "concert.wav", "tempo_ratio": 1.1}, "a little faster (x1.10)"),
        ({"piece": "concert.wav", "tempo_ratio": 1.0}, "at the same tempo"),
        ({"transpose": -1}, "a semitone below the file's key"),
        ({"transpose": 5}, "5 semitones above the file's key"),
        ({"transpose": 12}, "an octave above the file's key"),
        ({"start": None, "end": None}, "Found: tunes/swallowtail.mid, a little"),
        ({"title": "SWALLOWTAIL"}, "Found: tunes/swallowtail.mid, from"),
        ({"start_bar": 17, "start_beat": 3}, "from 0:10.6 (bar 17, beat 3), a little"),
    ],
)
def test_how_it_is_played_is_said_in_words(changes, said):
    assert said in sentence(of(**changes))


def test_what_is_not_found_says_what_to_do():
    assert sentence(LOST).startswith("Not found. Nothing here fits: try ")
    assert sentence(replace(LOST, error="take.wav: empty")) == "Failed: take.wav: empty"


def test_there_are_three_verdicts_and_failure():
    answers = (FOUND, MAYBE, LOST, replace(LOST, error="x"))
    assert tuple(map(verdict, answers)) == VERDICTS == ("found", "perhaps", "absent", "failed")
    said = [answer.to_dict()["verdict"] for answer in answers]
    assert said == ["found", "perhaps", "absent", None]
    assert [row["verdict"] for row in MAYBE.to_records()] == ["perhaps"]


def test_perhaps_says_what_it_is_what_speaks_for_it_and_against_it_and_what_to_do():
    close = replace(BEST, piece="close.mid")
    said = sentence(replace(MAYBE, matches=(replace(BEST, transpose=2, confidence=0.34), close)))
    assert said == (
        "Perhaps: tunes/swallowtail.mid, from 0:10.6, a little slower than written (x0.87),"
        " 2 semitones above the file's key - 34 % confident; its notes explain 60% of those"
        " transcribed and 50% of the snippets vote for it; but close.mid fits nearly as well."
        " To be more certain, try a longer or clearer clip or other keys (--transpose auto)."
    )


@pytest.mark.parametrize(
    ("figures", "votes", "explained", "said"),
    [
        ({"melody": 0.7}, 0.2, 0.1, "melody agrees for 10 of 15 s"),
        ({"melody": 0.7}, 0.2, 0.1, "but other notes don't"),
        ({"melody": 0.2}, 0.2, 0.1, "but its notes explain only 10% of those transcribed"),
        ({"harmony": 0.8}, 0.2, 0.3, "the harmony agrees"),
        ({"claimed": 0.75}, 0.2, 0.3, "75% of its notes there were transcribed"),
        ({"claimed": 0.2}, 0.2, 0.3, "but only 20% of its notes there were transcribed"),
        ({}, 0.02, None, "few snippets vote for it"),
        ({}, 0.02, -0.5, "its notes explain only 0% of those transcribed"),
    ],
)
def test_only_figures_that_are_known_speak(figures, votes, explained, said):
    match = replace(BEST, votes=votes, explained=explained, figures=Figures(**figures))
    text = reasons(replace(MAYBE, matches=(match,)))
    assert said in text
    for name in ("melody", "harmony"):
        assert (name in text) == (figures.get(name, 0.0) > 0.5)
    assert ("there were transcribed" in text) == ("claimed" in figures)


def test_a_perhaps_is_shown_with_its_matches():
    text = shown(MAYBE)
    assert "Perhaps: " in text and text.count("swallowtail.mid") == 2


def test_matches_of_nought_are_left_out_unless_asked_for():
    nought = replace(BEST, piece="other.mid", confidence=0.004)
    answer = replace(FOUND, matches=(BEST, nought))
    assert "other.mid" not in shown(answer) and "other.mid" in shown(answer, all_rows=True)
    assert shown(replace(LOST, matches=(nought,))).count("\n") == 2


def test_bars_are_shown_below_the_position():
    in_bars = of(start_bar=17, start_beat=3)
    assert shown(in_bars).count("bar 17, beat 3") == 2, "in the sentence, and in the table"
    assert flat_answer(in_bars)["start_bar"] == 17 and flat_answer(FOUND)["start_bar"] is None


def test_titles_are_shown_and_steer_nothing():
    text = shown(of(title="a\x1b[2J\u202eb [red]::error::"))
    assert "\x1b" not in text and "\u202e" not in text and "::error" not in text
    assert text.count("a\\x1b[2J\\u202eb [red]") == 2, "in the sentence, and below the name"
