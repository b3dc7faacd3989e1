"""`mmid.evaluation.ci_report`: reports that continuous integration reads, alike from run to run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from mmid.cli.app import app
from mmid.errors import MmidError
from mmid.evaluation.ci_report import github_annotations, junit_report, write_junit
from mmid.evaluation.scores import ClipResult, ClipScores
from mmid.model.checkpoint import save_checkpoint
from mmid.model.evidence import Evidence

runner = CliRunner()

NOTHING = Evidence(lead=0.0, above=0.0, seconds=10.0, snippets=100)


def clip(
    source: str, rank: int | None, answer: str = "other.mid", start: float = 1.5
) -> ClipResult:
    return ClipResult(source, start, 10.0, rank, rank == 1, answer, 0.31, 0.2, None, NOTHING)


def scored(*clips: ClipResult, seconds: float | None = 10.0) -> ClipScores:
    top1 = sum(c.rank == 1 for c in clips) / len(clips)
    nothing = (None,) * 5
    return ClipScores(seconds, len(clips), top1, top1, top1, top1, *nothing, results=clips)


GOOD = scored(clip("a", 1, "a.mid"), clip("b", 1, "b.mid"))
HALF = scored(clip("a", 1, "a.mid"), clip("a", 2), clip("b", None), clip("b", 1), seconds=None)

TESTSUITE = {"name", "tests", "failures", "errors", "skipped"}
"""Of what Jenkins, GitLab and GitHub's reporters read, all but times."""


def suites(path: Path) -> list[ElementTree.Element]:
    root = ElementTree.parse(path).getroot()
    assert root.tag == "testsuites"
    return list(root)


def test_a_junit_report_has_a_suite_a_length_and_a_case_a_clip(tmp_path):
    write_junit([GOOD, HALF], tmp_path / "mmid.xml")
    good, half = suites(tmp_path / "mmid.xml")
    for suite, scores, wrong in ((good, GOOD, 0), (half, HALF, 2)):
        assert suite.tag == "testsuite" and set(suite.attrib) == TESTSUITE
        assert suite.get("tests") == str(len(suite)) == str(scores.clips)
        assert suite.get("failures") == str(len(suite.findall("testcase/failure"))) == str(wrong)
        assert [case.get("classname") for case in suite] == [c.source for c in scores.results]
        names = [(case.get("classname"), case.get("name")) for case in suite]
        assert len(set(names)) == len(names), "each test has a name of its own"
    assert (good.get("name"), half.get("name")) == ("10 s", "whole")


def test_a_failure_tells_what_was_answered_and_where_the_right_piece_is():
    second, none = junit_report([HALF]).getroot().findall(".//failure")
    assert second.get("message") == "answered other.mid, confidence 31%"
    assert second.text == "the right piece is answer 2"
    assert none.text == "the right piece is not among the answers"
    [silent] = junit_report([scored(clip("a", None, ""))]).getroot().findall(".//failure")
    assert silent.get("message") == "no answer"


def test_names_that_xml_cannot_hold_are_escaped(tmp_path):
    odd = 'tab\there <&"> \x1b[31m \udcff'
    write_junit([scored(clip(odd, None, odd))], tmp_path / "mmid.xml")
    [suite] = suites(tmp_path / "mmid.xml")
    assert suite[0].get("classname") == 'tab\\there <&"> \\x1b[31m \\udcff'


@pytest.mark.parametrize(
    ("least", "levels", "verdict"),
    [
        (None, ["notice", "notice"], "top-1 50.0%25, 2 of 4 clips"),
        (0.5, ["notice", "notice"], "; at least the 50.0%25 required"),
        (0.51, ["notice", "error"], "; less than the 51.0%25 required"),
    ],
)
def test_annotations_judge_every_length(least, levels, verdict):
    lines = github_annotations([GOOD, HALF], least)
    assert [re.match("::([a-z]+) ", line)[1] for line in lines[:2]] == levels
    assert verdict in lines[1]
    assert [line.split(" ")[0] for line in lines[2:]] == ["::warning", "::warning"]


def test_annotations_are_escaped_as_github_asks():
    [_, line] = github_annotations([scored(clip("50%: a, b\n::error::c", None, "d\r\ne: 100%"))])
    assert line == (
        "::warning title=50%25%3A a%2C b\\n%3A\\x3aerror%3A\\x3ac%2C 10 s from 1.50 s on"
        "::answered d\\r\\ne: 100%25, confidence 31%25; the right piece is not among the answers"
    )


@pytest.fixture
def asked(tmp_path, tiny_model, midi_folder, recording) -> list[str]:
    """Return the command line that asks a tiny model about clips of one recording."""
    model, index = tmp_path / "tiny.safetensors", tmp_path / "index"
    save_checkpoint(model, tiny_model.encoders, {})
    (midi_folder / "pairs.csv").write_text(f"id,audio,midi\nfirst,{recording},piece 2.mid\n")
    options = ["--index", str(index), "--model", str(model)]
    assert runner.invoke(app, ["build-index", str(midi_folder), *options]).exit_code == 0
    return ["eval", "pieces", str(midi_folder), *options, "--clips", "2,whole"]


def test_two_runs_say_the_same(tmp_path, asked):
    first, second = tmp_path / "first.xml", tmp_path / "second.xml"
    runs = [
        runner.invoke(app, [*asked, "--annotations", "--junit", str(p)]) for p in (first, second)
    ]
    assert [run.exit_code for run in runs] == [0, 0], runs[0].output
    assert runs[0].stdout == runs[1].stdout
    assert first.read_bytes() == second.read_bytes()
    assert [len(suite) for suite in suites(first)] == [3, 1]


def test_reports_are_written_before_the_gate_fails(tmp_path, asked):
    report, out = tmp_path / "mmid.xml", tmp_path / "results.json"
    gate = ["--min-top1", "1", "--seed", "1", "--junit", str(report), "--out", str(out)]
    run = runner.invoke(app, [*asked, "--annotations", *gate])
    wrong = sum(int(suite.get("failures")) for suite in suites(report))
    told = [clip["rank"] for row in json.loads(out.read_text()) for clip in row["results"]]
    assert wrong == sum(rank != 1 for rank in told)
    assert isinstance(run.exception, MmidError) == bool(wrong) == ("::error " in run.stdout)


def test_what_cannot_be_written_is_told_before_the_work(tmp_path, asked):
    nowhere = str(tmp_path / "nowhere" / "mmid.xml")
    for options in (["--junit", nowhere], ["--out", nowhere], ["--json", "--annotations"]):
        assert runner.invoke(app, [*asked, *options]).exit_code == 2
