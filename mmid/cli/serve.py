"""`mmid serve`: a page for the browser, and an HTTP API, over a library."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Annotated

import typer

from mmid.cli.options import Index, ModelGroup
from mmid.errors import MmidError, label
from mmid.system.console import remark, waiting

if TYPE_CHECKING:
    from mmid.serve.library import ServedLibrary

PORT = 8765

CLOSING_SECONDS = 1
"""What is still being sent when the server is stopped may take so long; see `mmid.cli.shell`."""

BACKLOG = 256
"""Connections that wait to be accepted."""


def serve(
    index: Index = None,
    host: Annotated[
        str,
        typer.Option(
            help="Listen at this address; other machines then need the token that is printed."
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Listen at this port; 0 takes a free one.")
    ] = PORT,
    open_page: Annotated[
        bool, typer.Option("--open", help="Open the page in the browser.")
    ] = False,
    *,
    model: ModelGroup,
) -> None:
    """Open mmid as a page in the browser: drop recordings, listen, manage the library.

    It runs on this machine until Ctrl-C, and nothing leaves the machine. If there is no index yet,
    the page builds one. mmid query --server uses the same server; /openapi.json describes its API.
    """
    _check_extra()
    with _bound(host, port) as listening:
        with waiting("Loading the model and the index"):
            library = _opened(index, model)
        _run(library, host, listening, open_page=open_page)


def _check_extra() -> None:
    """Refuse to go on without the packages of the extra."""
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise MmidError(f"serving needs {error.name}: pip install 'mmid[serve]'") from error


def _bound(host: str, port: int) -> socket.socket:
    """Return a socket that listens; what is in its way is said before anything is loaded."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        why = error.strerror or str(error)
        raise MmidError(f"{label(host)}:{port}: cannot listen there ({why}); try --port") from None


def _opened(index: str | None, model: ModelGroup) -> ServedLibrary:
    from mmid.index.store import store_at
    from mmid.serve.library import ServedLibrary

    spare = max(1, (os.cpu_count() or 1) - 1)  # so that queries go on during a build
    return ServedLibrary(store_at(index), model.load(), jobs=spare)


def _run(library: ServedLibrary, host: str, listening: socket.socket, *, open_page: bool) -> None:
    """Serve until stopped."""
    import uvicorn

    from mmid.serve.app import make_app
    from mmid.serve.guard import is_loopback, new_token

    token = None if is_loopback(host) else new_token()
    at_once = max(1, (os.cpu_count() or 1) // 2)
    app = make_app(library, at_once=at_once, names=[host, socket.gethostname()], token=token)
    address = _address(host, listening.getsockname()[1], token)
    config = uvicorn.Config(
        app,
        log_level="error",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=CLOSING_SECONDS,
    )
    remark(f"serving {label(library.where)}; Ctrl-C stops")
    typer.echo(address)
    if open_page:
        typer.launch(address)
    uvicorn.Server(config).run(sockets=[listening])


def _address(host: str, port: int, token: str | None) -> str:
    """Return where the page is; what follows # stays in the browser."""
    name = socket.gethostname() if host in ("0.0.0.0", "::") else host
    shown = f"[{name}]" if ":" in name else name
    return f"http://{shown}:{port}/" + (f"#token={token}" if token else "")
