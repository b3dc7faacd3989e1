"""What `mmid.music.midi` makes of damage, and what it refuses."""

from __future__ import annotations

import os
import random
import re
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from midi_bytes import (
    LONGEST,
    NOTE,
    SCALE,
    at,
    meta,
    off,
    on,
    program,
    reader,
    smf,
    spans,
    tempo,
    track,
    varlen,
)

from mmid.errors import MidiError
from mmid.music.midi import read_midi
from mmid.music.midi_parser import MidiLimits


@pytest.fixture
def read(tmp_path):
    return reader(tmp_path)


GOOD = smf(track(NOTE))
BAD_FILES = {
    "empty": (b"", "empty file"),
    "garbage": (b"\x00\x01\x02garbage" * 20, "not a MIDI file"),
    "text": (b"hello", "not a MIDI file"),
    "short header": (GOOD[:10], "truncated header"),
    "cut chunk header": (GOOD[:17], "no notes; damaged: 3 bytes skipped, 1 track missing"),
    "no track": (smf(), "no notes"),
    "smpte of zero": (smf(track(NOTE), division=0xE700), "SMPTE time of zero parts a frame"),
    "absurd delta": (smf(track(on(LONGEST, 60))), "longer than 100000000 ticks"),
    "absurd end": (smf(track(NOTE, end=LONGEST)), "longer than 100000000 ticks"),
    "many long deltas": (
        smf(track(*[meta(9**8, 1, b"")] * 9, NOTE)),
        "longer than 100000000 ticks",
    ),
    "long": (smf(track(on(90_000_000, 60))), "lasts 9375. s, more than 21600 s"),
    "slow": (smf(track(tempo(0, 0xFFFFFF), on(1_000_000, 60))), "lasts .* s, more than 21600 s"),
    "endless length": (smf(track(at(0, 0xFF, 1) + varlen(LONGEST))), "no notes; damaged: 7 bytes"),
    "no status": (smf(track(at(0, 60, 60))), "no notes; damaged: 3 bytes skipped"),
    "cut message": (smf(b"MTrk\x00\x00\x00\x03\x00\x90\x3c"), "no notes; damaged: 3 bytes"),
    "cut delta": (smf(b"MTrk\x00\x00\x00\x01\x80"), "no notes; damaged: 1 byte skipped"),
    "drums only": (smf(track(on(0, 35, channel=9))), "no notes but drums"),
    "no notes": (smf(track(off(0, 60), program(0, 3))), "no notes"),
    "riff without midi": (b"RIFF\x08\x00\x00\x00RMIDabcd", "not a MIDI file"),
    "wave": (b"RIFF\x08\x00\x00\x00WAVEfmt ", "this is a sound of kind WAV, not a MIDI file"),
    "pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
        "this is a Git LFS pointer, not the file itself: run git lfs pull$",
    ),
    "page": (
        b"\n<!DOCTYPE html>\n<html>",
        "this is an HTML page, not the file itself: download it",
    ),
    "zip": (b"PK\x03\x04" + GOOD, "this is a zip archive, not a MIDI file: unpack it$"),
    "gzip": (
        b"\x1f\x8b\x08" + GOOD,
        "this is a gzip archive, not a MIDI file: unpack it with gunzip",
    ),
    "tar": (bytes(257) + b"ustar\0" + GOOD, "this is a tar archive"),
    "score": (b'<?xml version="1.0"?><score-partwise>', "this is an XML file, not a MIDI file"),
    "a Mac's notes": (b"\0\x05\x16\x07\0\2\0\0Mac OS X", "this holds a Mac's notes on a file"),
}


