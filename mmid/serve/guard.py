"""Who may ask the server: this page and the programs of this machine, and with a token others.

A page of another site can make a browser send requests to this machine, and a name of its own can
be made to lead here. So the Host must be an address or a name of this machine, the Origin, where
there is one, the same, and requests that a browser marks as another site's are refused.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from ipaddress import ip_address
from secrets import token_urlsafe
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Names of this machine to itself."""

OPEN = ("/", "/assets/")
"""The page itself, which holds nothing of the user's, is given without a token."""

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "media-src 'self' blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""The content security policy: scripts, styles and requests of this server only, none inline."""

HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Cache-Control": "no-store",
}


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches a server that is bound there."""
    if host in LOOPBACK:
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def new_token() -> str:
    """Return what only those know who are shown it."""
    return token_urlsafe(24)


class Guard:
    """Refuses requests that are not the user's, and sets what browsers may do with answers.

    Parameters
    ----------
    app : ASGI application
    names : iterable of str
        Names by which the server may be called besides its addresses.
    token : str or None
        What requests must carry; None where only this machine can reach the server.
    """

    def __init__(self, app: ASGIApp, names: Iterable[str] = (), token: str | None = None) -> None:
        self._app, self._token = app, token
        self._names = {*LOOPBACK, *(name.lower() for name in names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._refusal(scope["path"], Headers(scope=scope))
        if refusal:
            status, line = refusal
            await JSONResponse({"error": line}, status)(scope, receive, guarded)
        else:
            await self._app(scope, receive, guarded)

    def _refusal(self, path: str, headers: Headers) -> tuple[int, str] | None:
        """Return why a request is refused, if it is: a status and a line."""
        host = headers.get("host", "")
        if not self._is_own(host):
            return 421, "this server is not known by that name; open the address that it printed"
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return 403, "a page of another site may not use this server"
        site = headers.get("sec-fetch-site", "none")
        if path != "/" and site not in ("none", "same-origin"):
            return 403, "a page of another site may not use this server"
        if self._token and not (path == OPEN[0] or path.startswith(OPEN[1])):
            given = headers.get("authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(given.encode(), self._token.encode()):
                return 401, "give the token: open the whole address that the server printed"
        return None

    def _is_own(self, host: str) -> bool:
        """Return whether a Host is this machine's: an address cannot be made to lead elsewhere."""
        try:
            name = "" if "@" in host else urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name in self._names:
            return True
        try:
            return self._token is not None and bool(ip_address(name))
        except ValueError:
            return False
