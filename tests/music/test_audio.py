"""Decoding: every format, span, downmix and failure of `mmid.music.audio`."""

import os
import re
import subprocess
import sys
import tracemalloc
import wave
from contextlib import suppress
from fractions import Fraction

import av
import numpy as np
import pytest

from mmid.errors import AudioError
from mmid.music.audio import PEAK, _File, read_audio, stream_audio

RATE = 22_050
FREQUENCY = 440.0

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
    path = write(tmp_path / "a.flac", np.zeros(600 * 8_000), 8_000, "flac")
    peaks = []
    for _ in range(2):  # once may hold what the interpreter allocates, as when a table grows
        tracemalloc.start()
        sizes = [len(block) for block in stream_audio(path, 16_000, block=50_000)]
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert sum(sizes) == 600 * 16_000
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


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.opus", "a.aac"])
def test_what_decodes_before_the_damage_is_kept(tmp_path, name):
    codecs = {"wav": "pcm_s16le", "flac": "flac", "mp3": "libmp3lame", "opus": "libopus"}
    codec = codecs.get(name.rpartition(".")[2], "aac")
    path = write(tmp_path / name, noise(4.0, 48_000), 48_000, codec)
    whole, data = read_audio(path, RATE), path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    got = read_audio(path, RATE)
    assert 0.9 * RATE < len(got) < 2.5 * RATE  # an Ogg page holds a second
    kept = slice(0, RATE * 4 // 5)
    np.testing.assert_allclose(got[kept], whole[kept], atol=1e-4)
    junk = np.random.default_rng(0).bytes(len(data) // 2)
    path.write_bytes(data[: len(data) // 2] + junk)
    np.testing.assert_allclose(read_audio(path, RATE)[kept], whole[kept], atol=1e-4)


def test_streams_that_come_up_late_do_no_harm(tmp_path):
    first = write(tmp_path / "a.ts", noise(20.0, 44_100), 44_100, "aac")
    whole, options = (
        read_audio(first, RATE),
        {"mpegts_pmt_start_pid": "5000", "mpegts_start_pid": "512"},
    )
    with av.open(str(tmp_path / "b.ts"), "w", options=options) as out:
        streams = [out.add_stream("aac", rate=44_100, layout="mono") for _ in range(2)]
        for first_sample in range(0, 40 * 1_024, 1_024):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1_024), np.float32), "fltp", "mono")
            frame.sample_rate, frame.time_base = 44_100, Fraction(1, 44_100)
            frame.pts = first_sample
            for stream in streams:
                out.mux(stream.encode(frame))
        for stream in streams:
            out.mux(stream.encode(None))
    first.write_bytes(first.read_bytes() + (tmp_path / "b.ts").read_bytes())
    np.testing.assert_array_equal(read_audio(first, RATE)[: len(whole) - 50], whole[:-50])


def test_damage_prints_nothing(tmp_path, capfd):
    path = write(tmp_path / "a.wav", noise(2.0, 44_100), 44_100, "pcm_s16le")
    random = np.random.default_rng(0)
    for _ in range(30):
        data = bytearray(path.read_bytes())
        for place in random.integers(0, 100, 5):
            data[place] = random.integers(256)
        (tmp_path / "b.wav").write_bytes(data)
        with suppress(AudioError):
            assert np.isfinite(read_audio(tmp_path / "b.wav", RATE)).all()
    with _File(path) as file:
        assert file.seek(-1) == file.seek(1 << 80) == -1
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["a.wav", "a.mp3", "a.m4a", "a.ogg", "a.flac", "a"])
@pytest.mark.parametrize(
    "content", [b"\0" * 4_096, b"not sound at all\n" * 500, b"%PDF-1.7\n" + bytes(range(256)) * 20]
)
def test_what_is_not_audio_is_refused(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(
        AudioError, match=rf"{name}: (not an audio|no sound|no audio|this is a PDF document)"
    ):
        read_audio(path, RATE)


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


DISGUISED = {
    "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n": "run git lfs pull",
    "<!DOCTYPE html>\n<html></html>": "this is an HTML page, not the file itself",
    "\n <HTML><head>": "this is an HTML page",
    "PK\3\4" + "x" * 99: "this is a zip archive, not an audio file: unpack it",
    "\x1f\x8b\x08" + "x" * 99: "this is a gzip archive, not an audio file: unpack it with gunzip",
    "MThd\0\0\0\6": "this is a MIDI file, not an audio file: name it .mid",
}


@pytest.mark.parametrize("content", DISGUISED)
def test_what_is_not_sound_is_named(tmp_path, content):
    path = tmp_path / "a.mp3"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(AudioError, match=rf"a\.mp3: .*{DISGUISED[content]}"):
        stream_audio(path, RATE)


JARGON = re.compile(r"patches|invalid data|errno|avcodec|avformat|ffmpeg|\[", re.IGNORECASE)


def test_no_words_of_ffmpegs_reach_the_user(tmp_path):
    random, said = np.random.default_rng(0), []
    for name, codec in (("a.flac", "flac"), ("a.m4a", "aac"), ("a.opus", "libopus")):
        path = write(tmp_path / name, noise(1.0, 48_000), 48_000, codec)
        data = path.read_bytes()
        for _ in range(12):
            changed = bytearray(data)
            for place in random.integers(0, 60, 12).tolist():
                changed[place] = int(random.integers(256))
            path.write_bytes(changed)
            try:
                read_audio(path, RATE)
            except AudioError as error:
                said.append(str(error).removeprefix(str(path)))
    assert len(said) > 10 and not [line for line in said if JARGON.search(line) or "\n" in line]


def test_a_damaged_header_is_refused(tmp_path):
    path = write(tmp_path / "a.m4a", noise(2.0, 44_100), 44_100, "aac")
    path.write_bytes(path.read_bytes()[:5_000])
    with pytest.raises(AudioError, match=r"a\.m4a: the recording was not finished"):
        read_audio(path, RATE)
    path = write(tmp_path / "a.flac", noise(2.0, 44_100), 44_100, "flac")
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(AudioError, match=r"a\.flac: a damaged FLAC file"):
        read_audio(path, RATE)


def playlists(target):
    return {
        "hls.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{target}\n#EXT-X-ENDLIST\n",
        "list.ffconcat": f"ffconcat version 1.0\nfile '{target}'\n",
        "session.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
        "m=audio 9 RTP/AVP 0\n",
        "dash.mpd": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"'
        ' profiles="urn:mpeg:dash:profile:isoff-on-demand:2011" type="static"><Period>'
        f"<AdaptationSet><Representation><BaseURL>{target}</BaseURL></Representation>"
        "</AdaptationSet></Period></MPD>",
    }


@pytest.mark.parametrize("kind", list(playlists("")))
@pytest.mark.parametrize("disguise", [False, True])
def test_a_playlist_opens_no_other_file(tmp_path, kind, disguise):
    target = write(tmp_path / "secret.ts", tone(2.0, 44_100), 44_100, "aac")
    path = tmp_path / ("song.mp3" if disguise else kind)
    path.write_text(playlists(target.name)[kind])
    with pytest.raises(
        AudioError, match=r": (not an audio file that can be read|this is an XML file)"
    ):
        read_audio(path, RATE)


@pytest.mark.parametrize(
    "name", ["http://127.0.0.1:1/a.wav", "concat:a.wav|a.wav", "file:a.wav", "pipe:0", "gone\0.wav"]
)
def test_names_are_never_addresses(tmp_path, monkeypatch, name):
    write(tmp_path / "a.wav", tone(0.1, RATE), RATE)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AudioError, match=r"No such file|null byte"):
        read_audio(name, RATE)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
