"""`hnsw_cost`: the graph against brute force, and an honest count of what it misses."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from mmid.cli.app import app
from mmid.errors import MmidError
from mmid.index.build import build_index
from mmid.index.folder import LibraryIndex
from mmid.index.quantization import pack
from mmid.model.checkpoint import save_checkpoint
from mmid.research import hnsw_cost
from mmid.research.hnsw_cost import (
    compare_search,
    draw_search,
    find_errors,
    grow_vectors,
    one_thread,
    pick_sizes,
    search_exact,
)


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    monkeypatch.setattr(hnsw_cost, "LEAST_SECONDS", 0.001)
    monkeypatch.setattr(hnsw_cost, "SINGLY", 10)


def sphere(count: int, dimensions: int = 16, seed: int = 0) -> np.ndarray:
    points = np.random.default_rng(seed).standard_normal((count, dimensions))
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


def test_brute_force_finds_what_sorting_finds():
    vectors, queries = sphere(500), sphere(150, seed=1)
    found = search_exact(torch.from_numpy(vectors).T.contiguous(), queries, 7)
    assert np.array_equal(found, np.argsort(-(queries @ vectors.T), axis=1)[:, :7])


def test_brute_force_never_errs_against_itself():
    vectors, queries = sphere(500), sphere(40, seed=1)
    true = search_exact(torch.from_numpy(vectors).T.contiguous(), queries, 5)
    assert find_errors(vectors, queries, true, true) == (0, 0)


def test_errors_are_counted_and_equal_vectors_are_not_errors():
    vectors = np.concatenate([sphere(50), sphere(50)])  # each vector twice
    queries = sphere(4, seed=1)
    true = np.argsort(-(queries @ vectors[:50].T), axis=1)[:, :2]
    assert find_errors(vectors, queries, true + 50, true) == (0, 0)
    found = true.copy()
    found[0] = true[0, ::-1]  # the second before the first: a wrong first one, both right
    found[1, 1] = np.argsort(queries[1] @ vectors[:50].T)[0]  # the farthest
    assert find_errors(vectors, queries, found, true) == (0.25, 0.125)


def test_every_size_is_measured_and_the_graph_is_right_where_it_is_small():
    report = compare_search(pack(sphere(1_400)), [100, 1_000], queries=50, neighbours=10)
    small, large = report.rows
    assert (small.size, large.size, report.available) == (100, 1_000, 1_350)
    assert small.error_first == small.error_all == 0
    for row in report.rows:
        assert 0 <= row.error_first <= 1 and 0 <= row.error_all < 0.05
        times = (row.exact_single, row.exact_batch, row.graph_single, row.graph_batch)
        assert min(times) > 0 and row.build_seconds > 0 and row.jittered == 0
        assert row.speedup_single == pytest.approx(row.exact_single / row.graph_single)
    assert large.graph_bytes > 5 * small.graph_bytes > 100 * 4 * 16


def test_a_starved_graph_errs(monkeypatch):
    monkeypatch.setattr(hnsw_cost, "SEARCH_BREADTH", 1)
    row = compare_search(pack(sphere(4_000, 32)), [3_000], queries=100, neighbours=1).rows[0]
    assert 0 < row.error_first == row.error_all < 1


def test_queries_are_held_out():
    vectors = np.eye(64, dtype=np.float32)
    seen = []

    def look(searched, asked, k, jittered):
        seen.append((searched, asked))
        return measured(searched, asked, k, jittered=jittered)

    measured = hnsw_cost.measure_size
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hnsw_cost, "measure_size", look)
        compare_search(pack(vectors), [54], queries=10, neighbours=2)
    searched, asked = seen[0]
    assert (asked @ searched.T).max() == 0 and len(np.concatenate(seen[0])) == 64


def test_sizes_end_with_what_there_is():
    assert pick_sizes([1_000, 100, 10_000], 500) == [100, 500]
    assert pick_sizes([1_000, 100], 500, grow=True) == [100, 1_000]
    report = compare_search(pack(sphere(300)), [100, 1_000, 9_000], queries=20)
    assert [row.size for row in report.rows] == [100, 280] and report.jitter == 0


def test_noise_fills_up_only_where_it_is_asked_for():
    report = compare_search(pack(sphere(300)), [100, 1_000], queries=20, neighbours=5, jitter=0.01)
    assert [(row.size, row.jittered) for row in report.rows] == [(100, 0), (1_000, 720)]
    vectors = sphere(40)
    grown = grow_vectors(vectors, 100, 0.01, np.random.default_rng(0))
    assert np.array_equal(grown[:40], vectors) and grown.shape == (100, 16)
    assert np.linalg.norm(grown, axis=1) == pytest.approx(np.ones(100), abs=1e-5)
    near = (grown[40:80] * vectors).sum(1)
    assert near.min() > 0.98 and near.max() < 1 - 1e-5


@pytest.mark.parametrize(("count", "sizes"), [(50, [100]), (120, [5]), (40, [100])])
def test_too_few_vectors_are_refused(count, sizes):
    with pytest.raises(MmidError, match=f"{count} vectors are too few"):
        compare_search(pack(sphere(count)), sizes, queries=45, neighbours=10)


def test_threads_come_back():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


def test_the_figure_shows_errors_of_nothing_too(tmp_path):
    report = compare_search(pack(sphere(300)), [100, 200], queries=20, neighbours=5)
    draw_search(report, tmp_path / "search.svg")
    drawn = (tmp_path / "search.svg").read_text()
    assert all(f"<!-- {text} -->" in drawn for text in ("5 neighbours", "times faster", "100"))


def test_the_command_says_when_the_index_is_too_small(tmp_path, pieces, tiny_model):
    index, model = tmp_path / "index", tmp_path / "tiny.safetensors"
    save_checkpoint(model, tiny_model.encoders, {})
    build_index(index, pieces, tiny_model)
    count = len(LibraryIndex(index, tiny_model).vectors)
    arguments = ["eval", "search", "--index", str(index), "--model", str(model)]
    arguments += ["--sizes", "100000,100", "--queries", "50"]
    result = CliRunner().invoke(app, [*arguments, "--json", "--out", str(tmp_path / "s.png")])
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["rows"]
    assert [row["size"] for row in rows] == [100, count - 50]
    assert f"the index has {count - 50:,} vectors to search" in result.stderr
    grown = CliRunner().invoke(app, [*arguments, "--jitter", "0.01", "--sizes", "2000"])
    assert "noise of 0.01" in grown.stdout and "2,000*" in grown.stdout and not grown.stderr
    wrong = CliRunner().invoke(app, [*arguments, "--sizes", "many"])
    assert wrong.exit_code == 2
