"""Any sound file to mono float32 samples at one rate, a whole file or a span of it.

Conventions: samples are float32 ``[n]``, full scale is 1.0 and is not clipped; mono is the mean
of the channels; times are seconds from the first sample that decodes, so that a codec's priming
and a container's clock offset never show. Samples that are not finite become 0. Only regular
local files are opened, by their content and never by their name: no other file, network address
or device can be reached through one.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from io import FileIO
from itertools import chain, groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mmid.errors import AudioError, label
from mmid.music.file_types import name_kind, read_head, why_closed

if TYPE_CHECKING:  # importing PyAV takes a quarter of a second: only who decodes pays for it
    from av.audio import AudioFrame, AudioStream
    from av.container import InputContainer

Samples: TypeAlias = NDArray[np.float32]
PathLike: TypeAlias = str | os.PathLike[str]

MAX_SECONDS = 4 * 3600.0  # of what is held whole: 1.3 GB of samples at 22,050 Hz
MAX_CHANNELS = 64
RATES = (1_000, 768_000)  # Hz, of a file and of what is asked for
PEAK = 32_768.0  # louder samples are cut; lets a float file on the 16-bit scale through
BLOCK = 65_536  # samples of the longest streamed block
BATCH = 32_768  # samples gathered, at the file's rate, before they are resampled
MICROSECONDS = 1_000_000  # the unit of a container's length
LEAD = 0.25  # seconds: how far before the wanted second to seek, for codecs that need a run-up

# Containers that hold their own sound. Playlists and scripts, which name other files, stay out.
FORMATS = (
    "3gp,aac,ac3,adx,aea,aiff,alp,amr,ape,apm,argo_asf,asf,ast,au,avi,caf,codec2,dsf,dts,dtshd,dv,"
    "eac3,flac,flv,iff,ircam,kvag,loas,m4a,matroska,mlp,mmf,mov,mp3,mp4,mpc,mpc8,mpeg,mpegts,mxf,"
    "nistsphere,nsv,nut,ogg,oma,qcp,qoa,rm,rso,sbc,shn,smjpeg,sox,spdif,swf,tak,truehd,tta,voc,"
    "w64,wav,webm,wsaud,wtv,wv,xwma"
)


class ForgivingFile(FileIO):
    """A file that answers a damaged container's senseless seeks as C does: PyAV prints errors."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go to a position; -1 where there is none."""
        try:
            return super().seek(offset, whence)
        except (OSError, OverflowError):
            return -1


def stream_audio(
    path: PathLike,
    sample_rate: int,
    start: float = 0.0,
    duration: float | None = None,
    block: int = BLOCK,
    max_seconds: float = math.inf,
) -> Iterator[Samples]:
    """Decode a file, or a span of it, in blocks; memory does not grow with its length.

    A span is sought, not decoded up to, and equals the same slice of the whole: exactly for
    lossless files, within one codec frame at worst for lossy ones. What comes before, between
    and after damaged packets is kept.

    Parameters
    ----------
    path : str or path-like
        A regular local file; of a video, its first audio stream is taken.
    sample_rate : int
        Rate of the samples, Hz, 1,000 to 768,000.
    start : float
        Where the span begins, seconds.
    duration : float, optional
        Length of the span, seconds; cut where the sound ends, which is where it ends by default.
    block : int
        Most samples in a block.
    max_seconds : float
        More sound than this is an error, once so much was decoded: what a file says of its length
        is not believed.

    Yields
    ------
    numpy.ndarray
        Mono float32 samples ``[n]``, ``1 <= n <= block``; at least one block.

    Raises
    ------
    AudioError
        If an argument is out of range or `path` is no regular file (at the call), or if the file
        holds no sound that decodes, the sound ends before `start` (at the first block), or there
        is more sound than `max_seconds`.
    """
    _check_span(path, sample_rate, start, duration)
    if block < 1:
        raise _error(path, f"a block of {block} samples is not positive")
    _check_file(path)
    blocks = _stream(path, sample_rate, start, duration, block)
    return _bounded(path, blocks, max_seconds * sample_rate)


