"""What requests ask for, read and checked: a value out of range is refused in a line."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar, get_args

from starlette.requests import ClientDisconnect, Request

from mmid.errors import label
from mmid.identify.search_options import SearchOptions, keys_to_try
from mmid.options import Search, Vote
from mmid.serve.errors import Refused
from mmid.serve.uploads import LONGEST_NAME, Limits, Upload, receive, unnamed_file

MOST_MATCHES = 100

MOST_JSON = 1 << 20
"""Bytes of a request that is JSON."""

Value = TypeVar("Value")


def _value(
    request: Request, name: str, default: Value, read: Callable[[str], Value], wanted: str
) -> Value:
    """Return a parameter of a request's address, or what stands for it."""
    text = request.query_params.get(name)
    if text is None:
        return default
    try:
        return read(text)
    except ValueError:
        raise Refused(422, f"{name}={label(text[:40])}: give {wanted}") from None


def _within(least: float, most: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        value = float(text)
        if not least <= value <= most:
            raise ValueError
        return value

    return read


def _one_of(names: Sequence[str]) -> Callable[[str], Any]:
    def read(text: str) -> str:
        if text not in names:
            raise ValueError
        return text

    return read


def number(request: Request, name: str, default: int, most: int, least: int = 0) -> int:
    """Return a whole number that a request gives."""

    def read(text: str) -> int:
        return int(_within(least, most)(str(int(text))))

    return _value(request, name, default, read, f"a whole number from {least} to {most}")


def span(request: Request) -> tuple[float, float | None]:
    """Return the span of a recording that is asked about: its start and its length, seconds."""
    longest = 24 * 3600.0
    start = _value(request, "start", 0.0, _within(0, longest), "seconds from 0 on")
    duration: float | None = _value(
        request, "duration", math.inf, _within(0.1, longest), "seconds, 0.1 at least"
    )
    return start, None if duration == math.inf else duration


def search_options(request: Request) -> SearchOptions:
    """Return how the library is to be searched."""
    usual = SearchOptions()
    transpose = request.query_params.get("transpose", "auto")
    digits = transpose.removeprefix("-").removeprefix("+")
    key: int | str = int(transpose) if digits.isdecimal() and len(digits) < 4 else transpose
    search, vote = (_one_of(get_args(names)) for names in (Search, Vote))
    return SearchOptions(
        search=_value(request, "search", usual.search, search, f"one of {get_args(Search)}"),
        vote=_value(request, "vote", usual.vote, vote, f"one of {get_args(Vote)}"),
        keys=keys_to_try(key),
        top=number(request, "top", usual.top, MOST_MATCHES, least=1),
        min_confidence=_value(
            request, "min_confidence", usual.min_confidence, _within(0, 1), "0 to 1"
        ),
    )


def seconds(request: Request, name: str, default: float, least: float) -> float:
    """Return a number of seconds that a request gives, at most an hour."""
    return _value(request, name, default, _within(least, 3600), f"{least:g} to 3600 seconds")


@asynccontextmanager
async def upload(request: Request, limits: Limits) -> AsyncIterator[Upload]:
    """Receive the recording that a request carries, while the context lasts.

    Raises
    ------
    Refused
        If it is too large or comes too slowly, or its name is too long.
    """
    name = request.query_params.get("name", "recording")
    if not name or len(name) > LONGEST_NAME or "\0" in name:
        raise Refused(422, f"name: give 1 to {LONGEST_NAME} characters")
    limits.refuse_announced(request.headers.get("content-length"))
    with unnamed_file() as (file, path):
        try:
            size = await receive(request.stream().__aiter__(), file, limits)
        except ClientDisconnect:
            raise Refused(400, "the recording was not sent whole") from None
        try:
            yield Upload(name, path)
        finally:
            limits.used -= size


async def body(request: Request) -> dict[str, Any]:
    """Return the JSON object that a request carries.

    Raises
    ------
    Refused
        If it carries anything else.
    """
    if request.headers.get("content-type", "").split(";")[0].strip() != "application/json":
        raise Refused(415, "send JSON, and say so: Content-Type: application/json")
    content = b""
    async for block in request.stream():
        content += block
        if len(content) > MOST_JSON:
            raise Refused(413, f"larger than {MOST_JSON} bytes")
    try:
        value = json.loads(content or b"{}")
    except (ValueError, RecursionError):
        raise Refused(400, "this is not JSON") from None
    if not isinstance(value, dict):
        raise Refused(422, "give a JSON object")
    return value
