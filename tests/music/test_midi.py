"""`mmid.music.midi` against files written byte by byte."""

from __future__ import annotations

import struct
import subprocess
import sys
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pretty_midi
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from midi_bytes import (
    DIVISION,
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
)

from mmid.errors import MidiError
from mmid.music.midi import MIN_SECONDS, read_midi, write_midi
from mmid.music.midi_parser import OPEN_BEATS, TITLE_CHARS
from mmid.music.notes import NOTE_DTYPE


@pytest.fixture
def read(tmp_path):
    return reader(tmp_path)


def test_one_note_at_the_default_tempo(read):
    midi = read(smf(track(program(0, 19), on(480, 60, 99), off(960, 60)), form=0))
    assert midi.notes.dtype == NOTE_DTYPE
    assert midi.notes.tolist() == [(0.5, 1.5, 60, 99, 19)]
    assert midi.seconds == 1.5
    assert midi.title is None


def test_tempo_changes(read):
    # 480 ticks at 0.5 s a beat, 480 at 1 s, the rest at 0.25 s
    conductor = track(tempo(480, 1_000_000), tempo(480, 250_000))
    notes = track(on(0, 60), off(720, 60), on(240, 62), off(480, 62), on(480, 64), off(240, 64))
    assert spans(read(smf(conductor, notes))) == [
        (0.0, 1.0, 60),
        (1.5, 1.75, 62),
        (2.0, 2.125, 64),
    ]


def test_tempo_counts_on_any_track_and_the_last_of_a_tick_wins(read):
    first = track(on(480, 60), off(480, 60))
    second = track(tempo(0, 300_000), tempo(0, 1_000_000), tempo(480, 100_000), tempo(0, 2_000_000))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert spans(read(smf(first, second))) == [(1.0, 3.0, 60)]


def test_running_status_survives_meta_and_sysex(read):
    data = track(
        on(0, 60),
        at(480, 60, 0),
        meta(0, 1, b"words"),
        at(0, 62, 80),
        at(0, 0xF0, 2, 0x7E, 0xF7),
        at(0, 0xF7, 1, 0xF8),
        at(0, 0xF2, 1, 2),
        at(480, 62, 0),
    )
    assert spans(read(smf(data, form=0))) == [(0.0, 0.5, 60), (0.5, 1.0, 62)]


def test_notes_are_sorted_and_drums_left_out(read):
    one = track(on(480, 70), on(0, 60), off(480, 60), off(0, 70), on(0, 35, channel=9))
    two = track(on(0, 90, channel=1), off(480, 90, 1), on(0, 65, channel=1), off(1, 65, 1))
    notes = read(smf(one, two)).notes
    assert notes["pitch"].tolist() == [90, 60, 65, 70]
    assert notes["onset"].tolist() == [0.0, 0.5, 0.5, 0.5]


def test_programs_belong_to_their_channel_and_moment(read):
    data = track(
        program(0, 5),
        program(0, 7, 1),
        on(0, 60),
        on(0, 61, channel=1),
        off(480, 60),
        off(0, 61, 1),
        program(0, 9),
        on(0, 62),
        off(480, 62),
    )
    assert read(smf(data)).notes["program"].tolist() == [5, 7, 9]


def test_one_release_ends_every_open_note_of_a_pitch(read):
    data = track(on(0, 60), on(480, 60), off(480, 60), off(480, 60))
    assert spans(read(smf(data))) == [(0.0, 1.0, 60), (0.5, 1.0, 60)]


def test_overlapping_notes_of_two_channels_keep_their_ends(read):
    data = track(on(0, 60), on(480, 60, channel=1), off(480, 60), off(480, 60, 1))
    assert spans(read(smf(data))) == [(0.0, 1.0, 60), (0.5, 1.5, 60)]


def test_a_note_struck_before_the_release_of_the_last(read):
    data = track(on(0, 60), on(480, 60), off(0, 60), off(480, 60))
    assert spans(read(smf(data))) == [(0.0, 0.5, 60), (0.5, 1.0, 60)]


@pytest.mark.parametrize("ticks", [0, 1, 9])
def test_no_note_is_shorter_than_the_minimum(read, ticks):
    data = track(on(480, 60), off(ticks, 60), on(480, 62), off(480, 62))
    first = spans(read(smf(data)))[0]
    assert first == (0.5, 0.5 + MIN_SECONDS, 60)
    assert len(read(smf(data)).notes) == 2


