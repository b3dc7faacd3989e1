"""`mmid.research.benchmarks`: run what is not done, and write tables of what is."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from examples import check, check_module
from typer import Typer
from typer.testing import CliRunner

from mmid.cli.app import app
from mmid.errors import MmidError
from mmid.model.checkpoint import save_checkpoint
from mmid.research import benchmarks
from mmid.research.benchmark_tables import NOT_MEASURED, TABLES, fill
from mmid.research.benchmarks import (
    COMMANDS,
    DOCUMENTS,
    ELSEWHERE,
    fill_in,
    read_results,
    run_benchmarks,
)

ROOT = Path(__file__).parents[2]
EVERYTHING = {name: ["some"] for name in re.findall(r"{([\w-]+)}", " ".join(COMMANDS.values()))}


def in_this_process(words, target):
    assert words[0] == "mmid"
    result = CliRunner().invoke(app, [*words[1:], "--transpose", "0", "--out", str(target)])
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
    only = ["b1", "b4", "b8-10", "b8-30", "b8-whole", "b8-own"]
    for name in ("b4-baselines", "b8-baselines"):  # which need packages of their own
        (tmp_path / "results").mkdir(exist_ok=True)
        (tmp_path / "results" / f"{name}.json").write_text("[]")
    lines = list(run_benchmarks(results, given, only, in_this_process))
    assert [line.split(":")[0] for line in lines if "done" not in line] == only
    assert lines[0].startswith("b1: not run")
    again = list(run_benchmarks(results, given, ["b4", "b8"], None))
    assert [line.partition(": ")[2] for line in again] == ["done before"] * 7

    marks = [f"<!-- table {name} -->\nold\n<!-- end -->\n" for name in TABLES]
    text, written = fill("\n".join(marks), read_results(results))
    assert set(written) == {"b4", "b8", "b8-own", "b8-lengths", "music", "confidence", "readme"}
    assert text.count(NOT_MEASURED) == len(TABLES) - len(written) and "old" not in text
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
    check(words[1:]) if words[0] == "mmid" else check_module(words[0], words[1:])


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
    assert set(names) == set(TABLES)
    single = Typer()
    single.command()(benchmarks.main)
    into = [word for path in DOCUMENTS for word in ("--into", str(tmp_path / path.name))]
    said = CliRunner().invoke(single, [str(tmp_path / "results"), *into])
    assert said.exit_code == 0 and "tables written: none" in said.output
    assert all((tmp_path / p.name).read_text() == (ROOT / p).read_text() for p in DOCUMENTS)
    for name in ELSEWHERE:
        (tmp_path / "results" / f"{name}.json").write_text("{}")
    said = CliRunner().invoke(single, [str(tmp_path / "results"), *into])
    assert said.exit_code == 0 and "tables written: none" in said.output
    assert (tmp_path / "README.md").read_text().count(NOT_MEASURED) == 1


NAMES = {
    **{"tunes": ["nottingham"], "tunes-index": ["tunes"], "pianists": ["b3"]},
    **{"recordings": ["recordings"], "kinds": ["b8"], "index": ["tenk"]},
    **{"soundfont": ["MuseScore"], "query": ["recording.flac"], "library": ["data/nottingham"]},
}
"""What the page calls the files."""


def test_the_page_has_the_commands_behind_its_tables():
    page = (ROOT / "docs" / "benchmarks-details.md").read_text().replace("\\\n    ", "")
    missing = []
    for name, command in COMMANDS.items():
        words = fill_in(command, NAMES)
        assert words is not None
        line = " ".join(words if words[0] == "mmid" else ["python -m", *words])
        if not name.startswith(("b6", "b7")) and line not in page:
            missing.append(line)
    assert missing == []
    assert "--only b6" in page and "mmid eval speed data/nottingham" in page
