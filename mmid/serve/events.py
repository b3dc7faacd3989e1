"""What goes on in the server, sent to every page that is open as server-sent events.

Conventions: an event is the whole state, so that one that is missed is no loss. A page that does
not read on has the newest state waiting, and no more.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from mmid.serve.errors import Refused

MOST_LISTENERS = 64

HEARTBEAT_SECONDS = 15.0
"""How often something is sent, so that a listener that is gone is noticed."""

LEAST_APART = 0.1
"""Seconds between two events."""


def event(name: str, value: Any) -> bytes:
    r"""Return a server-sent event.

    Examples
    --------
    >>> event("status", {"waiting": 0})
    b'event: status\ndata: {"waiting": 0}\n\n'
    """
    return f"event: {name}\ndata: {json.dumps(value, allow_nan=False)}\n\n".encode()


class Events:
    """Sends listeners the state whenever it changes."""

    def __init__(self) -> None:
        self._news: set[asyncio.Event] = set()

    def changed(self) -> None:
        """Have the state sent; to be called in the server's thread."""
        for news in self._news:
            news.set()

    def refuse_too_many(self) -> None:
        """Refuse one more listener where there are too many.

        Raises
        ------
        Refused
            If there are.
        """
        if len(self._news) >= MOST_LISTENERS:
            raise Refused(503, f"{MOST_LISTENERS} pages are open already; close one")

    async def listen(self, state: Any) -> AsyncIterator[bytes]:
        """Yield the state now and whenever it changed, as ``state()`` gives it."""
        news = asyncio.Event()
        news.set()
        self._news.add(news)
        try:
            while True:
                try:
                    await asyncio.wait_for(news.wait(), HEARTBEAT_SECONDS)
                except asyncio.TimeoutError:
                    yield b": still here\n\n"
                    continue
                news.clear()
                yield event("status", state())
                await asyncio.sleep(LEAST_APART)
        finally:
            self._news.discard(news)
