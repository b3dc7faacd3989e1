"""What players play, mmid reads: broken files are given to fluidsynth or ffmpeg, and to mmid.

Conventions: a campaign counts how files ended; ``fault: ...`` where a player plays what mmid
refuses, but for its bounds.
"""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from fuzz.broken import draw_broken
from fuzz.mutators import Rng, mutate_bytes
from mmid.errors import MmidError
from mmid.music.audio import read_audio
from mmid.music.midi import read_midi
from mmid.music.synthesizer import find_soundfont

RATE = 8_000
AUDIBLE = 0.001
LEAST = RATE // 5
"""Samples that a player must give to have played a file."""

BOUND = re.compile(r"(more|longer|larger) than|outside \d")
SECONDS = 30.0

ENCODINGS = {
    **{kind: () for kind in ("wav", "flac", "ogg", "mp3", "m4a", "opus", "aac", "aiff", "caf")},
    **{kind: () for kind in ("wma", "webm", "mkv", "mka", "mov", "mp4", "au", "w64", "mp2", "ac3")},
    **{kind: () for kind in ("tta", "wv", "voc", "avi", "flv", "ts", "mpg", "eac3", "sox", "nut")},
    **{kind: () for kind in ("oga", "ogv", "m4b", "rm", "wtv", "sbc", "adx")},
    "3gp": ("-c:a", "aac"),
    "spx": ("-c:a", "libspeex", "-ar", "16000"),
    "dts": ("-c:a", "dca", "-strict", "-2"),
    "thd": ("-f", "truehd", "-c:a", "truehd", "-strict", "-2"),
    "alac.m4a": ("-c:a", "alac"),
    "fragments.m4a": ("-movflags", "frag_keyframe+empty_moov"),
    "float.wav": ("-c:a", "pcm_f32le"),
    "law.wav": ("-c:a", "pcm_mulaw"),
    "ms.wav": ("-c:a", "adpcm_ms"),
    "mp3.wav": ("-c:a", "libmp3lame"),
    "24.aiff": ("-c:a", "pcm_s24be"),
}
"""Names of files that ffmpeg writes, and what it is told."""


def broken_midi(rounds: int, folder: Path, seed: int = 0) -> Counter[str]:
    """Give broken songs to fluidsynth and to mmid."""
    font, seen = find_soundfont("TimGM6mb"), Counter[str]()
    for number in range(rounds):
        name, data = draw_broken(np.random.default_rng([seed, number]))
        path = folder / "song.mid"
        path.write_bytes(data)
        _compare(seen, f"{name} ({number})", _fluidsynth_plays(path, font), read_midi, path)
    return seen


def broken_audio(rounds: int, folder: Path, seed: int = 0) -> Counter[str]:
    """Give sound and broken sounds of every container to ffmpeg and to mmid."""
    seen, sounds = Counter[str](), _encode_all(folder)
    seen["containers"] = len(sounds)
    for number in range(rounds):
        rng = np.random.default_rng([seed, number])
        name = list(sounds)[number % len(sounds)]
        path = folder / f"x{Path(name).suffix}"
        path.write_bytes(_break_sound(sounds[name], rng) if number >= len(sounds) else sounds[name])
        _compare(seen, f"{name} ({number})", _ffmpeg_plays(path), _sound, path)
    return seen


def _compare(
    seen: Counter[str], name: str, played: bool, read: Callable[[Path], object], path: Path
) -> None:
    """Count what became of a file."""
    try:
        read(path)
        seen["played and read" if played else "read, not played"] += 1
    except MmidError as error:
        bound = BOUND.search(str(error))
        fault = f"fault: played, refused: {name}: {str(error).partition(': ')[2]}"
        seen["refused by a bound" if bound else fault if played else "neither"] += 1


def _sound(path: Path) -> None:
    read_audio(path, RATE)


def _break_sound(data: bytes, rng: Rng) -> bytes:
    """Cut off, or change bytes as a bad copy does."""
    if rng.random() < 0.5:
        return data[: int(rng.integers(len(data) // 4, len(data)))]
    return mutate_bytes(data, rng, head=len(data))


def _encode_all(folder: Path) -> dict[str, bytes]:
    """Write a chirp in every container that ffmpeg has an encoder for here."""
    sounds = {}
    source = "aevalsrc=0.4*sin(2*PI*(300+100*t)*t):s=44100:d=2"
    for kind, options in ENCODINGS.items():
        path = folder / f"sound.{kind}"
        command = ["ffmpeg", "-v", "quiet", "-y", "-f", "lavfi", "-i", source, *options, str(path)]
        if subprocess.run(command, stdin=subprocess.DEVNULL).returncode == 0:
            sounds[kind] = path.read_bytes()
    return sounds


def _fluidsynth_plays(path: Path, font: Path) -> bool:
    """Tell whether fluidsynth renders any note."""
    out = path.with_suffix(".raw")
    out.unlink(missing_ok=True)
    quick = ["-R0", "-C0", f"-r{RATE}", "-osynth.polyphony=8", "-Traw", f"-F{out}"]
    _run(["fluidsynth", "-niq", *quick, str(font), str(path)])
    return out.exists() and _audible(out.read_bytes())


def _ffmpeg_plays(path: Path) -> bool:
    """Tell whether ffmpeg decodes any sound."""
    form = ["-vn", "-ac", "1", "-ar", str(RATE), "-f", "s16le", "-"]
    return _audible(_run(["ffmpeg", "-v", "quiet", "-i", str(path), *form]))


def _run(command: list[str]) -> bytes:
    """Run a player for a while; return what it wrote."""
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=SECONDS, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired as late:  # what there was until then counts
        return late.stdout or b""
    return done.stdout


def _audible(data: bytes) -> bool:
    samples = np.abs(np.frombuffer(data[: len(data) // 2 * 2], "<i2").astype(float)) / 2**15
    return len(samples) >= LEAST and int((samples > AUDIBLE).sum()) >= LEAST // 4
