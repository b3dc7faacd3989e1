"""A running server, queried from a shell: in a moment, as neither PyTorch nor a model is loaded.

Conventions: an address is what `mmid serve` prints, its token behind the #.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import fields
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import parse_qs, urlencode, urlsplit

from mmid.errors import MmidError, label
from mmid.identify.answer import Identification, Match
from mmid.identify.batch import Answered
from mmid.music.folders import BadFile
from mmid.options import Kind
from mmid.system.files import open_regular, parse_json

CONNECT_SECONDS = 10.0
"""A server that does not answer the call for so long is not there."""

ANSWER_SECONDS = 3_600.0
"""So long an answer may take, with all the queries before it."""

CONNECTIONS = {"http": HTTPConnection, "https": HTTPSConnection}


class Server:
    """A running `mmid serve`.

    Parameters
    ----------
    address : str
        Such as http://127.0.0.1:8765, or http://choir:8765/#token=...

    Raises
    ------
    MmidError
        If it is no such address.
    """

    def __init__(self, address: str) -> None:
        try:
            parts = urlsplit(address)
            self._port = parts.port
        except ValueError:
            parts, self._port = urlsplit(""), None
        if parts.scheme not in CONNECTIONS or not parts.hostname:
            raise MmidError(f"{label(address)}: give an address such as http://127.0.0.1:8765")
        self._kind, self._host = CONNECTIONS[parts.scheme], parts.hostname
        token = parse_qs(parts.fragment).get("token", [""])[0]
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._name = label(f"{parts.scheme}://{parts.netloc}")

    def kind(self) -> Kind:
        """Return what the server's library holds.

        Raises
        ------
        MmidError
            If it does not answer, or holds nothing.
        """
        said = self._ask("GET", "/library?limit=0")
        kind: Kind | None = said.get("kind")
        if kind is None:
            raise MmidError(f"{self._name}: nothing is indexed there yet")
        return kind

    def identify(self, path: Path, options: Mapping[str, Any]) -> Identification:
        """Identify a file of this machine; where it fails, the answer says why.

        Parameters
        ----------
        path : Path
        options : mapping
            The parameters of ``POST /identify``; those that are None are left out.
        """
        given = {name: value for name, value in options.items() if value is not None}
        name = os.fspath(path).encode("utf-8", "replace").decode()
        try:
            with open_regular(path) as file:
                said = self._ask("POST", f"/identify?{urlencode({'name': name, **given})}", file)
            return _answer(said, os.fspath(path))
        except OSError as error:
            failure = f"{label(path)}: {error.strerror or error}"
        except MmidError as error:
            failure = str(error)
        return Identification(os.fspath(path), 0.0, False, (), error=failure)

    def _ask(self, method: str, target: str, content: BinaryIO | None = None) -> dict[str, Any]:
        """Send a request; return the answer, or raise what the server says is wrong."""
        connection = self._kind(self._host, self._port, timeout=CONNECT_SECONDS)
        try:
            connection.connect()
            connection.sock.settimeout(ANSWER_SECONDS)
            answer = _sent(connection, method, target, self._headers, content)
            said, status = parse_json(answer.read()), answer.status
        except (OSError, HTTPException, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise MmidError(f"{self._name}: no answer ({why}); is mmid serve running?") from error
        finally:
            connection.close()
        if not isinstance(said, dict) or status != 200:
            line = said.get("error") if isinstance(said, dict) else None
            raise MmidError(label(str(line or f"{self._name}: not an mmid server")))
        return said


def _sent(
    connection: HTTPConnection,
    method: str,
    target: str,
    headers: Mapping[str, str],
    content: BinaryIO | None,
) -> HTTPResponse:
    """Send a request; one that is refused before it was sent whole has an answer, too."""
    length = {} if content is None else {"Content-Length": str(os.fstat(content.fileno()).st_size)}
    with suppress(BrokenPipeError, ConnectionResetError):
        connection.request(method, target, content, {**headers, **length})
    return connection.getresponse()


def _answer(said: dict[str, Any], query: str) -> Identification:
    """Return an answer as `mmid.identify.identifier` gives it."""
    names, of_match = ({field.name for field in fields(kind)} for kind in (Identification, Match))
    try:
        given = {name: value for name, value in said.items() if name in names}
        matches = [{n: v for n, v in match.items() if n in of_match} for match in given["matches"]]
        given["matches"] = tuple(Match(**{**m, "also": tuple(m["also"])}) for m in matches)
        given["keys"], stretch = tuple(given["keys"]), given.get("stretch")
        given["stretch"] = None if stretch is None else tuple(stretch)
        return Identification(**{**given, "query": query})
    except (KeyError, TypeError, AttributeError) as error:
        raise MmidError("this server answers as another version of mmid does") from error


def ask_files(
    server: Server, files: Sequence[Path | BadFile], options: Mapping[str, Any], jobs: int
) -> Generator[Answered, None, None]:
    """Identify files, so many at once; one that fails says so in its answer.

    Parameters
    ----------
    server : Server
    files : sequence of Path or BadFile
        From `mmid.cli.inputs.find_inputs`, for instance.
    options : mapping
        As of `Server.identify`.
    jobs : int
        Files sent at once.

    Yields
    ------
    Answered
        In the order of the files. Close the generator to send no more.
    """

    def ask(file: Path | BadFile) -> Answered:
        if isinstance(file, Path):
            return Answered(server.identify(file, options))
        return Answered(Identification(os.fspath(file.path), 0.0, False, (), error=file.reason))

    pool = ThreadPoolExecutor(jobs, "mmid")
    try:
        sent: deque[Future[Answered]] = deque()
        for file in files:
            if len(sent) == 2 * jobs:
                yield sent.popleft().result()
            sent.append(pool.submit(ask, file))
        while sent:
            yield sent.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
