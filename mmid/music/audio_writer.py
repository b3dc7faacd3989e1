"""Samples to audio files: WAV, FLAC, MP3, AAC and Opus."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from mmid.errors import RenderError, label

if TYPE_CHECKING:
    from av.audio import AudioFrame

Codec: TypeAlias = Literal["pcm_s16le", "flac", "libmp3lame", "aac", "libopus"]
Layout: TypeAlias = Literal["mono", "stereo"]

CODECS: dict[str, tuple[Codec, str]] = {
    "wav": ("pcm_s16le", "s16"),
    "flac": ("flac", "s16"),
    "mp3": ("libmp3lame", "fltp"),
    "adts": ("aac", "fltp"),
    "ogg": ("libopus", "s16"),
}
"""The encodings, and what FFmpeg calls their codecs and the samples that these take."""

AAC_DELAY = 1_024
"""Samples before the sound in AAC, whose files (ADTS) do not say so; MP3's do."""

BLOCK = 65_536
"""Samples encoded at once."""


def write_audio(
    path: Path,
    blocks: Iterable[np.ndarray],
    sample_rate: int,
    encoding: str,
    bit_rate: int = 0,
    layout: Layout = "mono",
) -> None:
    """Write an audio file as `encode_audio` encodes it; its suffix says nothing of the encoding.

    Raises
    ------
    RenderError
        If the file cannot be written.
    """
    import av

    try:
        with path.open("wb") as file:
            encode_audio(file, blocks, sample_rate, encoding, bit_rate, layout)
    except (av.FFmpegError, OSError) as error:
        reason = error.strerror or error
        raise RenderError(f"{label(path)}: cannot be written ({reason})") from error


def encode_audio(
    file: IO[bytes],
    blocks: Iterable[np.ndarray],
    sample_rate: int,
    encoding: str,
    bit_rate: int = 0,
    layout: Layout = "mono",
) -> None:
    """Encode samples, those louder than full scale clipped; the same bytes every time.

    Parameters
    ----------
    file : file object
        Open for writing.
    blocks : iterable of np.ndarray [samples] or, in stereo, [samples, 2] float32
        One after the other; full scale is 1.
    sample_rate : int
        Hz.
    encoding : str
        A key of `CODECS`; WAV and FLAC have 16 bits a sample.
    bit_rate : int
        Bits a second; 0 for the codec's own choice.
    layout : {"mono", "stereo"}

    Raises
    ------
    av.FFmpegError, ValueError, OSError
        If this PyAV lacks the codec, or the file cannot be written.
    """
    import av

    codec, form = CODECS[encoding]
    plain = {"fflags": "+bitexact"}  # no chunk that names the encoder: some readers trip over it
    with av.open(file, "w", format=encoding, container_options=plain) as container:
        stream = container.add_stream(codec, sample_rate, layout=layout)
        stream.format = form
        if bit_rate:
            stream.bit_rate = bit_rate
        for block in blocks:
            for first in range(0, len(block), BLOCK):
                frame = _frame(block[first : first + BLOCK], form, layout)
                frame.sample_rate = sample_rate
                container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _frame(block: np.ndarray, form: str, layout: Layout) -> AudioFrame:
    import av

    samples = np.clip(block, -1, 1)
    if form == "s16":
        samples = np.rint(samples * 32_768).clip(max=32_767).astype(np.int16)
    planes = samples.reshape(len(block), -1).T if form.endswith("p") else samples.reshape(1, -1)
    return av.AudioFrame.from_ndarray(np.ascontiguousarray(planes), form, layout)


def truncated(samples: np.ndarray) -> np.ndarray:
    """Round samples towards zero to 16 bits, with 32,767 as full scale.

    Benchmarks B6 and the medleys are made of such samples; other rounding would change them.
    """
    steps = np.trunc(np.clip(samples, -1, 1) * 32_767)
    return np.asarray(steps / 32_768, np.float32)
