"""`mmid.research.simulation`: made-up pieces are as near to real ones as they are meant to be."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from typer import Typer
from typer.testing import CliRunner

from mmid.index.build import update_index
from mmid.index.folder import LibraryIndex
from mmid.index.quantization import unpack
from mmid.research import simulation as simulate
from mmid.research.simulation import RERANKED, Clip, Simulation, moved, quantised


@pytest.fixture
def units() -> torch.Tensor:
    vectors = torch.randn((600, 32), generator=torch.Generator().manual_seed(0))
    return vectors / vectors.norm(dim=1, keepdim=True)


@pytest.fixture
def simulation(tmp_path, midi_folder, tiny_model) -> Simulation:
    """Return a simulation of six pieces, about a clip of the third."""
    update_index(tmp_path / "index", [midi_folder], tiny_model, jobs=1)
    index = LibraryIndex(tmp_path / "index", tiny_model)
    item = index.item(2)
    some = slice(5, 5 + simulate.QUERIED)
    clip = Clip(1.0, item.positions[some] * 1.0, unpack(item.vectors[some]), frozenset({2}))
    return Simulation(index, [clip])


@pytest.mark.parametrize("closeness", [0.7, 0.95])
def test_noise_moves_vectors_as_far_as_told(units, closeness):
    away = moved(units, closeness, [0])
    assert (away * units).sum(1).mean() == pytest.approx(closeness, abs=0.02)
    noise = away - closeness * units
    together = torch.nn.functional.cosine_similarity(noise[1:], noise[:-1]).mean()
    assert together == pytest.approx(0.5, abs=0.07)
    assert not torch.equal(away, moved(units, closeness, [1]))


def test_fewer_bits_round_more_coarsely(units):
    wrong = [(quantised(units, bits) - units).abs().mean() for bits in (16, 8, 4, 2)]
    assert wrong == sorted(wrong) and wrong[0] == 0 and wrong[2] > 10 * wrong[1]
    assert len(quantised(units, 4).unique()) <= 16


def test_the_best_are_found_block_by_block(units):
    queries, vectors = units[:7], units[7:]
    nearest = simulate.Nearest(queries)
    for first in range(0, len(vectors), 150):
        block = vectors[first : first + 150]
        nearest.offer(block, quantised(block, 8), first)
    rows, cosine = nearest.best()
    true = (queries @ vectors.T).topk(simulate.NEIGHBOURS)
    assert np.array_equal(rows, true.indices.numpy())  # as 8 bits keep them among the first 100
    np.testing.assert_allclose(cosine, true.values.numpy(), atol=1e-6)
    assert RERANKED > simulate.NEIGHBOURS


def test_a_library_grows_by_copies_of_what_is_not_asked_for(simulation):
    real = simulation.measure(5)
    more = simulation.measure(5, copies=3, closeness=0.9)
    assert real.pieces == 6 and more.pieces == 6 + 3 * 5 and more.real == 6
    own = simulation._index.entries[2].count
    assert more.snippets == real.snippets + 3 * (real.snippets - own)
    assert real.top1 == more.top1 == 1 and real.found == 1
    assert more.nearest >= real.nearest and more.farthest > real.farthest
    near = simulation.measure(5, copies=3, closeness=1.0)  # each snippet of others four times
    assert near.nearest == pytest.approx(real.nearest, abs=5e-3)


def test_the_command_prints_a_row_a_library(tmp_path, simulation, monkeypatch):
    monkeypatch.setattr(simulate, "load_model", lambda *_: None)
    monkeypatch.setattr(simulate, "LibraryIndex", lambda *_: simulation._index)
    monkeypatch.setattr(simulate, "read_clips", lambda *_: simulation._clips)
    monkeypatch.setattr(Simulation, "fit", lambda self, tell: 0.9)
    app = Typer()
    app.command()(simulate.main)
    out = tmp_path / "figures.json"
    told = CliRunner().invoke(app, [str(tmp_path), "--copies", "2", "--out", str(out)])
    assert told.exit_code == 0, told.output
    rows = [json.loads(line) for line in told.stdout.splitlines()]
    assert json.loads(out.read_text())["rows"] == rows and rows[-1]["pieces"] == 16
