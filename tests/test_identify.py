"""`mmid.identify`: a recording or a score to an answer, whatever is in it."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from mmid.errors import AudioError
from mmid.identify import TEMPO_RATIOS, Identification, Identifier, Match
from mmid.index import LibraryIndex, build_index
from mmid.params import DEFAULT
from mmid.query import Score, Sound


@pytest.fixture
def identifier(tmp_path, pieces, tiny_model) -> Identifier:
    build_index(tmp_path / "index", pieces, tiny_model)
    return Identifier(tiny_model, LibraryIndex(tmp_path / "index", tiny_model))


def test_an_answer_has_matches_best_first(identifier, recording, pieces):
    answer = identifier.identify_file(recording)
    assert answer.query == str(recording) and answer.error is None
    assert answer.seconds == pytest.approx(8, abs=0.1)
    names = [match.piece for match in answer.matches]
    assert 1 <= len(names) <= 5 and len(set(names)) == len(names)
    assert set(names) <= {piece.name for piece in pieces}
    votes = [match.votes for match in answer.matches]
    assert votes == sorted(votes, reverse=True)
    lengths = {piece.name: piece.midi.seconds for piece in pieces}
    for match in answer.matches:
        assert 0 <= match.confidence <= 1 and 0 <= match.votes <= 1
        assert match.start is not None and match.end is not None
        assert 0 <= match.start <= lengths[match.piece] + 1e-6
        assert match.end <= lengths[match.piece] + 1e-6
        assert match.tempo_ratio in TEMPO_RATIOS


def test_the_answer_as_json(identifier, recording):
    answer = identifier.identify_file(recording)
    found = json.loads(json.dumps(answer.to_dict()))
    assert {"query", "seconds", "matched", "matches", "error"} <= set(found)
    assert found["error"] is None and isinstance(found["matched"], bool)
    assert len(found["matches"]) == len(answer.matches)
    names = {"piece", "confidence", "votes", "start", "end", "tempo_ratio", "transpose"}
    assert names <= set(found["matches"][0])
    for match in found["matches"]:
        assert all(math.isfinite(v) for v in match.values() if isinstance(v, (int, float)))


def test_an_answer_made_by_hand_as_json():
    match = Match("a.mid", 0.9, 0.5, 1.0, 9.0, 1.5, 0)
    made = Identification("q.wav", 8.0, True, (match,)).to_dict()
    assert made["matches"][0]["piece"] == "a.mid" and made["matches"][0]["end"] == 9.0
    json.dumps(made)


def test_a_bad_recording_among_good_ones_says_so(identifier, recording, tmp_path):
    (tmp_path / "bad.wav").write_bytes(b"no sound")
    paths = [recording, tmp_path / "bad.wav", tmp_path / "gone.wav", recording]
    answers = list(identifier.identify_files(paths))
    assert [answer.query for answer in answers] == [str(path) for path in paths]
    assert [answer.error is None for answer in answers] == [True, False, False, True]
    assert "bad.wav: not an audio file" in (answers[1].error or "")
    assert not answers[1].matched and answers[1].matches == ()
    assert json.loads(json.dumps(answers[2].to_dict()))["error"].startswith(str(paths[2]))
    assert answers[0].matches == answers[3].matches
    with pytest.raises(AudioError, match="not an audio file"):
        identifier.identify_file(paths[1])


@pytest.mark.parametrize("seconds", [1 / 22_050, 0.01, 0.5, 1.0])
def test_a_very_short_recording_has_an_answer(identifier, tmp_path, write_wav, seconds):
    count = round(seconds * 22_050)
    path = write_wav(tmp_path / "short.wav", np.random.default_rng(0).normal(0, 0.1, count))
    answer = identifier.identify_file(path)
    assert answer.error is None and answer.seconds <= 1.1 and not answer.matched
    json.dumps(answer.to_dict(), allow_nan=False)


@pytest.mark.parametrize("seconds", [0.2, 1.0, 3.0, 10.0])
def test_silence_has_an_answer_and_is_no_match(identifier, tmp_path, write_wav, seconds):
    path = write_wav(tmp_path / "silence.wav", np.zeros(int(seconds * 22_050)))
    answer = identifier.identify_file(path)
    assert answer.error is None and not answer.matched
    json.dumps(answer.to_dict(), allow_nan=False)


def test_a_span_is_identified_alone(identifier, recording):
    answer = identifier.identify_file(recording, start=2.0, duration=3.0)
    assert answer.seconds == pytest.approx(3, abs=0.1)
    late = list(identifier.identify_files([recording], start=100.0))
    assert "past the end" in (late[0].error or "")


@pytest.mark.parametrize("vote", ["consistent", "majority"])
@pytest.mark.parametrize("search", ["exact", "hnsw"])
def test_every_vote_and_search(tmp_path, identifier, tiny_model, recording, vote, search):
    index = LibraryIndex(tmp_path / "index", tiny_model)
    answer = Identifier(tiny_model, index, vote=vote, search=search, top=2).identify_file(recording)
    assert 1 <= len(answer.matches) <= 2
    if vote == "majority":
        assert all(match.start is match.end is None for match in answer.matches)


def test_min_confidence_decides(tmp_path, identifier, tiny_model, recording):
    index = LibraryIndex(tmp_path / "index", tiny_model)
    sure = Identifier(tiny_model, index, min_confidence=0.0).identify_file(recording)
    never = Identifier(tiny_model, index, min_confidence=1.1).identify_file(recording)
    assert sure.matched and not never.matched and sure.matches == never.matches


def test_silence_casts_no_vote(identifier):
    answer = identifier.identify(Sound(torch.zeros(DEFAULT.bands, 200)))
    assert answer.matches == () and not answer.matched


def test_a_score_without_an_onset_casts_no_vote(identifier, draw_notes):
    held = draw_notes(0, 3)
    held["onset"], held["offset"] = -1.0, 30.0
    for notes in (held, held[:0]):
        answer = identifier.identify(Score(notes, 10.0))
        assert answer.matches == () and not answer.matched and answer.seconds == 10.0


@pytest.mark.parametrize("seconds", [0.02, 0.5, 3.0])
def test_a_very_short_score_has_an_answer(identifier, draw_notes, seconds):
    answer = identifier.identify(Score(draw_notes(0, 2, 0.02), seconds), "x.mid")
    assert answer.query == "x.mid" and answer.matches and answer.seconds == seconds
    json.dumps(answer.to_dict(), allow_nan=False)


def test_recordings_and_scores_are_asked_alike(identifier, recording, midi_folder):
    score = midi_folder / "piece 0.mid"
    heard, read = identifier.identify_files([recording, score], start=1.0, duration=5.0)
    assert (heard.query, read.query) == (str(recording), str(score))
    assert heard.seconds == pytest.approx(5, abs=0.1) and read.seconds == pytest.approx(5)
    assert heard.error is None and read.error is None and read.matches
    late = list(identifier.identify_files([score], start=100.0))
    assert "no music in the span asked for" in (late[0].error or "")
