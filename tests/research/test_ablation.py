"""`mmid.research.ablation`: rows that say what they change, measured and kept."""

from __future__ import annotations

import json
import sys
from dataclasses import fields
from itertools import pairwise
from pathlib import Path

import pytest
from synth import SOUNDFONT, needs_fluidsynth

from mmid.cli.demo import write_library
from mmid.research import ablation as module
from mmid.research.ablation import Bench, Row, all_rows, table
from mmid.training.experiment import PRESETS, Experiment

OUTCOME = {"recall": [0.5, 0.25], "mrr": [0.6, 0.35], "majority": 0.75, "consistent": 1.0}


def changed(one: Row, other: Row) -> set[str]:
    names = {
        field.name
        for field in fields(Experiment)
        if getattr(one.experiment, field.name) != getattr(other.experiment, field.name)
    }
    return names | ({"soundfonts"} if one.soundfonts != other.soundfonts else set())


def test_every_row_has_a_folder_of_its_own(tmp_path):
    bench = Bench(tmp_path, (), tmp_path, tmp_path, 100)
    folders = [bench.folder(row.name) for row in all_rows()]
    assert len(set(folders)) == len(folders) > 25
    assert all(folder.parent == tmp_path for folder in folders)


def test_the_ladder_leads_from_the_report_to_the_default_step_by_step():
    rows = all_rows()
    last = next(i for i, row in enumerate(rows) if row.name.endswith("mmid"))
    assert rows[0].experiment == PRESETS["report-2020"]
    assert all(row.name.startswith("+") for row in rows[1 : last + 1])
    assert all(changed(*pair) for pair in pairwise(rows[: last + 1]))
    default = Row("default", PRESETS["default"])
    assert changed(rows[last], default) == {"batch", "copies"}, "what suits a short run"


def test_other_rows_change_one_thing():
    rows = {row.name: row for row in all_rows()}
    base = rows["+ neighbours, batch of 128"]
    for name, row in rows.items():
        if name.startswith("mmid, "):
            assert len(changed(base, row)) == 1, name
    assert changed(rows["report-2020"], rows["report, contrastive MIDI too"]) == {"loss"}
    begun = rows["report, begun with autoencoders"]
    assert not changed(rows["report-2020"], begun) and set(begun.init) <= set(rows)


def test_the_table_shows_what_was_measured(tmp_path):
    bench = Bench(tmp_path, (), tmp_path, tmp_path, 100)
    rows = all_rows()[:2]
    bench.folder(rows[1].name).mkdir()
    (bench.folder(rows[1].name) / "result.json").write_text(json.dumps(OUTCOME))
    lines = table(bench, rows).splitlines()
    assert len(lines) == 3, "rows that were not measured are left out"
    assert lines[2] == f"| {rows[1].name} | 50.0% | 60.0% | 25.0% | 35.0% | 75.0% | 100.0% |"


@needs_fluidsynth
def test_a_row_is_trained_and_measured_once(tmp_path, monkeypatch):
    write_library(tmp_path / "tunes")
    for number, path in enumerate(sorted((tmp_path / "tunes").iterdir())):
        if number >= 24:
            path.unlink()
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)  # takes seconds to import
    monkeypatch.setattr(module, "EXCERPT", 6.0)
    monkeypatch.setattr(module, "POOL", 50)
    bench = Bench(tmp_path / "tunes", (SOUNDFONT,), SOUNDFONT, tmp_path / "out", 5 * 256, 1)
    small = Experiment(encoder="conv", batch=64, copies=1, validation_pairs=50, cca=False)
    row = Row("small", small, 1)
    bench.run(row)
    result = bench.folder("small") / "result.json"
    figures = json.loads(result.read_text())
    assert set(figures) == set(OUTCOME) and 0 <= figures["consistent"] <= 1
    assert figures["mrr"][0] >= figures["recall"][0] > 1 / 50, "better than a guess"
    monkeypatch.setattr(Bench, "train", lambda *_: pytest.fail("trained again"))
    bench.run(row)
    assert Path(result).read_text() == json.dumps(figures)
