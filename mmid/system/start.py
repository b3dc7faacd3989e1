"""What makes a command start sooner."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

COMPILERS_PART = "torch._meta_registrations"
"""Of PyTorch, a quarter of the time it takes to load: what operations do to tensors that are shapes
alone. Compilers and exporters need it."""


@contextmanager
def loading_modules() -> Iterator[None]:
    """Look for no garbage while modules load, which stay; nor among them ever after."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


class _Later(ModuleType):
    """Stands for a module until something of it is wanted, which loads it."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)


def load_no_compiler() -> None:
    """Let PyTorch, where it is not loaded, load without what only its compilers need."""
    if "torch" not in sys.modules:
        sys.modules.setdefault(COMPILERS_PART, _Later(COMPILERS_PART))
