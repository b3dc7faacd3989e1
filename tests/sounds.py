"""Sounds for tests, and files of them as others write them."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np

RATE = 22_050
FREQUENCY = 440.0


def write(path, samples, rate, codec="pcm_f32le", container=None, layout=None):
    """Encode float samples ``[n]`` or ``[channels, n]``; return the path."""
    samples = np.atleast_2d(np.asarray(samples, np.float32))
    layout = layout or {1: "mono", 2: "stereo"}[len(samples)]
    with av.open(str(path), "w", format=container) as out:
        # ffmpeg's own Opus encoder is experimental; AAC's noise substitution is random.
        options = {"strict": "-2", "aac_pns": "0"}
        stream = out.add_stream(codec, rate=rate, layout=layout, options=options)
        out.start_encoding()
        shape = av.AudioResampler(
            stream.format.name, layout, rate, stream.codec_context.frame_size or 4_096
        )
        packed = np.ascontiguousarray(samples.T).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(packed, "flt", layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        for piece in [*shape.resample(frame), *shape.resample(None)]:
            out.mux(stream.encode(piece))
        out.mux(stream.encode(None))
    return path


def tone(seconds, rate, amplitude=0.5, frequency=FREQUENCY):
    return amplitude * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)


def noise(seconds, rate, seed=0):
    """Band-limited noise, so that any slip of a sample shows."""
    white = np.random.default_rng(seed).standard_normal(round(seconds * rate))
    return 0.2 * np.convolve(white, np.hanning(12) / 6, "same")
