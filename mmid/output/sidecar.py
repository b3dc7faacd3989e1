"""What mmid found out about a recording, in a small file beside it.

Conventions: ``take.wav`` has ``take.wav.mmid.json``, so that ``take.flac`` beside it has its own.
A file of that name which mmid did not write is never touched.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mmid.errors import MmidError, label
from mmid.identify.batch import Answered, Sink
from mmid.system.files import read_json
from mmid.system.outputs import written_target
from mmid.version import __version__

SUFFIX = ".mmid.json"
KEYS = {"mmid", "model", "index", "answer"}
"""What sets a sidecar apart from other JSON."""


@dataclass(frozen=True)
class Origin:
    """What an answer was found with.

    Parameters
    ----------
    model : str
        The SHA-256 of its configuration and weights.
    index : str
        The index folder, absolute.
    start : float
        Where in the recording the span begins, seconds.
    duration : float or None
        Its length, seconds; None for all there is.
    """

    model: str
    index: str
    start: float = 0.0
    duration: float | None = None


class Sidecars(Sink):
    """A sink that writes a sidecar beside every file that could be read.

    Parameters
    ----------
    origin : Origin
    """

    def __init__(self, origin: Origin) -> None:
        self._origin = {"mmid": __version__, **asdict(origin)}

    def take(self, answered: Answered) -> None:
        """Write the sidecar, in the place of an older one.

        Raises
        ------
        MmidError
            If it cannot be written, or a file that is not mmid's has its name.
        """
        answer = answered.answer
        if answer.error is None:
            recording = Path(answer.query)
            path = recording.with_name(recording.name + SUFFIX)
            _write(path, {**self._origin, "answer": answer.to_dict()})


def _write(path: Path, content: dict[str, Any]) -> None:
    with written_target(path) as part:
        if os.path.lexists(path) and not _is_own(path):
            raise MmidError(f"{label(path)}: not written by mmid, and left as it is")
        part.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")


def _is_own(path: Path) -> bool:
    with suppress(ValueError):
        content = read_json(path)
        return isinstance(content, dict) and set(content) >= KEYS
    return False
