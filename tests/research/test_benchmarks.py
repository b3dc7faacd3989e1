"""`mmid.research.benchmarks`: run what is not done, and write tables of what is."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from examples import check
from typer import Typer
from typer.testing import CliRunner

from mmid.cli.app import app
from mmid.errors import MmidError
from mmid.model.checkpoint import save_checkpoint
from mmid.research import benchmarks
from mmid.research.benchmark_tables import GROWTH, MMID, TABLES, fill, kind_lengths_table
from mmid.research.benchmarks import COMMANDS, DOCUMENTS, fill_in, read_results, run_benchmarks

ROOT = Path(__file__).parents[2]
EVERYTHING = {name: ["some"] for name in re.findall(r"{([\w-]+)}", " ".join(COMMANDS.values()))}


def in_this_process(words, target):
    result = CliRunner().invoke(app, [*words, "--transpose", "0", "--out", str(target)])
    assert result.exit_code == 0, result.output


@pytest.fixture
def given(tmp_path, tunes_index, known_tunes, play, write_wav):
    """Return what the benchmarks need: three seconds of two tunes, and an index of eight."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    rows = ["id,audio,midi,kind"]
    for kind, tune in zip(("game", "Irish"), known_tunes.values(), strict=False):
        write_wav(folder / f"{kind}.wav", play(tune.midi.notes, 3.0))
        rows.append(f"{kind},{kind}.wav,{tune.path},{kind}")
    (folder / "pairs.csv").write_text("\n".join(rows))
    return {"index": [str(tunes_index)], "recordings": [str(folder)], "kinds": [str(folder)]}


def test_what_is_given_is_run_once_and_its_tables_are_written(given, tmp_path):
    results = tmp_path / "results"
    lines = list(run_benchmarks(results, given, ["b4", "b8", "b1"], in_this_process))
    assert [line.split(":")[0] for line in lines] == ["b1", "b4", "b8-10", "b8-30", "b8-whole"]
    assert lines[0].startswith("b1: not run")
    again = list(run_benchmarks(results, given, ["b4", "b8"], None))
    assert [line.partition(": ")[2] for line in again] == ["done before"] * 4

    marks = [f"<!-- table {name} -->\nold\n<!-- end -->\n" for name in TABLES]
    text, written = fill("\n".join(marks), read_results(results))
    assert set(written) == {"b4", "b8", "b8-lengths", "music", "confidence", "readme"}
    assert text.count("old") == len(TABLES) - len(written)
    [row] = [r for r in json.loads((results / "b4.json").read_text()) if r["seconds"] == 3]
    low, high = (f"{100 * end:.0f}" for end in row["top1_interval"])
    assert f"| 3 s | 2 | {100 * row['top1']:.1f} % | {low} to {high} |" in text
    table = text.split("<!-- table b8 -->")[1].split("<!-- end -->")[0].strip().splitlines()
    assert [line.split(" | ")[0] for line in table[2:]] == ["| game", "| Irish", "| all"]
    assert len({line.count("|") for line in table}) == 1


def test_a_benchmark_that_fails_or_is_stopped_leaves_no_result(tmp_path, monkeypatch):
    target, wanted = tmp_path / "b4.json", 1

    def run(words):
        Path(words[-1]).write_text("[]")
        return subprocess.CompletedProcess(words, wanted)

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(MmidError, match="b4: exit status 1"):
        benchmarks.run_command(["eval"], target)
    assert list(tmp_path.iterdir()) == []
    wanted = 0
    benchmarks.run_command(["eval"], target)
    assert [path.name for path in tmp_path.iterdir()] == ["b4.json"]


def test_results_of_another_model_are_refused(tmp_path, tiny_model, monkeypatch):
    assert len(list(run_benchmarks(tmp_path / "results", {}))) == len(COMMANDS)
    save_checkpoint(tmp_path / "tiny.safetensors", tiny_model.encoders, {})
    monkeypatch.setenv("MMID_MODEL", str(tmp_path / "tiny.safetensors"))
    with pytest.raises(MmidError, match="of another model; give another folder"):
        list(run_benchmarks(tmp_path / "results", {}))
    with pytest.raises(MmidError, match="no such benchmark: give one of b1, b2"):
        list(run_benchmarks(tmp_path / "results", {}, ["b9"]))


@pytest.mark.parametrize("name", COMMANDS)
def test_the_commands_of_the_benchmarks_exist(name):
    words = fill_in(COMMANDS[name], EVERYTHING)
    assert words is not None
    check(words)


def test_clips_of_which_none_was_queried_without_its_piece_have_a_row():
    verdicts = {"found_right": 0.25, "found_wrong": 0.0}
    row = {"clips": 4, "top1": 0.5, "top5": 1.0, "top1_interval": [0.0, 1.0], "auroc": None}
    one = row | {"system": MMID, "verdicts": verdicts, "kind": "game"}
    table = kind_lengths_table({key: [one | {"kinds": [one]}] for key in ("b8-10", "b8-whole")})
    assert "| game | 50.0 % | 0 to 100 | 25.0 % | 0.0 % | 50.0 %" in table


def test_speed_is_a_column_a_size():
    sizes = [dict.fromkeys(GROWTH, 0.5) | {"pieces": count} for count in (1_000, 10_000)]
    table = fill("<!-- table b7 -->\n<!-- end -->", {"b7": sizes})[0]
    assert "|  | 1,000 pieces | 10,000 pieces |" in table and "| 50.0 % | 50.0 % |" in table


@pytest.mark.parametrize("text", ["<!-- table b4 -->\n", "<!-- table b5 -->\n<!-- end -->"])
def test_wrong_marks_are_refused(text):
    with pytest.raises(MmidError, match=r"no table 'b5'|no <!-- end -->"):
        fill(text, {})


def test_the_marks_of_the_documents_are_right_and_the_command_writes_there(tmp_path):
    names = []
    for path in DOCUMENTS:
        copy = tmp_path / path.name
        copy.write_text((ROOT / path).read_text())
        names += re.findall("<!-- table ([^ ]+) -->", copy.read_text())
    assert names and set(names) <= set(TABLES)
    single = Typer()
    single.command()(benchmarks.main)
    into = [word for path in DOCUMENTS for word in ("--into", str(tmp_path / path.name))]
    said = CliRunner().invoke(single, [str(tmp_path / "results"), *into])
    assert said.exit_code == 0 and "tables written: none" in said.output
    assert all((tmp_path / p.name).read_text() == (ROOT / p).read_text() for p in DOCUMENTS)
