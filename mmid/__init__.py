"""mmid names the MIDI file in your library that a recording is a performance of.

The names in ``__all__`` are what a program may rely on; each is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mmid.version import __version__

if TYPE_CHECKING:
    from mmid.api import Embedding, Index, IndexedPiece, embed_audio, embed_midi, load_model
    from mmid.errors import AudioError, LibraryIndexError, MidiError, MmidError, ModelError
    from mmid.identify.answer import Identification, Match, advice
    from mmid.index.build import BuildReport
    from mmid.model.checkpoint import Checkpoint
    from mmid.music.audio import read_audio

__all__ = [
    "AudioError",
    "BuildReport",
    "Checkpoint",
    "Embedding",
    "Identification",
    "Index",
    "IndexedPiece",
    "LibraryIndexError",
    "Match",
    "MidiError",
    "MmidError",
    "ModelError",
    "__version__",
    "advice",
    "embed_audio",
    "embed_midi",
    "load_model",
    "read_audio",
]

_HOMES = {
    "identify.answer": ("Identification", "Match", "advice"),
    "api": ("Embedding", "Index", "IndexedPiece", "embed_audio", "embed_midi", "load_model"),
    "index.build": ("BuildReport",),
    "model.checkpoint": ("Checkpoint",),
    "music.audio": ("read_audio",),
    "errors": ("AudioError", "LibraryIndexError", "MidiError", "MmidError", "ModelError"),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"mmid.{home}"), name)
    raise AttributeError(f"module 'mmid' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
