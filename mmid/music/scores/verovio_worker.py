"""A process of its own that has verovio make MIDI of scores: run as a program, with bounds.

It imports nothing of mmid, so that it starts at once. A request is a name of a format and the
file's text, an answer is MIDI, or nothing where verovio read no music, and the bars as JSON: of
each that sounds, its onset in quarters and its number as printed. Each part is sent with its length
before it. It ends when the pipe it reads from is closed.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import struct
import sys
from collections.abc import Iterator
from typing import IO, Any

MEGABYTES = 2_048
"""Memory that a score may take."""

SECONDS, SECONDS_A_MEGABYTE = 30.0, 30.0
"""A score takes no longer than this; twenty times what sound ones take."""

REPEATED = "-rend"
"""In verovio's names of what sounds again, before how often."""

LENGTH = struct.Struct("<Q")
OPTIONS = {"breaks": "none", "header": "none", "footer": "none", "mdivAll": True}


def send(pipe: IO[bytes], *parts: bytes) -> None:
    """Write byte strings to a pipe."""
    for part in parts:
        pipe.write(LENGTH.pack(len(part)))
        pipe.write(part)
    pipe.flush()


def receive(pipe: IO[bytes]) -> bytes | None:
    """Read a byte string from a pipe; None where it ends."""
    head = pipe.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    size = LENGTH.unpack(head)[0]
    data = pipe.read(size)
    return data if len(data) == size else None


def bound_memory(megabytes: int) -> None:
    """Let this process have no more memory than so much, where the system can say so."""
    try:
        import resource
    except ImportError:  # Windows
        return
    size = megabytes << 20
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    if most == resource.RLIM_INFINITY or size < most:
        resource.setrlimit(resource.RLIMIT_AS, (size, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def bound_time(seconds: float) -> None:
    """Let this process compute for so long from now on, should nobody be left to end it."""
    try:
        import resource
    except ImportError:  # Windows
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    end = int(used.ru_utime + used.ru_stime + seconds) + 1
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (end, most))


def main(folder: str) -> None:
    """Answer requests until there are no more; ``folder`` is that of the package verovio."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this one ends it
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever verovio prints is no answer
    sys.path[0] = os.path.dirname(folder)  # in place of this file's own folder
    import verovio

    verovio.enableLog(verovio.LOG_OFF)
    bound_memory(MEGABYTES)
    while (form := receive(requests)) is not None and (text := receive(requests)) is not None:
        bound_time(SECONDS + SECONDS_A_MEGABYTE * len(text) / 1e6)
        for answer in convert(verovio, form.decode(), text.decode("utf-8", "replace")):
            send(answers, answer)


def convert(verovio: Any, form: str, text: str) -> Iterator[bytes]:
    """Make MIDI of a score, or nothing, and list its bars."""
    toolkit = verovio.toolkit()
    toolkit.setOptions({**OPTIONS, "inputFrom": form})
    sound = toolkit.loadData(text)
    yield base64.b64decode(toolkit.renderToMIDI()) if sound else b""
    yield json.dumps(list(bars_of(toolkit)) if sound else []).encode()


def bars_of(toolkit: Any) -> Iterator[tuple[float, str | None]]:
    """List bars in the order in which they sound; a bar that is repeated goes by its first name."""
    for event in toolkit.renderToTimemap({"includeMeasures": True}):
        if bar := event.get("measureOn"):
            name = bar.partition(REPEATED)[0]
            yield event["qstamp"], toolkit.getElementAttr(name).get("n")


if __name__ == "__main__":
    main(sys.argv[1])
