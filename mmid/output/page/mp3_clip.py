"""A span of a recording as a small file that any browser plays.

Conventions: MP3, the one format that Chromium, Firefox and Safari have all played for long; mono.
"""

from __future__ import annotations

import os
from io import BytesIO
from typing import Final

from mmid.errors import AudioError, label
from mmid.music.audio import Samples, read_audio

MEDIA_TYPE = "audio/mpeg"

CODEC: Final = "libmp3lame"

SAMPLE_RATE = 24_000
"""Hz: at this bit rate, more would cost clearness below."""

BIT_RATE = 48_000
"""Bits a second."""


def encode_clip(path: str | os.PathLike[str], start: float, seconds: float) -> bytes:
    """Compress a span of a recording.

    Parameters
    ----------
    path : path
    start, seconds : float
        The span; it is cut where the sound ends.

    Returns
    -------
    bytes
        An MP3 file, `MEDIA_TYPE`.

    Raises
    ------
    AudioError
        If the recording cannot be read, or this PyAV cannot make MP3 files.
    """
    import av

    samples = read_audio(path, SAMPLE_RATE, start, seconds)
    try:
        return _encode(samples)
    except (av.FFmpegError, ValueError) as error:
        raise AudioError(f"{label(path)}: cannot be made an MP3 file ({error})") from error


def _encode(samples: Samples) -> bytes:
    import av

    file = BytesIO()
    # Bit-exact: no version of the encoder in the file.
    with av.open(file, "w", format="mp3", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream(CODEC, rate=SAMPLE_RATE, layout="mono")
        stream.bit_rate = BIT_RATE
        frame = av.AudioFrame.from_ndarray(samples.clip(-1, 1)[None], "fltp", "mono")
        frame.sample_rate = SAMPLE_RATE
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()