def read_audio(
    path: PathLike,
    sample_rate: int,
    start: float = 0.0,
    duration: float | None = None,
    max_seconds: float = MAX_SECONDS,
) -> Samples:
    """Decode a file, or a span of it, into one array.

    Parameters
    ----------
    path, sample_rate, start, duration
        As for `stream_audio`.
    max_seconds : float
        The longest sound that is held in memory; a longer one is an error, not cut short.

    Returns
    -------
    numpy.ndarray
        Mono float32 samples ``[n]``, ``n >= 1``.

    Raises
    ------
    AudioError
        As `stream_audio` does, and if there is more sound than `max_seconds`.
    """
    samples: Samples = np.empty(BLOCK, np.float32)
    filled = 0
    for part in stream_audio(path, sample_rate, start, duration, max_seconds=max_seconds):
        end = filled + len(part)
        if end > len(samples):  # in place: a second copy of hours of sound is worth sparing
            samples.resize(max(end, 2 * len(samples)), refcheck=False)
        samples[filled:end] = part
        filled = end
    samples.resize(filled, refcheck=False)
    return samples


def _bounded(path: PathLike, blocks: Iterator[Samples], most: float) -> Iterator[Samples]:
    """Pass blocks on until there are too many samples."""
    for block in blocks:
        most -= len(block)
        if most < 0:
            raise _error(path, "too long; query a span of it (--start, --duration)")
        yield block


def resample_audio(sound: NDArray[np.floating[Any]], rate: float, sample_rate: int) -> Samples:
    """Mix an array of sound to mono, at another rate.

    Parameters
    ----------
    sound : numpy.ndarray
        Floating-point samples, mono ``[n]`` or ``[channels, n]``; full scale is 1.
    rate : float
        Theirs, Hz: a whole number, 1,000 to 768,000.
    sample_rate : int
        That of the samples to give, Hz.

    Returns
    -------
    numpy.ndarray
        Mono float32 samples ``[n]``.

    Raises
    ------
    AudioError
        If the array is no such sound, is empty or not finite, or a rate is out of range.
    """
    for value in (rate, sample_rate):
        if not RATES[0] <= value <= RATES[1] or value != int(value):
            raise AudioError(
                f"a sample rate of {value:g} Hz: give a whole one, {RATES[0]}..{RATES[1]}"
            )
    mono = _mix(np.asarray(sound))
    parts = ((int(rate), mono[i : i + BATCH]) for i in range(0, len(mono), BATCH))
    return np.concatenate(list(_resample(parts, sample_rate)))


def _mix(sound: NDArray[Any]) -> Samples:
    """Return the mean of an array's channels, once it is known to be sound."""
    if sound.dtype.kind != "f":
        raise AudioError(f"an array of {sound.dtype}: give floating-point samples, full scale 1")
    if sound.ndim not in (1, 2) or not sound.size:
        raise AudioError(f"an array of shape {sound.shape}: give [n] or [channels, n] samples")
    if sound.ndim == 2 and len(sound) > MAX_CHANNELS:
        raise AudioError(
            f"an array of {len(sound)} channels: give [channels, n], not [n, channels]"
        )
    mono: Samples = (sound if sound.ndim == 1 else sound.mean(0)).astype(np.float32)
    if not np.isfinite(mono).all():
        raise AudioError("an array with samples that are not finite numbers: leave them out")
    return mono.clip(-PEAK, PEAK)


def sound_seconds(path: PathLike) -> float:
    """Return the length that a file says its sound has; 0 where it does not say.

    Raises
    ------
    AudioError
        If it cannot be read.
    """
    _check_file(path)
    with _opened(path) as (container, stream):
        if stream.duration and stream.time_base:
            return float(stream.duration * stream.time_base)
        return (container.duration or 0) / MICROSECONDS


def _error(path: PathLike, reason: str) -> AudioError:
    return AudioError(f"{label(path)}: {reason}")


def _check_span(path: PathLike, sample_rate: int, start: float, duration: float | None) -> None:
    """Refuse spans and rates that make no sense."""
    if not RATES[0] <= sample_rate <= RATES[1]:
        raise _error(path, f"cannot resample to {sample_rate} Hz, only to {RATES[0]}..{RATES[1]}")
    if not 0 <= start < math.inf:
        raise _error(path, f"start {start:g} s is not a time from 0 on")
    if duration is not None and not 0 < duration < math.inf:
        raise _error(path, f"duration {duration:g} s is not positive")


