"""Long music cut at its pieces: `timeline`, what it follows with, and how it is measured."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from synth import SOUNDFONT, needs_fluidsynth
from typer.testing import CliRunner

from mmid.cli.app import app
from mmid.cli.demo import write_library
from mmid.errors import MmidError
from mmid.evaluation.medley import (
    SAMPLE_RATE,
    Span,
    applause,
    main,
    make_medley,
    read_spans,
    write_spans,
)
from mmid.evaluation.timelines import score_timeline
from mmid.identify.answer import Identification, Match
from mmid.identify.identifier import Identifier
from mmid.identify.note_stream import AROUND, Tape, _cut, transcribe_stretches
from mmid.identify.score_following import Track, part, track_piece
from mmid.identify.search_options import SearchOptions
from mmid.identify.timeline import Played, Timeline, _chosen, follow, follow_files
from mmid.identify.voting import Candidate
from mmid.index.build import build_index
from mmid.index.folder import LibraryIndex
from mmid.model.embedding import Score
from mmid.model.loading import load_model
from mmid.model.transcriber import PITCHES
from mmid.music.audio import read_audio
from mmid.music.grid import DEFAULT
from mmid.music.library import read_library
from mmid.music.midi import write_midi
from mmid.music.notes import NOTE_DTYPE
from mmid.music.synthesizer import Synthesizer

RATE = DEFAULT.frame_rate
A, B, C, D = "londonderry-air.mid", "fur-elise.mid", "turkish-march.mid", "ode-to-joy.mid"
KNOWN = (A, B, C, D, "minuet-in-g.mid", "canon-in-d.mid", "lullaby.mid", "korobeiniki.mid")


# ---- a tape


def stretches(*lengths):
    numbers = torch.arange(sum(lengths)).float().expand(2, PITCHES, -1)
    return iter(torch.split(numbers, lengths, -1))


def test_a_tape_is_wound_on_as_far_as_is_asked_for():
    drawn = []
    tape = Tape(drawn.append(len(drawn)) or part for part in stretches(10, 10, 5))
    assert tape.between(3, 8)[0, 0].tolist() == [3, 4, 5, 6, 7] and len(drawn) == 1
    assert tape.between(8, 12)[0, 0].tolist() == [8, 9, 10, 11] and tape.end == 20
    assert tape.between(23, 40)[0, 0].tolist() == [23, 24] and tape.end == 25
    assert tape.between(30, 40).shape[-1] == 0


def test_a_tape_forgets():
    tape = Tape(stretches(10, 10, 5))
    tape.between(0, 12)
    tape.forget(7)
    assert tape.first == 7 and tape.between(7, 9)[0, 0].tolist() == [7, 8]
    tape.forget(3)
    assert tape.first == 7
    assert tape.between(19, 22)[0, 0].tolist() == [19, 20, 21]
    tape.forget(100)
    assert tape.first == tape.end == 25


@pytest.mark.parametrize("block", [700, 65_536, 10**6])
@pytest.mark.parametrize("seconds", [0.5, 3.7, 9.0])
def test_stretches_lie_end_to_end(block, seconds):
    hop, frames = DEFAULT.hop, 40
    samples = np.arange(int(seconds * DEFAULT.sample_rate), dtype=np.float32)
    blocks = (samples[i : i + block] for i in range(0, len(samples), block))
    told = 0
    for cut, before in _cut(blocks, frames, DEFAULT):
        begin = told * hop
        assert cut[before * hop] == begin, "its first frame follows the last one's"
        assert before == (AROUND if told else 0)
        after = len(cut) - (before + frames) * hop
        assert after >= 0 or begin + frames * hop > len(samples) - AROUND * hop
        told += min(frames, len(cut) // hop + 1 - before)
    assert told == len(samples) // hop + 1


def test_music_is_heard_stretch_by_stretch(tmp_path, listening_model, pieces, play, write_wav):
    build_index(tmp_path / "index", pieces, listening_model)
    identifier = Identifier(listening_model, LibraryIndex(tmp_path / "index", listening_model))
    notes = np.concatenate([pieces[0].midi.notes] * 4)
    for turn, side in [(t, s) for t in range(4) for s in ("onset", "offset")]:
        notes[side][turn * 40 : turn * 40 + 40] += turn * 18.0
    path = write_wav(tmp_path / "long.wav", play(notes, 70.0))
    heard = list(transcribe_stretches(identifier.model.encoders, path))
    assert len(heard) == 3 and sum(part.shape[-1] for part in heard) == int(70 * RATE) + 1
    short = list(transcribe_stretches(identifier.model.encoders, path, 10.0, 5.0))
    assert [part.shape[-1] for part in short] == [int(5 * RATE) + 1]


# ---- a track


def track(first: int, gains, piece: int = 0) -> Track:
    gained = np.cumsum(np.asarray(gains, float))
    return Track(
        first, first, gained, np.cumsum(np.abs(gains)), piece + np.arange(len(gained)) / RATE
    )


def test_what_two_tracks_claim_is_cut_where_both_gain_most():
    earlier = track(0, [1] * 100 + [-1] * 20)
    later = track(80, [-0.5] * 30 + [1] * 100)
    first, second = part(earlier, later)
    assert (first.first, first.end) == (0, 100) and first.gained[-1] == 100
    assert (second.first, second.end) == (110, 210), "and where they do not lose any more"
    assert second.gained[-1] == 100 and second.positions[0] == later.positions[30]


def test_tracks_apart_stay_as_they_are():
    earlier, later = track(0, [1] * 10), track(10, [1] * 10)
    assert part(earlier, later) == (earlier, later)


def test_a_track_that_another_explains_as_well_is_dropped():
    whole = track(0, [1] * 300)
    gone, kept = part(track(20, [1.2] * 50), whole)
    assert len(gone.gained) == 0 and kept is whole
    left, _ = part(track(0, [1.0] * 100 + [0.1] * 100), track(100, [1.0] * 200))
    assert (left.first, left.end) == (0, 100), "most of its gain is elsewhere"
    first, second = part(track(20, [3.0] * 50), whole)
    assert (first.first, first.end, second.first) == (20, 70, 70)


def test_of_the_same_music_a_track_keeps_what_lies_before_another():
    earlier, later = track(0, [1.0] * 200), track(50, [1.1] * 300)
    assert len(part(earlier, later)[0].gained) == 0
    kept, follows = part(earlier, later, same=True)
    assert (kept.first, kept.end) == (0, 50) and follows is later


def answer_of(*said: tuple[str, float, float]) -> Identification:
    matches = tuple(
        Match(piece, sure, 0.5, share, 0.0, 0.0, 0.0, 9.0, 1.0, 0) for piece, sure, share in said
    )
    return Identification("", 9.0, bool(said) and said[0][1] >= 0.5, matches)


def test_the_piece_before_goes_on_where_it_is_likeliest():
    before = answer_of(("a", 0.9, 0.5)).matches[0]
    assert _chosen(answer_of(), before) is None
    faint = answer_of(("a", 0.2, 0.4), ("b", 0.1, 0.3))
    assert _chosen(faint, None) is None and _chosen(faint, before) is faint.matches[0]
    assert _chosen(answer_of(("a", 0.05, 0.4)), before) is None
    assert _chosen(answer_of(("b", 0.2, 0.4), ("a", 0.0, 0.4)), before) is None
    for share, piece in ((0.39, "a"), (0.3, "b")):
        chosen = _chosen(answer_of(("b", 0.8, 0.4), ("a", 0.0, share)), before)
        assert chosen is not None and chosen.piece == piece


def test_a_track_tells_its_share_and_its_tempo():
    one = Track(5, 5, np.arange(1, 201) * 0.5, np.arange(1.0, 201.0), np.arange(200) * 1.25 / RATE)
    assert one.share == pytest.approx(0.5)
    assert one.tempo_ratio(RATE) == pytest.approx(1.25)
    assert one.cut(105, 205).share == pytest.approx(0.5)


def test_a_track_tells_where_it_is_sure():
    gains = [0.2] * 20 + [0.9] * 50 + [0.1] * 30
    one = Track(100, 140, np.cumsum(gains), np.arange(1.0, 101.0), np.zeros(100))
    assert one.likely_span(0.0) == (100, 200) and one.likely_span(0.5) == (120, 170)
    assert one.moved(7).likely_span(0.5) == (127, 177)
    assert one.cut(130, 160).likely_span(0.5) == (130, 160)


@pytest.mark.parametrize("tempo", [1.0, 1.1])
def test_a_piece_is_followed_to_both_its_ends(draw_notes, tempo):
    written, other = draw_notes(0, 200, 60.0), draw_notes(1, 200, 40.0)
    played = moved(written, 30.0, tempo)
    heard = Score(np.concatenate([moved(other, -12.0), played]), 120.0).log_odds
    reached: list[int] = []
    found = track_piece(
        Tape(iter(torch.split(heard, 500, -1))),
        (int(45 * RATE), int(60 * RATE)),
        [Candidate(0, 1.0, ratio, None) for ratio in (0.3, 1.0)],
        lambda piece: written,
        DEFAULT,
        reached.append,
    )
    first, last = float(played["onset"].min()), float(played["offset"].max())
    assert found.first / RATE == pytest.approx(first, abs=0.3)
    assert found.end / RATE == pytest.approx(last, abs=0.5)
    assert found.positions[0] == pytest.approx(float(written["onset"].min()), abs=0.3)
    assert found.positions[-1] == pytest.approx(float(written["offset"].max()), abs=0.5)
    assert found.tempo_ratio(RATE) == pytest.approx(tempo, rel=0.05)
    assert found.share > 0.8 and reached == sorted(reached)


# ---- a timeline


def moved(notes: np.ndarray, seconds: float, tempo: float = 1.0) -> np.ndarray:
    other = notes.copy()
    for side in ("onset", "offset"):
        other[side] = other[side] / tempo + seconds
    return other


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("timeline")
    write_library(folder / "library")
    return folder


@pytest.fixture(scope="module")
def tunes(folder):
    read = read_library([folder / "library"], jobs=1)[0]
    return {tune.name: tune for tune in read if tune.name in KNOWN}


@pytest.fixture(scope="module")
def identifier(folder, tunes):
    model = load_model()
    build_index(folder / "index", list(tunes.values()), model)
    return Identifier(
        model, LibraryIndex(folder / "index", model), SearchOptions(tempo_ratios=(0.8, 1, 1.25))
    )


def programme(tunes, *turns) -> tuple[Score, list[tuple[float, float]]]:
    """Join spans of tunes, (name, first second, last second, pause after); tell their times."""
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


def test_pieces_are_told_in_order(identifier, tunes):
    music, times = programme(tunes, (A, 0, 40, 10), (B, 10, 40, 0), (C, 0, 35, 5))
    timeline = follow(identifier, music)
    check(timeline, [A, B, C], times)
    assert timeline.seconds == pytest.approx(music.seconds, abs=0.1) and timeline.error is None
    starts = [one.match.start for one in timeline.played]
    assert starts == pytest.approx([0, 10, 0], abs=1.5)
    assert [one.match.tempo_ratio for one in timeline.played] == pytest.approx([1] * 3, rel=0.03)
    assert [round(start) for start, _ in timeline.gaps][:2] == [0, round(times[0][1])]


def test_a_short_piece_before_another_is_found(identifier, tunes):
    music, times = programme(tunes, (A, 0, 40, 2), (B, 0, 12, 3), (C, 0, 30, 0))
    check(follow(identifier, music), [A, B, C], times)


def test_a_piece_played_twice_is_told_twice(identifier, tunes):
    music, times = programme(tunes, (C, 0, 40, 8), (C, 0, 40, 0))
    check(follow(identifier, music), [C, C], times)


def test_a_piece_with_a_pause_in_it_is_told_once(identifier, tunes):
    music, times = programme(tunes, (A, 0, 25, 12), (A, 25, 50, 0))
    check(follow(identifier, music), [A], [(times[0][0], times[1][1])])


def test_a_section_played_again_at_once_is_of_the_same_piece(identifier, tunes):
    music, times = programme(tunes, (A, 0, 25, 0), (A, 0, 50, 0))
    check(follow(identifier, music), [A], [(times[0][0], times[1][1])])


def test_a_piece_is_followed_in_another_key(folder, identifier, tunes):
    model = load_model()
    index = LibraryIndex(folder / "index", model)
    keys = Identifier(model, index, SearchOptions(tempo_ratios=(1.0,), keys=(0, 2)))
    music, times = programme(tunes, (C, 0, 25, 0))
    timeline = follow(keys, music.transposed(2))
    check(timeline, [C], times)
    assert timeline.played[0].match.transpose == 2


def test_music_that_is_not_in_the_library_is_a_gap(identifier, tunes, draw_notes):
    music, times = programme(tunes, (B, 0, 30, 40), (C, 0, 30, 0))
    strange = moved(draw_notes(3, 180, 30.0), times[0][1] + 5)
    noisy = Score(np.concatenate([music.notes, strange]), music.seconds)
    check(follow(identifier, noisy), [B, C], times)


@pytest.mark.parametrize("seconds", [0.5, 4.0, 20.0])
def test_silence_has_an_empty_timeline(identifier, tmp_path, write_wav, seconds):
    path = write_wav(tmp_path / "silence.wav", np.zeros(int(seconds * 22_050)))
    timeline = follow(identifier, path)
    assert timeline.played == () and timeline.seconds == pytest.approx(seconds, abs=0.1)


def test_what_cannot_be_followed_says_so(identifier, tunes, tmp_path, tiny_model, pieces):
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    write_midi(tunes[C].midi.notes, tmp_path / "good.mid")
    bad, good = follow_files(identifier, [tmp_path / "bad.wav", tmp_path / "good.mid"])
    assert "bad.wav: not an audio file" in (bad.error or "") and bad.played == ()
    assert good.error is None and [one.match.piece for one in good.played] == [C]
    with pytest.raises(MmidError, match="windows of 2 s"):
        follow(identifier, tmp_path / "good.mid", every=2.0)
    build_index(tmp_path / "index", pieces, tiny_model)
    deaf = Identifier(tiny_model, LibraryIndex(tmp_path / "index", tiny_model))
    wave = write_wav_of(tmp_path)
    with pytest.raises(MmidError, match="transcribes no notes to follow"):
        follow(deaf, wave)


def write_wav_of(folder):
    import wave

    path = folder / "noise.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 22_050, 0, "NONE", ""))
        file.writeframes(np.random.default_rng(0).integers(-99, 99, 220_500, "<i2").tobytes())
    return path


# ---- a medley, and how well it is told


@pytest.fixture(scope="module")
def medley(folder, tunes):
    """Return the folder of four rendered tunes, a medley of three of them and what it holds."""
    rows = []
    with Synthesizer(SOUNDFONT, DEFAULT.sample_rate) as synthesizer:
        for name in (A, B, C, D):
            rows.append({"id": name[:-4], "audio": f"{name}.wav", "midi": f"library/{name}"})
            save(folder / f"{name}.wav", synthesizer.render(tunes[name].midi.notes))
    with (folder / "pairs.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["id", "audio", "midi"])
        writer.writeheader()
        writer.writerows(rows)
    return folder / "medley.flac", make_medley(folder, folder / "medley.flac", 3, 2.2, seed=1)


def save(path, samples):
    import wave

    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, DEFAULT.sample_rate, 0, "NONE", ""))
        file.writeframes((np.clip(samples, -1, 1) * 32_767).astype("<i2").tobytes())


@needs_fluidsynth
def test_a_medley_is_as_long_as_asked_for_and_lists_what_it_holds(medley, folder, tmp_path):
    path, spans = medley
    sound = read_audio(path, SAMPLE_RATE)
    assert len(sound) / SAMPLE_RATE == pytest.approx(132, abs=0.1)
    assert spans[-1].end == pytest.approx(132, abs=0.1) and spans[0].start == 0
    assert len({span.id for span in spans}) == 3
    lengths = [span.end - span.start for span in spans]
    assert max(lengths) - min(lengths) > 1, "pieces of different lengths"
    listed = read_spans(path.with_suffix(".csv"))
    assert [span.id for span in listed] == [span.id for span in spans]
    assert [span.start for span in listed] == pytest.approx([s.start for s in spans], abs=1e-3)
    assert make_medley(folder, tmp_path / "again.flac", 3, 2.2, seed=1) == spans
    assert (tmp_path / "again.flac").read_bytes() == path.read_bytes()
    whole = make_medley(folder, tmp_path / "whole.flac", 2, 60, seed=2)
    assert whole[-1].end < 400, "short pieces are whole"


@needs_fluidsynth
def test_a_medley_is_told(medley, folder, identifier):
    path, _ = medley
    command = ["eval", "timeline", str(path.with_suffix(".csv")), str(path), "--json"]
    command += ["--index", str(folder / "index"), "--every", "20", "--device", "cpu"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    scores = json.loads(result.stdout)
    assert scores["right"] == scores["pieces"] == scores["told"] == 3
    assert scores["starts_near"] == 3 and scores["median_start_error"] < 2


@needs_fluidsynth
def test_a_timeline_is_printed_and_written(medley, folder, identifier, tmp_path):
    path, spans = medley
    command = ["query", str(path), "--every", "30", "--index", str(folder / "index")]
    command += ["--duration", str(spans[1].start), "--device", "cpu"]
    table = CliRunner().invoke(app, command)
    assert table.exit_code == 0 and spans[0].id in table.stdout and "confidence" in table.stdout
    told = CliRunner().invoke(app, [*command, str(folder / "gone.wav"), "--json"])
    found, gone = map(json.loads, told.stdout.splitlines())
    assert told.exit_code == 1 and "gone.wav" in gone["error"]
    assert CliRunner().invoke(app, [*command, "--plot", "x.png"]).exit_code == 2
    written = ["--csv", "--report", str(tmp_path / "a.html"), "--cue", str(tmp_path / "a.cue")]
    rows = CliRunner().invoke(app, [*command, *written])
    assert rows.exit_code == 0, rows.output
    [row] = csv.DictReader(rows.stdout.splitlines())
    cue = (tmp_path / "a.cue").read_text()
    assert "FILE" in cue and cue.count("TRACK") == cue.count("INDEX 01") == 1
    page = (tmp_path / "a.html").read_text()
    assert (
        page.count('<tr class="row">')
        == page.count("<audio")
        == page.count('<svg class="music')
        == 1
    )
    [one] = found["played"]
    assert row["piece"] == one["match"]["piece"] and float(row["from"]) == one["start"]
    assert one["match"]["piece"] == f"{spans[0].id}.mid" and one["start"] < 2
    assert found["gaps"][-1][1] == pytest.approx(spans[1].start, abs=0.1)


def test_applause_is_loud_between_hushes_and_seeded():
    sound = applause(np.random.default_rng(0))
    assert np.array_equal(sound, applause(np.random.default_rng(0)))
    assert not np.array_equal(sound, applause(np.random.default_rng(1)))
    assert 7 < len(sound) / SAMPLE_RATE < 19
    quiet = SAMPLE_RATE // 4
    assert not sound[:quiet].any() and not sound[-quiet:].any()
    assert 0.04 < np.std(sound) < 0.08


def test_a_medley_without_a_place_is_refused_before_it_is_made(tmp_path):
    for name, why in (("a.wav", "not named .flac"), ("gone/a.flac", "no folder")):
        with pytest.raises(MmidError, match=why):
            make_medley(tmp_path, tmp_path / name)


def test_too_few_recordings_are_refused(tmp_path, capsys, write_wav):
    write_wav(tmp_path / "one.wav", np.zeros(22_050))
    assert main([str(tmp_path), str(tmp_path / "out.flac"), "--pieces", "2"]) == 1
    assert "2 pieces asked for, and 1 there" in capsys.readouterr().err
    assert not (tmp_path / "out.flac").exists()
    assert main([str(tmp_path), str(tmp_path / "out.flac"), "--pieces", "1"]) == 0
    assert read_spans(tmp_path / "out.csv") == [Span(0.0, 1.0, "one", ())]


def test_a_damaged_list_says_so(tmp_path):
    (tmp_path / "list.csv").write_text("start,end\n1,2\n")
    with pytest.raises(MmidError, match="no list with the columns"):
        read_spans(tmp_path / "list.csv")
    write_spans([], tmp_path / "list.csv")
    with pytest.raises(MmidError, match="lists nothing"):
        read_spans(tmp_path / "list.csv")


def played(piece: str, start: float, end: float, *also: str) -> Played:
    return Played(start, end, Match(piece, 0.9, 0.5, 0.5, 0.1, 0.1, 0.0, 1.0, 1.0, 0, also))


def test_pieces_right_in_order_are_counted():
    spans = [Span(100.0 * i, 100.0 * i + 90, name, (name,)) for i, name in enumerate("abcd")]
    timeline = Timeline(
        "x",
        400.0,
        (
            played("b", 3, 85),
            played("other", 98, 150, "b"),
            played("b", 160, 170),
            played("d", 207, 290),
            played("d", 301, 384),
        ),
    )
    scores = score_timeline(timeline, spans, [frozenset({name}) for name in "abcd"], 40.0)
    assert [one.piece for one in scores.results] == [None, "other", None, "d"]
    assert scores.right == 2 and scores.told == 5
    assert scores.results[1].start_error == -2 and scores.results[3].end_error == -6
    figures = scores.to_dict()
    assert figures["starts_near"] == 2 and figures["ends_near"] == 0
    assert figures["median_start_error"] == 1.5 and figures["median_end_error"] == 23.0
    assert figures["share_of_real_time"] == 0.1
    json.dumps(figures, allow_nan=False)
