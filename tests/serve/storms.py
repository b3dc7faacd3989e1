"""Many clients at once, some of them hostile, against one server.

``python tests/serve/storms.py URL RECORDING`` runs it whole: 1,000 requests of 50 clients.
"""

from __future__ import annotations

import http.client
import json
import random
import socket
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

PATIENCE = 600


def _ask(host: str, method: str, path: str, content: bytes | None, **headers: str) -> str:
    """Send a request; return what became of it, or say that it was not answered in a line."""
    asked = http.client.HTTPConnection(host, timeout=PATIENCE)
    try:
        asked.request(method, path, content, headers)
        answer = asked.getresponse()
        said = json.loads(answer.read())
    finally:
        asked.close()
    if answer.status == 200:
        return "answered"
    line = said["error"]
    return f"refused {answer.status}" if line and "\n" not in line else "not in a line"


def _leaves(host: str) -> str:
    """Say that much will come, send little, and leave."""
    name, port = host.split(":")
    with socket.create_connection((name, int(port)), timeout=PATIENCE) as asked:
        head = f"POST /identify HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000000\r\n\r\n"
        asked.sendall(head.encode() + bytes(10_000))
    return "left"


def _babbles(host: str) -> str:
    """Send what is no HTTP."""
    name, port = host.split(":")
    with socket.create_connection((name, int(port)), timeout=PATIENCE) as asked:
        asked.sendall(b"\0\xff" * 500 + b"\r\n\r\n")
        asked.recv(1_000)
    return "babbled"


def storm(address: str, recording: bytes, *, clients: int, requests: int) -> Counter[str]:
    """Send requests, one in four of them hostile; return how many had which end."""
    host = address.split("/")[2]
    hostile: list[Callable[[], str]] = [
        lambda: _ask(host, "POST", "/identify?name=x.wav", b"RIFF" + bytes(999)),
        lambda: _ask(host, "POST", "/identify?top=never", recording),
        lambda: _ask(host, "GET", "/library", None, Host="evil.example"),
        lambda: _ask(host, "POST", "/build", b"{}", Origin="http://evil.example"),
        lambda: _ask(host, "GET", "/assets/..%2f..%2fetc/passwd", None),
        lambda: _leaves(host),
        lambda: _babbles(host),
    ]
    rng = random.Random(0)

    def one(number: int) -> str:
        if number % 4 == 0:
            return hostile[number // 4 % len(hostile)]()
        if number % 10 == 1:
            return _ask(host, "GET", f"/library?search={number}", None)
        return _ask(host, "POST", "/identify?name=a.wav", recording)

    order = list(range(requests))
    rng.shuffle(order)
    with ThreadPoolExecutor(clients) as pool:
        return Counter(pool.map(one, order))


if __name__ == "__main__":
    with open(sys.argv[2], "rb") as file:
        print(storm(sys.argv[1], file.read(), clients=50, requests=1_000))
