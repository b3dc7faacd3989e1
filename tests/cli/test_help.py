"""`mmid.cli.help`: what ``--help`` says, what is suggested, what is shown while mmid starts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from mmid.cli.app import app
from mmid.cli.help import PANELS, App
from mmid.options import FARTHEST

ALL = typer.main.get_command(app)
runner = CliRunner()


def words(command=ALL, above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Return the words of every command there is."""
    below = getattr(command, "commands", {})
    return [above, *(w for n, c in below.items() for w in words(c, (*above, n)))]


def invoke(*arguments: object, **variables: str):
    return runner.invoke(app, [str(one) for one in arguments], env={"COLUMNS": "120", **variables})


@pytest.mark.parametrize("command", words(), ids=" ".join)
def test_every_command_explains_itself_by_h_and_without_types(command):
    short, long = invoke(*command, "-h"), invoke(*command, "--help")
    assert short.exit_code == 0 and short.stdout == long.stdout
    assert not re.search(r"<(list|bool|str|int|float|path|file|directory)\b", long.stdout)


def test_commands_come_in_the_order_of_need():
    text = invoke("--help").stdout
    listed = re.findall(r"^\W+ ([a-z-]+)  ", text, re.M)
    needed = [name for names in PANELS.values() for name in names]
    assert [name for name in listed if name in ALL.commands] == needed
    assert set(needed) == set(ALL.commands)
    assert all(f" {panel} " in text for panel in PANELS)


@dataclass(frozen=True, kw_only=True)
class Group:
    """Two options, one of which has no default."""

    loud: bool = False
    times: Annotated[int, typer.Option("-n", "--times", min=1)]


def test_a_command_takes_options_in_a_dataclass():
    grouped = App()

    @grouped.command()
    def sing(first: str, *, group: Group, last: float = 0.5) -> None:
        typer.echo(f"{first} {group} {last}")

    result = runner.invoke(grouped, ["la", "--loud", "-n", "3"])
    assert result.stdout == f"la {Group(loud=True, times=3)} 0.5\n"
    refused = runner.invoke(grouped, ["la", "--times", "0"])
    assert refused.exit_code == 2 and "--times" in refused.stderr
    assert "--times" in runner.invoke(grouped, ["la"]).stderr, "it has no default"
    listed = re.findall(r"--(\w+) ", runner.invoke(grouped, ["--help"]).stdout)
    assert listed == ["loud", "times", "last", "help"]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [(["qurey"], "query"), (["build"], "build-index"), (["index", "lst"], "list")],
)
def test_a_mistyped_command_is_suggested(typed, meant):
    result = invoke(*typed)
    assert result.exit_code == 2 and result.stdout == ""
    assert f"No such command '{typed[-1]}'. Did you mean '{meant}'?" in result.stderr


def test_a_file_without_a_command_is_meant_for_a_query(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("take 1.wav").touch()
    result = invoke("take 1.wav")
    assert result.exit_code == 2 and "Did you mean: mmid query 'take 1.wav'" in result.stderr
    assert "Did you mean" not in invoke("take 2.wav").stderr


@pytest.mark.parametrize("key", [FARTHEST + 1, -FARTHEST - 1, "1.5", "up"])
def test_keys_that_are_not_there_are_refused_in_a_line(key):
    result = invoke("query", "a.wav", f"--transpose={key}")
    said = f"'{key}': give auto, or whole semitones from -{FARTHEST} to {FARTHEST}, 12 an octave"
    assert result.exit_code == 2 and said in result.stderr


def test_render_completes_soundfonts(tmp_path, monkeypatch):
    (tmp_path / "Quaint.sf2").write_bytes(b"")
    monkeypatch.setenv("SF2_PATH", str(tmp_path))
    typed = "mmid render --soundfont Qu"
    asked = {"_MMID_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": "3"}
    assert runner.invoke(app, [], prog_name="mmid", env=asked).stdout == "Quaint.sf2\n"
