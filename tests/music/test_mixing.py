"""`mmid.music.mixing`: scores with their melody, what players make of them, and their sound."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pretty_midi
import pytest
from synth import SOUNDFONT, needs_fluidsynth

from mmid.cli.demo import write_library
from mmid.errors import MmidError, RenderError
from mmid.music.mixing.arranging import adorned, bass_line, merged, octave_higher, strummed
from mmid.music.mixing.ensembles import ENSEMBLES, draw_kind
from mmid.music.mixing.mixture import complete_ones, mix, section
from mmid.music.mixing.recording import (
    PEAK,
    SAMPLE_RATE,
    babble,
    compressed,
    loudness,
    off_pitch,
    recorded,
)
from mmid.music.mixing.scores import SCORE_DTYPE, Score, draw_excerpt, read_score, skyline
from mmid.music.notes import clipped
from mmid.music.synthesizer import Synthesizer


def notes(*rows: tuple[float, float, int]) -> np.ndarray:
    return np.array([(*row, 90, 0, 0, False) for row in rows], SCORE_DTYPE)


def random_notes(seed: int, count: int = 60) -> np.ndarray:
    rng = np.random.default_rng(seed)
    onsets = np.sort(rng.uniform(0, 20, count))
    ends, pitches = onsets + rng.uniform(0.1, 2, count), rng.integers(40, 80, count)
    return notes(*zip(onsets, ends, pitches, strict=True))


def pitches_at(audio: np.ndarray, start: float, end: float, pitch: int) -> float:
    """Return the power at a pitch against that a semitone away, dB."""
    part = audio[int(start * SAMPLE_RATE) : int(end * SAMPLE_RATE)]
    spectrum = np.abs(np.fft.rfft(part * np.hanning(len(part)), 1 << 17))
    hertz = np.arange(len(spectrum)) * SAMPLE_RATE / (1 << 17)
    away = 12 * np.log2(np.maximum(hertz, 1) / 440) + 69 - pitch
    at = spectrum[np.abs(away) < 0.6].max()
    beside = spectrum[(np.abs(away) > 0.9) & (np.abs(away) < 1.1)].max()
    return float(20 * np.log10(at / beside))


def save(path: Path, **tracks: np.ndarray) -> None:
    song = pretty_midi.PrettyMIDI()
    for name, rows in tracks.items():
        part = pretty_midi.Instrument(0, is_drum=name == "drums", name=name)
        part.notes = [
            pretty_midi.Note(90, int(r["pitch"]), *map(float, (r["onset"], r["offset"])))
            for r in rows
        ]
        song.instruments.append(part)
    song.write(str(path))


def test_the_melody_is_the_track_of_that_name(tmp_path):
    high, low = notes((0, 1, 72), (1, 2, 74)), notes((0, 2, 48))
    save(tmp_path / "x.mid", chords=high, Vocal=low, drums=notes((0, 1, 36)))
    score = read_score(tmp_path / "x.mid")
    assert score.notes["pitch"][score.notes["melody"]].tolist() == [48]
    assert sorted(score.notes["pitch"].tolist()) == [48, 72, 74], "without drums"
    assert score.drums["pitch"].tolist() == [36] and score.melody_known
    assert np.diff(score.beats) == pytest.approx(0.5)


def test_the_melody_is_else_the_highest_line(tmp_path):
    low, high = notes((0, 1, 60), (1.5, 2, 62)), notes((0, 1.05, 72), (1, 2, 71))
    save(tmp_path / "x.mid", one=low, two=high)
    score = read_score(tmp_path / "x.mid")
    assert score.notes["pitch"][score.notes["melody"]].tolist() == [72, 71], "legato is one line"


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "bad.mid").write_bytes(b"MThd nothing")
    with pytest.raises(MmidError, match=r"^bad\.mid: "):
        read_score(tmp_path / "bad.mid")


def test_notes_that_players_share_are_one():
    both = merged(notes((1.03, 2.2, 60), (1.0, 2.0, 60), (1.8, 3, 60), (1.0, 2.0, 64)))
    assert both[["onset", "offset", "pitch"]].tolist() == [
        pytest.approx(row) for row in [(1.0, 1.8, 60), (1.0, 2.0, 64), (1.8, 3.0, 60)]
    ]


def test_a_bass_plays_the_lowest_note_of_each_beat():
    line = bass_line(notes((0, 2, 60), (0, 2, 64), (2, 4, 67), (2, 4, 71)), np.arange(5.0))
    assert (line["pitch"] % 12).tolist() == [0, 0, 7, 7]
    assert line["onset"].tolist() == [0, 1, 2, 3] and (line["pitch"] < 48).all()


def test_a_section_keeps_the_pitch_and_spreads_it():
    time = np.arange(4 * SAMPLE_RATE) / SAMPLE_RATE
    tone = np.sin(2 * np.pi * 440 * time)
    many = section(tone, 8, SAMPLE_RATE, np.random.default_rng(0))
    assert pitches_at(many, 1, 3, 69) > 20
    power = np.abs(np.fft.rfft(many)) ** 2
    assert 0.05 < power.max() / power.sum() < 0.9 < (np.abs(np.fft.rfft(tone)) ** 2).max()


def test_too_little_melody_makes_no_excerpt():
    few = notes((0, 1, 60), (1, 2, 62))
    few["melody"] = True
    score = Score(few, np.arange(4.0), few[:0])
    assert draw_excerpt(score, 10.0, np.random.default_rng(0)) is None


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tunes")
    write_library(folder)
    return folder


@needs_fluidsynth
@pytest.mark.parametrize("kind", ENSEMBLES)
def test_notes_and_sound_of_a_mixture_agree(library, kind):
    score, contrasts = read_score(library / "ode-to-joy.mid"), []
    with Synthesizer(SOUNDFONT, SAMPLE_RATE) as synthesizer:
        for seed in range(2):
            mixture = mix(score, kind, [synthesizer], 6.0, np.random.default_rng(seed))
            assert mixture is not None and len(mixture.audio) == 6 * SAMPLE_RATE
            assert mixture.notes["offset"].min() > 0 and mixture.notes["onset"].max() < 6
            assert mixture.notes["melody"].any()
            sounds = clipped(mixture.notes, 0, 6)
            long = sounds[sounds["offset"] - sounds["onset"] > 0.3]
            for note in long[long["pitch"] > 52]:
                span = float(note["onset"]) + 0.05, float(note["offset"])
                contrasts.append(pitches_at(mixture.audio, *span, int(note["pitch"])))
    assert len(contrasts) > 10
    assert np.median(contrasts) > 15  # 0.6 s later or at other pitches: below 12


def test_the_melody_above_drums_is_not_known_for_sure(tmp_path):
    save(tmp_path / "x.mid", one=notes((0, 1, 60)), drums=notes((0, 1, 36)))
    assert not read_score(tmp_path / "x.mid").melody_known
    save(tmp_path / "x.mid", lead=notes((0, 1, 60)), drums=notes((0, 1, 36)))
    assert read_score(tmp_path / "x.mid").melody_known


def test_drums_are_of_the_excerpt_and_keep_their_pitch():
    score = Score(notes((0, 4, 60)), np.arange(5.0), notes((1, 1.1, 36), (3, 3.1, 38)))
    part = score.excerpt(2, 2, 1).transposed(3)
    assert part.drums[["onset", "pitch"]].tolist() == [(1, 38)]
    assert part.notes["pitch"].tolist() == [63]


@pytest.mark.parametrize("name", ["melody", "track"])
def test_notes_keep_what_is_known_of_them(name):
    rows = random_notes(1)
    rows[name] = np.arange(len(rows)) % 2
    rng = np.random.default_rng(0)
    for changed in (strummed(rows, np.arange(25.0), rng), octave_higher(rows), merged(rows)):
        assert changed.dtype == SCORE_DTYPE and 0 < changed[name].mean() < 1


def test_a_chord_is_struck_again_on_beats():
    chord = notes((0, 4, 60), (0, 4, 64), (0, 0.5, 72))
    again = strummed(chord, np.arange(5.0), np.random.default_rng(1))
    assert len(again) > len(chord) and (again["pitch"] == 72).sum() == 1
    for pitch in (60, 64):
        own = np.sort(again[again["pitch"] == pitch], order="onset")
        assert own["onset"][0] == 0 and own["offset"][-1] == pytest.approx(3.98)
        np.testing.assert_allclose(own["offset"][:-1], own["onset"][1:] - 0.02, atol=1e-5)
        assert set(np.round(own["onset"] * 2) / 2) == set(own["onset"].tolist())


def test_grace_notes_end_where_their_notes_begin():
    rows = random_notes(2)
    more = adorned(rows, np.random.default_rng(0))[len(rows) :]
    assert 3 < len(more) < 30
    for grace in more:
        own = rows[np.abs(rows["onset"] - grace["offset"]) < 1e-6]
        assert (int(grace["pitch"]) - own["pitch"].astype(int) >= 1).all()
        assert grace["onset"] == pytest.approx(grace["offset"] - 0.06)


def test_drums_are_played_and_are_no_notes(monkeypatch):
    band = replace(ENSEMBLES["band"], as_written=1.0, drums=1.0)
    monkeypatch.setitem(ENSEMBLES, "band", band)
    heard = []

    class Stub:
        def render(self, notes, drums=False):
            heard.append((drums, set(notes["pitch"].tolist())))
            return np.random.default_rng(0).normal(0, 0.1, 20_000).astype(np.float32)

    rows = random_notes(4)
    rows["melody"] = skyline(rows)
    strokes = rows.copy()
    strokes["pitch"] = 36
    mixture = mix(
        Score(rows, np.arange(25.0), strokes), "band", [Stub()], 5.0, np.random.default_rng(2)
    )
    assert heard[-1] == (True, {36}) and not any(drums for drums, _ in heard[:-1])
    assert set(mixture.notes["pitch"].tolist()) <= set(rows["pitch"].tolist()) - {36}


def test_a_player_whom_nobody_hears_leaves_no_notes(monkeypatch):
    monkeypatch.setattr("mmid.music.mixing.mixture.ADDITIVE", 0.0)
    silent = type("Silent", (), {"render": lambda self, notes, drums=False: np.zeros(9)})()
    rows = random_notes(4)
    rows["melody"] = skyline(rows)
    score = Score(rows, np.arange(25.0), rows[:0])
    assert mix(score, "piano", [silent], 5.0, np.random.default_rng(2)) is None


def test_soundfonts_that_lack_instruments_take_no_part():
    whole, part = (
        type("Synth", (), {"is_complete": lambda self, has=has: has})() for has in (True, False)
    )
    assert complete_ones([part, whole]) == [whole]
    with pytest.raises(RenderError, match="no soundfont given has all instruments"):
        complete_ones([part])


def test_kinds_suit_scores():
    rng, line = np.random.default_rng(0), notes((0, 1, 60), (1, 2, 62))
    line["melody"] = True
    tune = Score(line, np.arange(4.0), line[:0])
    band = Score(random_notes(3), np.arange(4.0), line)
    drawn = [[draw_kind(score, rng) for _ in range(200)] for score in (tune, band)]
    assert set(drawn[0]) == set(ENSEMBLES)
    assert drawn[0].count("folk") > 60 > 20 > drawn[1].count("folk")
    assert drawn[1].count("band") > 60 > drawn[0].count("band")


def test_a_wavering_tape_keeps_its_mean_speed(monkeypatch):
    monkeypatch.setattr("mmid.music.mixing.recording.WOW", 1.0)
    tone = np.sin(2 * np.pi * 440 * np.arange(3 * SAMPLE_RATE) / SAMPLE_RATE).astype(np.float32)
    for seed in range(4):
        moved, speed = off_pitch(tone, np.random.default_rng(seed))
        crossings = np.flatnonzero((moved[:-1] < 0) & (moved[1:] >= 0))
        hertz = (len(crossings) - 1) / (crossings[-1] - crossings[0]) * SAMPLE_RATE
        assert hertz == pytest.approx(440 * speed, rel=2e-3) and 0.97 < speed < 1.03


def test_compression_lifts_what_is_quiet():
    loud = np.random.default_rng(0).normal(0, 0.2, SAMPLE_RATE)
    sound = compressed(np.concatenate([loud, loud / 10]), 0.5)
    before, after = loud, loud / 10
    first, second = loudness(sound[: SAMPLE_RATE - 4_000]), loudness(sound[SAMPLE_RATE + 4_000 :])
    assert loudness(before) / loudness(after) == pytest.approx(10)
    assert 3 < first / second < 8


def test_talk_is_no_steady_pitch():
    talk = babble(4 * SAMPLE_RATE, np.random.default_rng(0))
    power = np.abs(np.fft.rfft(talk)) ** 2
    assert loudness(talk) > 0.001 and power.max() / power.sum() < 0.05


def test_a_recording_fills_the_scale_before_a_codec_changes_it(monkeypatch):
    monkeypatch.setattr("mmid.music.mixing.recording.CODED", 0.0)
    tone = np.sin(np.arange(2 * SAMPLE_RATE) / 10).astype(np.float32)
    for seed in range(12):
        made = recorded(tone, 0.5, np.random.default_rng(seed))
        assert made.dtype == np.float32 and len(made) == len(tone)
        assert np.abs(made).max() == pytest.approx(PEAK)
