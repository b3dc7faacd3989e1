"""`audio_writer`: the samples that are written are those that are read."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from mmid.errors import RenderError
from mmid.music.audio import read_audio
from mmid.music.audio_writer import AAC_DELAY, BLOCK, CODECS, truncated, write_audio

RATE = 48_000


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def steps(path: Path) -> np.ndarray:
    """Return a stereo file's 16-bit samples ``[samples, 2]``."""
    with av.open(str(path)) as container:
        parts = [frame.to_ndarray().reshape(-1, 2) for frame in container.decode(audio=0)]
    return np.concatenate(parts)


@pytest.mark.parametrize("encoding", ["wav", "flac"])
def test_what_is_too_loud_is_cut_at_full_scale(tmp_path, encoding):
    audio = np.array([[2, -2], [1, -1], [0.5, -0.5], [0, 1 / 32_768]], np.float32)
    path = tmp_path / "loud"
    write_audio(path, [np.repeat(audio, 5_000, 0)], 44_100, encoding, layout="stereo")
    samples = steps(path)
    ends = [32_767, -32_768]
    assert samples[::5_000].tolist() == [ends, ends, [16_384, -16_384], [0, 1]]
    assert len(samples) == 20_000


def test_a_wav_file_begins_with_the_plain_header(tmp_path):
    audio = np.zeros((100, 2), np.float32)
    write_audio(tmp_path / "x.wav", [audio], 8_000, "wav", layout="stereo")
    data = (tmp_path / "x.wav").read_bytes()
    assert len(data) == 44 + 400 and data[36:40] == b"data"


@pytest.mark.parametrize("layout", ["mono", "stereo"])
@pytest.mark.parametrize("encoding", ["wav", "flac", "mp3", "ogg"])
def test_what_is_written_is_read(tmp_path, encoding, layout):
    time = np.arange(2 * BLOCK + 777) / RATE
    sound = 0.5 * np.sin(2 * np.pi * 440 * time).astype(np.float32)
    channels = sound if layout == "mono" else np.stack([sound, sound], 1)
    path = tmp_path / f"x.{encoding}"
    write_audio(path, [channels], RATE, encoding, layout=layout)
    read = read_audio(path, RATE)
    assert abs(len(read) - len(sound)) <= 1_152
    shared = min(len(read), len(sound))
    error = np.abs(read[:shared] - sound[:shared])[1_000:-1_000].max()
    assert error <= (1 / 32_768 if encoding in ("wav", "flac") else 0.03)


def test_aac_comes_late_by_its_delay(tmp_path, rng):
    sound = np.convolve(rng.normal(size=RATE), np.ones(16) / 32, "same").astype(np.float32)
    write_audio(tmp_path / "x.aac", [sound], RATE, "adts", bit_rate=96_000)
    read = read_audio(tmp_path / "x.aac", RATE)
    size = len(sound) - 2 * AAC_DELAY
    likeness = [np.corrcoef(sound[:size], read[n : n + size])[0, 1] for n in range(AAC_DELAY + 9)]
    assert np.argmax(likeness) == AAC_DELAY and max(likeness) > 0.9


@pytest.mark.parametrize("encoding", CODECS)
def test_blocks_are_joined(tmp_path, encoding, rng):
    sound = rng.uniform(-1, 1, 10_000).astype(np.float32)
    write_audio(tmp_path / "whole", [sound], RATE, encoding)
    write_audio(tmp_path / "parts", np.split(sound, [1, 700, 9_000]), RATE, encoding)
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "parts").read_bytes()


def test_a_bit_rate_makes_files_of_its_size(tmp_path, rng):
    sound = rng.uniform(-1, 1, 4 * RATE).astype(np.float32)
    write_audio(tmp_path / "x.mp3", [sound], RATE, "mp3", bit_rate=64_000)
    assert (tmp_path / "x.mp3").stat().st_size == pytest.approx(4 * 8_000, rel=0.05)


def test_truncated_samples_are_written_as_they_are(tmp_path, rng):
    sound = rng.uniform(-1.1, 1.1, (5_000, 2)).astype(np.float32)
    write_audio(tmp_path / "x.wav", [truncated(sound)], RATE, "wav", layout="stereo")
    expected = (np.clip(sound, -1, 1) * 32_767).astype(np.int16)
    np.testing.assert_array_equal(steps(tmp_path / "x.wav"), expected)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_says_so():
    with pytest.raises(RenderError, match=r"/dev/full: cannot be written \(No space left"):
        write_audio(Path("/dev/full"), [np.zeros(200_000, np.float32)], 44_100, "wav")
