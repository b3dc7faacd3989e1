"""`mmid.identify.timeline`: long music cut at its pieces."""

from __future__ import annotations

import numpy as np
import pytest
from tunes import A, B, C, moved

from mmid.errors import MmidError
from mmid.identify.answer import Identification, Match
from mmid.identify.identifier import Identifier
from mmid.identify.search_options import SearchOptions
from mmid.identify.timeline import follow, follow_files, window_match
from mmid.index.build import build_index
from mmid.index.folder import LibraryIndex
from mmid.model.embedding import Score
from mmid.model.loading import load_model
from mmid.music.bars import moment
from mmid.music.midi import write_midi
from mmid.music.notes import NOTE_DTYPE


def answer_of(*said: tuple[str, float, float]) -> Identification:
    matches = tuple(
        Match(piece, confidence, 0.5, share, 0.0, 0.0, 0.0, 9.0, 1.0, 0)
        for piece, confidence, share in said
    )
    return Identification("", 9.0, bool(said) and said[0][1] >= 0.5, matches)


def test_the_piece_before_goes_on_where_it_is_likeliest():
    before = answer_of(("a", 0.9, 0.5)).matches[0]
    assert window_match(answer_of(), before) is None
    faint = answer_of(("a", 0.2, 0.4), ("b", 0.1, 0.3))
    assert window_match(faint, None) is None and window_match(faint, before) is faint.matches[0]
    assert window_match(answer_of(("a", 0.05, 0.4)), before) is None
    assert window_match(answer_of(("b", 0.2, 0.4), ("a", 0.0, 0.4)), before) is None
    for share, piece in ((0.39, "a"), (0.3, "b")):
        chosen = window_match(answer_of(("b", 0.8, 0.4), ("a", 0.0, share)), before)
        assert chosen is not None and chosen.piece == piece


@pytest.fixture(scope="module")
def identifier(tunes_index):
    model = load_model()
    options = SearchOptions(tempo_ratios=(0.8, 1, 1.25))
    return Identifier(model, LibraryIndex(tunes_index, model), options)


def programme(tunes, *turns) -> tuple[Score, list[tuple[float, float]]]:
    """Join spans of tunes, (name, first second, last second, pause after); say when each is."""
    parts, times, now = [np.zeros(0, NOTE_DTYPE)], [], 3.0
    for name, first, last, pause in turns:
        span = Score(tunes[name].midi.notes, tunes[name].midi.seconds).span(first, last - first)
        within = span.notes[span.notes["onset"] >= 0].copy()
        within["offset"] = np.minimum(within["offset"], span.seconds)
        parts.append(moved(within, now))
        times.append((now, now + span.seconds))
        now += span.seconds + pause
    return Score(np.concatenate(parts), now + 3.0), times


def check(timeline, names, times, within=1.5):
    assert [one.match.piece for one in timeline.played] == names
    for one, (start, end) in zip(timeline.played, times, strict=True):
        assert one.start == pytest.approx(start, abs=within)
        assert one.end == pytest.approx(end, abs=within)
        assert one.match.confidence > 0.5 and one.match.explained > 0.5


def test_pieces_are_found_in_order(identifier, known_tunes):
    music, times = programme(known_tunes, (A, 0, 40, 10), (B, 10, 40, 0), (C, 0, 35, 5))
    timeline = follow(identifier, music)
    check(timeline, [A, B, C], times)
    assert timeline.seconds == pytest.approx(music.seconds, abs=0.1) and timeline.error is None
    starts = [one.match.start for one in timeline.played]
    assert starts == pytest.approx([0, 10, 0], abs=1.5)
    assert [one.match.tempo_ratio for one in timeline.played] == pytest.approx([1] * 3, rel=0.03)
    assert [round(start) for start, _ in timeline.gaps][:2] == [0, round(times[0][1])]
    bars = {entry.name: entry.bars for entry in identifier.index.entries}
    for match in (one.match for one in timeline.played):
        assert str(match.first_beat) == str(moment(bars[match.piece], match.start))


def test_a_short_piece_before_another_is_found(identifier, known_tunes):
    music, times = programme(known_tunes, (A, 0, 40, 2), (B, 0, 12, 3), (C, 0, 30, 0))
    check(follow(identifier, music), [A, B, C], times)


def test_a_piece_played_twice_is_found_twice(identifier, known_tunes):
    music, times = programme(known_tunes, (C, 0, 40, 8), (C, 0, 40, 0))
    check(follow(identifier, music), [C, C], times)


def test_a_piece_with_a_pause_in_it_is_found_once(identifier, known_tunes):
    music, times = programme(known_tunes, (A, 0, 25, 12), (A, 25, 50, 0))
    check(follow(identifier, music), [A], [(times[0][0], times[1][1])])


def test_a_section_played_again_at_once_is_of_the_same_piece(identifier, known_tunes):
    music, times = programme(known_tunes, (A, 0, 25, 0), (A, 0, 50, 0))
    check(follow(identifier, music), [A], [(times[0][0], times[1][1])])


def test_a_piece_is_followed_in_another_key(identifier, known_tunes):
    options = SearchOptions(tempo_ratios=(1.0,), keys=(0, 2))
    keys = Identifier(identifier.model, identifier.index, options)
    music, times = programme(known_tunes, (C, 0, 25, 0))
    timeline = follow(keys, music.transposed(2))
    check(timeline, [C], times)
    assert timeline.played[0].match.transpose == 2


def test_music_that_is_not_in_the_library_is_a_gap(identifier, known_tunes, draw_notes):
    music, times = programme(known_tunes, (B, 0, 30, 40), (C, 0, 30, 0))
    strange = moved(draw_notes(3, 180, 30.0), times[0][1] + 5)
    noisy = Score(np.concatenate([music.notes, strange]), music.seconds)
    check(follow(identifier, noisy), [B, C], times)


@pytest.mark.parametrize("seconds", [0.5, 4.0, 20.0])
def test_silence_has_an_empty_timeline(identifier, tmp_path, write_wav, seconds):
    path = write_wav(tmp_path / "silence.wav", np.zeros(int(seconds * 22_050)))
    timeline = follow(identifier, path)
    assert timeline.played == () and timeline.seconds == pytest.approx(seconds, abs=0.1)


def test_what_cannot_be_followed_says_so(
    identifier, known_tunes, tmp_path, tiny_model, pieces, write_wav
):
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    write_midi(known_tunes[C].midi.notes, tmp_path / "good.mid")
    bad, good = follow_files(identifier, [tmp_path / "bad.wav", tmp_path / "good.mid"])
    assert "bad.wav: not an audio file" in (bad.error or "") and bad.played == ()
    assert good.error is None and [one.match.piece for one in good.played] == [C]
    with pytest.raises(MmidError, match="windows of 2 s"):
        follow(identifier, tmp_path / "good.mid", every=2.0)
    build_index(tmp_path / "index", pieces, tiny_model)
    deaf = Identifier(tiny_model, LibraryIndex(tmp_path / "index", tiny_model))
    noise = np.random.default_rng(0).uniform(-0.003, 0.003, 220_500)
    with pytest.raises(MmidError, match="transcribes no notes to follow"):
        follow(deaf, write_wav(tmp_path / "noise.wav", noise))
