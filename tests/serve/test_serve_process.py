"""`mmid serve` as a process: begun, stopped, and killed at work."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mmid.cli.app import app
from mmid.index.maintenance import verify_index
from mmid.index.store import store_at
from mmid.model.checkpoint import save_checkpoint
from mmid.music.midi import write_midi

STARTING_SECONDS = 60


@pytest.fixture
def place(tmp_path, library) -> list[str]:
    """Return the options that serve `library`; temporary files go to a folder of their own."""
    save_checkpoint(tmp_path / "tiny.safetensors", library._model.encoders, {})
    (tmp_path / "temporary").mkdir()
    return ["--index", str(tmp_path / "index"), "--model", str(tmp_path / "tiny.safetensors")]


@contextmanager
def process(*options: str, temporary: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Begin a server; give it and its address, once it answers."""
    command = [sys.executable, "-m", "mmid", "serve", "--port", "0", *options]
    variables = {**os.environ, "TMPDIR": str(temporary)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=variables, **pipes) as server:
        try:
            assert server.stdout is not None
            address = server.stdout.readline().strip()
            yield server, address
        finally:
            server.kill()


def connection(address: str) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(address.split("/")[2], timeout=STARTING_SECONDS)


def get(address: str, path: str) -> dict:
    asked = connection(address)
    asked.request("GET", path)
    return json.loads(asked.getresponse().read())


@pytest.mark.parametrize(("stop", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_it_prints_its_address_and_stops_on_a_signal(place, tmp_path, stop, status):
    with process(*place, temporary=tmp_path / "temporary") as (server, address):
        assert address.startswith("http://127.0.0.1:") and "token" not in address
        assert get(address, "/library")["items"] == 6
        server.send_signal(stop)
        _, said = server.communicate(timeout=60)
    assert server.returncode == status and "Traceback" not in said
    assert said.splitlines()[-1] in ("mmid: stopped", "mmid: terminated")


def test_other_machines_need_the_token_it_prints_and_its_port_is_taken(place, tmp_path):
    with process(*place, "--host", "0.0.0.0", temporary=tmp_path / "temporary") as (_, address):
        token, port = address.split("#token=")[1], address.split("/")[2].rsplit(":", 1)[1]
        local = f"http://127.0.0.1:{port}"
        assert len(token) > 20 and "token" in get(local, "/library")["error"]
        asked = connection(local)
        asked.request("GET", "/library", headers={"Authorization": f"Bearer {token}"})
        assert json.loads(asked.getresponse().read())["items"] == 6
        second = CliRunner().invoke(app, ["serve", *place, "--port", port])
    assert second.exit_code == 1 and "cannot listen there" in str(second.exception)


def test_killed_during_a_build_and_an_upload_it_leaves_the_index_whole_and_no_file(
    place, tmp_path, draw_notes, library
):
    more = tmp_path / "more"
    more.mkdir()
    for seed in range(60):
        write_midi(draw_notes(seed + 10), more / f"{seed}.mid")
    with process(*place, temporary=tmp_path / "temporary") as (server, address):
        upload = connection(address)
        upload.putrequest("POST", "/identify?name=a.wav")
        upload.putheader("Content-Length", "10000000")
        upload.endheaders()
        upload.send(bytes(5_000_000))  # more than waits to be read
        asked = connection(address)
        content = json.dumps({"folder": str(more)})
        asked.request("POST", "/build", content, {"Content-Type": "application/json"})
        events = connection(address)
        events.request("GET", "/events")
        stream = events.getresponse()
        while b'"done": ' not in (line := stream.readline()) or b'"done": 0' in line:
            assert line
        server.kill()
    assert list((tmp_path / "temporary").rglob("*")) == []
    index = store_at(tmp_path / "index")
    assert verify_index(index).faults == () and len(index.open(None)) == 6
    assert library.build(str(more))["added"] == 60, "the next build goes on"
    assert {path.name.split("-")[0] for path in (tmp_path / "index").iterdir()} <= {
        *("manifest.json", "checked.json", "data", "writing.lock")
    }, "what was pending is used up"


def test_without_the_extra_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    result = CliRunner().invoke(app, ["serve"])
    assert result.exit_code == 1 and "pip install 'mmid[serve]'" in str(result.exception)
