"""`growth`: the growth of an index, measured on a library small enough for a test."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mmid.cli.app import app
from mmid.cli.options import ModelGroup
from mmid.errors import MmidError
from mmid.evaluation import growth
from mmid.evaluation.growth import growth_table
from mmid.index.folder import LibraryIndex
from mmid.model.checkpoint import save_checkpoint
from mmid.music.midi import read_midi, write_midi


@pytest.fixture
def library(tmp_path, draw_notes):
    folder = tmp_path / "midi"
    folder.mkdir()
    for seed in range(6):
        write_midi(draw_notes(seed), folder / f"{seed}.mid")
    return folder


def test_a_library_is_filled_up_with_copies_that_differ(library, tmp_path):
    growth.gather([library], tmp_path / "all", 15)
    files = sorted((tmp_path / "all").iterdir())
    assert len(files) == 15
    assert {path.resolve() for path in files[:6]} == {p.resolve() for p in library.iterdir()}
    for number, path in enumerate(files[6:], 6):
        notes, source = read_midi(path).notes, read_midi(files[number % 6]).notes
        steps = notes["pitch"].astype(int) - source["pitch"]
        assert len(set(steps)) == 1 and 1 <= abs(steps[0]) <= 6
        stretch = np.median(notes["onset"][1:] / source["onset"][1:])
        assert 0.7 < stretch < 1.42


class Commands:
    """Runs mmid in this process, makes up what that cost, and may be stopped before a command."""

    def __init__(self):
        self.run: list[list[str]] = []
        self.stop_before = ""

    def __call__(self, arguments, keep=None):
        if arguments[0] == self.stop_before:
            if keep:
                keep(1.5)
            raise KeyboardInterrupt
        self.run.append(list(arguments))
        assert CliRunner().invoke(app, list(arguments)).exit_code == 0
        return 2.0, 300.0


@pytest.fixture
def commands(monkeypatch):
    run = Commands()
    monkeypatch.setattr(growth, "ADDED", 3)
    monkeypatch.setattr(growth, "REPEATS", 1)
    monkeypatch.setattr(growth, "run_command", run)
    return run


@pytest.fixture
def recording(library, tmp_path, monkeypatch, play, write_wav, transcribing_model):
    """A recording of a piece, and the model that queries use."""
    save_checkpoint(tmp_path / "tiny.safetensors", transcribing_model.encoders, {})
    monkeypatch.setenv("MMID_MODEL", str(tmp_path / "tiny.safetensors"))
    return write_wav(tmp_path / "x.wav", play(read_midi(library / "0.mid").notes, 8.0))


def test_growth_is_measured(library, recording, tmp_path, commands, transcribing_model):
    told = []
    row = growth.measure_growth(
        [library], recording, 8, tmp_path / "work", transcribing_model, told.append
    )
    assert (row.build_seconds, row.again_seconds, row.adding_seconds) == (2, 2, 2)
    assert (row.changing_seconds, row.removing_seconds) == (2, 2)
    assert row.pieces == 8 and row.snippets > 8 * 30 and row.recall > 0.95
    assert row.cold_seconds == 2 and row.query_megabytes == row.build_megabytes == 300
    assert min(row.import_seconds, row.lookup_seconds, row.warm_seconds, row.keys_seconds) > 0
    assert row.music_per_second == pytest.approx(1800 * row.hours)
    assert told[0] == "8 pieces: gathering"
    assert growth_table([row]).row_count == 17
    index = LibraryIndex(tmp_path / "work" / "index", None)
    names = [Path(entry.name).name for entry in index.entries]
    assert len(names) == 8 + 3 - 1 and "000001.mid" not in names
    assert not (tmp_path / "work" / "library" / "000000.mid").is_symlink()


def test_what_was_cut_off_goes_on(library, recording, tmp_path, commands, transcribing_model):
    asked = [library], recording, 8, tmp_path / "work", transcribing_model
    for command, done in (("build-index", 2), ("index", 6), ("query", 8)):
        commands.stop_before = command
        with pytest.raises(KeyboardInterrupt):
            growth.measure_growth(*asked)
        assert len(growth.read_json(tmp_path / "work" / "steps.json")) == done
    commands.stop_before = ""
    told = []
    row = growth.measure_growth(*asked, told.append)
    assert told[0] == "8 pieces: querying"
    assert [run[0] for run in commands.run].count("build-index") == 4
    assert row.build_seconds == 3.5
    commands.run.clear()
    assert growth.measure_growth(*asked) == row and not commands.run


def test_a_folder_of_another_measurement_is_left_alone(library, recording, tmp_path, tiny_model):
    work = tmp_path / "work"
    work.mkdir()
    (work / "notes.txt").write_text("mine")
    with pytest.raises(MmidError, match="work: holds something else; give another folder"):
        growth.measure_growth([library], recording, 200, work, tiny_model)
    assert [path.name for path in work.iterdir()] == ["notes.txt"]
    with pytest.raises(MmidError, match="cannot be used"):
        growth.measure_growth([library], recording, 200, work / "notes.txt", tiny_model)


def test_ctrl_c_says_that_the_same_command_goes_on(
    library, recording, tmp_path, commands, transcribing_model, monkeypatch
):
    monkeypatch.setattr(ModelGroup, "load", lambda self: transcribing_model)
    work = tmp_path / "work"
    arguments = ["eval", "speed", str(library), "--query", str(recording), "--sizes", "8"]
    commands.stop_before = "query"
    stopped = CliRunner().invoke(app, [*arguments, "--work", str(work)])
    assert stopped.exit_code == 130
    assert "work: holds what is done; the same command goes on from there" in stopped.stderr
    commands.stop_before = ""
    done = CliRunner().invoke(app, [*arguments, "--work", str(work), "--json"])
    assert done.exit_code == 0 and json.loads(done.stdout)[0]["build_seconds"] == 2
    assert (work / "8" / "index" / "manifest.json").is_file()


def test_a_stopped_command_is_ended_and_its_seconds_are_kept(monkeypatch):
    monkeypatch.setattr(growth, "NOTED_EVERY", 0.05)
    until_now, ended = [], []

    def stop(pid, _):
        time.sleep(0.2)
        ended.append(pid)
        raise KeyboardInterrupt

    monkeypatch.setattr(growth.os, "wait4", stop)
    with pytest.raises(KeyboardInterrupt):
        growth.run_command(["listen", "--help"], until_now.append)
    assert len(until_now) >= 3 and until_now == sorted(until_now) and until_now[-1] >= 0.2
    with pytest.raises(ProcessLookupError):
        os.kill(ended[0], 0)


def test_too_small_a_library_tells_nothing(library, tmp_path, tiny_model):
    with pytest.raises(MmidError, match="199 pieces are too few to measure; give 200 or more"):
        growth.measure_growth([library], library, 199, tmp_path, tiny_model)


def test_a_command_is_measured_as_a_process_of_its_own():
    seconds, megabytes = growth.run_command(["--version"])
    assert seconds > 0 and 10 < megabytes < 5_000


def test_a_command_that_fails_is_told():
    with pytest.raises(MmidError, match="exit status 2"):
        growth.run_command(["no-such-command"])
