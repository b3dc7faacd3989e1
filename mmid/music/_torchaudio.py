"""torchaudio's pure-Python signal processing, also where its native extension cannot load.

Convention: import `functional` from here, never from torchaudio. The newest torchaudio wheels
are built for one CUDA version and fail to import beside a CPU build of torch, or one of another
CUDA version, although nothing that mmid calls needs their native code.
"""

from __future__ import annotations

import importlib
import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from threading import Lock
from types import ModuleType

__all__ = ["functional"]

_EXTENSION = "torchaudio._extension"
_lock = Lock()


def _import_functional() -> ModuleType:
    """Import ``torchaudio.functional``, if need be without torchaudio's native extension.

    Raises
    ------
    ImportError
        And whatever else the import raises, unless leaving the extension out mends it.
    """
    with _lock:
        before = set(sys.modules)
        try:
            return importlib.import_module("torchaudio.functional")
        except (ImportError, OSError, RuntimeError) as error:
            if not _in_extension(error):
                raise
        _forget(before)
        loader = _loader_without_extension()
        sys.modules[loader.__name__] = loader
        try:
            return importlib.import_module("torchaudio.functional")
        except BaseException:
            _forget(before)
            raise


def _in_extension(error: BaseException) -> bool:
    """Return whether an import failed while torchaudio set its native extension up."""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_globals.get("__name__") == _EXTENSION:
            return True
        trace = trace.tb_next
    return False


def _forget(before: set[str]) -> None:
    """Drop the torchaudio modules that a failed import has left behind."""
    for name in set(sys.modules) - before:
        if name.partition(".")[0] == "torchaudio":
            del sys.modules[name]


def _loader_without_extension() -> ModuleType:
    """Return torchaudio's extension loader, changed so that no library comes with the package.

    Absent libraries are a case torchaudio supports; only present ones that fail are an error.
    """
    package = find_spec("torchaudio")
    if package is None or package.origin is None:
        raise ImportError("torchaudio has no source to import", name="torchaudio")
    path = Path(package.origin).parent / "_extension" / "utils.py"
    spec = spec_from_file_location(f"{_EXTENSION}.utils", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot import {path}", name=_EXTENSION)
    loader = module_from_spec(spec)
    spec.loader.exec_module(loader)
    loader.__dict__["_load_lib"] = lambda lib: False
    return loader


functional = _import_functional()