def test_pipes_and_devices_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    for path in (tmp_path / "pipe.wav", "/dev/zero"):
        with pytest.raises(AudioError, match=r"(pipe\.wav|zero): not a regular file"):
            stream_audio(path, RATE)


def test_missing_empty_and_directory(tmp_path):
    (tmp_path / "empty.wav").touch()
    with pytest.raises(AudioError, match=r"none\.wav: No such file"):
        read_audio(tmp_path / "none.wav", RATE)
    with pytest.raises(AudioError, match=r"empty\.wav: the file is empty"):
        read_audio(tmp_path / "empty.wav", RATE)
    with pytest.raises(AudioError, match="a directory, not an audio file"):
        read_audio(tmp_path, RATE)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads anything")
def test_a_file_without_permission(tmp_path):
    path = write(tmp_path / "a.wav", tone(0.1, RATE), RATE)
    path.chmod(0)
    with pytest.raises(AudioError, match=r"a\.wav: .*Permission denied"):
        read_audio(path, RATE)


def test_no_audio_stream_and_no_samples(tmp_path):
    with av.open(str(tmp_path / "mute.mkv"), "w") as out:
        picture = out.add_stream("mpeg4", rate=25)
        picture.width, picture.height, picture.pix_fmt = 64, 64, "yuv420p"
        out.mux(picture.encode(av.VideoFrame(64, 64, "yuv420p")))
        out.mux(picture.encode(None))
    with pytest.raises(AudioError, match=r"mute\.mkv: no audio stream"):
        read_audio(tmp_path / "mute.mkv", RATE)
    with wave.open(str(tmp_path / "none.wav"), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
    with pytest.raises(AudioError, match=r"none\.wav: no sound in it that can be decoded"):
        read_audio(tmp_path / "none.wav", RATE)


@pytest.mark.parametrize(
    ("channels", "rate", "reason"),
    [(65, 8_000, "65 channels"), (1, 900, "900 Hz"), (1, 800_000, "800000 Hz")],
)
def test_absurd_sound_is_refused(tmp_path, channels, rate, reason):
    with wave.open(str(tmp_path / "a.wav"), "wb") as out:
        out.setnchannels(channels)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(bytes(2 * channels * 4_000))
    with pytest.raises(AudioError, match=reason):
        read_audio(tmp_path / "a.wav", RATE)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.m4a"])
@pytest.mark.parametrize("start", [3.5, 60.0, 1e12, 1e300])
def test_a_start_past_the_end(tmp_path, name, start):
    codec = {"wav": "pcm_s16le", "flac": "flac", "mp3": "libmp3lame"}.get(name[2:], "aac")
    path = write(tmp_path / name, tone(3.0, 44_100), 44_100, codec)
    with pytest.raises(AudioError, match=rf"{name}: start .* s is past the end of the sound"):
        read_audio(path, RATE, start)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"start": -0.1}, "start -0.1 s"),
        ({"start": float("nan")}, "start nan s"),
        ({"start": float("inf")}, "start inf s"),
        ({"duration": 0.0}, "duration 0 s is not positive"),
        ({"duration": -1.0}, "duration -1 s is not positive"),
        ({"duration": float("nan")}, "duration nan s"),
        ({"sample_rate": 999}, "999 Hz"),
        ({"sample_rate": 768_001}, "768001 Hz"),
        ({"block": 0}, "a block of 0 samples"),
    ],
)
def test_senseless_arguments_fail_at_the_call(tmp_path, options, reason):
    path = write(tmp_path / "a.wav", tone(0.1, RATE), RATE)
    with pytest.raises(AudioError, match=reason):
        stream_audio(path, **{"sample_rate": RATE, **options})


def test_more_sound_than_asked_to_hold_is_an_error(tmp_path):
    path = write(tmp_path / "a.wav", tone(3.0, RATE), RATE)
    with pytest.raises(AudioError, match=r"a\.wav: too long; ask about a span"):
        read_audio(path, RATE, max_seconds=2)
    assert len(read_audio(path, RATE, max_seconds=3)) == 3 * RATE


def test_importing_the_module_does_not_import_pyav():
    code = "import mmid.music.audio, sys; assert 'av' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
