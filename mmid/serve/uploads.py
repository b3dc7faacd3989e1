"""Recordings that are sent: bounded in bytes and time, in files that no name leads to.

A file without a name is gone with the process that has it open, however that ends. Where the system
cannot open such a file again, it has a name in the temporary folder while it is used.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryFile
from time import monotonic
from typing import IO

from mmid.errors import MmidError, label
from mmid.identify.identifier import Identifier
from mmid.model.embedding import Query, Score
from mmid.music.formats import MIDI_SUFFIXES
from mmid.music.midi import read_midi
from mmid.serve.errors import Refused

MOST_BYTES = 2**30
"""Of one recording: an hour and a half of a CD's sound."""

MOST_HELD = 4 * 2**30
"""Of all recordings that are being sent, wait or are read, bytes."""

STALL_SECONDS = 20.0
"""A sender that sends nothing for so long is given up."""

WHOLE_SECONDS = 600.0
"""So is one that is not done after so long."""

LONGEST_NAME = 4_096

DESCRIPTORS = Path("/proc/self/fd")


@dataclass
class Limits:
    """How much may be sent, and how much of it is here.

    Parameters
    ----------
    bytes, held : int
        Of one recording, and of all that are here at once.
    stall, whole : float
        Seconds without a byte, and until the last one.
    used : int
        Bytes that are here now.
    """

    bytes: int = MOST_BYTES
    held: int = MOST_HELD
    stall: float = STALL_SECONDS
    whole: float = WHOLE_SECONDS
    used: int = 0

    def refuse_announced(self, length: str | None) -> None:
        """Refuse what says that it is too large, before it is sent.

        Raises
        ------
        Refused
            If it is.
        """
        if length is not None and length.isdecimal() and int(length) > self.bytes:
            raise self._too_large()

    def take(self, size: int, whole: int) -> None:
        """Count bytes that came in, of a recording of so many until now.

        Raises
        ------
        Refused
            If they are too many.
        """
        if whole > self.bytes:
            raise self._too_large()
        if self.used + size > self.held:
            raise Refused(503, "too many recordings are being sent; try again in a minute")
        self.used += size

    def _too_large(self) -> Refused:
        return Refused(413, f"larger than {self.bytes / 1e6:.0f} MB; send a part of it")


@dataclass(frozen=True)
class Upload:
    """A recording or a MIDI file that was sent.

    Parameters
    ----------
    name : str
        What the sender calls it.
    path : Path
        Where it can be read, while it is here.
    """

    name: str
    path: Path

    @property
    def is_midi(self) -> bool:
        """Whether it is named as a MIDI file."""
        return Path(self.name).suffix.lower() in MIDI_SUFFIXES

    @contextmanager
    def named(self) -> Iterator[None]:
        """Have what goes wrong inside name the recording as its sender does."""
        try:
            yield
        except MmidError as error:
            raise Refused(422, str(error).replace(str(self.path), label(self.name))) from error

    def open(self, identifier: Identifier, start: float, duration: float | None) -> Query:
        """Read it, or a span of it, as `Identifier.open` does.

        Raises
        ------
        MmidError
            If it cannot be read.
        """
        if not self.is_midi:
            return identifier.open(self.path, start, duration)
        midi = read_midi(self.path)
        if start >= midi.seconds:
            raise MmidError(f"{self.path}: it lasts {midi.seconds:.1f} s")
        score = Score(midi.notes, midi.seconds, identifier.params)
        return score.span(start, midi.seconds if duration is None else duration)


@contextmanager
def unnamed_file() -> Iterator[tuple[IO[bytes], Path]]:
    """Give a temporary file and a path to open it by again."""
    if DESCRIPTORS.is_dir():
        with TemporaryFile(prefix="mmid-") as file:
            yield file, DESCRIPTORS / str(file.fileno())
    else:
        with NamedTemporaryFile(prefix="mmid-") as file:
            yield file, Path(file.name)


async def receive(blocks: AsyncIterator[bytes], file: IO[bytes], limits: Limits) -> int:
    """Write what is sent to a file; return how many bytes it is, which count as used.

    Parameters
    ----------
    blocks : async iterator of bytes
    file : binary file
    limits : Limits

    Raises
    ------
    Refused
        If it is too much or comes too slowly; nothing of it counts as used then.
    """
    whole, ends = 0, monotonic() + limits.whole
    try:
        while block := await _next(blocks, min(limits.stall, ends - monotonic())):
            limits.take(len(block), whole + len(block))
            whole += len(block)
            file.write(block)
        file.flush()
    except OSError as error:
        limits.used -= whole
        raise Refused(507, f"cannot be stored ({error.strerror})") from error
    except BaseException:
        limits.used -= whole
        raise
    return whole


async def _next(blocks: AsyncIterator[bytes], seconds: float) -> bytes:
    """Return the next bytes that are not none; nothing at the end."""
    try:
        while True:
            block = await asyncio.wait_for(anext(blocks), seconds)
            if block:
                return block
    except StopAsyncIteration:
        return b""
    except asyncio.TimeoutError:
        raise Refused(408, "it comes too slowly; send it again, or a part of it") from None
