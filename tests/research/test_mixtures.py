"""`mmid.research.mixtures`: sound and notes of a clip agree, and the folder can be measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pretty_midi
import pytest
from synth import SOUNDFONT, needs_fluidsynth
from typer import Typer
from typer.testing import CliRunner

from mmid.cli.demo import write_library
from mmid.errors import MmidError
from mmid.evaluation.sources import open_sources
from mmid.music.grid import DEFAULT
from mmid.music.midi import read_midi, write_midi
from mmid.music.notes import NOTE_DTYPE
from mmid.music.pairs import read_pairs
from mmid.music.synthesizer import Synthesizer
from mmid.research import mixtures
from mmid.research.mixed_scores import Score, draw_excerpt, read_score
from mmid.research.mixing import ENSEMBLES, SAMPLE_RATE, bass_line, merged, mix, section
from mmid.research.mixtures import write_mixtures


def notes(*rows: tuple[float, float, int]) -> np.ndarray:
    return np.array([(*row, 90, 0) for row in rows], NOTE_DTYPE)


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
    assert score.notes["pitch"][score.melody].tolist() == [48]
    assert sorted(score.notes["pitch"].tolist()) == [48, 72, 74], "without drums"
    assert np.diff(score.beats) == pytest.approx(0.5)


def test_the_melody_is_else_the_highest_line(tmp_path):
    save(tmp_path / "x.mid", one=notes((0, 1, 60)), two=notes((0, 1, 72)))
    score = read_score(tmp_path / "x.mid")
    assert score.notes["pitch"][score.melody].tolist() == [72]


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
    score = Score(few, np.zeros(2, int), np.ones(2, bool), np.arange(4.0))
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
            assert mixture.notes["onset"].min() >= 0 and mixture.notes["offset"].max() <= 6.001
            long = mixture.notes[mixture.notes["offset"] - mixture.notes["onset"] > 0.3]
            for note in long[long["pitch"] > 52]:
                span = float(note["onset"]) + 0.05, float(note["offset"])
                contrasts.append(pitches_at(mixture.audio, *span, int(note["pitch"])))
    assert len(contrasts) > 10
    assert np.median(contrasts) > 15  # 0.6 s later or at other pitches: below 12


@needs_fluidsynth
def test_one_seed_writes_the_same_files_and_evaluation_takes_them(library, tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        made = {"count": 2, "seconds": 4.0, "seed": seed, "soundfonts": [str(SOUNDFONT)]}
        assert write_mixtures([library], tmp_path / name, ["song", "folk"], **made) == 4
    one, again, other = (
        {
            str(p.relative_to(tmp_path / name)): p.read_bytes()
            for p in (tmp_path / name).rglob("*.*")
        }
        for name in "abc"
    )
    assert one == again and one != other
    pairs = read_pairs(tmp_path / "a")
    assert [pair.kind for pair in pairs] == ["song", "song", "folk", "folk"]
    for pair in pairs:
        original = library / f"{pair.score.path.stem.rpartition('-')[0]}.mid"
        assert pair.score.path.read_bytes() == original.read_bytes(), "the whole score"
        assert len(read_midi(tmp_path / "a" / "notes" / f"{pair.name}.mid").notes) > 3
    count, sources = open_sources(tmp_path / "a", None, DEFAULT, (1, 1), "all", 0)
    assert count == 4
    assert all(s.size(DEFAULT) == 4 * DEFAULT.sample_rate for s in sources)


@needs_fluidsynth
def test_a_file_that_is_of_no_use_is_left_out(library, tmp_path):
    folder = tmp_path / "some"
    folder.mkdir()
    (folder / "bad.mid").write_bytes(b"MThd nothing")
    write_midi(notes((0, 1, 60)), folder / "short.mid")
    with pytest.raises(MmidError, match="no MIDI file has enough notes for a clip of piano"):
        write_mixtures([folder], tmp_path / "out", ["piano"], soundfonts=[str(SOUNDFONT)])
    assert not (tmp_path / "out" / "pairs.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--kind", "polka"], "mmid: no kind 'polka': there are piano, folk, choir"),
        (["--soundfont", "nosuch"], "mmid: no soundfont 'nosuch'"),
        (["--soundfont", str(SOUNDFONT)], "not empty; choose another --out"),
    ],
)
def test_bad_input_is_one_line(library, tmp_path, arguments, reason):
    (tmp_path / "mine.txt").write_text("keep")
    app = Typer(pretty_exceptions_enable=False)
    app.command()(mixtures.main)
    run = CliRunner().invoke(app, [str(library), "--out", str(tmp_path), *arguments])
    assert run.exit_code == 1 and reason in run.stderr and run.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
