"""Music identified while it sounds, a guess at a time: from a microphone, or from a file.

Conventions: sound is mono float32 at full scale 1; times in seconds. A source gives,
whenever it is read, all the sound since it was last read: a slow search misses nothing, and goes on
with what is newest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from time import monotonic, sleep
from typing import Any

import numpy as np

from mmid.errors import MmidError, label
from mmid.identify.answer import Identification
from mmid.music.audio import Samples, stream_audio
from mmid.music.grid import DEFAULT
from mmid.music.spectrogram import SILENCE

STEP = 1.0
"""Seconds of new sound that a guess is worth making for."""

LEAST = 3.0
"""Seconds of sound before the first guess."""

SPAN = 30.0
"""The newest so many seconds are the query: longer ones take longer, and find no more."""

CONFIDENT, AGREEING = 0.9, 2
"""Confidence from which a guess ends the search, once so many in a row name the same piece."""

PATIENCE = 5.0
"""Seconds without a sound sample after which an input counts as gone."""


@dataclass(frozen=True, eq=False)
class SoundSource:
    """Something to listen to.

    Parameters
    ----------
    name : str
    rate : int
        Samples a second.
    blocks : iterator of np.ndarray [n] float32
        The sound, one after another.
    """

    name: str
    rate: int
    blocks: Iterator[Samples]


@dataclass(frozen=True)
class Guess:
    """What the music may be, so far.

    Parameters
    ----------
    heard : float
        Seconds of sound, in all.
    sure : bool
        Whether there is no need to go on.
    silent : bool
        Whether there was no sound in the query.
    answer : Identification
        About the newest `SPAN` at most.
    """

    heard: float
    sure: bool
    silent: bool
    answer: Identification

    def to_dict(self) -> dict[str, Any]:
        """Return the guess and its answer as JSON-ready names and values, side by side."""
        said = {"heard": self.heard, "sure": self.sure, "silent": self.silent}
        return said | self.answer.to_dict()


def listen(
    identify: Callable[[Samples, int], Identification], source: SoundSource, seconds: float
) -> Iterator[Guess]:
    """Guess until one is confident, until so much has sounded, or until the source ends.

    Parameters
    ----------
    identify : callable
        ``identify(sound, rate)`` names the piece, as `mmid.api.Index.identify` does.
    source : SoundSource
    seconds : float
        The most to listen to.

    Yields
    ------
    Guess
        The last one is the answer.

    Raises
    ------
    MmidError
        If the source gives nothing.
    """
    heard, agreeing, leader = 0.0, 0, None
    for newest, new in _spans(source, min(LEAST, seconds)):
        heard += new
        answer = identify(newest, source.rate)
        best = answer.matches[0] if answer.matches else None
        name = best.piece if best and best.confidence >= CONFIDENT else None
        agreeing = agreeing + 1 if name and name == leader else int(name is not None)
        leader = name
        silent = float(np.abs(newest).max()) < SILENCE
        yield Guess(
            heard=heard,
            sure=agreeing >= AGREEING,
            silent=silent,
            answer=replace(answer, query=source.name),
        )
        if agreeing >= AGREEING or heard >= seconds:
            return
    if not heard:
        raise MmidError(f"{label(source.name)}: gives no sound")


def _spans(source: SoundSource, least: float) -> Iterator[tuple[Samples, float]]:
    """Yield the newest `SPAN` at most, and how many seconds came since the last time."""
    newest: Samples = np.zeros(0, np.float32)
    new = 0
    for block in source.blocks:
        newest = np.concatenate([newest, block])[-round(SPAN * source.rate) :]
        new += len(block)
        if len(newest) >= least * source.rate:
            yield newest, new / source.rate
            new = 0
    if new:
        yield newest, new / source.rate


def file_source(path: Path, *, fast: bool = False) -> SoundSource:
    """Play a recording to whoever listens: in real time, or as fast as it is read.

    Raises
    ------
    AudioError
        If it is no file; if it cannot be decoded, when it is played.
    """
    rate = DEFAULT.sample_rate
    blocks = stream_audio(path, rate, block=round(STEP * rate))
    return SoundSource(
        str(path), rate, _steps(blocks, rate) if fast else _in_real_time(blocks, rate)
    )


def _steps(blocks: Iterable[Samples], rate: int) -> Iterator[Samples]:
    """Join blocks to such as last `STEP`."""
    parts: list[Samples] = []
    for block in blocks:
        parts.append(block)
        if sum(map(len, parts)) >= STEP * rate:
            yield np.concatenate(parts)
            parts = []
    if parts:
        yield np.concatenate(parts)


def _in_real_time(blocks: Iterable[Samples], rate: int) -> Iterator[Samples]:
    """Hand blocks out when they have sounded; those that have sounded already, together."""
    began, played = monotonic(), 0
    parts: list[Samples] = []
    for block in _steps(blocks, rate):
        parts.append(block)
        played += len(block)
        ahead = began + played / rate - monotonic()
        if ahead > 0:
            sleep(ahead)
            yield np.concatenate(parts)
            parts = []
    if parts:
        yield np.concatenate(parts)


@contextmanager
def microphone(name: str | None = None) -> Iterator[SoundSource]:
    """Listen to an input of this machine while the context lasts.

    Parameters
    ----------
    name : str, optional
        A part of the name that `input_names` gives; by default the system's choice.

    Raises
    ------
    MmidError
        If sounddevice is missing, there is no such input, or it cannot be opened.
    """
    sounddevice = _load_sounddevice()
    device = _find_input(sounddevice, name)
    arrived: SimpleQueue[Samples] = SimpleQueue()

    def keep(block: np.ndarray, frames: int, time: Any, status: Any) -> None:
        arrived.put(block[:, 0].copy())

    rate = round(device["default_samplerate"])
    try:
        with sounddevice.InputStream(
            rate, device=device["index"], channels=1, dtype="float32", callback=keep
        ):
            yield SoundSource(device["name"], rate, _arriving(arrived, device["name"], rate))
    except sounddevice.PortAudioError as error:
        raise MmidError(
            f"{label(device['name'])}: cannot listen ({error}); close what else uses it, and let"
            " the terminal use the microphone"
        ) from error


def _arriving(arrived: SimpleQueue[Samples], name: str, rate: int) -> Iterator[Samples]:
    """Take what has arrived, once it is enough."""
    while True:
        parts: list[Samples] = []
        while sum(map(len, parts)) < STEP * rate or not arrived.empty():
            try:
                parts.append(arrived.get(timeout=PATIENCE))
            except Empty:
                raise MmidError(f"{label(name)}: gives no sound any more; plug it in") from None
        yield np.concatenate(parts)


def input_names() -> list[str]:
    """Return the names of the inputs of this machine.

    Raises
    ------
    MmidError
        If sounddevice is missing, or there is none.
    """
    devices = _load_sounddevice().query_devices()
    names = [device["name"] for device in devices if device["max_input_channels"] > 0]
    if not names:
        raise MmidError("no microphone found: plug one in, or give --from FILE")
    return names


def _find_input(sounddevice: Any, name: str | None) -> Any:
    try:
        return sounddevice.query_devices(name, "input")
    except (ValueError, sounddevice.PortAudioError) as error:
        known = ", ".join(map(label, input_names()))
        which = "chosen by the system" if name is None else f"named {name!r}"
        raise MmidError(f"no microphone {which}: give --device-name, one of {known}") from error


def _load_sounddevice() -> Any:
    try:
        import sounddevice
    except ImportError as error:
        raise MmidError("listening needs sounddevice: pip install 'mmid[listen]'") from error
    except OSError as error:
        raise MmidError("listening needs PortAudio: apt-get install libportaudio2") from error
    return sounddevice
