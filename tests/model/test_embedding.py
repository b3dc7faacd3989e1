"""`embedding`: recordings and scores drawn at any tempo, and their embeddings."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from mmid.errors import AudioError, MidiError, MmidError
from mmid.model.drawing import EXCERPT_SECONDS, MANY_KEYS, ONE_KEY
from mmid.model.embedding import (
    CERTAIN,
    ONSET_PROBABILITY,
    Score,
    Sound,
    Transcribed,
    as_query,
    draw_query,
    embed_drawn,
    embed_query,
    moved_by_semitones,
    open_query,
)
from mmid.model.encoders import Encoders
from mmid.model.transcriber import LOWEST, PITCHES
from mmid.music.grid import DEFAULT
from mmid.music.library import QUIET, Recording
from mmid.music.piano_roll import piano_roll
from mmid.music.spectrogram import spectrogram

pytestmark = pytest.mark.numerical


@pytest.fixture
def asked(draw_notes, play) -> dict[str, Sound | Score]:
    notes = draw_notes(0)
    return {
        "sound": Sound(spectrogram(torch.from_numpy(play(notes, 10.0)))),
        "score": Score(notes, 20.0).span(0.0, 10.0),
    }


# ---- embedded


@pytest.mark.parametrize(("what", "ratio"), list(product(["sound", "score"], [0.5, 1.0, 2.0])))
def test_a_query_is_embedded_at_the_librarys_speed(tiny_model, asked, what, ratio):
    query = asked[what]
    [vectors], frames = embed_query(query, tiny_model.encoders, ratio)
    step = 2 if ratio * query.seconds < ONE_KEY.dense_seconds else 4
    assert 25 < len(vectors) == len(frames)
    assert np.all(np.diff(frames) > 0)
    np.testing.assert_allclose(np.diff(frames)[:15], step / ratio)
    length = query.seconds * DEFAULT.frame_rate
    assert length - (step + 4) / ratio <= frames[-1] + DEFAULT.snippet / ratio <= length + 1
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)


def check_excerpts(frames: np.ndarray, seconds: float, together: float) -> None:
    """Hold snippets to excerpts of so many seconds together, from beginning to end."""
    excerpts = np.split(frames, np.flatnonzero(np.diff(frames) > 20) + 1)
    assert len(excerpts) == together / EXCERPT_SECONDS
    whole, length = seconds * DEFAULT.frame_rate, EXCERPT_SECONDS * DEFAULT.frame_rate
    assert frames[0] < 5 and frames[-1] > whole - 60
    spans = [excerpt[-1] - excerpt[0] + DEFAULT.snippet for excerpt in excerpts]
    assert length - 20 < min(spans) <= max(spans) <= length
    steps = np.diff([excerpt[0] for excerpt in excerpts])
    np.testing.assert_allclose(steps, (whole - length) / (len(excerpts) - 1), rtol=0.05)


def test_a_long_recording_is_embedded_in_excerpts_spread_over_it(tiny_model):
    seconds = 6 * ONE_KEY.seconds
    bands = torch.rand(DEFAULT.bands, int(seconds * DEFAULT.frame_rate))
    check_excerpts(embed_query(Sound(bands), tiny_model.encoders)[1], seconds, ONE_KEY.seconds)
    few = embed_query(Sound(bands), tiny_model.encoders, effort=MANY_KEYS)[1]
    check_excerpts(few, seconds, 10.0)


def test_a_long_score_is_read_in_excerpts_spread_over_it(tiny_model, draw_notes):
    seconds = 6 * ONE_KEY.seconds
    _, frames = embed_query(Score(draw_notes(0, 800, seconds), seconds), tiny_model.encoders)
    check_excerpts(frames, seconds, ONE_KEY.seconds)


def test_a_score_faster_than_the_library_is_the_slower_score(tiny_model, draw_notes):
    slow = draw_notes(0)
    fast = slow.copy()
    fast["onset"] /= 1.5
    fast["offset"] /= 1.5
    [vectors], frames = embed_query(Score(fast, 20 / 1.5), tiny_model.encoders, 1.5)
    [others], positions = embed_query(Score(slow, 20.0), tiny_model.encoders)
    np.testing.assert_allclose(frames * 1.5, positions)
    np.testing.assert_allclose((vectors * others).sum(1), 1, atol=1e-3)


@pytest.mark.parametrize("share", [0.03, 0.9])
def test_a_few_snippets_are_embedded_as_they_are_among_all(tiny_model, asked, share):
    query, encoders = asked["score"], tiny_model.encoders
    drawn = draw_query(query, encoders, 1.5, ONE_KEY)
    some = drawn.thinned(share, DEFAULT.snippet)
    assert (some.length == DEFAULT.snippet) == (share < 0.5)
    [every], frames = embed_drawn(query, drawn, encoders)
    [vectors], begins = embed_drawn(query, some, encoders)
    assert len(vectors) == len(begins) == np.ceil(share * len(frames))
    np.testing.assert_allclose(vectors, every[np.searchsorted(frames, begins)], atol=2e-2)


def test_silence_casts_no_vote(tiny_model):
    assert embed_query(Sound(torch.zeros(DEFAULT.bands, 200)), tiny_model.encoders)[0].shape[1] == 0


def test_snippets_without_an_onset_cast_no_vote(tiny_model, draw_notes):
    notes = draw_notes(0, 10, 2.0)
    notes["onset"][5:] += 10
    notes["offset"][:] = 14.0  # every note rings on: only the onsets are missing
    _, frames = embed_query(Score(notes, 14.0), tiny_model.encoders)
    begins, ends = frames / DEFAULT.frame_rate, (frames + DEFAULT.snippet) / DEFAULT.frame_rate
    assert not ((begins > 2.1) & (ends < 9.9)).any()
    assert (begins < 2).any() and (ends > 10).any()


# ---- drawn


def test_a_drawing_of_a_score_is_its_roll(draw_notes):
    notes = draw_notes(1)
    drawing = Score(notes, 20.0).at(1.0)
    assert drawing.frames == len(drawing.active) == int(20 * DEFAULT.frame_rate) + 1
    torch.testing.assert_close(drawing.draw(100, 50), piano_roll(notes, 50, first=100))
    onsets = (notes["onset"] * DEFAULT.frame_rate).astype(int)
    assert set(np.flatnonzero(drawing.active)) == set(onsets.tolist())


def test_frames_of_another_rate_are_given_in_those_of_the_grid(tiny_config, shake, draw_notes):
    params = replace(DEFAULT, roll_rate="adaptive")
    encoders = shake(Encoders(replace(tiny_config, features=params)))
    score = Score(draw_notes(0), 20.0, params)
    drawing = score.at(1.0)
    assert drawing.rate > 1.05 * DEFAULT.frame_rate
    _, frames = embed_query(score, encoders)
    step = 4 * DEFAULT.frame_rate / drawing.rate  # longer than is embedded densely
    assert np.median(np.diff(frames)) == pytest.approx(step)


def test_a_drawing_of_a_recording_is_its_spectrogram(asked):
    bands = asked["sound"].spectrogram
    drawing = asked["sound"].at(1.0)
    torch.testing.assert_close(drawing.draw(10, 60), bands[None, :, 10:70])
    assert np.array_equal(drawing.active, (bands.amax(0) > QUIET).numpy())


@pytest.mark.parametrize("what", ["sound", "score"])
def test_a_drawing_is_at_least_a_snippet(asked, what):
    short = Sound(asked["sound"].spectrogram[:, :10]), asked["score"].span(0.0, 0.4)
    drawing = short[what == "score"].at(0.5)
    assert drawing.frames == DEFAULT.snippet
    assert drawing.draw(0, DEFAULT.snippet).shape[-1] == DEFAULT.snippet


def test_a_span_of_a_score_holds_what_sounds_in_it(draw_notes):
    notes = draw_notes(0, 4)
    notes["onset"], notes["offset"] = [0, 2, 4, 6], [1, 5, 7, 8]
    span = Score(notes, 8.0).span(3.0, 2.0)
    assert span.seconds == 2.0
    assert span.notes["onset"].tolist() == [-1, 1] and span.notes["offset"].tolist() == [2, 4]
    assert np.flatnonzero(span.at(1.0).active).tolist() == [21], "one held on from before"
    assert Score(notes, 8.0).span(7.0, 5.0).seconds == 1.0
    assert notes["onset"].tolist() == [0, 2, 4, 6], "the score stays as it is"


# ---- heard, and in other keys


@pytest.fixture
def heard() -> Transcribed:
    generator = torch.Generator().manual_seed(0)
    return Transcribed(4 * torch.randn(2, PITCHES, 120, generator=generator))


def test_a_model_that_hears_notes_listens_once(asked, transcribing_model, tiny_model):
    sound, score = asked["sound"], asked["score"]
    notes = sound.transcribed(transcribing_model.encoders)
    assert isinstance(notes, Transcribed) and notes.kind == "recordings"
    assert notes.log_odds.shape == (2, PITCHES, sound.spectrogram.shape[1])
    assert notes.log_odds.dtype == torch.float32 and notes.seconds == sound.seconds
    assert notes.transcribed(transcribing_model.encoders) is notes
    assert sound.transcribed(tiny_model.encoders) is sound and sound.log_odds is None
    assert score.transcribed(transcribing_model.encoders) is score
    [vectors], frames = embed_query(notes, transcribing_model.encoders)
    assert 25 < len(vectors) == len(frames)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)


def test_a_drawing_of_notes_heard_is_their_roll(heard):
    drawing = heard.at(1.0)
    roll = drawing.draw(10, 60)
    assert roll.shape == (2, DEFAULT.pitches, 60) and drawing.frames == 120
    compass = slice(LOWEST, LOWEST + PITCHES)
    torch.testing.assert_close(roll[:, compass], heard.log_odds[..., 10:70].sigmoid())
    assert not roll[:, :LOWEST].any() and not roll[:, LOWEST + PITCHES :].any()
    assert drawing.active.all()
    silent = Transcribed(torch.full((2, PITCHES, 60), -CERTAIN))
    silent.log_odds[1, 40, 20] = 0.0
    silent.log_odds[0, 40, 20:40] = CERTAIN
    assert torch.tensor(0.0).sigmoid() > ONSET_PROBABILITY > torch.tensor(-CERTAIN).sigmoid()
    assert np.flatnonzero(silent.at(1.0).active).tolist() == [20], "onsets count, ringing does not"


@pytest.mark.parametrize("ratio", [0.5, 2.0])
def test_notes_heard_are_drawn_at_any_tempo(heard, ratio):
    plain, drawing = heard.at(1.0), heard.at(ratio)
    assert drawing.frames == int(119 * ratio) + 1
    roll, whole = drawing.draw(0, drawing.frames), plain.draw(0, 120)
    step = max(1, int(ratio))
    skip = max(1, int(1 / ratio))
    torch.testing.assert_close(
        roll[..., ::step], whole[..., ::skip][..., : len(roll[0, 0, ::step])]
    )


@pytest.mark.parametrize("semitones", [-5, 0, 4])
def test_scores_and_notes_heard_are_embedded_alike_in_any_key(
    draw_notes, transcribing_model, semitones
):
    score = Score(draw_notes(3), 20.0)
    moved = score.transposed(semitones)
    assert moved.notes["pitch"].tolist() == [p + semitones for p in score.notes["pitch"].tolist()]
    assert np.array_equal(moved.notes["onset"], score.notes["onset"])
    assert moved.seconds == score.seconds
    for plain, other in (
        (score, moved),
        (Transcribed(score.log_odds), Transcribed(moved.log_odds)),
    ):
        [back, asis], frames = embed_query(other, transcribing_model.encoders, keys=(semitones, 0))
        [wanted], positions = embed_query(plain, transcribing_model.encoders)
        assert np.array_equal(frames, positions)
        np.testing.assert_allclose(back, wanted, atol=0.01)  # bf16
        assert not semitones or np.abs(asis - wanted).max() > 0.1


@pytest.mark.parametrize("semitones", [-128, -5, -1, 0, 1, 7, 128])
def test_rolls_are_transposed_row_by_row(semitones):
    rolls = torch.rand(2, 128, 3)
    moved = moved_by_semitones(rolls, semitones)
    for row in range(128):
        came = row - semitones
        wanted = rolls[:, came] if 0 <= came < 128 else torch.zeros(2, 3)
        assert torch.equal(moved[:, row], wanted)


def test_notes_transposed_out_of_the_roll_are_dropped(draw_notes):
    notes = draw_notes(0, 4)
    notes["pitch"] = [0, 2, 125, 127]
    score = Score(notes, 20.0)
    assert score.transposed(2).notes["pitch"].tolist() == [2, 4, 127]
    assert score.transposed(-2).notes["pitch"].tolist() == [0, 123, 125]
    assert notes["pitch"].tolist() == [0, 2, 125, 127], "the score stays as it is"


def test_sound_is_not_moved(asked, tiny_model):
    with pytest.raises(MmidError, match="does not transcribe notes, and cannot look for"):
        embed_query(asked["sound"], tiny_model.encoders, keys=(1,))


def test_a_score_is_sure_of_its_notes(draw_notes):
    notes = draw_notes(0, 3)
    notes["pitch"] = [60, LOWEST - 1, LOWEST + PITCHES]
    notes["onset"] = np.array([10, 20, 30]) / DEFAULT.frame_rate
    notes["offset"] = notes["onset"] + 10 / DEFAULT.frame_rate
    log_odds = Score(notes, 3.0).log_odds
    assert log_odds.shape == (2, PITCHES, int(3 * DEFAULT.frame_rate) + 1)
    expected = torch.full_like(log_odds, -CERTAIN)
    expected[0, 60 - LOWEST, 11:20] = CERTAIN
    expected[0, 60 - LOWEST, [10, 20]] = 0.0  # half a frame each
    expected[1, 60 - LOWEST, 10] = CERTAIN
    torch.testing.assert_close(log_odds, expected, atol=1e-3, rtol=0)
    assert (Score(notes[:0], 3.0).log_odds == -CERTAIN).all()


# ---- opened


def test_a_file_is_opened_by_its_suffix(tmp_path, recording, midi_folder):
    heard = open_query(recording, DEFAULT, start=2.0, duration=3.0)
    assert heard.kind == "recordings" and heard.seconds == pytest.approx(3, abs=0.1)
    (midi_folder / "piece 0.mid").rename(midi_folder / "PIECE.MID")
    read = open_query(midi_folder / "PIECE.MID", DEFAULT, start=2.0, duration=3.0)
    assert read.kind == "midi" and read.seconds == pytest.approx(3)
    whole = open_query(midi_folder / "PIECE.MID", DEFAULT)
    rest = open_query(midi_folder / "PIECE.MID", DEFAULT, start=2.0)
    assert rest.seconds == pytest.approx(whole.seconds - 2)


@pytest.mark.parametrize(
    "span",
    [{"start": 100.0}, {"start": -1.0}, {"duration": 0.0}, {"duration": -3.0}, {"start": np.nan}],
)
def test_a_span_without_music_is_refused(midi_folder, span):
    with pytest.raises(MidiError, match=r"piece 0\.mid: no music in the span given, it lasts"):
        open_query(midi_folder / "piece 0.mid", DEFAULT, **span)


def test_what_cannot_be_opened_says_so(tmp_path):
    (tmp_path / "broken.mid").write_bytes(b"RIFF")
    with pytest.raises(MidiError, match=r"broken\.mid"):
        open_query(tmp_path / "broken.mid", DEFAULT)
    with pytest.raises(AudioError, match=r"gone\.wav"):
        open_query(tmp_path / "gone.wav", DEFAULT)


def test_files_of_a_library_are_queries(pieces):
    score = as_query(pieces[0], DEFAULT)
    assert score.kind == "midi" and score.seconds == pieces[0].midi.seconds
    bands = np.zeros((DEFAULT.bands, 43), np.float32)
    sound = as_query(Recording("x", pieces[0].path, "0" * 64, bands), DEFAULT)
    assert sound.kind == "recordings" and sound.seconds == 43 / DEFAULT.frame_rate
