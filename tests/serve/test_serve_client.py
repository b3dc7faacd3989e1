"""`mmid query --server`: the same output as without, in a moment."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from servers import running
from typer.testing import CliRunner

from mmid.cli.app import app
from mmid.errors import MmidError
from mmid.model.checkpoint import save_checkpoint
from mmid.serve.app import make_app
from mmid.serve.client import Server
from mmid.serve.uploads import Limits


@pytest.fixture
def served(library):
    """Return the address of a server."""
    with running(make_app(library)) as address:
        yield address


@pytest.fixture
def local(library, tmp_path) -> list[str]:
    """Return the options that do without the server."""
    save_checkpoint(tmp_path / "tiny.safetensors", library._model.encoders, {})
    return ["--index", str(tmp_path / "index"), "--model", str(tmp_path / "tiny.safetensors")]


def query(*arguments: object, **variables: str):
    return CliRunner().invoke(app, ["query", *map(str, arguments)], env=variables)


FORMS = [[], ["--json"], ["--csv"], ["--top", "2", "--json"], ["--start", "2", "--duration", "4"]]


@pytest.mark.parametrize("form", [*FORMS, ["--transpose", "auto", "--json"]], ids=" ".join)
def test_the_output_is_the_same(served, local, recording, form):
    asked, computed = query(recording, "--server", served, *form), query(recording, *local, *form)
    assert asked.exit_code == computed.exit_code == 0, asked.output
    assert asked.stdout == computed.stdout and asked.stdout
    assert asked.stderr == computed.stderr


def test_it_is_the_same_of_many_files_some_of_which_fail(
    served, local, recording, tmp_path, midi_folder
):
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    (tmp_path / "empty.wav").write_bytes(b"")
    takes = [recording, tmp_path / "broken.wav", tmp_path / "empty.wav", tmp_path / "missing.wav"]
    takes += [midi_folder / "piece 1.mid", tmp_path / "*.nothing"]
    for form in ([], ["--json"], ["--csv"]):
        asked, computed = query(*takes, "--server", served, *form), query(*takes, *local, *form)
        assert asked.exit_code == computed.exit_code == 1
        assert asked.stdout == computed.stdout and asked.stderr == computed.stderr


def test_the_server_may_be_named_once_and_for_all(served, recording):
    result = query(recording, "--json", MMID_SERVER=served)
    assert result.exit_code == 0 and json.loads(result.stdout)["query"] == str(recording)


def test_nothing_heavy_is_loaded(served, recording):
    heavy = ("torch", "torchaudio", "numpy", "av", "pretty_midi", "hnswlib", "starlette")
    code = (
        "import sys, mmid.cli.app\n"
        f"sys.argv = ['mmid', 'query', {str(recording)!r}, '--server', {served!r}, '--json']\n"
        "try:\n    mmid.cli.app.main()\nexcept SystemExit as end:\n    assert not end.code\n"
        f"print([m for m in {heavy} if m in sys.modules], file=sys.stderr)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(run.stdout)["query"] and run.stderr.strip() == "[]"


def test_it_is_given_the_token_behind_the_address(library, recording):
    with running(make_app(library, token="secret")) as address:
        refused = query(recording, "--server", address)
        given = query(recording, "--server", f"{address}/#token=secret", "--json")
    assert refused.exit_code == 1 and "give the token" in str(refused.exception)
    assert given.exit_code == 0, given.stderr


@pytest.mark.parametrize("option", ["--report", "--plot", "--export-aligned", "--playlist"])
def test_what_needs_the_index_is_refused(served, recording, option, tmp_path):
    result = query(recording, "--server", served, option, tmp_path / "x")
    assert result.exit_code == 2 and option in result.stderr


@pytest.mark.parametrize("address", ["", "127.0.0.1:8765", "ftp://x", "http://", "http://a:b"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(MmidError, match="give an address"):
        Server(address)


def test_a_server_that_is_not_there_is_one_line(recording):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
    result = query(recording, "--server", address)
    assert result.exit_code == 1 and "is mmid serve running?" in str(result.exception)


def test_a_server_that_goes_during_a_query_is_one_line(library, recording, monkeypatch):
    begun, gone = threading.Event(), threading.Event()

    def slow(*given, **more):
        begun.set()
        gone.wait(20)

    monkeypatch.setattr("mmid.serve.app.identified", slow)
    with ThreadPoolExecutor(1) as pool:
        with running(make_app(library)) as address:
            answer = pool.submit(query, recording, "--server", address)
            assert begun.wait(20)
        result = answer.result(20)
        gone.set()
    assert result.exit_code == 1 and result.stdout == "" and result.stderr.count("\n") == 1
    assert "is mmid serve running?" in result.stderr


@pytest.mark.parametrize(
    "said", [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", b"", b"\0" * 99]
)
def test_another_server_is_one_line(said, recording):
    def answer(listening):
        connection, _ = listening.accept()
        with connection:
            connection.recv(9_999)
            connection.sendall(said)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=answer, args=(listening,), daemon=True).start()
        with pytest.raises(MmidError) as error:
            Server(f"http://127.0.0.1:{listening.getsockname()[1]}").kind()
    assert "\n" not in str(error.value)


def test_what_is_too_large_is_refused_in_a_line(library, tmp_path):
    large = tmp_path / "large.wav"
    large.write_bytes(b"RIFF" + bytes(5_000_000))
    with running(make_app(library, limits=Limits(bytes=1_000))) as address:
        answer = Server(address).identify(Path(large), {})
    assert "larger than" in (answer.error or "") or "no answer" in (answer.error or "")


def test_a_library_in_which_nothing_is_indexed_is_one_line(empty, recording):
    with running(make_app(empty)) as address:
        result = query(recording, "--server", address)
    assert result.exit_code == 1 and "nothing is indexed there yet" in str(result.exception)
