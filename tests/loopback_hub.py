"""A model hub on this machine that can misbehave, as far as a file is asked of it."""

from __future__ import annotations

import hashlib
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPOSITORY = "someone/tunes"
NAME = "model.safetensors"


class LoopbackHub:
    """Serves one file of one repository, at its branch and its commit.

    ``fault`` may be ``silent`` (no answer), ``stalls`` (half of the file, then nothing),
    ``hangs up`` (half of it, then the connection closes), ``short``, ``wrong`` (other bytes, as
    many), ``large``, ``private``, ``gated``, ``failing`` or ``no hub``.
    """

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.etag = hashlib.sha256(content).hexdigest()
        self.fault = ""
        self.asked: list[tuple[str, str, str | None]] = []
        self.sent_half = Event()
        self._over = Event()
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                hub.answer(self, body=False)

            def do_GET(self) -> None:
                hub.answer(self, body=True)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Be gone."""
        self._over.set()
        self._server.shutdown()
        self._server.server_close()

    def answer(self, request: BaseHTTPRequestHandler, body: bool) -> None:
        """Answer HEAD or GET."""
        self.asked.append((request.command, request.path, request.headers.get("Authorization")))
        if self.fault == "silent":
            self._over.wait()
            return
        status, code = self._refusal(request.path)
        request.send_response(status)
        if code:
            request.send_header("X-Error-Code", code)
        if status != 200:
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        if self.fault != "no hub":
            request.send_header("X-Repo-Commit", COMMIT)
        request.send_header("ETag", f'"{self.etag}"')
        content = self._content(body)
        size = 2**40 if self.fault == "large" else len(content)
        request.send_header("Content-Length", str(size))
        request.end_headers()
        if body:
            self._send(request, content)

    def _refusal(self, path: str) -> tuple[int, str]:
        repository, revision, name = re.fullmatch("/(.+?)/resolve/([^/]+)/(.+)", path).groups()
        faults = {
            "private": (401, ""),
            "gated": (403, "GatedRepo"),
            "failing": (500, ""),
        }
        if self.fault in faults:
            return faults[self.fault]
        if repository != REPOSITORY:
            return 404, "RepoNotFound"
        if revision not in ("main", COMMIT):
            return 404, "RevisionNotFound"
        if name != NAME:
            return 404, "EntryNotFound"
        return 200, ""

    def _content(self, body: bool) -> bytes:
        if body and self.fault == "wrong":
            return self.content[:-1] + bytes([self.content[-1] ^ 1])
        if body and self.fault == "short":
            return self.content[:-1]
        return self.content

    def _send(self, request: BaseHTTPRequestHandler, content: bytes) -> None:
        if self.fault not in ("stalls", "hangs up"):
            request.wfile.write(content)
            return
        request.wfile.write(content[: len(content) // 2])
        request.wfile.flush()
        self.sent_half.set()
        if self.fault == "stalls":
            self._over.wait()
        request.close_connection = True