def test_a_note_without_length_does_not_cut_the_next(read):
    at_once = track(on(480, 60), off(0, 60), on(0, 60), off(480, 60))
    assert spans(read(smf(at_once))) == [(0.5, 1.0, 60)]
    next_tick = track(on(480, 60), off(0, 60), on(1, 60), off(479, 60))
    assert [end for _, end, _ in spans(read(smf(next_tick)))] == [0.51, 1.0]


def test_a_note_never_released_ends_with_its_track_or_after_some_beats(read):
    assert spans(read(smf(track(on(0, 60), end=480)))) == [(0.0, 0.5, 60)]
    assert spans(read(smf(track(on(0, 60), end=48_000)))) == [(0.0, OPEN_BEATS * 0.5, 60)]
    assert spans(read(smf(track(on(480, 60))))) == [(0.5, 0.5 + MIN_SECONDS, 60)]


def test_releases_of_nothing_are_ignored(read):
    assert spans(read(smf(track(off(0, 60), on(480, 60), off(480, 60), off(5, 60))))) == [
        (0.5, 1.0, 60)
    ]


def test_patterns_of_format_2_follow_one_another(read):
    one = track(tempo(0, 1_000_000), on(0, 60), off(480, 60), end=480)
    two = track(on(480, 62), off(480, 62))
    assert spans(read(smf(one, two, form=2))) == [(0.0, 1.0, 60), (2.5, 3.0, 62)]


def test_a_long_file_of_many_ticks_keeps_its_times(read):
    # 30,000 ticks a beat at 120 bpm: 60,000 a second, 48 million in all
    data = track(tempo(24_000_000, 1_000_000), on(24_000_000, 60), off(30_000, 60))
    tracemalloc.start()
    onset, offset, _ = spans(read(smf(data, division=30_000)))[0]
    assert tracemalloc.get_traced_memory()[1] < 400e6
    tracemalloc.stop()
    assert (onset, offset) == pytest.approx((1200.0, 1201.0), abs=1e-3)


def test_silence_after_the_music_costs_nothing(read):
    midi = read(smf(track(on(0, 60), off(480, 60), end=90_000_000)))
    assert midi.seconds == 0.5


BROKEN_META = {
    "key signature": meta(0, 0x59, b"\x20\x09"),
    "empty key signature": meta(0, 0x59, b""),
    "time signature": meta(0, 0x58, b"\x00"),
    "tempo of two bytes": meta(0, 0x51, b"\x07\xa1"),
    "lyric": meta(0, 0x05, b"\xff\xfe\x81"),
    "text": meta(0, 0x01, bytes(range(256))),
    "smpte offset": meta(0, 0x54, b"\xff"),
    "port": meta(0, 0x21, b""),
    "channel prefix": meta(0, 0x20, b""),
    "sequence number": meta(0, 0x00, b"\x01"),
    "unknown": meta(0, 0x7B, b"\x00\xff"),
}


@pytest.mark.parametrize("broken", BROKEN_META.values(), ids=BROKEN_META)
def test_a_broken_meta_message_does_not_fail_the_file(read, broken):
    assert spans(read(smf(track(broken, on(0, 60), broken, off(480, 60))))) == [(0.0, 0.5, 60)]


def test_other_chunks_and_longer_headers_are_stepped_over(read):
    alien = b"XFIH" + struct.pack(">I", 5) + b"abcde"
    header = b"MThd" + struct.pack(">IHHH", 8, 1, 2, DIVISION) + b"??"
    data = header + alien + track(tempo(0, 1_000_000)) + alien + track(on(0, 60), off(480, 60))
    assert spans(read(data + b"more")) == [(0.0, 1.0, 60)]


def test_a_riff_wrapper_is_taken_off(read):
    inner = smf(track(on(0, 60), off(480, 60)))
    body = b"RMIDdata" + struct.pack("<I", len(inner)) + inner
    assert spans(read(b"RIFF" + struct.pack("<I", len(body)) + body)) == [(0.0, 0.5, 60)]


@pytest.mark.parametrize(
    ("name", "title"),
    [
        (b"Prelude No. 2", "Prelude No. 2"),
        ("Für Elise".encode(), "Für Elise"),
        ("Für Elise".encode("latin-1"), "Für Elise"),
        (b"Bad\x1b[31m\r\nname\x00 ", "Bad [31m name"),
        ("a\u202eb".encode(), "a b"),
        (b"x" * 1000, "x" * TITLE_CHARS),
        (b"Piano", None),
        (b"Right Hand", None),
        (b"Track 1", None),
        (b"untitled", None),
        (b"01.", None),
        (b"\x00\x01", None),
        (b"", None),
    ],
)
def test_title(read, name, title):
    note = on(0, 60) + off(480, 60)
    assert read(smf(track(meta(0, 3, name), note), track(meta(0, 3, b"Later")))).title == title


