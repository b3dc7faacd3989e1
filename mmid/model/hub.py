"""One file fetched from a model hub, by huggingface_hub in a process that can be stopped.

Conventions: a hub's file is written ``hf://OWNER/REPO[@REVISION][/FILE]``. The hub's address,
token and offline mode are what huggingface_hub reads from HF_ENDPOINT, HF_TOKEN and
HF_HUB_OFFLINE. What arrives is nobody's until the caller has checked it against a hash.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import astuple, dataclass
from pathlib import Path
from threading import Thread
from typing import Any

from mmid.errors import ModelError, label
from mmid.system.files import file_digest

SCHEME = "hf://"

DEADLINE = 300.0
"""Seconds that a download may take in all."""

TRIES = 100
"""How often to delete what a download left, while it goes on."""

GIT_DIGITS = 40
"""Hexadecimal digits of the hash by which git knows a file."""

SETTINGS = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_XET": "1",
    "HF_HUB_VERBOSITY": "error",
    "PYTHONWARNINGS": "ignore",
}
"""Environment of the process that downloads: plain HTTP from the hub alone, and no chatter."""

_PART = r"\w[\w.+-]*"
_ADDRESS = re.compile(
    rf"{SCHEME}(?P<repository>{_PART}/{_PART})(@(?P<revision>{_PART}))?"
    rf"(/(?P<name>({_PART}/)*{_PART}\.safetensors))?"
)


class HubError(ModelError):
    """A file that did not come from the hub, or not as promised; the message is the reason."""


@dataclass(frozen=True)
class HubFile:
    """A file of a hub.

    Parameters
    ----------
    repository : str
        ``OWNER/REPO``.
    revision : str
        A commit, tag or branch.
    name : str
        Of the file in the repository.
    """

    repository: str
    revision: str = "main"
    name: str = "model.safetensors"

    @classmethod
    def parse(cls, address: str) -> HubFile:
        """Read an address.

        Raises
        ------
        ModelError
            If it is none, or not one of safetensors.

        Examples
        --------
        >>> HubFile.parse("hf://me/tunes@v2/small.safetensors")
        HubFile(repository='me/tunes', revision='v2', name='small.safetensors')
        >>> str(HubFile.parse("hf://me/tunes"))
        'hf://me/tunes@main/model.safetensors'
        """
        match = _ADDRESS.fullmatch(address)
        if not match:
            form = f"{SCHEME}OWNER/REPO[@REVISION][/FILE.safetensors]"
            raise ModelError(f"{label(address)}: not of the form {form}")
        return cls(**{name: part for name, part in match.groupdict().items() if part})

    def __str__(self) -> str:
        return f"{SCHEME}{self.repository}@{self.revision}/{self.name}"


@dataclass(frozen=True)
class Arrival:
    """What a hub sent.

    Parameters
    ----------
    path : Path
    commit : str
        Which the revision was.
    promised : str
        The file's hash, as the hub gave it before.
    """

    path: Path
    commit: str
    promised: str


def hub_address() -> str:
    """Return where the hub is."""
    return label(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")


def hub_hash(path: Path, like: str) -> str:
    """Return a file's hash of the kind that a hub's is.

    Parameters
    ----------
    path : Path
    like : str
        A SHA-256, or a SHA-1 as git makes it of small files; hexadecimal.
    """
    if len(like) != GIT_DIGITS:
        return file_digest(path)
    content = path.read_bytes()
    blob = b"blob %d\0" % len(content) + content
    return hashlib.sha1(blob, usedforsecurity=False).hexdigest()


def download(file: HubFile, folder: Path, most_bytes: int) -> Arrival:
    """Fetch a file, within `DEADLINE`; a progress bar shows on stderr if that is a terminal.

    Parameters
    ----------
    file : HubFile
    folder : Path
        An empty one, for this alone: it is deleted if this process dies meanwhile.
    most_bytes : int
        Larger files are refused.

    Raises
    ------
    HubError
        If the file cannot be had.
    OSError
        If there is no room for it.
    """
    code = f"import sys; sys.path[:] = {sys.path}; from mmid.model.hub import serve; serve()"
    shown = sys.stderr.isatty()
    with subprocess.Popen(
        [sys.executable, "-c", code, os.fspath(folder), str(most_bytes), *astuple(file)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=None if shown else subprocess.DEVNULL,
        env=os.environ | SETTINGS | ({} if shown else {"HF_HUB_DISABLE_PROGRESS_BARS": "1"}),
    ) as child:
        try:
            status = child.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            raise HubError(f"{hub_address()} did not send it within {DEADLINE:g} s") from None
        finally:
            child.kill()
        output = child.stdout.read() if child.stdout else b""
    if status:
        raise HubError(f"the download ended with status {status}")
    answer = json.loads(output.splitlines()[-1])
    if "errno" in answer:
        raise OSError(answer["errno"], os.strerror(answer["errno"]))
    if "reason" in answer:
        raise HubError(answer["reason"])
    return Arrival(Path(answer["path"]), answer["commit"], answer["promised"])


def serve() -> None:
    """Be the process that downloads: the arguments say what, and a line of JSON is the answer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets it, too, and decides
    folder, most_bytes, *parts = sys.argv[1:]
    end = Thread(target=_end_with_parent, args=(folder,), daemon=True)
    end.start()
    answer = json.dumps(_fetch(HubFile(*parts), folder, int(most_bytes)))
    try:
        print(answer, flush=True)
    except BrokenPipeError:
        end.join()


def _end_with_parent(folder: str) -> None:
    os.read(sys.stdin.fileno(), 1)  # nothing is sent: this returns once the parent is gone
    for _ in range(TRIES):
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.exists(folder):
            break
        time.sleep(0.01)  # something was being written there
    os._exit(1)


def _fetch(file: HubFile, folder: str, most_bytes: int) -> dict[str, Any]:
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    repository, name = file.repository, file.name
    try:
        found = get_hf_file_metadata(hf_hub_url(repository, name, revision=file.revision))
    except Exception as error:
        return {"reason": _explain(error, file) or f"{hub_address()} does not answer"}
    if not found.commit_hash or not found.etag:
        return {"reason": f"{hub_address()} is no model hub: check HF_ENDPOINT"}
    if (found.size or 0) > most_bytes:
        return {"reason": f"larger than {most_bytes >> 20} MiB, not an mmid model"}
    try:
        path = hf_hub_download(
            repository, name, revision=found.commit_hash, local_dir=folder, cache_dir=folder
        )
    except Exception as error:
        if isinstance(error, OSError) and error.errno and not isinstance(error, ConnectionError):
            return {"errno": error.errno}
        return {"reason": _explain(error, file) or "the download broke off"}
    return {"path": path, "commit": found.commit_hash, "promised": found.etag}


def _explain(error: Exception, file: HubFile) -> str | None:
    """Say what went wrong, where it is more than a network's failure."""
    from huggingface_hub import errors

    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set"
    if isinstance(error, errors.HFValidationError):
        return f"{file.repository} cannot be a repository's name"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{file.repository} has no revision {file.revision}"
    if status == 404 and isinstance(error, errors.EntryNotFoundError):
        return f"{file.repository} has no file {file.name} at {file.revision}"
    if status == 404:
        return f"{hub_address()} has no repository {file.repository}"
    if status in (401, 403):
        return f"{file.repository} is private or missing: check its name, or set HF_TOKEN"
    if status:
        return f"{hub_address()} answered with status {status}"
    return None
