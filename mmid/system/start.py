"""What makes a command start sooner."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any


@contextmanager
def loading_modules() -> Iterator[None]:
    """Look for no garbage while modules load, which stay; nor among them ever after."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def postpone(name: str) -> None:
    """Have a module that is imported from now on load only when something in it is used.

    What it does to others by being loaded is left out until then.
    """
    if name in sys.modules:
        return
    stand_in = ModuleType(name)

    def load(attribute: str) -> Any:
        if attribute.startswith("__"):  # asked of any module, such as its file
            raise AttributeError(attribute)
        if sys.modules.get(name) is stand_in:
            del sys.modules[name]
        return getattr(import_module(name), attribute)

    stand_in.__dict__["__getattr__"] = load
    sys.modules[name] = stand_in