def _check_file(path: PathLike) -> None:
    """Refuse all but regular files that hold something, before anything opens them."""
    try:
        info = os.stat(path)
    except (OSError, ValueError) as error:
        raise _error(path, getattr(error, "strerror", None) or str(error)) from error
    if not stat.S_ISREG(info.st_mode):
        kind = "a directory" if stat.S_ISDIR(info.st_mode) else "not a regular file"
        raise _error(path, f"{kind}, not an audio file")
    if info.st_size == 0:
        raise _error(path, "the file is empty")
    try:
        other = name_kind(read_head(path), "an audio file")
    except OSError as error:
        raise _error(path, f"cannot be read ({error.strerror})") from error
    if other:
        raise _error(path, other)


def _check_sound(path: PathLike, channels: int, rate: int) -> None:
    """Refuse sound no recording is made of."""
    if channels > MAX_CHANNELS:
        raise _error(path, f"{channels} channels, more than {MAX_CHANNELS}")
    if not RATES[0] <= rate <= RATES[1]:
        raise _error(path, f"its sample rate of {rate} Hz is outside {RATES[0]}..{RATES[1]}")


@contextmanager
def _opened(path: PathLike) -> Iterator[tuple[InputContainer, AudioStream]]:
    """Open a file's first audio stream; what PyAV or the system raises is an `AudioError`."""
    import av

    # PyAV reads through our file object, and no protocol is on its list: it can open nothing else.
    options = {"format_whitelist": FORMATS, "protocol_whitelist": "none"}
    failure = ""
    try:
        with (
            ForgivingFile(path) as file,
            av.open(file, "r", container_options=options, metadata_errors="replace") as container,
        ):
            if not container.streams.audio:
                raise _error(path, "no audio stream in it")
            stream = container.streams.audio[0]
            if stream.codec_context is None:
                raise _error(path, "no decoder for its audio stream")
            failure = "cannot be decoded"
            yield container, stream
    except av.FFmpegError as error:  # whose own words are for its programmers
        raise _error(path, failure or why_closed(path)) from error
    except OSError as error:
        raise _error(path, f"cannot be read ({error.strerror})") from error


def _stream(
    path: PathLike, sample_rate: int, start: float, duration: float | None, block: int
) -> Iterator[Samples]:
    """Decode from a whole second on: there any two rates have a sample in common."""
    second = max(0, math.floor(start) - 1)  # a second early, so that filters have settled
    skip = round(start * sample_rate) - second * sample_rate
    left = math.inf if duration is None else max(1, round(duration * sample_rate))
    empty = True
    for part in _resample(_decode(path, second), sample_rate):
        dropped = min(skip, len(part))
        skip -= dropped
        part = part[dropped : dropped + int(min(left, len(part)))]
        left -= len(part)
        for first in range(0, len(part), block):
            empty = False
            yield part[first : first + block]
        if not left:
            return
    if empty:
        raise _error(path, f"start {start:g} s is past the end of the sound")


