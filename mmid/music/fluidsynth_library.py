"""The fluidsynth library, loaded once, and what it logs: kept from stderr, for errors to quote."""

from __future__ import annotations

import ctypes
import ctypes.util
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from functools import cache
from io import StringIO
from typing import Any

from mmid.errors import RenderError, label

LEVELS = 5
"""Of fluidsynth's log: panic, error, warning, information, debugging."""

GLIB_LEVELS = 0xFF
"""Of GLib's log, in which fluidsynth's reader of DLS files complains: all, by a bit each."""


class _Logged(threading.local):
    """What was logged in this thread, where it is kept."""

    lines: list[str] | None = None


_logged = _Logged()


@contextmanager
def logged() -> Iterator[list[str]]:
    """Yield a list of what fluidsynth logs in this thread meanwhile, on one line each."""
    lines: list[str] = []
    _logged.lines = lines
    try:
        yield lines
    finally:
        _logged.lines = None


def _log(level: int, message: bytes, data: None) -> None:
    if _logged.lines is not None:
        _logged.lines.append(label(message.decode(errors="replace").strip()))


def _ignore(domain: None, level: int, message: bytes, data: None) -> None:
    """Say nothing: fluidsynth's own log says why a file cannot be read."""


_NUMBER, _TEXT, _POINTER = ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p
_LOG = ctypes.CFUNCTYPE(None, _NUMBER, _TEXT, _POINTER)(_log)
_IGNORE = ctypes.CFUNCTYPE(None, _POINTER, _NUMBER, _TEXT, _POINTER)(_ignore)


@cache
def load_fluidsynth() -> Any:
    """Return pyfluidsynth's module, with nothing of what the library logs on stderr.

    Raises
    ------
    RenderError
        If fluidsynth or pyfluidsynth is not installed.
    """
    name = ctypes.util.find_library("fluidsynth")
    if name is None:
        raise RenderError("rendering needs fluidsynth: apt-get install fluidsynth (or brew)")
    try:
        with redirect_stdout(StringIO()):  # on which it says where the library is, in CI
            import fluidsynth
    except ImportError as error:
        raise RenderError("rendering needs pyfluidsynth: pip install 'mmid[train]'") from error
    _silence(ctypes.CDLL(name))
    return fluidsynth


def _silence(library: ctypes.CDLL) -> None:
    for level in range(LEVELS):
        library.fluid_set_log_function(level, _LOG, None)
    if hasattr(library, "g_log_set_handler"):  # of builds that read DLS files
        library.g_log_set_handler(None, GLIB_LEVELS, _IGNORE, None)
