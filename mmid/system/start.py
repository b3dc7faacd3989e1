"""What makes a command start sooner."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading_modules() -> Iterator[None]:
    """Look for no garbage while modules load, which stay; nor among them ever after."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