def _resample(parts: Iterator[tuple[int, Samples]], sample_rate: int) -> Iterator[Samples]:
    """Bring samples at their own rate, which may change on the way, to `sample_rate`."""
    import av

    for rate, run in groupby(parts, itemgetter(0)):
        if rate == sample_rate:
            yield from (samples for _, samples in run)
            continue
        resampler = av.AudioResampler("flt", "mono", sample_rate)
        taken = given = 0
        for samples in chain((part for _, part in run), [None]):
            if samples is None:  # silence drives the rest out; a flush loses very short sounds
                samples = np.zeros(rate // 8, np.float32)
            else:
                taken += len(samples)
            frame = av.AudioFrame.from_ndarray(samples[None], "flt", "mono")
            frame.sample_rate = rate
            for made in resampler.resample(frame):
                due = -(-taken * sample_rate // rate) - given
                part = made.to_ndarray()[0, :due].astype(np.float32, copy=False)
                given += len(part)
                yield part


def _decode(path: PathLike, second: int) -> Iterator[tuple[int, Samples]]:
    """Yield rate and mono samples of a file from a whole second on."""
    if second:
        with _opened(path) as (container, stream):
            sought = _seek(container, stream, second)
            if sought is not None:
                yield from _batches(path, *sought)
                return
    with _opened(path) as (container, stream):
        yield from _batches(path, _frames(container, stream), Fraction(second))


def _seek(
    container: InputContainer, stream: AudioStream, second: int
) -> tuple[Iterator[AudioFrame], Fraction] | None:
    """Go to just before a second: frames, and the time to drop from them; None if it fails."""
    import av

    begin = _time(next(_frames(container, stream), None))
    if begin is None or stream.time_base is None:
        return None
    try:
        target = (begin + second - Fraction(LEAD)) / stream.time_base
        container.seek(math.floor(target), stream=stream)
    except (av.FFmpegError, OverflowError):
        return None
    frames = _frames(container, stream)
    landed = next(frames, None)
    here = _time(landed)
    if landed is None or here is None or here > begin + second:
        return None
    return chain([landed], frames), begin + second - here


def _time(frame: AudioFrame | None) -> Fraction | None:
    """Return when a frame begins on its container's clock, seconds; None if unknown."""
    if frame is None or frame.pts is None or frame.time_base is None:
        return None
    return frame.pts * frame.time_base


def _frames(container: InputContainer, stream: AudioStream) -> Iterator[AudioFrame]:
    """Decode what can be decoded: damaged packets are passed over."""
    import av

    # Damage to the container ends the sound; PyAV's flush trips over streams that came up late.
    with suppress(av.FFmpegError, IndexError):
        for packet in container.demux(stream):
            frames: list[AudioFrame] = []
            with suppress(av.FFmpegError):
                frames = stream.decode(packet)
            yield from frames


def _batches(
    path: PathLike, frames: Iterator[AudioFrame], drop: Fraction
) -> Iterator[tuple[int, Samples]]:
    """Drop a time from the front, mix to mono, and join short frames into longer batches."""
    batch: list[Samples] = []
    rate, size, skip = 0, 0, 0
    for frame in frames:
        _check_sound(path, frame.layout.nb_channels, frame.sample_rate)
        if not rate:
            skip = round(drop * frame.sample_rate)
        if batch and (size >= BATCH or frame.sample_rate != rate):
            yield rate, np.concatenate(batch)
            batch, size = [], 0
        rate = frame.sample_rate
        if frame.samples > skip:
            batch.append(_mono(frame)[skip:])
            size += len(batch[-1])
        skip = max(0, skip - frame.samples)
    if batch:
        yield rate, np.concatenate(batch)
    if not rate:
        raise _error(path, "no sound in it that can be decoded")


def _mono(frame: AudioFrame) -> Samples:
    """Return the mean of a frame's channels ``[n]``; swresample's own mix is not the mean."""
    channels, planar = frame.layout.nb_channels, frame.format.is_planar
    if frame.format.name.startswith("s64") or (planar and channels >= 8):
        frame, planar = _packed(frame), False
    raw = frame.to_ndarray()
    scale = 1.0 if raw.dtype.kind == "f" else 2.0 ** (8 * raw.dtype.itemsize - 1)
    data = (raw if planar else raw.reshape(-1, channels).T).astype(np.float32)
    if raw.dtype.kind == "u":
        data -= np.float32(scale)
    weights = np.full(channels, 1 / (scale * channels), np.float32)
    with np.errstate(all="ignore"):
        mono: Samples = weights @ data
    if not np.abs(mono).max() <= PEAK:  # true of NaN, too
        mono = weights @ np.clip(np.where(np.isfinite(data), data, 0), -PEAK, PEAK)
    return mono


def _packed(frame: AudioFrame) -> AudioFrame:
    """Return float samples in one plane; PyAV 18 overruns the list of 8 or more planes."""
    import av

    converter = av.AudioResampler("flt", frame.layout)
    return [*converter.resample(frame), *converter.resample(None)][0]
