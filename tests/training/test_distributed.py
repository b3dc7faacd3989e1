"""`mmid.training.distributed`: two ranks on this machine train as one process does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_loop import write_renderings
from torch import nn
from two_ranks import LOSSES, train

from mmid.errors import MmidError
from mmid.model.checkpoint import load_tensors
from mmid.music.grid import DEFAULT
from mmid.training import distributed
from mmid.training.experiment import Experiment
from mmid.training.loop import BEST_NAME
from mmid.training.snippet_pairs import PairSource


@pytest.fixture(scope="module")
def cache(tmp_path_factory, draw_notes) -> Path:
    return write_renderings(tmp_path_factory.mktemp("cache"), draw_notes)


@pytest.fixture(scope="module")
def runs(cache, tmp_path_factory) -> Path:
    """Train in this process, in the folder one, and by torchrun in two processes, in two."""
    out = tmp_path_factory.mktemp("runs")
    script = Path(__file__).with_name("two_ranks.py")
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    (out / "two").mkdir()
    both = subprocess.Popen(
        [*run, str(script), str(cache), str(out / "two")],
        env=environment,
        text=True,
        stderr=subprocess.PIPE,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Experiment, "model", None)  # which is put back
        curves = train(cache, out / "one", torch.device("cpu"))
    (out / "one" / "curves.json").write_text(json.dumps(curves))
    assert both.wait(120) == 0, both.stderr and both.stderr.read()
    return out


@pytest.mark.parametrize("loss", LOSSES)
def test_two_ranks_learn_what_one_process_learns(runs, loss):
    one, two = (json.loads((runs / run / "curves.json").read_text()) for run in ("one", "two"))
    for alone, together in zip(one[loss], two[loss], strict=True):
        assert together["loss"] == pytest.approx(alone["loss"], rel=5e-3)
        assert together["valid"]["loss"] == pytest.approx(alone["valid"]["loss"], rel=3e-2)
    assert one[loss][-1]["loss"] < 0.9 * one[loss][0]["loss"]


def test_one_rank_writes_what_one_process_does(runs):
    names = [
        {path.relative_to(runs / run) for path in (runs / run).glob("*/*.safetensors")}
        for run in ("one", "two")
    ]
    assert names[0] == names[1] and len(names[0]) == 4
    weights = [load_tensors(runs / run / "info-nce" / BEST_NAME)[0] for run in ("one", "two")]
    assert weights[0].keys() == weights[1].keys()


@pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.BatchNorm2d])
def test_shared_statistics_of_one_rank_are_the_layers_own(kind, monkeypatch):
    monkeypatch.setattr(distributed._Summed, "apply", lambda values: values)
    own, shared = kind(5), distributed.SharedNorm(5)
    batch = torch.randn(8, 5, 6, *([7] if kind is nn.BatchNorm2d else []))
    torch.testing.assert_close(shared(batch), own(batch))
    torch.testing.assert_close(shared.state_dict(), own.state_dict())
    torch.testing.assert_close(shared.eval()(batch), own.eval()(batch))


def test_parts_of_a_batch_lie_at_the_places_of_the_whole(cache):
    source = PairSource(sorted(cache.glob("*.safetensors")), DEFAULT, None)
    whole = list(source.batches(8, 3, [1, 2]))
    parts = [list(source.batches(8, 3, [1, 2], slice(k, k + 4))) for k in (0, 4)]
    for number, batch in enumerate(whole):
        halves = [part[number] for part in parts]
        assert torch.equal(torch.cat([half.rolls for half in halves]), batch.rolls)
        assert torch.equal(torch.cat([half.audio for half in halves]), batch.audio)


def test_a_run_of_one_is_as_it_was():
    value = torch.ones(2, 3)
    assert distributed.gathered(value) is value and distributed.averaged(value.sum()) == 6
    assert distributed.part_of(7) == slice(None) and distributed.agreed(0.5, value.device) == 0.5
    network = nn.Sequential(nn.BatchNorm1d(3))
    distributed.share_statistics(network)
    assert type(network[0]) is nn.BatchNorm1d
    assert distributed.shared_loss(network, torch.sum) is torch.sum


def test_a_batch_must_be_shared_out_evenly(monkeypatch):
    monkeypatch.setattr(distributed, "ranks", lambda: 3)
    with pytest.raises(MmidError, match="a batch of 32 cannot be shared by 3 ranks"):
        distributed.part_of(32)
