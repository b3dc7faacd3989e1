"""`ray_cluster`: a Ray cluster of two workers on this machine, against this process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mmid.cli.app import app
from mmid.errors import MmidError
from mmid.index.build import BuildReport, update_index
from mmid.index.folder import LibraryIndex
from mmid.index.items import read_pieces
from mmid.index.manifest import NOTES, PIECES, POSITIONS, POSTINGS, VECTORS
from mmid.music.midi import write_midi
from mmid.system.ray_cluster import RayCluster, engine_named

FILES = 132


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    """Start a cluster on loopback."""
    pytest.importorskip("ray", reason="the extra ray is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    start = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
    start += ["--node-ip-address=127.0.0.1", f"--port={address.split(':')[1]}", "--num-cpus=2"]
    start += ["--include-dashboard=false", "--disable-usage-stats"]
    paths = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    head = subprocess.Popen(
        start,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONPATH": paths},
    )
    assert head.stdout
    for line in head.stdout:
        if "Ray runtime started" in line:
            break
    os.environ["RAY_ADDRESS"] = address
    yield RayCluster()
    del os.environ["RAY_ADDRESS"]
    head.terminate()
    head.wait(30)


@pytest.fixture(scope="module")
def library(tmp_path_factory, draw_notes) -> Path:
    """Return a library that is worth two workers, with a bad file in it."""
    folder = tmp_path_factory.mktemp("library")
    for seed in range(FILES - 1):
        write_midi(draw_notes(seed, 4, 3.0), folder / f"{seed}.mid")
    (folder / "bad.mid").write_bytes(b"MThd")
    return folder


@pytest.fixture(scope="module")
def here(tmp_path_factory, library, tiny_model) -> tuple[Path, BuildReport]:
    """Return the index that this process makes, and what it says of it."""
    index = tmp_path_factory.mktemp("here")
    return index, update_index(index, [library], tiny_model, jobs=1)


def same(one: Path, other: Path) -> bool:
    """Tell whether two indexes are the same, bit for bit, but for their graphs."""
    folders = [LibraryIndex(folder, None).folder for folder in (one, other)]
    data = [next(folder.glob("data-*")) for folder in folders]
    assert read_pieces(data[0] / PIECES) == read_pieces(data[1] / PIECES)
    return all(
        (data[0] / name).read_bytes() == (data[1] / name).read_bytes()
        for name in (VECTORS, POSITIONS, NOTES, POSTINGS.tails)
    )


def die_once(function, trace: Path, item):
    """Work, but once take the worker with it, as a lack of memory does."""
    try:
        trace.touch(exist_ok=False)
    except FileExistsError:
        return function(item)
    os.kill(os.getpid(), signal.SIGKILL)


def die(item: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return item


def fail(item: int) -> int:
    raise MmidError(f"{item} is bad")


def test_a_cluster_gives_the_same_index(cluster, here, library, tiny_model, tmp_path):
    told = []
    report = update_index(
        tmp_path, [library], tiny_model, engine=cluster, progress=lambda *what: told.append(what)
    )
    assert report == here[1] and len(report.bad) == 1 and told[0] == ("Indexing", 1, FILES)
    assert same(tmp_path, here[0])


def test_a_killed_worker_is_replaced_and_the_index_the_same(
    cluster, here, library, tiny_model, tmp_path
):
    def deadly(function, items, jobs=None, **options):
        return cluster(partial(die_once, function, tmp_path / "died"), items, jobs, **options)

    report = update_index(tmp_path / "index", [library], tiny_model, engine=deadly)
    assert (tmp_path / "died").exists()
    assert report == here[1] and same(tmp_path / "index", here[0])


def test_a_build_that_is_stopped_goes_on(cluster, here, library, tiny_model, tmp_path):
    def stop(what, done, total):
        if done == FILES - 32:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        update_index(tmp_path, [library], tiny_model, engine=cluster, progress=stop)
    assert list(tmp_path.glob("pending-*/*.npz"))
    sent = []

    def counted(function, items, jobs=None, **options):
        sent.extend(items)
        return cluster(function, items, jobs, **options)

    update_index(tmp_path, [library], tiny_model, engine=counted)
    assert len(sent) <= 33 and same(tmp_path, here[0])


def test_results_come_in_order(cluster):
    assert list(cluster(abs, range(-50, 0), batch=3, least=1)) == list(range(50, 0, -1))


def test_what_kills_every_worker_is_given_up(cluster):
    with pytest.raises(MmidError, match=r"gave a task up: .*died"):
        list(RayCluster(retries=0)(die, [1]))


def test_an_error_of_the_work_is_not_tried_again(cluster):
    with pytest.raises(MmidError, match="7 is bad"):
        list(cluster(fail, [7]))


def test_the_command_takes_an_engine(cluster, midi_folder, tmp_path):
    build = ["build-index", str(midi_folder), "--index", str(tmp_path / "index")]
    result = CliRunner().invoke(app, [*build, "--engine", "ray"])
    assert result.exit_code == 0, result.output
    assert len(LibraryIndex(tmp_path / "index", None)) == 6
    assert CliRunner().invoke(app, [*build, "--engine", "ray", "--device", "cuda"]).exit_code == 2


def test_engines_have_names():
    assert engine_named("local") is None
    assert engine_named("ray") == RayCluster()
    assert engine_named("ray://host:10001") == RayCluster("ray://host:10001")
    with pytest.raises(MmidError, match="give local, ray or ray://HOST:PORT"):
        engine_named("spark")


def test_without_the_extra_a_line_tells_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MmidError, match=r"pip install 'mmid\[ray\]'"):
        list(RayCluster()(abs, [1]))
