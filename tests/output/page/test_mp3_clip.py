"""`mmid.output.page.mp3_clip`: a span of a recording as a file that browsers play."""

from __future__ import annotations

import numpy as np
import pytest

from mmid.errors import AudioError
from mmid.music.audio import read_audio
from mmid.music.audio_writer import CODECS
from mmid.output.page.mp3_clip import BIT_RATE, SAMPLE_RATE, encode_clip


@pytest.fixture
def clicks(tmp_path, write_wav):
    """Return a recording of ten seconds with a click at every whole second."""
    samples = np.zeros(220_500, np.float32)
    for second in range(10):
        samples[second * 22_050 :][:40] = 0.9
    return write_wav(tmp_path / "clicks.wav", samples)


def decoded(data: bytes, tmp_path) -> np.ndarray:
    path = tmp_path / "clip.mp3"
    path.write_bytes(data)
    return read_audio(path, SAMPLE_RATE)


def test_a_clip_is_the_span_asked_for(clicks, tmp_path):
    samples = decoded(encode_clip(clicks, 2.5, 4.0), tmp_path)
    assert len(samples) == 4 * SAMPLE_RATE
    for second in range(4):
        part = samples[second * SAMPLE_RATE :][:SAMPLE_RATE]
        assert np.abs(part).argmax() / SAMPLE_RATE == pytest.approx(0.5, abs=0.01)


def test_a_clip_ends_with_the_sound_and_is_small(clicks, tmp_path):
    data = encode_clip(clicks, 4.0, 60.0)
    assert len(decoded(data, tmp_path)) == 6 * SAMPLE_RATE
    assert len(data) == pytest.approx(6 * BIT_RATE / 8, rel=0.05)


def test_a_clip_is_the_same_every_time(clicks):
    assert encode_clip(clicks, 0, 3) == encode_clip(clicks, 0, 3)


def test_what_cannot_be_read_or_encoded_says_so(tmp_path, clicks, monkeypatch):
    with pytest.raises(AudioError, match=r"gone\.wav"):
        encode_clip(tmp_path / "gone.wav", 0, 3)

    monkeypatch.setitem(CODECS, "mp3", ("no such codec", "fltp"))
    with pytest.raises(AudioError, match=r"clicks\.wav: cannot be made an MP3 file"):
        encode_clip(clicks, 0, 3)