@pytest.mark.parametrize(("data", "reason"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_file_is_one_clear_line(read, data, reason):
    tracemalloc.start()
    with pytest.raises(MidiError, match=f"^song.mid: .*{reason}") as caught:
        read(data)
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()
    assert "\n" not in str(caught.value)


MENDED = {
    "cut track": (GOOD[:-3], "1 byte skipped, 3 bytes missing"),
    "missing track": (smf(track(NOTE), count=2), "1 track missing"),
    "short header length": (
        GOOD.replace(b"\0\0\0\x06", b"\0\0\0\x05", 1),
        "1 length mended",
    ),
    "format 3": (smf(track(NOTE), form=3), "format 3 read as 1"),
    "division of zero": (smf(track(NOTE), division=0), "time division of zero read as 480"),
    "tempo of zero": (smf(track(tempo(0, 0), NOTE)), "1 message mended"),
    "absurd tempo": (smf(track(tempo(0, 3), NOTE)), "1 message mended"),
    "endless number": (smf(track(b"\xff\xff\xff\xff\0", NOTE)), "5 bytes skipped"),
    "padded number": (smf(track(b"\x80\x80\x80\x80\0\xff\1\0", NOTE)), "1 message mended"),
    "no status": (smf(track(at(0, 60, 60), NOTE)), "3 bytes skipped"),
    "high pitch": (smf(track(on(0, 200), NOTE)), "1 message mended"),
    "high program": (smf(track(program(0, 200), NOTE)), "1 message mended"),
    "unknown status": (smf(track(at(0, 0xF4), NOTE)), "1 message mended"),
    "garbage before": (bytes(128) + GOOD, "128 bytes skipped"),
    "no length": (smf(b"MTrk\0\0\0\0" + track(NOTE)[8:]), "1 length mended"),
    "two of each": (
        smf(b"MTrk\0\0\0\2" + track(on(0, 200), on(0, 200), NOTE)[8:], form=9),
        "format 9 read as 1, 2 messages mended, 1 length mended",
    ),
}


@pytest.mark.parametrize(("data", "damage"), MENDED.values(), ids=MENDED)
def test_a_damaged_file_is_read_and_it_is_said(read, data, damage):
    midi = read(data)
    assert spans(midi) == [(0.0, 0.5, 60)]
    assert midi.damage == f"damaged: {damage}"


def test_a_velocity_over_127_is_clipped(read):
    midi = read(smf(track(on(0, 60, 200), off(480, 60))))
    assert midi.notes["velocity"].tolist() == [127] and midi.damage == "damaged: 1 message mended"


def test_a_sound_file_is_not_called_damaged(read):
    assert read(SCALE).damage is None


def test_what_is_copied_as_text_is_read(read):
    data = smf(track(*(on(10, p) + off(10, p) for p in range(60, 72))))
    midi = read(data.replace(b"\n", b"\r\n"))
    assert midi.notes.tobytes() == read(data).notes.tobytes()
    assert midi.damage == "damaged: line ends mended"


def test_a_damaged_track_is_read_on_where_messages_begin_again(read):
    notes = [on(11, p) + off(11, p) for p in range(30, 90)]
    junk = np.random.default_rng(0).integers(128, 256, 200, np.uint8).tobytes()
    midi = read(smf(track(*notes[:30], junk, *notes[30:])))
    assert midi.notes["pitch"].tolist()[:30] == list(range(30, 60))
    assert len(midi.notes) >= 58 and midi.seconds < 20
    assert re.fullmatch(r"damaged: .*\d+ bytes skipped", midi.damage)


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"bytes": 100}, "larger than 100 bytes"),
        ({"notes": 23}, "more than 23 notes"),
        ({"tracks": 2}, "more than 2 tracks"),
        ({"tempos": 1}, "more than 1 tempo changes"),
        ({"ticks": 2_800}, "longer than 2800 ticks"),
        ({"seconds": 3.1}, "lasts 3 s, more than 3 s"),
    ],
)
def test_limits(read, limits, reason):
    with pytest.raises(MidiError, match=reason):
        read(SCALE, **limits)
    bounds = {"bytes": 1_000, "notes": 24, "tracks": 3, "tempos": 2, "ticks": 2_880, "seconds": 4.0}
    assert len(read(SCALE, **bounds).notes) == 24


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_paths_that_are_no_files(tmp_path):
    fifo = tmp_path / "fifo.mid"
    os.mkfifo(fifo)
    for path in (tmp_path, fifo, Path("/dev/zero")):
        with pytest.raises(
            MidiError, match=f"^{path.name}: (a folder, not a MIDI|not a regular) file$"
        ):
            read_midi(path)
    with pytest.raises(MidiError, match=r"^none.mid: cannot be read \(No such file or directory\)"):
        read_midi(tmp_path / "none.mid")
    with pytest.raises(MidiError, match="not a file name"):
        read_midi("a\0b")


def test_unreadable_file(read, monkeypatch):
    def refuse(*_args):  # root may read everything, so a mode would not do
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("mmid.music.midi_parser.open", refuse, raising=False)
    with pytest.raises(MidiError, match=r"^song.mid: cannot be read \(Permission denied\)$"):
        read(GOOD)


def test_control_characters_of_a_file_name_are_escaped(tmp_path):
    path = tmp_path / "a\n\x1b[31mb\u202e.mid"
    path.write_bytes(b"x")
    with pytest.raises(MidiError) as caught:
        read_midi(str(path))
    assert str(caught.value) == r"a\n\x1b[31mb\u202e.mid: not a MIDI file"


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Flip, overwrite, cut out, repeat or truncate a few bytes."""
    out = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 5, 20])):
        place = rng.randrange(len(out)) if out else 0
        kind = rng.randrange(6)
        if kind == 0 and out:
            out[place] ^= 1 << rng.randrange(8)
        elif kind == 1 and out:
            out[place] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
        elif kind == 2:
            del out[place : place + rng.randrange(1, 8)]
        elif kind == 3:
            out[place:place] = out[place : place + rng.randrange(1, 40)]
        elif kind == 4:
            out[place : place + 4] = rng.randbytes(4)
        elif rng.random() < 0.3:
            del out[place:]
    return bytes(out)


MOST_CALLS = 500_000
"""A short file takes 3,000, and 80,000 the first time."""


@contextmanager
def few_calls() -> Iterator[None]:
    """Fail of more calls than a short file needs, however fast the machine is."""
    calls = count()
    sys.setprofile(lambda *_: next(calls))
    try:
        yield
    finally:
        sys.setprofile(None)
    assert next(calls) < MOST_CALLS


def test_mutated_files_parse_or_raise(read):
    rng = random.Random(2)
    outcomes = {"read": 0, "refused": 0}
    for _ in range(600):
        data = mutate(SCALE, rng)
        try:
            with few_calls():
                midi = read(data)
        except MidiError as error:
            outcomes["refused"] += 1
            assert str(error).startswith("song.mid: ")
            assert str(error).isprintable()
        else:
            outcomes["read"] += 1
            notes = midi.notes
            assert len(notes) and np.isfinite(notes["offset"]).all()
            assert (notes["offset"] > notes["onset"]).all()
            assert (np.diff(notes["onset"]) >= 0).all()
            assert midi.seconds <= MidiLimits().seconds + 1
    assert min(outcomes.values()) > 60
