"""Medleys of known recordings, and how well the timelines found in them are measured."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
from synth import SOUNDFONT, needs_fluidsynth
from tunes import A, B, C, D
from typer.testing import CliRunner

from mmid.cli.app import app
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
from mmid.identify.answer import Match
from mmid.identify.timeline import Played, Timeline
from mmid.music.audio import read_audio
from mmid.music.grid import DEFAULT
from mmid.music.synthesizer import Synthesizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tunes_folder):
    """Return a folder of the tunes to render some of them in."""
    folder = tmp_path_factory.mktemp("medley")
    shutil.copytree(tunes_folder / "library", folder / "library")
    return folder


@pytest.fixture(scope="module")
def medley(folder, known_tunes, write_wav):
    """Return the folder of four rendered tunes, a medley of three of them and what it holds."""
    rows = []
    with Synthesizer(SOUNDFONT, DEFAULT.sample_rate) as synthesizer:
        for name in (A, B, C, D):
            rows.append({"id": name[:-4], "audio": f"{name}.wav", "midi": f"library/{name}"})
            write_wav(folder / f"{name}.wav", synthesizer.render(known_tunes[name].midi.notes))
    with (folder / "pairs.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["id", "audio", "midi"])
        writer.writeheader()
        writer.writerows(rows)
    return folder / "medley.flac", make_medley(folder, folder / "medley.flac", 3, 2.2, seed=1)


@needs_fluidsynth
def test_a_medley_is_as_long_as_ordered_and_lists_what_it_holds(medley, folder, tmp_path):
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
def test_a_medley_is_measured(medley, tunes_index):
    path, _ = medley
    command = ["eval", "timeline", str(path.with_suffix(".csv")), str(path), "--json"]
    command += ["--index", str(tunes_index), "--every", "20", "--device", "cpu"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    scores = json.loads(result.stdout)
    assert scores["right"] == scores["pieces"] == scores["told"] == 3
    assert scores["starts_near"] == 3 and scores["median_start_error"] < 2


@needs_fluidsynth
def test_a_timeline_is_printed_and_written(medley, folder, tunes_index, tmp_path):
    path, spans = medley
    command = ["query", str(path), "--every", "30", "--index", str(tunes_index)]
    command += ["--duration", str(spans[1].start), "--device", "cpu"]
    table = CliRunner().invoke(app, command)
    assert table.exit_code == 0 and spans[0].id in table.stdout and "confidence" in table.stdout
    lines = CliRunner().invoke(app, [*command, str(folder / "gone.wav"), "--json"])
    found, gone = map(json.loads, lines.stdout.splitlines())
    assert lines.exit_code == 1 and "gone.wav" in gone["error"]
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
    assert "2 pieces wanted, and 1 there" in capsys.readouterr().err
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
