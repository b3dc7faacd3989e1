"""A span of a recording as a small file that any browser plays.

Conventions: MP3, the one format that Chromium, Firefox and Safari have all played for long; mono.
"""

from __future__ import annotations

import os
from io import BytesIO

from mmid.errors import AudioError, label
from mmid.music.audio import read_audio
from mmid.music.audio_writer import encode_audio

MEDIA_TYPE = "audio/mpeg"

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
    file = BytesIO()
    try:
        encode_audio(file, [samples], SAMPLE_RATE, "mp3", BIT_RATE)
    except (av.FFmpegError, ValueError) as error:
        raise AudioError(f"{label(path)}: cannot be made an MP3 file ({error})") from error
    return file.getvalue()
