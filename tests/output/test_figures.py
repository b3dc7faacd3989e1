"""`mmid.output.figures`: drawn files, and the losses of a run read back from its logs."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mmid.cli.app import app
from mmid.errors import MmidError
from mmid.output.figures import Panel, Series, check_target, save_figure
from mmid.research.loss_curves import loss_curves, read_losses

PANEL = Panel("a title", "x (s)", "y (frames)", [Series("one", [1, 2, 4], [0.0, 3.0, 2.0])])


def write_run(folder: Path, train: list[float], valid: list[float], first: int = 1) -> Path:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(folder / "logs") as writer:
        for epoch, (seen, heard) in enumerate(zip(train, valid, strict=True), first):
            writer.add_scalar("loss/train", seen, epoch)
            writer.add_scalar("loss/valid", heard, epoch)
    return folder


def test_a_png_holds_the_panels_side_by_side(tmp_path):
    from PIL import Image

    save_figure([PANEL], tmp_path / "one.png")
    save_figure([PANEL, PANEL], tmp_path / "two.png")
    with Image.open(tmp_path / "one.png") as one, Image.open(tmp_path / "two.png") as two:
        assert one.format == "PNG"
        assert two.width == 2 * one.width and two.height == one.height
        assert len(one.convert("L").getcolors()) > 10
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.png", "two.png"]


def test_an_svg_is_the_same_each_time_and_shows_its_series(tmp_path):
    for name in ("a.svg", "b.svg"):
        save_figure([PANEL], tmp_path / name)
    drawn = (tmp_path / "a.svg").read_text()
    assert drawn == (tmp_path / "b.svg").read_text()
    assert all(f"<!-- {text} -->" in drawn for text in ("a title", "x (s)", "one"))


@pytest.mark.parametrize("scale", ["log", "symlog"])
def test_scales_have_plain_numbers_at_their_ticks(tmp_path, scale):
    points = Series("one", [1_000, 1_000_000], [0.5, 20.0], "both")
    save_figure([Panel("", "n", "", [points], "log", scale, 1.0)], tmp_path / "a.svg")
    drawn = (tmp_path / "a.svg").read_text()
    assert "<!-- 1,000,000 -->" in drawn
    assert ("<!-- 0.5 -->" in drawn) == (scale == "log")
    assert ("<!-- 0 -->" in drawn) == (scale == "symlog")
    assert "<!-- -" not in drawn and "<!-- \N{MINUS SIGN}" not in drawn


@pytest.mark.parametrize("name", ["a.jpg", "a", "missing/a.png"])
def test_a_figure_without_a_place_is_refused_before_work_begins(tmp_path, name):
    with pytest.raises(MmidError, match=r"not named|no folder"):
        check_target(tmp_path / name)


def test_a_failed_figure_leaves_nothing(tmp_path):
    broken = Panel("", "", "", [Series("one", [1, 2], [1])])
    with pytest.raises(ValueError, match="same first dimension"):
        save_figure([broken], tmp_path / "a.png")
    taken = tmp_path / "taken.png"
    taken.mkdir()
    with pytest.raises(MmidError, match=r"taken\.png: cannot be written"):
        save_figure([PANEL], taken)
    assert list(tmp_path.iterdir()) == [taken]


@pytest.mark.usefixtures("no_matplotlib")
def test_without_matplotlib_the_error_says_what_to_install(tmp_path):
    with pytest.raises(MmidError, match=r"drawing needs matplotlib: pip install 'mmid\[train\]'"):
        check_target(tmp_path / "a.png")


def test_the_best_epoch_is_that_of_the_lowest_validation_loss(tensorboard, tmp_path):
    run = write_run(tmp_path / "run", [3.0, 2.0, 1.0, 0.5], [3.5, 2.25, 2.5, math.nan])
    curves = loss_curves(run, tmp_path / "curves.svg")
    assert curves.epochs == (1, 2, 3, 4) and curves.best_epoch == 2
    assert curves.train == (3.0, 2.0, 1.0, 0.5) and curves.valid[:3] == (3.5, 2.25, 2.5)
    assert "<!-- best epoch: 2 -->" in (tmp_path / "curves.svg").read_text()


def test_epochs_trained_twice_count_as_they_were_last(tensorboard, tmp_path):
    run = write_run(tmp_path / "run", [3.0, 2.0], [3.0, 0.1])
    write_run(run, [1.5, 1.0], [2.0, 1.5], first=2)
    curves = read_losses(run)
    assert curves.epochs == (1, 2, 3) and curves.valid == (3.0, 2.0, 1.5)
    assert curves.best_epoch == 3


def test_a_run_without_losses_says_so(tensorboard, tmp_path):
    with pytest.raises(MmidError, match="no logs of a training run there"):
        read_losses(tmp_path)
    run = write_run(tmp_path / "run", [1.0], [math.nan])
    with pytest.raises(MmidError, match="no training and validation loss in its logs"):
        read_losses(run)


def test_the_command_draws_and_prints(tensorboard, tmp_path):
    run = write_run(tmp_path / "run", [3.0, 2.0], [3.5, 2.25])
    out = tmp_path / "curves.png"
    result = CliRunner().invoke(app, ["eval", "curves", str(run), "--out", str(out), "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["best_epoch"] == 2 and out.stat().st_size > 1_000
    table = CliRunner().invoke(app, ["eval", "curves", str(run), "--out", str(out)]).stdout
    assert "2.2500" in table and "best" in table
