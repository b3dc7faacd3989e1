"""What `mmid.music.audio` makes of damage, and what it refuses."""

from __future__ import annotations

import os
import re
import wave
from contextlib import suppress
from fractions import Fraction

import av
import numpy as np
import pytest
from sounds import RATE, noise, tone, write

from mmid.errors import AudioError
from mmid.music.audio import ForgivingFile, read_audio, stream_audio


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
    with ForgivingFile(path) as file:
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
    with pytest.raises(AudioError, match=r"a\.wav: too long; query a span"):
        read_audio(path, RATE, max_seconds=2)
    assert len(read_audio(path, RATE, max_seconds=3)) == 3 * RATE
