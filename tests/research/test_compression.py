"""`mmid.research.compression`: vectors left out and rounded are what they are said to be."""

from __future__ import annotations

import json

import pytest
import torch
from typer import Typer
from typer.testing import CliRunner

from mmid.index.build import update_index
from mmid.index.folder import LibraryIndex
from mmid.index.quantization import unpack
from mmid.research import compression, simulation
from mmid.research.simulation import Clip


@pytest.fixture
def units() -> torch.Tensor:
    vectors = torch.randn((3000, 32), generator=torch.Generator().manual_seed(0))
    return vectors / vectors.norm(dim=1, keepdim=True)


def test_distinct_snippets_are_kept_and_cover_the_others(units):
    some = torch.cat([units[:40], units[:20] + 0.01 * units[40:60], units[:5]])
    some = some / some.norm(dim=1, keepdim=True)
    kept = compression.distinct(some, 0.98)
    assert kept.tolist() == list(range(40))
    assert len(compression.distinct(some, 1.1)) == len(some)


@pytest.mark.parametrize("make", [compression.product, compression.principal])
def test_more_bytes_round_less(make, units):
    sample, others = units[:2000], units[2000:]
    wrong = [(make(sample, size)(others) - others).norm(dim=1).mean() for size in (4, 8, 16, 32)]
    assert wrong == sorted(wrong, reverse=True) and wrong[-1] < 0.05 < 0.3 < wrong[0]
    assert make(sample, 8)(others).shape == others.shape


def test_a_product_quantiser_has_a_byte_a_part(units):
    rounded = compression.product(units, 8)(units)
    assert all(len(part.unique(dim=0)) <= 256 for part in rounded.chunk(8, 1))


@pytest.fixture
def asked(tmp_path, midi_folder, tiny_model) -> tuple[LibraryIndex, list[Clip]]:
    """Return an index of six pieces and a clip of the third."""
    update_index(tmp_path / "index", [midi_folder], tiny_model, jobs=1)
    index = LibraryIndex(tmp_path / "index", tiny_model)
    item = index.item(2)
    some = slice(4, 4 + 2 * simulation.QUERIED, 2)
    vectors = unpack(item.vectors[some])
    return index, [Clip(1.0, item.positions[some] * 1.0, vectors, frozenset({2}))]


def test_every_way_is_measured(asked, tmp_path, monkeypatch):
    index, clips = asked
    monkeypatch.setattr(compression, "load_model", lambda *_: None)
    monkeypatch.setattr(compression, "LibraryIndex", lambda *_: index)
    monkeypatch.setattr(compression, "read_clips", lambda *_: clips)
    app = Typer()
    app.command()(compression.main)
    told = CliRunner().invoke(app, [str(tmp_path)])
    assert told.exit_code == 0, told.output
    rows = {row["way"]: row for row in map(json.loads, told.stdout.splitlines())}
    first = rows["as the index has them"]
    assert first["snippets"] == index.snippets and first["bytes"] == 16
    assert first["found"] == first["top1"] == first["shortlisted"] == 1
    halved = rows["one snippet in 2"]
    assert abs(halved["snippets"] - index.snippets / 2) <= len(index) and halved["found"] == 1
    assert rows["one snippet in 4"]["snippets"] < halved["snippets"]
    assert rows["4 bits a coordinate"]["bytes"] == 8
    assert rows["4 bits a coordinate, the best again exactly"]["found"] == 1
    assert rows["product quantiser, 4 bytes"]["bytes"] == 4