@pytest.mark.parametrize(
    ("division", "second"), [(0xE728, 1_000), (0xE850, 1_920), (0xE350, 30_000 / 1_001 * 80)]
)
def test_smpte_time_goes_by_seconds(read, division, second):
    data = track(tempo(0, 100_000), on(2_400, 60), off(2_400, 60))
    midi = read(smf(data, division=division))
    times = [midi.notes["onset"][0], midi.notes["offset"][0]]
    assert times == pytest.approx([2_400 / second, 4_800 / second], rel=1e-6)
    assert midi.damage is None


def test_agrees_with_pretty_midi(tmp_path):
    path = tmp_path / "scale.mid"
    path.write_bytes(SCALE)
    parsed = pretty_midi.PrettyMIDI(str(path))
    expected = [
        (n.start, n.end, n.pitch, n.velocity, i.program)
        for i in parsed.instruments
        for n in i.notes
    ]
    midi = read_midi(path)
    assert np.array_equal(np.sort(midi.notes), np.sort(np.array(expected, NOTE_DTYPE)))
    assert midi.title == "A scale"


TICK = 0.001
note_rows = st.tuples(
    st.floats(0, 600, width=32),
    st.floats(0.015625, 30, width=32),
    st.integers(0, 127),
    st.integers(1, 127),
    st.sampled_from([0, 0, 24, 127]),
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(rows=st.lists(note_rows, min_size=1, max_size=30))
def test_round_trip(tmp_path, rows):
    notes = np.array([(a, a + b, *rest) for a, b, *rest in rows], dtype=NOTE_DTYPE)
    path = tmp_path / "round.mid"
    write_midi(notes, path)
    back = read_midi(path).notes
    assert np.all(np.diff(back["onset"]) >= 0)

    def order(array):  # by ticks, so that rounding does not reorder near ties
        ticks = np.round(array["onset"].astype(float) / TICK)
        return array[
            np.lexsort(
                (array["offset"], array["velocity"], array["pitch"], array["program"], ticks)
            )
        ]

    back, notes = order(back), order(notes)
    for name in ("pitch", "velocity", "program"):
        assert back[name].tolist() == notes[name].tolist()
    assert np.abs(back["onset"] - notes["onset"]).max() <= 0.6 * TICK
    assert np.abs(back["offset"] - notes["offset"]).max() <= 0.6 * TICK


def test_round_trip_of_overlapping_notes_of_one_pitch(tmp_path):
    rows = [(0, 4, 60, 80, 0), (1, 2, 60, 81, 0), (1.5, 3, 60, 82, 0), (3, 5, 60, 83, 0)]
    notes = np.array(rows, NOTE_DTYPE)
    write_midi(notes, tmp_path / "a.mid")
    assert np.array_equal(read_midi(tmp_path / "a.mid").notes, notes)


def test_round_trip_of_hours(tmp_path):
    notes = np.array([(0, 1, 60, 80, 0), (18_000, 18_001, 61, 80, 0)], NOTE_DTYPE)
    write_midi(notes, tmp_path / "a.mid")
    back = read_midi(tmp_path / "a.mid").notes
    assert np.allclose(back["onset"], notes["onset"], rtol=0, atol=0.005)


@pytest.mark.parametrize("row", [(-1, 1, 60, 1, 0), (0, np.nan, 60, 1, 0), (0, 1, 128, 1, 0)])
def test_write_refuses_what_midi_cannot_say(tmp_path, row):
    with pytest.raises(MidiError, match=r"^a\.mid: a note is out of MIDI's range"):
        write_midi(np.array([row], NOTE_DTYPE), tmp_path / "a.mid")


def test_write_to_nowhere(tmp_path):
    with pytest.raises(MidiError, match=r"^a\.mid: cannot be written \(No such file"):
        write_midi(np.array([(0, 1, 60, 1, 0)], NOTE_DTYPE), tmp_path / "none" / "a.mid")


def test_import_leaves_pretty_midi_alone():
    code = "import sys, mmid.music.midi\nsys.exit(bool({'pretty_midi', 'mido'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
