"""Decoding: every format, span and downmix of `mmid.music.audio`."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from fractions import Fraction

import av
import numpy as np
import pytest
from sounds import FREQUENCY, RATE, noise, tone, write

from mmid.music.audio import PEAK, read_audio, stream_audio

# name, container, encoder, rates, channels, error of length (samples at the file's rate)
FORMATS = [
    ("a16.wav", "wav", "pcm_s16le", (8_000, 22_050, 44_100), ("mono", "stereo"), 0),
    ("a8.wav", "wav", "pcm_u8", (11_025,), ("mono",), 0),
    ("a24.wav", "wav", "pcm_s24le", (96_000,), ("stereo",), 0),
    ("a32f.wav", "wav", "pcm_f32le", (48_000,), ("stereo", "5.1"), 0),
    ("a64f.wav", "wav", "pcm_f64le", (44_100,), ("mono",), 0),
    ("a.aiff", "aiff", "pcm_s16be", (44_100,), ("stereo",), 0),
    ("a.flac", "flac", "flac", (44_100, 96_000), ("mono", "stereo", "7.1"), 0),
    ("a.ogg", "ogg", "opus", (48_000,), ("stereo",), 1_000),
    ("a.opus", "opus", "libopus", (48_000,), ("mono", "stereo", "7.1"), 1_000),
    ("a.mp3", "mp3", "libmp3lame", (22_050, 44_100, 48_000), ("mono", "stereo"), 0),
    ("a.m4a", "ipod", "aac", (44_100, 48_000), ("mono", "stereo"), 1_024),
    ("alac.m4a", "ipod", "alac", (44_100,), ("stereo",), 0),
    ("a.aac", "adts", "aac", (44_100,), ("stereo",), 2_048),
    ("a.mkv", "matroska", "flac", (48_000,), ("stereo",), 0),
    ("a.ts", "mpegts", "aac", (44_100,), ("stereo",), 2_048),
]
CASES = [
    pytest.param(name, kind, codec, rate, layout, slack, id=f"{name}-{rate}-{layout}")
    for name, kind, codec, rates, layouts, slack in FORMATS
    for rate in rates
    for layout in layouts
]


@pytest.mark.parametrize(("name", "kind", "codec", "rate", "layout", "slack"), CASES)
def test_a_tone_keeps_length_pitch_and_level(tmp_path, name, kind, codec, rate, layout, slack):
    channels = av.AudioLayout(layout).nb_channels
    sound = np.tile(tone(2.0, rate), (channels, 1))
    got = read_audio(write(tmp_path / name, sound, rate, codec, kind, layout), RATE)
    assert got.dtype == np.float32 and got.ndim == 1 and np.isfinite(got).all()
    assert abs(len(got) - 2 * RATE) <= slack * RATE / rate + 1
    middle = got[RATE // 2 : RATE // 2 + RATE] * np.hanning(RATE)  # one second: bins of 1 Hz
    spectrum = np.abs(np.fft.rfft(middle)) / (RATE / 4)
    assert abs(int(spectrum.argmax()) - FREQUENCY) <= 1
    lossless = codec.startswith("pcm") or codec in ("flac", "alac")
    if lossless or channels < 6:  # lossy coders band-limit the low-frequency channel
        assert spectrum.max() == pytest.approx(0.5, rel=0.01 if lossless else 0.08)


@pytest.mark.parametrize("rate", [RATE, 44_100, 48_000])
def test_samples_are_exact_and_in_place(tmp_path, rate):
    got = read_audio(write(tmp_path / "a.wav", tone(1.5, rate), rate), RATE)
    inner = slice(1_000, -1_000)  # the resampler rings at the very edges
    assert np.abs(got - tone(1.5, RATE))[inner].max() < 2e-4


@pytest.mark.parametrize("codec", ["pcm_s16le", "pcm_f32le", "flac"])
def test_mono_is_the_mean_of_the_channels(tmp_path, codec):
    path = tmp_path / ("a.flac" if codec == "flac" else "a.wav")
    left, right = tone(0.5, RATE), tone(0.5, RATE, 0.3, 1_000.0)
    got = read_audio(write(path, [left, right], RATE, codec), RATE)
    np.testing.assert_allclose(got, (left + right) / 2, atol=5e-5)
    got = read_audio(write(path, [left, -left], RATE, codec), RATE)
    np.testing.assert_allclose(got, 0, atol=5e-5)
    got = read_audio(write(path, [left, 0 * left], RATE, codec), RATE)
    np.testing.assert_allclose(got, left / 2, atol=5e-5)


@pytest.mark.parametrize(("layout", "channels"), [("5.1", 6), ("7.1", 8), ("hexadecagonal", 16)])
def test_many_channels_are_meant_too(tmp_path, layout, channels):
    sound = np.random.default_rng(0).uniform(-1, 1, (channels, 5_000))
    got = read_audio(write(tmp_path / "a.wav", sound, RATE, layout=layout), RATE)
    np.testing.assert_allclose(got, sound.mean(0), atol=1e-6)


SPANS = [(0.0, 1.0), (0.4, 0.7), (1.9, 1.0), (3.0, 2.5), (7.12345, 1.5), (11.2, None)]


@pytest.mark.parametrize(
    ("name", "codec", "rate"),
    [
        ("a.wav", "pcm_s16le", 44_100),
        ("a.wav", "pcm_f32le", 44_101),
        ("a.flac", "flac", 48_000),
        ("a.mp3", "libmp3lame", 44_100),
        ("a.m4a", "aac", 44_100),
        ("a.aac", "aac", 48_000),
        ("a.opus", "libopus", 48_000),
        ("a.ts", "aac", 44_100),
    ],
)
def test_a_span_is_the_slice_of_the_whole(tmp_path, name, codec, rate):
    path = write(tmp_path / name, noise(12.0, rate), rate, codec)
    whole = read_audio(path, RATE)
    for start, duration in SPANS:
        got = read_audio(path, RATE, start, duration)
        first = round(start * RATE)
        last = len(whole) if duration is None else first + round(duration * RATE)
        np.testing.assert_allclose(got, whole[first:last], atol=1e-3, err_msg=f"{start} s")


def test_a_matroska_span_is_right_to_its_millisecond_clock(tmp_path):
    path = write(tmp_path / "a.mkv", noise(12.0, 44_100), 44_100, "flac")
    whole, got = read_audio(path, RATE), read_audio(path, RATE, 8.0, 1.0)
    first, reach = 8 * RATE, RATE // 1_000 + 1
    gaps = [
        np.abs(whole[first + lag : first + lag + RATE] - got).mean()
        for lag in range(-reach, reach + 1)
    ]
    assert min(gaps) < np.abs(got).mean() / 2


def test_a_span_is_sought_and_not_decoded_up_to(tmp_path):
    path = write(tmp_path / "a.wav", np.zeros(600 * 8_000), 8_000, "pcm_s16le")
    tracemalloc.start()
    assert len(read_audio(path, 8_000, 590.0, 2.0)) == 16_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


def test_a_long_file_streams_in_bounded_memory(tmp_path):
    path = write(tmp_path / "a.flac", np.zeros(200 * 8_000), 8_000, "flac")
    peaks = []
    for _ in range(2):  # once may hold what the interpreter allocates, as when a table grows
        tracemalloc.start()
        sizes = [len(block) for block in stream_audio(path, 16_000, block=50_000)]
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert sum(sizes) == 200 * 16_000
        assert min(sizes) > 0 and max(sizes) <= 50_000
    assert min(peaks) < 4_000_000


def test_blocks_join_to_the_whole_and_stop_early(tmp_path):
    path = write(tmp_path / "a.wav", noise(4.0, 44_100), 44_100)
    whole = read_audio(path, RATE)
    blocks = list(stream_audio(path, RATE, block=1_000))
    assert max(map(len, blocks)) == 1_000
    np.testing.assert_array_equal(np.concatenate(blocks), whole)
    first = next(stream_audio(path, RATE))
    np.testing.assert_array_equal(first, whole[: len(first)])


def test_a_span_is_cut_where_the_sound_ends(tmp_path):
    path = write(tmp_path / "a.wav", tone(3.0, RATE), RATE)
    assert len(read_audio(path, RATE, 2.5, 10.0)) == RATE // 2


def test_silence_and_a_single_sample(tmp_path):
    assert not read_audio(write(tmp_path / "a.wav", np.zeros(RATE), 44_100), RATE).any()
    got = read_audio(write(tmp_path / "b.wav", [0.25], RATE), RATE)
    np.testing.assert_array_equal(got, np.float32([0.25]))
    assert len(read_audio(tmp_path / "b.wav", 48_000)) == 3
    assert len(read_audio(tmp_path / "b.wav", 8_000)) == 1


@pytest.mark.parametrize("rate", [RATE, 44_100])
def test_wild_samples_become_silence_or_are_cut(tmp_path, rate):
    sound = tone(1.0, rate)
    sound[100:110] = np.nan
    sound[200], sound[201] = np.inf, -np.inf
    sound[5_000] = 1e30
    got = read_audio(write(tmp_path / "a.wav", sound, rate), RATE)
    assert np.isfinite(got).all() and np.abs(got).max() <= 1.2 * PEAK
    np.testing.assert_allclose(got[-2_000:-1_000], tone(1.0, RATE)[-2_000:-1_000], atol=1e-3)


def test_a_broken_channel_does_not_silence_the_other(tmp_path):
    left = tone(0.2, RATE)
    got = read_audio(write(tmp_path / "a.wav", [left, left * np.nan], RATE), RATE)
    np.testing.assert_allclose(got, left / 2, atol=1e-6)


def test_loud_samples_are_not_clipped(tmp_path):
    got = read_audio(write(tmp_path / "a.wav", tone(0.2, RATE, 20_000.0), RATE), RATE)
    assert np.abs(got).max() == pytest.approx(20_000.0, rel=0.01)


def test_a_change_of_rate_on_the_way_is_followed(tmp_path):
    parts = [write(tmp_path / f"{rate}.mp3", tone(2.0, rate), rate, "libmp3lame") for rate in
             (44_100, 22_050)]  # fmt: skip
    joined = tmp_path / "joined.mp3"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    got = read_audio(joined, RATE)
    assert abs(len(got) - 4 * RATE) < 0.2 * RATE
    for second in (1, 3):
        spectrum = np.abs(np.fft.rfft(got[second * RATE - RATE // 2 :][:RATE]))
        assert abs(int(spectrum.argmax()) - FREQUENCY) <= 1


def test_the_first_audio_stream_of_a_video_is_taken(tmp_path):
    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as out:
        picture = out.add_stream("mpeg4", rate=25)
        picture.width, picture.height, picture.pix_fmt = 64, 64, "yuv420p"
        sound = out.add_stream("aac", rate=44_100, layout="mono")
        for _ in range(25):
            out.mux(picture.encode(av.VideoFrame(64, 64, "yuv420p")))
        out.mux(picture.encode(None))
        for first in range(0, 44_100 - 1_024, 1_024):
            samples = np.float32(tone(1.0, 44_100))[None, first : first + 1_024]
            frame = av.AudioFrame.from_ndarray(samples, "fltp", "mono")
            frame.sample_rate, frame.pts, frame.time_base = 44_100, first, Fraction(1, 44_100)
            out.mux(sound.encode(frame))
        out.mux(sound.encode(None))
    got = read_audio(path, RATE)
    assert np.abs(got[2_000:-2_000]).max() == pytest.approx(0.5, abs=0.05)


def test_a_name_that_is_not_utf8_opens(tmp_path):
    path = os.fsencode(tmp_path) + b"/\xff\xfe %d|http:.wav"
    os.rename(write(tmp_path / "a.wav", tone(0.1, RATE), RATE), path)
    assert len(read_audio(os.fsdecode(path), RATE)) == round(0.1 * RATE)


OTHERS = {
    "a.caf": ("caf", "pcm_s16be"),
    "a.wma": ("asf", "libmp3lame"),
    "a.webm": ("webm", "libopus"),
    "a.mov": ("mov", "pcm_s16le"),
    "a.3gp": ("3gp", "aac"),
    "a.au": ("au", "pcm_s16be"),
    "a.w64": ("w64", "pcm_s16le"),
    "a.voc": ("voc", "pcm_u8"),
    "a.wv": ("wv", "wavpack"),
    "a.tta": ("tta", "tta"),
    "a.ac3": ("ac3", "ac3"),
    "a.mp2": ("mp2", "mp2"),
    "a.avi": ("avi", "mp2"),
    "a.nut": ("nut", "pcm_s16le"),
    "a.sox": ("sox", "pcm_s32le"),
    "a.aiff": ("aiff", "pcm_s24be"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_ffmpeg_writes_is_read(tmp_path, name):
    kind, codec = OTHERS[name]
    got = read_audio(write(tmp_path / name, tone(1.0, 48_000), 48_000, codec, kind), RATE)
    assert len(got) == pytest.approx(RATE, abs=0.06 * RATE)
    assert 0.4 < np.abs(got[RATE // 2 : RATE * 3 // 4]).max() < 0.9  # AAC is rough in 3GP


def test_importing_the_module_does_not_import_pyav():
    code = "import mmid.music.audio, sys; assert 'av' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
