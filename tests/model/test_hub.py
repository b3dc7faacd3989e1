"""`hub` and `registry`: huggingface_hub's own client against a hub on this machine."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from loopback_hub import COMMIT, NAME, REPOSITORY, LoopbackHub

from mmid.errors import ModelError
from mmid.model import hub
from mmid.model import registry as weights
from mmid.model.checkpoint import save_checkpoint
from mmid.model.hub import HubFile
from mmid.model.loading import load_model
from mmid.model.registry import find_weights, list_models
from mmid.settings import cache_folder

TABLE = Path(__file__).parents[2] / "docs" / "weights.md"
OWN = f"hf://{REPOSITORY}"


@pytest.fixture
def content(tiny_model, tmp_path) -> bytes:
    save_checkpoint(tmp_path / "tiny.safetensors", tiny_model.encoders, {})
    return (tmp_path / "tiny.safetensors").read_bytes()


@pytest.fixture
def server(content, tmp_path, monkeypatch):
    """Return a hub, with the environment that names it and an empty cache."""
    running = LoopbackHub(content)
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HUGGING_FACE_HUB_TOKEN", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_ENDPOINT", running.address)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MMID_CACHE", str(tmp_path / "cache"))
    yield running
    running.stop()


@pytest.fixture
def registry(tmp_path, monkeypatch, content):
    """Return a function that makes the registry one of a single model, `small`."""
    monkeypatch.setattr(weights, "ASSETS", tmp_path)

    def write(packaged: bool = False, **changes: object) -> None:
        place = {"repository": REPOSITORY, "revision": COMMIT, "file": NAME}
        digest = hashlib.sha256(content).hexdigest()
        entry = {"file": "small.safetensors", "sha256": digest, "packaged": packaged, "hub": place}
        models = {"default": "small", "models": {"small": entry | changes}}
        (tmp_path / "registry.json").write_text(json.dumps(models))

    write()
    return write


def left_in(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.rglob("*") if path.is_file() or ".part" in path.name)


def refusal(name: str | None = None) -> str:
    with pytest.raises(ModelError) as caught:
        find_weights(name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- what goes well


def test_first_use_fetches_and_the_next_needs_no_hub(server, registry, tmp_path, monkeypatch):
    model = load_model()
    assert model.digest == server.etag
    assert left_in(tmp_path / "cache") == ["small.safetensors"]
    assert {method for method, _, _ in server.asked} == {"HEAD", "GET"}
    assert all(f"/resolve/{COMMIT}/" in path for _, path, _ in server.asked)
    server.stop()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert load_model("small").fingerprint == model.fingerprint


def test_a_hubs_own_model_stays_what_it_was(server, content, tmp_path, monkeypatch):
    path = find_weights(OWN)
    assert path.read_bytes() == content
    assert json.loads((path.parent / f"{NAME}.json").read_text()) == {
        "commit": COMMIT,
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    server.content, server.etag = b"newer", hashlib.sha256(b"newer").hexdigest()
    assert find_weights(f"{OWN}@main/{NAME}") == path and path.read_bytes() == content
    assert find_weights(f"{OWN}@{COMMIT}").read_bytes() == b"newer"
    server.stop()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert find_weights(OWN).read_bytes() == content
    assert [row.where for row in list_models() if row.name.startswith("hf")] == ["cached"] * 2


def test_the_hash_of_a_small_file_may_be_gits(server, content):
    server.etag = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    assert find_weights(OWN).read_bytes() == content
    server.etag = "0" * 40
    assert "sent other bytes" in refusal(f"{OWN}@{COMMIT}")


def test_the_token_is_sent(server, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    find_weights(OWN)
    assert {token for _, _, token in server.asked} == {"Bearer hf_secret"}


@pytest.mark.parametrize("packaged", [True, False])
def test_the_cache_comes_before_the_package_and_the_package_before_the_hub(
    packaged, server, registry, content, tmp_path
):
    registry(packaged=packaged)
    (tmp_path / "small.safetensors").write_bytes(content)
    assert find_weights() == tmp_path / ("" if packaged else "cache/models") / "small.safetensors"
    assert bool(server.asked) != packaged
    cached = tmp_path / "cache" / "models" / "small.safetensors"
    cached.parent.mkdir(parents=True, exist_ok=True)
    cached.write_bytes(content)
    assert find_weights("small") == cached
    cached.write_bytes(content[::-1])
    (tmp_path / "small.safetensors").write_bytes(b"also damaged")
    assert find_weights("small") == cached and cached.read_bytes() == content


def test_what_is_damaged_in_the_cache_is_fetched_again(server, content):
    path = find_weights(OWN)
    path.write_bytes(content[:-1] + b"?")
    assert [row.where for row in list_models()][-1] == "damaged"
    assert find_weights(OWN).read_bytes() == content
    path.with_name(f"{NAME}.json").write_text("[]")
    assert find_weights(OWN).read_bytes() == content
    assert len([method for method, _, _ in server.asked if method == "GET"]) == 3


def test_a_progress_bar_shows_on_a_terminals_stderr_only(server, content, tmp_path):
    terminal, end = os.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    code = f"from mmid.model.registry import find_weights; find_weights({OWN!r})"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=end)
    assert done.returncode == 0 and done.stdout == b""
    assert b"100%" in os.read(terminal, 4096)
    os.close(end)
    os.close(terminal)
    shutil.rmtree(tmp_path / "cache")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


# ---- what goes wrong


def _offline(server, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def _silent(server, monkeypatch):
    server.fault = "silent"
    monkeypatch.setenv("HF_HUB_ETAG_TIMEOUT", "1")


def _slow(server, monkeypatch):
    server.fault = "stalls"
    monkeypatch.setattr(hub, "DEADLINE", 4.0)


def _no_room(server, monkeypatch):
    def cramped(*arguments):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(server.content) // 2, hard))
        try:
            return hub.download(*arguments)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    monkeypatch.setattr(weights, "download", cramped)


def _killed(server, monkeypatch):
    monkeypatch.setitem(hub.SETTINGS, "PYTHONHOME", "/nowhere")


def _damaged(server, monkeypatch):
    models = cache_folder() / "models"
    for path in (models / "small.safetensors", models / "hub" / REPOSITORY / "main" / NAME):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"damaged")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def _fault(name):
    def apply(server, monkeypatch):
        server.fault = name

    return apply


def _nothing(server, monkeypatch):
    pass


CASES = {
    "offline": (_offline, "small"),
    "offline, own": (_offline, OWN),
    "no answer": (_silent, OWN),
    "too slow": (_slow, "small"),
    "cut short": (_fault("short"), OWN),
    "other bytes": (_fault("wrong"), "small"),
    "no repository": (_nothing, "hf://someone/gone"),
    "no revision": (_nothing, f"{OWN}@v9"),
    "no file": (_nothing, f"{OWN}/other.safetensors"),
    "private": (_fault("private"), OWN),
    "hub at fault": (_fault("failing"), OWN),
    "no hub": (_fault("no hub"), OWN),
    "too large": (_fault("large"), OWN),
    "damaged, offline": (_damaged, "small"),
    "damaged, offline, own": (_damaged, OWN),
    "no room": (_no_room, OWN),
    "no process": (_killed, OWN),
    "not a name": (_nothing, "hf://someone/tunes--two"),
    "not an address": (_nothing, "hf://tunes"),
    "unknown": (_nothing, "loud"),
}
"""How to bring about every case of the table in docs/weights.md, and the model asked for."""


def documented() -> dict[str, str]:
    """Return the messages of the table, by case."""
    rows = re.findall(r"^\| ([a-z, ]+) \| .* \| `(.+)` \|$", TABLE.read_text(), re.M)
    return dict(rows)


def test_every_case_is_documented():
    assert set(documented()) == {*CASES, "damaged package"}


@pytest.mark.parametrize("case", CASES)
def test_a_failure_is_one_line_that_the_documents_tell(
    case, server, registry, tmp_path, monkeypatch
):
    prepare, name = CASES[case]
    prepare(server, monkeypatch)
    before = left_in(tmp_path / "cache")
    pattern = re.sub(r"<[^>]+>", r".+", re.escape(documented()[case]))
    assert re.fullmatch(pattern, refusal(name).replace(" 4 s", " 300 s"))
    assert left_in(tmp_path / "cache") == before


def test_the_offline_message_says_which_file_to_put_where(server, registry, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    message = refusal()
    target = re.search(r"at (\S+)$", message).group(1)
    assert server.etag in message and "small.safetensors" in message
    assert not Path(target).exists()
    Path(target).write_bytes(server.content)
    assert find_weights() == Path(target)


def test_a_damaged_package_says_so(server, registry, tmp_path):
    registry(packaged=True, hub=None)
    (tmp_path / "small.safetensors").write_bytes(b"damaged")
    pattern = re.sub(r"<[^>]+>", r".+", re.escape(documented()["damaged package"]))
    assert re.fullmatch(pattern, refusal())


def test_a_cache_that_cannot_be_made_is_named(server, monkeypatch):
    monkeypatch.setenv("MMID_CACHE", f"{__file__}/cache")
    assert f"cannot write to {__file__}/cache, Not a directory: set MMID_CACHE" in refusal(OWN)


def test_a_gated_repository_asks_for_a_token(server):
    server.fault = "gated"
    assert "set HF_TOKEN" in refusal(OWN)


def test_a_hub_that_hangs_up_again_and_again_is_left(server, monkeypatch):
    server.fault = "hangs up"
    monkeypatch.setattr(hub, "DEADLINE", 4.0)
    assert "did not send it within 4 s" in refusal(OWN)


@pytest.mark.parametrize("way", [signal.SIGINT, signal.SIGKILL])
def test_a_download_that_is_stopped_leaves_nothing(way, server, tmp_path, interruptible):
    server.fault = "stalls"
    code = f"from mmid.model.registry import find_weights; find_weights({OWN!r})"
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL) as user:
        assert server.sent_half.wait(120)
        assert any(name.endswith(".part") for name in left_in(tmp_path / "cache"))
        user.send_signal(way)
        assert user.wait(60)
    until = time.monotonic() + 60
    while left_in(tmp_path / "cache") and time.monotonic() < until:
        time.sleep(0.05)
    assert left_in(tmp_path / "cache") == []
    server.fault = ""
    assert find_weights(OWN).read_bytes() == server.content


def test_what_a_kill_of_both_left_is_never_used(server, tmp_path):
    rubbish = tmp_path / "cache" / "models" / "mmid.x.part" / NAME
    rubbish.parent.mkdir(parents=True)
    rubbish.write_bytes(b"half")
    target = tmp_path / "cache" / "models" / "hub" / REPOSITORY / "main" / NAME
    target.parent.mkdir(parents=True)
    target.write_bytes(server.content)  # whole, but its note was never written
    assert find_weights(OWN) == target and len(server.asked) > 0


# ---- addresses


@pytest.mark.parametrize(
    "address",
    [
        "hf://a",
        "hf://a/b/c.bin",
        "hf://a/../c.safetensors",
        "hf://a/b/../c.safetensors",
        "hf://a/b@../c.safetensors",
        "hf:///b/c.safetensors",
        "hf://a/b@",
        "hf://a/b\n",
    ],
)
def test_what_is_no_address_of_safetensors_is_refused(address):
    with pytest.raises(ModelError, match="not of the form hf://OWNER/REPO") as caught:
        HubFile.parse(address)
    assert "\n" not in str(caught.value)


def test_addresses_may_name_folders():
    file = HubFile.parse("hf://a/b-c.d@v1.0/folder/e_f.safetensors")
    assert file == HubFile("a/b-c.d", "v1.0", "folder/e_f.safetensors")
    assert HubFile.parse(str(file)) == file
