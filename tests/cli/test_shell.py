"""How the commands behave in a shell: loud or quiet, narrow, cut off, stopped, completed."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

import mmid
from mmid.cli.app import app
from mmid.cli.index import pieces_table
from mmid.cli.shell import GO_ON, Terminated
from mmid.identify.answer import Identification, Match
from mmid.identify.timeline import Timeline
from mmid.index.items import Entry
from mmid.model.checkpoint import save_checkpoint
from mmid.output.answers import answer_table, timeline_table
from mmid.system.tables import FittingTable

runner = CliRunner()
COMMAND = [sys.executable, "-m", "mmid"]


def invoke(*arguments: object):
    return runner.invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def options(tmp_path, tiny_model) -> list[str]:
    save_checkpoint(tmp_path / "tiny.safetensors", tiny_model.encoders, {})
    return ["--index", str(tmp_path / "index"), "--model", str(tmp_path / "tiny.safetensors")]


@pytest.fixture
def index(tmp_path, midi_folder, tiny_model) -> Path:
    mmid.Index.build(tmp_path / "index", midi_folder, tiny_model)
    return tmp_path / "index"


# ---- quiet and verbose


def test_quiet_leaves_errors_only(options, midi_folder):
    assert invoke("-q", "build-index", midi_folder, *options).stderr == ""
    (midi_folder / "piece 0.mid").write_bytes(b"MThd")
    result = invoke("--quiet", "build-index", midi_folder, *options)
    assert result.exit_code == 1
    assert all(
        "piece 0.mid" in line or "1 of 6 files" in line for line in result.stderr.splitlines()
    )
    assert "pieces" in invoke("build-index", midi_folder, *options).stderr  # as loud as before


def test_quiet_leaves_results_and_query_errors(options, index, recording):
    result = invoke("-q", "query", recording, "gone.wav", *options, "--json")
    assert result.exit_code == 1 and len(result.stdout.splitlines()) == 2
    assert "gone.wav: No such file" in result.stderr


def test_verbose_tells_choices_and_times(options, index, recording):
    result = invoke("-v", "query", recording, *options, "--json")
    assert len(result.stdout.splitlines()) == 1 and json.loads(result.stdout)
    assert "tiny.safetensors on cpu" in result.stderr and "6 items" in result.stderr
    for stage in ("load a model", "open an index", "read a query", "look it up", "compare"):
        assert re.search(rf"^{stage}.* \d+\.\d\d s$", result.stderr, re.M), stage


def test_quiet_and_verbose_are_one_or_the_other():
    assert invoke("-q", "-v", "doctor").exit_code == 2


# ---- terminals


def answer(name: str) -> Identification:
    matches = tuple(
        Match(piece, 0.9, 0.5, 0.4, 0.1, 0.2, 3.0, 9.0, 1.0, 2) for piece in (name, "other.mid")
    )
    return Identification("query.wav", 6.0, True, matches)


def shown(table: object, width: int) -> str:
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(table)
    return captured.get()


@pytest.mark.parametrize("width", [24, 40, 60])
def test_a_table_too_wide_gives_each_cell_a_line(width):
    text = shown(answer_table(answer("swallowtail.mid")), width)
    assert max(map(len, text.splitlines())) <= width
    assert "confidence: 90%\n" in text and "position: 0:03.0" in text and "key: +2" in text
    assert "piece: " in text and "swallowtail.mid" in text and "\u2500" not in text


def test_a_table_that_fits_is_a_table():
    text = shown(answer_table(answer("swallowtail.mid")), 100)
    assert "\u2500" in text and "confidence:" not in text


def test_a_long_name_is_folded_in_eighty_columns():
    name = f"{'folder/' * 12}swallowtail.mid"
    lines = shown(answer_table(answer(name)), 80).splitlines()
    assert max(map(len, lines)) <= 80 and "confidence" in lines[0]
    shown_name = "".join(line[3:27].strip() for line in lines[2:])
    assert shown_name.startswith(name), lines


def test_names_cannot_steer_the_terminal():
    entry = Entry("a\x1b[2Jb.mid", "c\x1b[2Jd", 12.0, "", 0, 3, 0, 0)
    text = shown(pieces_table([entry]), 100)
    assert "\x1b" not in text and "a\\x1b[2Jb.mid" in text and "c\\x1b[2Jd" in text
    played = Timeline("a\x1b[2Jb.wav", 60.0)
    assert "\x1b" not in shown(timeline_table(played), 100)


def test_markup_and_styles_of_cells_are_kept():
    table = FittingTable("name", "what", title="[bold]all[/]")
    table.add_row("\\[x]", "[green]y[/]", style="red")
    assert shown(table, 5).splitlines()[:3] == ["all", "name:", "[x]"]


def in_terminal(arguments: list[object], columns: int, **variables: str) -> tuple[int, str]:
    """Run mmid in a terminal; return its exit status and what was shown."""
    here, there = pty.openpty()
    fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    plain = {n: v for n, v in os.environ.items() if n not in ("COLUMNS", "NO_COLOR")}
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        stdin=there,
        stdout=there,
        stderr=there,
        env=plain | {"TERM": "xterm-256color"} | variables,
    )
    os.close(there)
    parts = []
    while True:
        try:
            part = os.read(here, 65_536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        parts.append(part)
    os.close(here)
    return process.wait(), b"".join(parts).decode().replace("\r", "")


COLOUR = re.compile(r"\x1b\[[0-9;]*(3[0-7]|9[0-7]|38;5;\d+)[0-9;]*m")


def test_a_narrow_terminal_shows_all_and_colours_can_be_refused(options, index, recording):
    asked = ["-q", "query", recording, *options, "--top", 5]
    status, text = in_terminal(asked, 40, NO_COLOR="1")
    assert status == 0 and "confidence: " in text and not COLOUR.search(text)
    assert "Loading" not in text
    lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text).splitlines()
    assert max(map(len, lines)) <= 40


def test_help_is_readable_in_a_narrow_terminal():
    status, text = in_terminal(["query", "--help"], 40)
    assert status == 0 and "Usage:" in text and COLOUR.search(text)


def test_a_terminal_shows_at_once_that_something_goes_on(options, index, recording):
    status, text = in_terminal(["query", recording, *options], 100)
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text).strip()
    assert status == 0 and shown.startswith("- Loading PyTorch")
    assert shown.index("Loading the model") < shown.index(f"{recording.name}  (")
    piped = subprocess.run(
        [*COMMAND, "query", recording, *options], capture_output=True, text=True, check=True
    )
    assert piped.stderr == "" and "Loading" not in piped.stdout


# ---- completion


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("mmid l", ["listen"]),
        ("mmid index re", ["remove", "rebuild"]),
        ("mmid query --model mm", ["mmid-3"]),
        ("mmid query --search e", ["exact"]),
        ("mmid query --device c", ["cpu", "cuda"]),
        ("mmid query --min", ["--min-confidence"]),
    ],
)
def test_words_are_completed(shell, typed, expected):
    environment = {
        "_MMID_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": typed,
        "COMP_CWORD": str(len(typed.split()) - 1),
        "_TYPER_COMPLETE_ARGS": typed,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    result = runner.invoke(app, [], prog_name="mmid", env=environment)
    words = re.findall(r"[\w-]+", result.stdout)
    assert [word for word in words if word in expected] == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script(shell):
    environment = {"_MMID_COMPLETE": f"source_{shell}"}
    result = runner.invoke(app, [], prog_name="mmid", env=environment)
    assert f"_MMID_COMPLETE=complete_{shell}" in result.stdout


def test_files_beside_are_models_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.safetensors").touch()
    typed = "mmid query --model mi"
    environment = {"_MMID_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": "3"}
    assert runner.invoke(app, [], prog_name="mmid", env=environment).stdout == "mine.safetensors\n"


# ---- cut off


def test_a_closed_pipe_ends_quietly(options, index):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    started = [
        subprocess.Popen([*COMMAND, "index", "list", *options[:2], *how], **pipes)
        for how in ([], ["--json"])
    ]
    for process in started:
        process.stdout.close()  # before anything was written
    for process in started:
        with process.stderr as errors:
            assert errors.read() == b"" and process.wait() == 0


@pytest.mark.parametrize(
    ("stop", "status", "word"),
    [(KeyboardInterrupt, 130, "stopped"), (Terminated, 143, "terminated")],
)
@pytest.mark.parametrize("command", ["build-index", "query"])
def test_what_is_stopped_says_so_in_a_line(
    command, stop, status, word, options, recording, index, monkeypatch
):
    def stopped(*_, **__):
        raise stop

    monkeypatch.setattr("mmid.model.loading.load_model", stopped)
    result = invoke(command, recording, *options)
    again = "; run it again to go on" if command in GO_ON else ""
    assert result.exit_code == status and result.stderr == f"mmid: {word}{again}\n"
    assert result.stdout == ""


def children(group: int) -> list[str]:
    listed = subprocess.run(["ps", "-ww", "-eo", "pgid,stat,args"], capture_output=True, text=True)
    rows = [line.split(None, 2) for line in listed.stdout.splitlines()]
    return [row[-1] for row in rows if row[0] == str(group) and not row[1].startswith("Z")]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_build_that_is_stopped_leaves_no_process(number, status, tmp_path, options, draw_notes):
    from mmid.music.midi import write_midi

    library = tmp_path / "many"
    library.mkdir()
    for seed in range(128):  # as many as two workers are started for
        write_midi(draw_notes(seed), library / f"{seed}.mid")
    process = subprocess.Popen(
        [*COMMAND, "build-index", str(library), *options, "--jobs", "2"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        while not any("spawn_main" in line for line in children(process.pid)):
            assert process.poll() is None
            time.sleep(0.05)
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal does
        else:
            process.send_signal(number)
        said = process.communicate(timeout=60)[1]
    finally:
        process.kill()
    assert process.returncode == status
    assert said.count("\n") == 1 and said.endswith("run it again to go on\n")
    before = time.monotonic()
    while children(process.pid) and time.monotonic() - before < 60:
        time.sleep(0.05)  # one that is ending is listed for a moment
    assert children(process.pid) == []
