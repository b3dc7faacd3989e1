"""The web application: the page, and the HTTP API that it uses itself.

Conventions: answers and errors are JSON; an error is ``{"error": "one clear line"}``. Names of
files go out as they are, and the page shows them as text. `mmid.serve.openapi` documents the
routes.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict
from functools import partial
from importlib.resources import files
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from mmid.errors import MmidError
from mmid.identify.timeline import LEAST_EVERY, WINDOW_SECONDS
from mmid.output.page.mp3_clip import MEDIA_TYPE, encode_clip
from mmid.output.page.page import asset
from mmid.serve import requests
from mmid.serve.answers import identified
from mmid.serve.desk import Desk
from mmid.serve.errors import Refused
from mmid.serve.events import Events
from mmid.serve.guard import Guard
from mmid.serve.library import ServedLibrary
from mmid.serve.openapi import DESCRIPTION
from mmid.serve.recitals import Recitals
from mmid.serve.uploads import Limits

LOG = logging.getLogger("mmid")

SHARED = ("page.css", "roll.js")
"""What this page and that of a report have in common."""

OWN = (
    *("serve.css", "serve.js", "server.js", "answers.js", "player.js", "timeline.js"),
    *("library.js", "microphone.js", "recorder.js"),
)

MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript", ".html": "text/html"}

EVENTS = "text/event-stream"

CLIP_SECONDS = 600.0
"""Of a recording that a browser cannot play, so much is sent back as MP3."""


class Json(Response):
    """A value as JSON, whatever characters are in it."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Return it as ASCII."""
        return json.dumps(content, allow_nan=False).encode()


class Service:
    """What the routes do.

    Parameters
    ----------
    library : ServedLibrary
    at_once : int
        Queries worked on at once.
    limits : Limits
        Of recordings that are sent.
    """

    def __init__(self, library: ServedLibrary, at_once: int, limits: Limits) -> None:
        self._library, self._limits, self._events = library, limits, Events()
        self._desk = Desk(at_once, changed=self._events.changed)
        self._recitals = Recitals(library)

    @asynccontextmanager
    async def life(self, app: Starlette) -> AsyncIterator[None]:
        """Have news of the library sent on while the application runs."""
        loop = asyncio.get_running_loop()
        self._library.changed = lambda: _soon(loop, self._events.changed)
        yield
        self._library.cancel()
        self._desk.close()
        self._recitals.close()

    def state(self) -> dict[str, Any]:
        """Return what goes on now."""
        work = self._library.work
        return {
            "running": self._desk.running,
            "waiting": self._desk.waiting,
            "work": asdict(work) if work else None,
            "last": self._library.last,
            "largest": self._limits.bytes,
        }

    async def identify(self, request: Request) -> Response:
        """Say what a recording is."""
        options, (start, duration) = requests.search_options(request), requests.span(request)
        shown = request.query_params.get("shown") == "1"
        with self._desk.place():
            async with requests.upload(request, self._limits) as upload:
                identifier = await self._in_thread(lambda: self._library.identifier(options))
                work = partial(identified, identifier, upload, start, duration, shown=shown)
                return Json(await self._desk.do(work, request.is_disconnected))

    async def timeline(self, request: Request) -> Response:
        """Say what is played in a long recording from when to when: events, the last the answer."""
        every = requests.seconds(request, "every", WINDOW_SECONDS, LEAST_EVERY)
        loop = asyncio.get_running_loop()
        async with AsyncExitStack() as stack:
            stack.callback(self._recitals.enter())
            upload = await stack.enter_async_context(requests.upload(request, self._limits))
            here = stack.pop_all()
            events = self._recitals.begin(upload, every, lambda: _close(loop, here))
        return StreamingResponse(events, media_type=EVENTS)

    async def sound(self, request: Request) -> Response:
        """Return a recording as MP3, for browsers that cannot play it."""
        with self._desk.place():
            async with requests.upload(request, self._limits) as upload:

                def work() -> bytes:
                    with upload.named():
                        return encode_clip(upload.path, 0.0, CLIP_SECONDS)

                sound = await self._desk.do(work, request.is_disconnected)
                return Response(sound, media_type=MEDIA_TYPE)

    async def library(self, request: Request) -> Response:
        """Say what is indexed."""
        offset, limit = _page(request)
        search = request.query_params.get("search", "")[:200]
        return Json(await self._in_thread(lambda: self._library.listing(search, offset, limit)))

    async def left_out(self, request: Request) -> Response:
        """Say what could not be indexed, and why."""
        offset, limit = _page(request)
        return Json(await self._in_thread(lambda: self._library.left_out(offset, limit)))

    async def build(self, request: Request) -> Response:
        """Begin to add a folder; the events say how far it is."""
        folder = (await requests.body(request)).get("folder")
        if folder is not None and not isinstance(folder, str):
            raise Refused(422, "folder: give the path of a folder on the server's machine")
        return await self._change(lambda: self._library.build(folder))

    async def remove(self, request: Request) -> Response:
        """Take pieces, or a folder that is followed, out of the library."""
        names = (await requests.body(request)).get("names")
        if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
            raise Refused(422, "names: give a list of pieces, or of folders that are followed")
        return await self._change(lambda: self._library.remove(names))

    async def cancel(self, request: Request) -> Response:
        """Stop the change of the library that is under way."""
        if not self._library.cancel():
            raise Refused(409, "nothing is under way")
        return Json({"cancelled": True})

    async def events(self, request: Request) -> Response:
        """Send what goes on, now and whenever it changes."""
        self._events.refuse_too_many()
        return StreamingResponse(self._events.listen(self.state), media_type=EVENTS)

    async def description(self, request: Request) -> Response:
        """Return the description of this API."""
        return Json(DESCRIPTION)

    async def page(self, request: Request) -> Response:
        """Return the page."""
        return Response(own_asset("index.html"), media_type=MEDIA_TYPES[".html"])

    async def asset(self, request: Request) -> Response:
        """Return a style or a script of the page."""
        name = request.path_params["name"]
        if name not in (*SHARED, *OWN):
            raise Refused(404, "no such page")
        text = asset(name) if name in SHARED else own_asset(name)
        return Response(text, media_type=MEDIA_TYPES[name[name.rindex(".") :]])

    async def _change(self, change: Callable[[], dict[str, Any]]) -> Response:
        """Do a change to its end, whoever waits for it."""
        return Json(await asyncio.shield(self._in_thread(change)))

    async def _in_thread(self, work: Callable[[], Any]) -> Any:
        return await asyncio.to_thread(work)


