"""Long recordings, followed one after another in a thread of their own, so that queries go on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event

from mmid.errors import MmidError
from mmid.identify.timeline import Timeline, follow
from mmid.serve.answers import followed
from mmid.serve.errors import Cancelled, Refused
from mmid.serve.events import event
from mmid.serve.library import ServedLibrary
from mmid.serve.uploads import Upload

LOG = logging.getLogger("mmid")

MOST = 4
"""Long recordings that are received, wait or are followed, at most."""


class Recitals:
    """Follows long recordings.

    Parameters
    ----------
    library : ServedLibrary
    """

    def __init__(self, library: ServedLibrary) -> None:
        self._library, self._closing, self.present = library, Event(), 0
        self._pool = ThreadPoolExecutor(1, "mmid-recital")

    def enter(self) -> Callable[[], None]:
        """Take a place; return what gives it back.

        Raises
        ------
        Refused
            If there is none.
        """
        if self.present >= MOST:
            raise Refused(503, f"{MOST} long recordings wait already; try again later")
        self.present += 1

        def leave() -> None:
            self.present -= 1

        return leave

    def begin(self, upload: Upload, every: float, done: Callable[[], None]) -> AsyncIterator[bytes]:
        """Follow a recording when its turn comes, and yield events, the last one the answer.

        Parameters
        ----------
        upload : Upload
        every : float
            Length of the windows that are looked up, seconds.
        done : callable
            Called in the server's thread when the recording is not needed any more.

        Returns
        -------
        async iterator of bytes
            ``progress``, and in the end ``timeline`` or ``error``. When its reader leaves, the work
            stops.
        """
        loop, stop = asyncio.get_running_loop(), Event()
        news: asyncio.Queue[bytes] = asyncio.Queue()

        def send(one: bytes) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(news.put_nowait, one)

        def progress(what: str, reached: int, total: int) -> None:
            if stop.is_set() or self._closing.is_set():
                raise Cancelled("cancelled")
            send(event("progress", {"done": reached, "total": total}))

        def work() -> None:
            try:
                progress("", 0, 0)
                send(event("timeline", followed(self._follow(upload, every, progress))))
            except Exception as error:
                send(event("error", {"error": _line(error)}))
            finally:
                send(b"")
                if not loop.is_closed():
                    loop.call_soon_threadsafe(done)

        self._pool.submit(work)
        return _read(news, stop)

    def _follow(
        self, upload: Upload, every: float, progress: Callable[[str, int, int], None]
    ) -> Timeline:
        identifier = self._library.identifier()
        with upload.named():
            source = upload.open(identifier, 0.0, None) if upload.is_midi else upload.path
            timeline = follow(identifier, source, every, progress=progress)
        return replace(timeline, query=upload.name)

    def close(self) -> None:
        """Stop what is under way, and begin nothing more."""
        self._closing.set()
        self._pool.shutdown(wait=False, cancel_futures=True)


async def _read(news: asyncio.Queue[bytes], stop: Event) -> AsyncIterator[bytes]:
    try:
        while one := await news.get():
            yield one
    finally:
        stop.set()


def _line(error: Exception) -> str:
    """Say in a line what went wrong; what is the server's own fault is in its log."""
    if isinstance(error, MmidError):
        return str(error)
    LOG.error("a long recording could not be followed", exc_info=error)
    return "mmid failed here; its log says how"
