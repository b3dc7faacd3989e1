"""Browsers that tests drive."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

import pytest

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--autoplay-policy=no-user-gesture-required",
)


@contextmanager
def chromium() -> Iterator[Any]:
    """Give a headless Chromium; skip the test where there is none."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="needs playwright: pip install playwright"
    )
    with playwright.sync_playwright() as driver, launched(driver.chromium) as browser:
        yield browser


@contextmanager
def launched(kind: Any, *arguments: str) -> Iterator[Any]:
    """Give a Chromium begun with more arguments; `kind` is the ``browser_type`` of another."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("chromium is not installed")
    browser = kind.launch(executable_path=program, args=[*ARGUMENTS, *arguments])
    yield browser
    browser.close()


def until(page: Any, condition: str, seconds: float = 30.0) -> None:
    """Wait until a JavaScript expression is true, on a page that may evaluate no text itself."""
    ends = monotonic() + seconds
    while not page.evaluate(condition):
        assert monotonic() < ends, f"not within {seconds:g} s: {condition}"
        page.wait_for_timeout(50)