def _close(loop: asyncio.AbstractEventLoop, stack: AsyncExitStack) -> None:
    """Let go of what a long recording needed."""
    _tasks.add(task := loop.create_task(stack.aclose()))
    task.add_done_callback(_tasks.discard)


_tasks: set[asyncio.Task[None]] = set()
"""Which a loop itself would forget."""


def _soon(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    """Call something in the server's thread, unless the server has ended."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(call)


def _page(request: Request) -> tuple[int, int]:
    return requests.number(request, "offset", 0, 10**9), requests.number(request, "limit", 50, 500)


def own_asset(name: str) -> str:
    """Return a part of the page."""
    return files("mmid").joinpath("assets", "serve", name).read_text(encoding="utf-8")


async def _refused(request: Request, error: Exception) -> Response:
    """Say in a line why a request is not served."""
    status = error.status if isinstance(error, Refused) else 422
    return Json({"error": str(error)}, status)


async def _not_found(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    said = {404: "no such page", 405: "not so: see /openapi.json"}
    line = said.get(error.status_code, str(error.detail))
    return Json({"error": line}, error.status_code, headers=dict(error.headers or {}))


async def _failed(request: Request, error: Exception) -> Response:
    """Say that the server is at fault; what happened is in its log."""
    LOG.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return Json({"error": "mmid failed here; its log says how"}, 500)


def make_app(
    library: ServedLibrary,
    *,
    at_once: int = 1,
    limits: Limits | None = None,
    names: Sequence[str] = (),
    token: str | None = None,
) -> Starlette:
    """Make the application.

    Parameters
    ----------
    library : ServedLibrary
    at_once : int
        Queries worked on at once.
    limits : Limits, optional
        Of recordings that are sent.
    names : sequence of str
        Names by which the server may be called besides its addresses.
    token : str, optional
        What requests must carry, where others than this machine can reach the server.
    """
    service = Service(library, at_once, limits or Limits())
    routes = [
        Route("/", service.page),
        Route("/assets/{name}", service.asset),
        Route("/openapi.json", service.description),
        Route("/identify", service.identify, methods=["POST"]),
        Route("/timeline", service.timeline, methods=["POST"]),
        Route("/sound", service.sound, methods=["POST"]),
        Route("/library", service.library),
        Route("/library/left-out", service.left_out),
        Route("/library/remove", service.remove, methods=["POST"]),
        Route("/build", service.build, methods=["POST"]),
        Route("/build", service.cancel, methods=["DELETE"]),
        Route("/events", service.events),
    ]
    handlers: dict[Any, Any] = {
        MmidError: _refused,
        HTTPException: _not_found,
        Exception: _failed,
    }
    return Starlette(
        routes=routes,
        middleware=[Middleware(Guard, names=names, token=token)],
        exception_handlers=handlers,
        lifespan=service.life,
    )
