"""Samples to audio files: WAV and FLAC."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from mmid.errors import RenderError, label

if TYPE_CHECKING:
    from av.audio import AudioFrame

CODECS: dict[str, Literal["pcm_s16le", "flac"]] = {"wav": "pcm_s16le", "flac": "flac"}
"""The encodings, and what FFmpeg calls their codecs."""

BLOCK = 65_536
"""Samples encoded at once."""


def write_audio(path: Path, audio: np.ndarray, sample_rate: int, encoding: str) -> None:
    """Write 16-bit stereo audio; what is louder than full scale is cut.

    Parameters
    ----------
    path : Path
        Replaced if there is one; its suffix says nothing about the encoding.
    audio : np.ndarray [samples, 2] float32
        Full scale is 1.
    sample_rate : int
        Hz.
    encoding : str
        A key of `CODECS`.

    Raises
    ------
    RenderError
        If the file cannot be written.
    """
    import av

    plain = {"fflags": "+bitexact"}  # no chunk that names the encoder: some readers trip over it
    try:
        with (
            path.open("wb") as file,
            av.open(file, "w", format=encoding, container_options=plain) as container,
        ):
            stream = container.add_stream(CODECS[encoding], sample_rate, layout="stereo")
            stream.format = "s16"
            for first in range(0, len(audio), BLOCK):
                frame = _frame(audio[first : first + BLOCK])
                frame.sample_rate, frame.pts = sample_rate, first
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    except (av.FFmpegError, OSError) as error:
        reason = error.strerror or error
        raise RenderError(f"{label(path)}: cannot be written ({reason})") from error


def _frame(audio: np.ndarray) -> AudioFrame:
    import av

    steps = np.rint(np.clip(audio, -1, 1) * 32_768).clip(max=32_767).astype(np.int16)
    return av.AudioFrame.from_ndarray(steps.reshape(1, -1), "s16", "stereo")
