"""`mmid.evaluation.asap`: scores and one performance each, laid out to be asked about."""

from __future__ import annotations

import csv

import pytest

from mmid.errors import MmidError
from mmid.evaluation.asap import lay_out
from mmid.music.midi import read_midi, write_midi


def test_each_piece_gets_its_score_and_one_performance(tmp_path, draw_notes):
    for seed, name in enumerate(("Bach/Fugue/1", "Bach/Fugue/2", "Liszt/Sonata")):
        folder = tmp_path / "asap" / name
        folder.mkdir(parents=True)
        for offset, file in enumerate(("midi_score", "Aa01", "Bb02")):
            write_midi(draw_notes(10 * seed + offset), folder / f"{file}.mid")
    lonely = tmp_path / "asap" / "alone"
    lonely.mkdir()
    write_midi(draw_notes(99), lonely / "midi_score.mid")
    assert lay_out(tmp_path / "asap", tmp_path / "out") == 3
    rows = list(csv.DictReader((tmp_path / "out" / "pairs.csv").open()))
    assert [row["id"] for row in rows] == ["Bach_Fugue_1", "Bach_Fugue_2", "Liszt_Sonata"]
    for row in rows:
        folder = tmp_path / "asap" / row["id"].replace("_", "/")
        read = {side: (tmp_path / "out" / row[side]).read_bytes() for side in ("audio", "midi")}
        assert read["midi"] == (folder / "midi_score.mid").read_bytes()
        assert read["audio"] in [(folder / f"{n}.mid").read_bytes() for n in ("Aa01", "Bb02")]
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.mid")}
    lay_out(tmp_path / "asap", tmp_path / "out")
    assert before == {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.mid")}


def test_scores_are_written_faster_on_demand(tmp_path, draw_notes):
    (tmp_path / "asap" / "one").mkdir(parents=True)
    for seed, file in enumerate(("midi_score", "Aa01")):
        write_midi(draw_notes(seed), tmp_path / "asap" / "one" / f"{file}.mid")
    lay_out(tmp_path / "asap", tmp_path / "out", scores_at=2.0)
    quick = read_midi(tmp_path / "out" / "scores" / "one.mid").notes
    for moment in ("onset", "offset"):
        assert quick[moment] == pytest.approx(draw_notes(0)[moment] / 2, abs=0.005)
    played = read_midi(tmp_path / "out" / "performances" / "one.mid").notes
    assert played["onset"] == pytest.approx(draw_notes(1)["onset"], abs=0.005)


def test_a_folder_without_performances_is_refused(tmp_path):
    with pytest.raises(MmidError, match=r"no midi_score\.mid with a performance beside it"):
        lay_out(tmp_path, tmp_path / "out")
