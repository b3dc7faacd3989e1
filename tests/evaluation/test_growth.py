"""`growth`: the growth of an index, measured on a library small enough for a test."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from typer.testing import CliRunner

from mmid.cli.app import app
from mmid.errors import MmidError
from mmid.evaluation import growth
from mmid.evaluation.growth import growth_table
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


def run_here(arguments: Sequence[str]) -> tuple[float, float]:
    """Run mmid in this process, and make up how long it took and how large it was."""
    assert CliRunner().invoke(app, list(arguments)).exit_code == 0
    return 2.0, 300.0


def test_growth_is_measured(library, tmp_path, monkeypatch, play, write_wav, transcribing_model):
    monkeypatch.setattr(growth, "ADDED", 3)
    monkeypatch.setattr(growth, "REPEATS", 1)
    monkeypatch.setattr(growth, "run_command", run_here)
    save_checkpoint(tmp_path / "tiny.safetensors", transcribing_model.encoders, {})
    monkeypatch.setenv("MMID_MODEL", str(tmp_path / "tiny.safetensors"))
    recording = write_wav(tmp_path / "x.wav", play(read_midi(library / "0.mid").notes, 8.0))
    told = []
    (tmp_path / "work").mkdir()
    row = growth.measure_growth(
        [library], recording, 8, tmp_path / "work", transcribing_model, told.append
    )
    assert (row.build_seconds, row.again_seconds, row.adding_seconds) == (2, 2, 2)
    assert row.pieces == 8 and row.snippets > 8 * 30 and row.recall > 0.95
    assert row.cold_seconds == 2 and row.query_megabytes == row.build_megabytes == 300
    assert min(row.import_seconds, row.lookup_seconds, row.warm_seconds, row.keys_seconds) > 0
    assert row.music_per_second == pytest.approx(1800 * row.hours)
    assert told[0] == "8 pieces: gathering"
    assert growth_table([row]).row_count == 15


def test_too_small_a_library_tells_nothing(library, tmp_path, tiny_model):
    with pytest.raises(MmidError, match="199 pieces are too few to measure; give 200 or more"):
        growth.measure_growth([library], library, 199, tmp_path, tiny_model)


def test_a_command_is_measured_as_a_process_of_its_own():
    seconds, megabytes = growth.run_command(["--version"])
    assert seconds > 0 and 10 < megabytes < 5_000


def test_a_command_that_fails_is_told():
    with pytest.raises(MmidError, match="exit status 2"):
        growth.run_command(["no-such-command"])
