"""`mmid query`, driven as a user does: what is asked, what comes out where, and how it ends."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mmid.cli.app import app
from mmid.errors import MmidError
from mmid.index.build import build_index
from mmid.model.checkpoint import save_checkpoint
from mmid.output.answers import ANSWER_COLUMNS

COUNT = 3
"""Copies of the recording in the folder of takes."""


@pytest.fixture
def options(tmp_path, pieces, tiny_model) -> list[str]:
    """Return the options that name an index of six pieces and its model."""
    model, index = tmp_path / "tiny.safetensors", tmp_path / "index"
    save_checkpoint(model, tiny_model.encoders, {})
    build_index(index, pieces, tiny_model)
    return ["--index", str(index), "--model", str(model)]


@pytest.fixture
def takes(tmp_path, recording) -> Path:
    """Return a folder of recordings."""
    folder = tmp_path / "takes"
    folder.mkdir()
    for number in range(COUNT):
        shutil.copy(recording, folder / f"take {number}.wav")
    return folder


def query(*arguments: object, listed: str | None = None):
    return CliRunner().invoke(app, ["query", *map(str, arguments)], input=listed)


# ---- what is asked, what is printed


def test_one_json_object_a_line_and_nothing_else(takes, options):
    result = query(takes, *options, "--json")
    assert result.exit_code == 0 and result.stderr == ""
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert [answer["query"] for answer in answers] == [
        str(path) for path in sorted(takes.iterdir())
    ]
    for answer in answers:
        assert answer["path"] == os.path.abspath(answer["query"])
        names = ["query", "seconds", "matched", "matches", "tuning", "error", "reason", "keys"]
        names += ["stretch", "verdict", "path"]
        assert list(answer) == names
        names = ["piece", "confidence", "votes", "explained", "lead", "above"]
        names += ["start", "end", "tempo_ratio", "transpose", "also", "title"]
        names += ["start_bar", "start_beat", "end_bar", "end_beat", "figures"]
        assert all(list(match) == names for match in answer["matches"])
        assert all(match["lead"] <= 0 for match in answer["matches"][1:])


def test_a_row_of_csv_for_each_file(takes, options):
    (takes / "broken.wav").write_bytes(b"RIFF")
    result = query(takes, *options, "--csv")
    assert result.exit_code == 1
    rows = list(csv.DictReader(result.stdout.splitlines()))
    assert len(rows) == COUNT + 1 and tuple(rows[0]) == ANSWER_COLUMNS
    failed, *good = rows
    assert failed["error"].startswith(str(takes / "broken.wav")) and failed["piece"] == ""
    told = json.loads(query(takes / "take 0.wav", *options, "--json").stdout)
    best = told["matches"][0]
    assert all(row["piece"] == best["piece"] and row["error"] == "" for row in good)
    assert float(good[0]["start"]) == best["start"] and float(good[0]["seconds"]) == told["seconds"]


def test_a_table_of_one_file_and_a_line_of_each_of_many(takes, options, monkeypatch):
    monkeypatch.chdir(takes.parent)  # names as long as the temporary folder's are folded
    one = query(takes / "take 1.wav", *options)
    assert one.exit_code == 0 and one.stderr == "" and "\nNot found. " in one.stdout
    assert "confidence  votes" in query(takes / "take 1.wav", *options, "--top", 2).stdout
    heading, *lines = query(takes.name, *options).stdout.splitlines()
    assert heading.split() == ["query", "piece", "confidence", "position", "tempo"]
    text = "".join(lines)
    assert all(f"take {number}.wav" in text for number in range(COUNT))
    counts = re.fullmatch(r"(\d+) found, (\d+) perhaps, (\d+) absent, 0 failed", lines[-1])
    assert counts and sum(map(int, counts.groups())) == COUNT


def test_a_pattern_a_list_and_a_name_ask_about_each_file_once(takes, options):
    listed = f"{takes}/take 2.wav\n{takes}/take 0.wav\n"
    result = query("-", f"{takes}/*.wav", takes / "take 1.wav", *options, "--json", listed=listed)
    names = [Path(json.loads(line)["query"]).name for line in result.stdout.splitlines()]
    assert result.exit_code == 0 and names == ["take 2.wav", "take 0.wav", "take 1.wav"]


def test_what_is_bad_or_finds_nothing_does_not_stop_the_rest(tmp_path, takes, options):
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF")
    (tmp_path / "bare").mkdir()
    asked = [broken, tmp_path / "bare", f"{tmp_path}/*.aif", takes, tmp_path / "gone.wav"]
    result = query(*asked, *options, "--json", "--top", 1)
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.exit_code == 1
    assert [answer["error"] is None for answer in answers] == [False] * 3 + [True] * COUNT + [False]
    assert all(len(answer["matches"]) == 1 for answer in answers[3:-1])
    *reasons, count = result.stderr.splitlines()
    for reason, name in zip(reasons, ("broken.wav", "bare", "*.aif", "gone.wav"), strict=True):
        assert reason.startswith(f"mmid: {tmp_path}/{name}: ")
    assert count == f"4 of {COUNT + 4} files failed"
    alone = query(broken, *options)
    assert alone.exit_code == 1 and alone.stdout == "" and alone.stderr.count("\n") == 1


@pytest.mark.parametrize("jobs", [1, 3])
def test_jobs_change_nothing(takes, options, jobs):
    result = query(takes, *options, "--json", "--jobs", jobs)
    assert result.stdout == query(takes, *options, "--json").stdout


@pytest.mark.parametrize(
    "wrong",
    [
        ["--json", "--csv"],
        ["--jobs", "0"],
        ["--top", "0"],
        ["--vote", "loudest"],
        ["--cue", "a.cue"],
        ["--every", "30", "--plot", "a.png"],
        ["--every", "30", "--sidecar"],
    ],
)
def test_wrong_usage_exits_with_2(takes, options, wrong):
    result = query(takes, *options, *wrong)
    assert result.exit_code == 2 and result.stdout == ""


def test_help_has_groups_and_tells_the_exit_statuses():
    text = query("--help").stdout
    for group in ("Input", "Output", "Search", "Machine"):
        assert f" {group} " in text
    for status in ("0 all", "1 a file failed", "2 wrong usage", "130 stopped"):
        assert status in " ".join(text.split())


# ---- files that are written


def test_every_output_of_a_batch(tmp_path, takes, options):
    (takes / "broken.wav").write_bytes(b"RIFF")
    written = ["--playlist", tmp_path / "a.m3u8", "--sidecar", "--plot", tmp_path / "plots"]
    written += ["--export-aligned", tmp_path / "moved", "--min-confidence", 0, "--jobs", 2]
    result = query(takes, *options, *written)
    assert result.exit_code == 1 and f"1 of {COUNT + 1} files failed" in result.stderr
    names = [f"take {number}" for number in range(COUNT)]
    playlist = (tmp_path / "a.m3u8").read_text().splitlines()[2::2]
    assert playlist == [f"takes/{name}.wav" for name in names]
    for folder, ending in (
        ("plots", ".png"),
        ("moved", ".aligned.mid"),
        ("takes", ".wav.mmid.json"),
    ):
        made = {path.name for path in (tmp_path / folder).iterdir() if path.name.endswith(ending)}
        assert made == {name + ending for name in names}


def test_a_sidecar_that_cannot_be_written_is_told_and_the_answer_stays(takes, options):
    (takes / "take 1.wav.mmid.json").write_text("mine")
    result = query(takes, *options, "--json", "--sidecar")
    assert result.exit_code == 1 and len(result.stdout.splitlines()) == COUNT
    assert "take 1.wav.mmid.json: not written by mmid, and left as it is" in result.stderr
    assert (takes / "take 1.wav.mmid.json").read_text() == "mine"
    assert len(list(takes.glob("*.mmid.json"))) == COUNT


@pytest.mark.parametrize(
    ("option", "place"), [("--export-aligned", "one.mid"), ("--playlist", "no/list.m3u8")]
)
def test_a_place_that_cannot_be_is_told_before_anything_is_asked(takes, options, option, place):
    result = query(takes, *options, "--sidecar", option, takes / place)
    assert isinstance(result.exception, MmidError) and result.stdout == ""
    assert len(list(takes.iterdir())) == COUNT


# ---- Ctrl-C


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_an_interrupted_batch_keeps_what_is_done(tmp_path, recording, options, jobs):
    many, playlist = tmp_path / "many", tmp_path / "a.m3u8"
    many.mkdir()
    total = 400
    for number in range(total):
        shutil.copy(recording, many / f"{number:03}.wav")
    asked = ["query", many, *options, "--json", "--jobs", jobs, "--playlist", playlist]
    command = [sys.executable, "-m", "mmid", *map(str, asked), "--min-confidence", "0"]
    printed = tmp_path / "printed.jsonl"
    with (
        printed.open("w") as out,
        subprocess.Popen(command, stdout=out, stderr=subprocess.PIPE, text=True) as process,
    ):
        while not printed.stat().st_size and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        error = process.communicate(timeout=60)[1]
    done = [json.loads(line)["query"] for line in printed.read_text().splitlines()]
    assert process.returncode == 130
    assert done == [str(many / f"{number:03}.wav") for number in range(len(done))]
    assert 1 <= len(done) < total
    assert error == f"mmid: stopped, {total - len(done)} of {total} files left\n"
    assert len(playlist.read_text().splitlines()) == 1 + 2 * len(done)
