"""`mmid.identify.identifier`: a recording or a score to an answer, whatever is in it."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from mmid.errors import AudioError, LibraryIndexError, MmidError
from mmid.identify.answer import Identification, Match, advice
from mmid.identify.batch import answer_files
from mmid.identify.identifier import Identifier
from mmid.identify.search import FEW, NEIGHBOURS
from mmid.identify.search_options import KEYS, TEMPO_RATIOS, SearchOptions
from mmid.index.build import build_index
from mmid.index.folder import LibraryIndex
from mmid.model.confidence import UNPROVEN
from mmid.model.embedding import Score, Sound, Transcribed
from mmid.music.grid import DEFAULT
from mmid.music.library import Recording, read_library
from mmid.music.midi import write_midi
from mmid.music.spectrogram import spectrogram

pytestmark = pytest.mark.numerical


def answers_of(identifier, paths, *span, **named):
    return [answered.answer for answered in answer_files(identifier, paths, *span, **named)]


@pytest.fixture
def identifier(tmp_path, pieces, tiny_model) -> Identifier:
    build_index(tmp_path / "index", pieces, tiny_model)
    return Identifier(tiny_model, LibraryIndex(tmp_path / "index", tiny_model))


def with_options(identifier, **how) -> Identifier:
    return Identifier(identifier.model, identifier.index, SearchOptions(**how))


def test_an_answer_has_matches_best_first(identifier, recording, pieces):
    answer = identifier.identify_file(recording)
    assert answer.query == str(recording) and answer.error is None
    assert answer.seconds == pytest.approx(8, abs=0.1)
    names = [match.piece for match in answer.matches]
    assert 1 <= len(names) <= 5 and len(set(names)) == len(names)
    assert set(names) <= {piece.name for piece in pieces}
    assert [match.lead >= 0 for match in answer.matches] == [True] + [False] * (len(names) - 1)
    lengths = {piece.name: piece.midi.seconds for piece in pieces}
    for match in answer.matches:
        assert 0 <= match.confidence <= 1 and 0 <= match.votes <= 1
        assert match.start is not None and match.end is not None
        assert 0 <= match.start <= lengths[match.piece] + 1e-6
        assert match.end <= lengths[match.piece] + 1e-6
        assert match.explained is None and match.also == ()
    assert all(match.tempo_ratio in TEMPO_RATIOS for match in answer.matches[1:])
    assert TEMPO_RATIOS[0] / 1.2 < answer.matches[0].tempo_ratio < 1.2 * TEMPO_RATIOS[-1]


def test_the_answer_as_json(identifier, recording):
    answer = identifier.identify_file(recording)
    found = json.loads(json.dumps(answer.to_dict()))
    assert {"query", "seconds", "matched", "matches", "tuning", "error"} <= set(found)
    assert found["error"] is None and isinstance(found["matched"], bool)
    assert len(found["matches"]) == len(answer.matches)
    names = {"piece", "confidence", "votes", "explained", "lead", "above", "start", "end"}
    assert names | {"tempo_ratio", "transpose", "also"} <= set(found["matches"][0])
    for match in found["matches"]:
        assert all(math.isfinite(v) for v in match.values() if isinstance(v, (int, float)))


def test_an_answer_made_by_hand_as_json():
    match = Match("a.mid", 0.9, 0.5, 0.8, 0.3, 0.4, 1.0, 9.0, 1.5, -2, ("b.mid",))
    made = Identification("q.wav", 8.0, True, (match,), -20).to_dict()
    assert made["tuning"] == -20 and made["error"] is None
    first = json.loads(json.dumps(made))["matches"][0]
    assert first["piece"] == "a.mid" and first["end"] == 9.0 and first["transpose"] == -2
    assert first["explained"] == 0.8 and (first["lead"], first["above"]) == (0.3, 0.4)
    assert first["also"] == ["b.mid"]


def test_a_bad_recording_among_good_ones_says_so(identifier, recording, tmp_path):
    (tmp_path / "bad.wav").write_bytes(b"no sound")
    paths = [recording, tmp_path / "bad.wav", tmp_path / "gone.wav", recording]
    answers = answers_of(identifier, paths)
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
    late = answers_of(identifier, [recording], start=100.0)
    assert "past the end" in (late[0].error or "")


@pytest.mark.parametrize("vote", ["consistent", "majority"])
@pytest.mark.parametrize("search", ["exact", "hnsw"])
def test_every_vote_and_search(identifier, recording, vote, search):
    named = with_options(identifier, vote=vote, search=search, top=2)
    answer = named.identify_file(recording)
    assert 1 <= len(answer.matches) <= 2
    if vote == "majority":
        assert all(match.start is match.end is None for match in answer.matches)


def test_min_confidence_decides(identifier, recording):
    sure = with_options(identifier, min_confidence=0.0).identify_file(recording)
    never = with_options(identifier, min_confidence=1.1).identify_file(recording)
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
    heard, read = answers_of(identifier, [recording, score], start=1.0, duration=5.0)
    assert (heard.query, read.query) == (str(recording), str(score))
    assert heard.seconds == pytest.approx(5, abs=0.1) and read.seconds == pytest.approx(5)
    assert heard.error is None and read.error is None and read.matches
    late = answers_of(identifier, [score], start=100.0)
    assert "no music in the span given" in (late[0].error or "")


# ---- why nothing is found


@pytest.mark.parametrize("seconds", [0.3, 1.0, 1.9])
def test_what_is_too_short_is_not_found_however_well_it_fits(identifier, pieces, seconds):
    """A note or two of a piece fit it, and every other that holds them."""
    least = with_options(identifier, min_confidence=0.0)
    answer = least.identify(played(pieces[2], 5.0, seconds))
    assert not answer.matched and answer.reason in ("too_short", "no_notes")
    assert all(match.confidence <= UNPROVEN for match in answer.matches)


def test_silence_has_no_notes_and_noise_among_tones_hardly_any(identifier):
    assert identifier.identify(Sound(torch.zeros(DEFAULT.bands, 200))).reason == "no_notes"
    bands = torch.zeros(DEFAULT.bands, 300)
    bands[40, 100:130] = 0.9
    assert identifier.identify(Sound(bands)).reason == "no_notes"


def test_what_is_found_needs_no_reason(identifier, pieces):
    answer = identifier.identify(played(pieces[2], 5.0, 8.0))
    assert answer.matched and answer.reason is None and answer.keys == KEYS


def test_what_fits_but_not_surely_is_named(identifier, pieces):
    never = with_options(identifier, min_confidence=1.0)
    answer = never.identify(played(pieces[2], 5.0, 8.0))
    assert not answer.matched and answer.reason == "not_confident"
    assert pieces[2].name in advice(answer)


def test_music_of_another_library_fits_nothing(identifier, draw_notes):
    answer = identifier.identify(Score(draw_notes(99), 20.0).span(5.0, 8.0))
    assert not answer.matched and answer.reason == "nothing_fits"


# ---- notes compared


def played(piece, start: float, seconds: float, speed: float = 1.0, semitones: int = 0) -> Score:
    """Return a stretch of a piece as it is played at a speed and in a key."""
    span = Score(piece.midi.notes, piece.midi.seconds).span(start, seconds)
    notes = span.notes.copy()
    for side in ("onset", "offset"):
        notes[side] /= speed
    return Score(notes, seconds / speed).transposed(semitones)


@pytest.fixture
def opened(tmp_path, tiny_model):
    """Return a function that indexes items and opens the index."""

    def over(items, model=tiny_model, **how) -> Identifier:
        folder = tmp_path / f"index {len(list(tmp_path.glob('index *')))}"
        build_index(folder, items, model)
        return Identifier(model, LibraryIndex(folder, model), SearchOptions(**how))

    return over


@pytest.mark.parametrize("speed", [0.8, 1.0, 1.1])
def test_a_score_is_found_and_placed_among_scores(identifier, pieces, speed):
    for piece in pieces[1:4]:
        answer = identifier.identify(played(piece, 5.0, 8.0, speed))
        best = answer.matches[0]
        assert best.piece == piece.name and answer.matched and best.confidence > 0.9
        assert best.start == pytest.approx(5, abs=0.1) and best.end == pytest.approx(13, abs=0.1)
        assert best.tempo_ratio == pytest.approx(speed, rel=0.03)
        assert best.transpose == 0 and 0.8 < best.explained <= 1
        assert all(match.explained < 0.4 for match in answer.matches[1:])


@pytest.mark.parametrize("semitones", [-6, -5, 0, 3, 6])
def test_another_key_is_found_when_asked_for(identifier, opened, pieces, semitones):
    query = played(pieces[2], 5.0, 8.0, 1.0, semitones)
    plain = with_options(identifier, keys=(0,)).identify(query).matches[0]
    assert (plain.explained > 0.8) == (semitones == 0) and plain.transpose == 0
    wide = opened(pieces, keys=KEYS, tempo_ratios=(1.0,))
    answer = wide.identify(query)
    best = answer.matches[0]
    assert (best.piece, best.transpose) == (pieces[2].name, semitones) and best.confidence > 0.4
    assert best.start == pytest.approx(5, abs=0.1) and best.explained > 0.8


@pytest.mark.parametrize("semitones", [0, -4])
def test_to_try_all_keys_leaves_as_much_confidence_as_to_know_the_key(opened, pieces, semitones):
    query = played(pieces[2], 5.0, 8.0, 1.0, semitones)
    known = opened(pieces, keys=(semitones,)).identify(query).matches[0]
    tried = opened(pieces, keys=KEYS).identify(query).matches[0]
    assert (tried.piece, tried.transpose) == (known.piece, semitones)
    assert tried.votes == pytest.approx(known.votes, abs=0.1)  # of other snippets
    assert tried.explained == known.explained
    assert tried.confidence > known.confidence - 0.02


def test_items_left_out_choose_no_keys(opened, pieces):
    identifier = opened(pieces, keys=KEYS, tempo_ratios=(1.0,))
    query = played(pieces[2], 5.0, 8.0, 1.0, 3)
    chosen = {hits.transpose for hits in identifier.search(query).hits}
    others = {hits.transpose for hits in identifier.search(query, NEIGHBOURS, frozenset({2})).hits}
    assert chosen == {3} and 0 in others and len(others) == 2


@pytest.mark.parametrize("semitones, keys", [(-12, KEYS), (2, KEYS), (2, (2,))])
def test_the_likely_keys_and_tempi_alone_are_embedded(opened, pieces, monkeypatch, semitones, keys):
    identifier = opened(pieces, keys=keys)
    query = played(pieces[2], 5.0, 8.0, 1.3, semitones)
    lookup = identifier.lookup
    likely = lookup.likely(lookup.by_notes(query))
    assert likely.keys == (semitones,)
    assert all(0.8 < ratio / 1.3 < 1.25 for ratio in likely.tempo_ratios)
    assert {hits.tempo_ratio for hits in identifier.search(query).hits} == {*likely.tempo_ratios}
    monkeypatch.setattr("mmid.identify.search.LEAST_AGREEING", 10**6)
    assert lookup.likely(lookup.by_notes(query)) is None
    best = identifier.identify(query).matches[0]
    assert (best.piece, best.transpose) == (pieces[2].name, semitones)
    everything = frozenset(range(len(pieces)))
    assert lookup.likely(lookup.by_notes(query, everything)) is None


@pytest.mark.parametrize("semitones", [0, -4])
def test_what_leaves_no_doubt_is_decided_on_few_candidates(opened, pieces, monkeypatch, semitones):
    identifier = opened(pieces, keys=KEYS)
    query = played(pieces[2], 5.0, 8.0, 1.1, semitones)
    hurried = identifier.search(query)
    assert hurried.few and len(hurried.found) <= FEW and hurried.most_compared <= FEW
    assert not identifier.search(query, NEIGHBOURS).few  # some may be left out later
    assert not with_options(identifier, keys=KEYS, top=20).search(query).few
    monkeypatch.setattr("mmid.identify.identifier.CERTAIN", 1.1)
    whole = identifier.search(query)
    assert not whole.few
    first, full = (identifier.answer(one).matches[0] for one in (hurried, whole))
    assert (first.piece, first.transpose) == (full.piece, semitones)
    assert first.start == pytest.approx(full.start, abs=0.1) and first.votes == full.votes
    assert first.confidence == pytest.approx(full.confidence, abs=0.01)


def test_what_is_not_there_is_not_decided_on_few_candidates(opened, pieces):
    identifier = opened(pieces, keys=KEYS)
    query = played(pieces[2], 5.0, 8.0, 1.1)
    assert not identifier.search(query, excluded=frozenset({2})).few


def test_files_of_the_same_music_are_one_match(midi_folder, opened, draw_notes):
    copy = draw_notes(1)
    copy["program"], copy["velocity"] = 40, 64
    write_midi(copy, midi_folder / "copy.mid")
    pieces = read_library([midi_folder], jobs=1)[0]
    (original,) = (piece for piece in pieces if piece.name == "piece 1.mid")
    both = opened(pieces).identify(played(original, 5.0, 8.0))
    one = opened([p for p in pieces if p.name != "copy.mid"]).identify(played(original, 5.0, 8.0))
    best = both.matches[0]
    assert {best.piece, *best.also} == {"copy.mid", "piece 1.mid"} and len(best.also) == 1
    assert all(match.also == () for match in both.matches[1:])
    names = [name for match in both.matches for name in (match.piece, *match.also)]
    assert len(names) == len(set(names))
    assert best.lead > 0.5, "measured against other music"
    assert best.lead == pytest.approx(one.matches[0].lead, rel=0.05)
    assert best.confidence == pytest.approx(one.matches[0].confidence, abs=0.05)


@pytest.mark.parametrize(("keys", "limit"), [((0,), "LOOKED_UP"), (KEYS, "IN_EACH_KEY")])
def test_of_many_snippets_some_of_every_part_are_looked_up(
    identifier, pieces, monkeypatch, keys, limit
):
    query = played(pieces[3], 5.0, 8.0)
    lookup = with_options(identifier, keys=keys).lookup
    monkeypatch.setattr(f"mmid.identify.search.{limit}", 10**6)
    whole = lookup.embed(query)
    most = sum(len(frames) for _, frames in whole.snippets) // 2
    monkeypatch.setattr(f"mmid.identify.search.{limit}", most)
    some = lookup.embed(query)
    assert 0 <= sum(len(frames) for _, frames in some.snippets) - most <= len(TEMPO_RATIOS)
    for (few, at), (all_of_them, frames) in zip(some.snippets, whole.snippets, strict=True):
        kept = np.isin(frames, at)
        assert kept.sum() == len(at) == math.ceil(len(frames) / 2) and kept[0]
        assert few.shape == (len(keys), len(at), all_of_them.shape[2])
        assert ((few * all_of_them[:, kept]).sum(-1) > 0.999).all(), "of passes of other lengths"
        assert np.diff(np.flatnonzero(kept), append=len(frames)).max() <= 3
    assert identifier.identify(query).matches[0].piece == pieces[3].name


def test_a_damaged_index_is_told_from_beside_the_search(identifier, pieces, monkeypatch):
    def damaged(*_, **options):
        raise LibraryIndexError("damaged")

    monkeypatch.setattr(identifier.index, "search_triples", damaged)
    with pytest.raises(LibraryIndexError, match="damaged"):
        identifier.identify(played(pieces[3], 5.0, 8.0))


def test_what_is_taken_out_is_not_named(identifier, opened, pieces):
    asked = identifier.search(played(pieces[3], 5.0, 8.0), NEIGHBOURS)
    there = identifier.decide(asked, "x")
    gone = identifier.decide(asked, "x", excluded=frozenset({3}))
    assert there.matches[0].piece == pieces[3].name and there.matched
    assert gone.matches and pieces[3].name not in {match.piece for match in gone.matches}
    assert gone.matches[0].explained < 0.4 < there.matches[0].explained
    assert gone.matches[0].confidence < there.matches[0].confidence
    assert identifier.decide(asked, "x") == there
    on_few = identifier.identify(played(pieces[3], 5.0, 8.0), "x")
    assert (on_few.matched, on_few.matches[0].piece) == (True, pieces[3].name)
    everything = frozenset(range(len(pieces)))
    assert identifier.decide(asked, excluded=everything).matches == ()


@pytest.mark.parametrize("vote", ["consistent", "majority"])
def test_to_take_out_is_as_never_to_have_indexed(opened, pieces, vote):
    """Where no more hits fall in what is taken out than were asked for to spare."""
    queries = [played(piece, 5.0, 4.0) for piece in pieces]
    whole, less = (opened(items, vote=vote, tempo_ratios=(1.0,)) for items in (pieces, pieces[:5]))
    for query in queries:
        out = frozenset({5})
        gone = whole.decide(whole.search(query, NEIGHBOURS, out), excluded=out)
        never = less.identify(query)
        assert gone.matches[0].piece == never.matches[0].piece
        assert gone.matches[0].votes == pytest.approx(never.matches[0].votes, abs=0.05)


def test_a_model_that_hears_notes_compares_them(
    opened, pieces, transcribing_model, tiny_model, recording
):
    heard = opened(pieces, transcribing_model, keys=(0, 2)).identify_file(recording)
    assert heard.error is None and heard.seconds == pytest.approx(8, abs=0.1)
    assert all(match.explained is not None and match.explained <= 1 for match in heard.matches)
    assert {match.transpose for match in heard.matches} <= {0, 2}
    voted = opened(pieces, transcribing_model, vote="majority").identify_file(recording)
    deaf = opened(pieces, tiny_model).identify_file(recording)
    assert all(match.explained is None for match in (*voted.matches, *deaf.matches))


@pytest.mark.parametrize("seconds", [1 / 22_050, 0.01, 0.5])
def test_notes_heard_for_a_moment_have_an_answer(
    opened, pieces, transcribing_model, tmp_path, write_wav, seconds
):
    samples = np.random.default_rng(0).normal(0, 0.1, round(seconds * 22_050))
    path = write_wav(tmp_path / "short.wav", samples)
    answer = opened(pieces, transcribing_model, keys=(0, 5)).identify_file(path)
    assert answer.error is None and answer.seconds <= 0.6
    json.dumps(answer.to_dict(), allow_nan=False)


def test_a_model_that_hears_no_notes_cannot_look_for_other_keys(opened, pieces, recording):
    assert opened(pieces, keys=KEYS).identify_file(recording).matches[0].transpose == 0
    wide = opened(pieces, keys=(1, 2, 3))
    with pytest.raises(MmidError, match="does not transcribe notes, and cannot look for"):
        wide.identify_file(recording)
    (answer,) = answers_of(wide, [recording])
    assert "cannot look for other keys" in (answer.error or "") and not answer.matched


def test_an_answer_is_explained_without_another_vote(
    opened, pieces, transcribing_model, recording, monkeypatch
):
    identifier = opened(pieces, transcribing_model)
    result = identifier.search(identifier.open(recording))
    answer, votes = identifier.decide(result), []
    again = identifier.lookup.candidates
    monkeypatch.setattr(identifier.lookup, "candidates", lambda *a: votes.append(a) or again(*a))
    trace = identifier.trace(result, answer.matches[0])
    assert votes == [] and trace.path is identifier.trace(result, answer.matches[0]).path
    assert (trace.path.start, trace.path.end) == (answer.matches[0].start, answer.matches[0].end)
    other = opened(pieces, transcribing_model).trace(result, answer.matches[0])
    assert other.candidate == trace.candidate and other.path.start == trace.path.start
    assert identifier.decide(result) == answer


def test_recordings_are_found_by_the_notes_heard_in_them(opened, pieces, play, transcribing_model):
    items, heard = [], []
    for piece in pieces[:3]:
        bands = spectrogram(torch.from_numpy(play(piece.midi.notes, 12.0)))
        items.append(Recording(piece.name, piece.path, piece.digest, bands.numpy()))
        heard.append(Sound(bands).transcribed(transcribing_model.encoders))
    identifier = opened(items, transcribing_model, tempo_ratios=(1.0,))
    for item, notes in zip(items, heard, strict=True):
        assert isinstance(notes, Transcribed)
        best = identifier.identify(notes).matches[0]
        assert (best.piece, best.transpose, best.explained) == (item.name, 0, None)
        assert best.start == pytest.approx(0, abs=0.1) and best.votes > 0.5
    score = identifier.identify(played(pieces[0], 5.0, 8.0))
    assert score.matches and all(match.explained is None for match in score.matches)
