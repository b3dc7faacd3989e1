"""Bars: counted in MIDI files, taken from scores as printed, named to the nearest beat."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from midi_bytes import DIVISION, meta, off, on, smf, tempo, track
from scores import (
    KERN,
    MUSESCORE,
    REPEATED_MUSESCORE,
    music_xml,
    needs_abc2midi,
    needs_musescore,
    needs_verovio,
    note,
)
from test_scores import C4, D4, repeat

from mmid.music.bars import MOST_BARS, NO_BARS, moment
from mmid.music.midi import midi_of
from mmid.music.midi_parser import MidiLimits, walk
from mmid.music.notes import NOTE_DTYPE
from mmid.music.scores.musescore_bars import musescore_bars
from mmid.music.scores.reading import read_music
from mmid.music.scores.tune_bars import marked


def signature(beats: int, power: int = 2, delta: int = 0) -> bytes:
    return meta(delta, 0x58, bytes([beats, power, 24, 8]))


def played(gaps: list[int]) -> bytes:
    """Return a track of notes so many ticks apart."""
    return track(*(on(0, 60 + n % 7) + off(gap, 60 + n % 7) for n, gap in enumerate(gaps)))


QUARTERS = [DIVISION] * 24
TWO_METRES = track(signature(3), tempo(0, 500_000), signature(4, 2, 6 * DIVISION))


def named(bars: str, *seconds: float) -> list[tuple[int, int]]:
    found = [moment(bars, time) for time in seconds]
    assert None not in found
    return [(one.bar, one.beat) for one in found if one]


def test_bars_of_a_midi_file_are_counted_by_its_signatures():
    bars = midi_of(smf(TWO_METRES, played(QUARTERS))).bars
    assert bars == "0 1 1 3 1.5;3 3 1 4 2"
    places = named(bars, 0, 1.0, 1.3, 1.5, 3.0, 6.5, 11.6)
    assert places == [(1, 1), (1, 3), (2, 1), (2, 1), (3, 1), (4, 4), (7, 2)]


def test_bars_follow_the_tempo():
    slower = track(signature(4), tempo(0, 500_000), tempo(4 * DIVISION, 1_000_000))
    bars = midi_of(smf(slower, played(QUARTERS))).bars
    assert named(bars, 2.0, 5.0, 10.0) == [(2, 1), (2, 4), (4, 1)] == named(bars, 2.1, 4.9, 9.6)


def test_a_beat_is_what_the_signature_names():
    bars = midi_of(smf(track(signature(6, 3)), played(QUARTERS))).bars
    assert named(bars, 0.25, 1.25, 1.5) == [(1, 2), (1, 6), (2, 1)]


@pytest.mark.parametrize(
    "data",
    [
        smf(played(QUARTERS)),
        smf(track(signature(0), signature(4, 7)), played(QUARTERS)),
        smf(TWO_METRES, played([401 + 97 * (n * n % 17) for n in range(60)])),
        smf(track(signature(1, 6)), played([DIVISION * (MOST_BARS // 16 + 1)])),
        smf(TWO_METRES, played(QUARTERS), division=0xE728),
        smf(track(tempo(0, 500_000), signature(4)), played([220] * 24), division=220),
    ],
    ids=["no signature", "no such one", "off the beat", "too many", "SMPTE", "made of seconds"],
)
def test_bars_that_a_midi_file_does_not_give_are_not_known(data):
    assert midi_of(data).bars == NO_BARS


@pytest.mark.parametrize(
    "bars",
    ["", "1 2", "0 1 1 4 0", "0 1 1 0 2", "0 1 1 4 2;", "0 1 1 4 2;x", f"{'9' * 400} 1 1 4 2"],
)
def test_of_damaged_bars_nothing_is_known(bars):
    assert moment(bars, 1.0) is None


def test_moments_outside_the_bars():
    bars = "5 1 1 4 2"
    assert moment(bars, None) is None and moment(bars, 4.0) is None
    assert str(moment(bars, 9.0)) == "bar 3, beat 1"


def bars_of(folder: Path, text: str, name: str) -> str:
    (folder / name).write_text(text)
    return read_music(folder / name).bars


@needs_verovio
def test_bars_of_a_score_bear_their_printed_numbers_again(tmp_path):
    upbeat, end = note("G"), "".join(map(note, "CDE"))
    text = music_xml(upbeat, repeat("forward") + C4, D4 + repeat("backward"), end)
    for number in range(1, 5):
        text = text.replace(f'<measure number="{number}"', f'<measure number="{number - 1}"', 1)
    bars = bars_of(tmp_path, text, "a.musicxml")
    assert bars == "0 0 4 1 1;1 1 1 4 4;9 1 1 4 4"


@needs_verovio
def test_a_bar_without_a_number_goes_on_with_the_one_before(tmp_path):
    text = music_xml(C4, note("C", 2), note("D", 2), D4)
    for number, printed in (("3", "X1"), ("4", "3")):
        text = text.replace(f'<measure number="{number}"', f'<measure number="{printed}"')
    bars = bars_of(tmp_path, text, "a.musicxml")
    assert named(bars, 0, 4, 6, 7, 8) == [(1, 1), (2, 1), (2, 3), (2, 4), (3, 1)]


@needs_verovio
def test_bars_without_numbers_are_counted(tmp_path):
    assert named(bars_of(tmp_path, KERN, "a.krn"), 0, 3, 4) == [(1, 1), (1, 4), (2, 1)]


@needs_musescore
def test_bars_of_musescore_bear_the_numbers_of_the_file(tmp_path):
    assert bars_of(tmp_path, MUSESCORE, "a.mscx") == "0 1 1 4 2"
    bars = bars_of(tmp_path, REPEATED_MUSESCORE, "b.mscx")
    assert bars == "0 0 4 1 0.5;0.5 1 1 4 2;4.5 1 1 4 2"


NO_NOTES = np.zeros(0, NOTE_DTYPE)


def musescore_file(*measures: str) -> str:
    bars = "".join(f"<Measure>{measure}</Measure>" for measure in measures)
    return f"<Staff id='1'>{bars}</Staff><Staff id='2'><Measure></Measure></Staff>"


def positions(count: int, *events: tuple[int, float]) -> str:
    told = "".join(f'<event elid="{n}" position="{seconds * 1000:.0f}"/>' for n, seconds in events)
    return '<element id="0"/>' * count + told


@pytest.mark.parametrize(
    ("measures", "numbers"),
    [
        (("", "", ""), [1, 2, 3]),
        (("<irregular>1</irregular>", "", ""), [0, 1, 2]),
        (("", "<noOffset>3</noOffset>", ""), [1, 5, 6]),
        (("", "<subtype>section</subtype>", ""), [1, 2, 1]),
        (("<startWithMeasureOne>0</startWithMeasureOne><subtype>section</subtype>", ""), [1, 2]),
        (("", "<multiMeasureRest>2</multiMeasureRest>", "", ""), [1, 2, 3]),
    ],
)
def test_measures_are_numbered_as_musescore_does(measures, numbers):
    song = walk(smf(track(signature(4)), played(QUARTERS)), MidiLimits())
    told = positions(len(numbers), *((n, 2.0 * n) for n in range(len(numbers))))
    bars = musescore_bars(musescore_file(*measures), told, song, NO_NOTES)
    assert [bar for bar, _ in named(bars, *(2.0 * n for n in range(len(numbers))))] == numbers


@pytest.mark.parametrize(
    ("onsets", "told", "bars"),
    [
        ([0, 2, 4], [0, 2, 4], "0 1 1 4 2"),
        ([0, 2, 4], [0, 1.7, 3.4], "0 1 1 4 2"),
        ([0, 2.5, 4.5], [0, 2.499, 4.501], "0 1 1 5 2.5;2.5 2 1 4 2"),
    ],
    ids=["as written", "a tempo that the positions miss", "a pause that the lengths miss"],
)
def test_bars_begin_with_the_notes(onsets, told, bars):
    notes = np.zeros(3, NOTE_DTYPE)
    notes["onset"] = onsets
    song = walk(smf(track(signature(4), tempo(0, 500_000)), played(QUARTERS[:12])), MidiLimits())
    found = musescore_bars(musescore_file("", "", ""), positions(3, *enumerate(told)), song, notes)
    assert found == bars


def test_a_measure_may_be_longer_than_its_signature_says():
    text = musescore_file("", "", "").replace("<Measure>", '<Measure len="2/4">', 1)
    song = walk(smf(track(signature(4)), played(QUARTERS[:10])), MidiLimits())
    found = musescore_bars(text, positions(3, (0, 0), (1, 1), (2, 3)), song, NO_NOTES)
    assert found == "0 1 3 2 1;1 2 1 4 2"


@pytest.mark.parametrize("told", ["", positions(2), positions(3, (0, 0)), positions(2, (9, 0))])
def test_bars_that_musescore_does_not_give_are_not_known(told):
    song = walk(smf(track(signature(4)), played(QUARTERS)), MidiLimits())
    assert musescore_bars(musescore_file("", ""), told, song, NO_NOTES) == NO_BARS


TUNE = """X:1
T:"A | B"
M:3/4
L:1/4
Q:1/4=60
K:C
|: G | CDE | "F|" F2 z :| |: A | GGG |1 F2 :|2 F3 |]
"""


@needs_abc2midi
def test_bars_of_a_tune_are_those_of_its_text(tmp_path):
    bars = bars_of(tmp_path, TUNE, "a.abc")
    places = named(bars, 0, 1, 4, 7, 8, 11, 14, 15, 18, 20, 21, 24)
    first = [(0, 3), (1, 1), (2, 1), (2, 3), (1, 1), (2, 1), (2, 3)]
    assert places == [*first, (3, 1), (4, 1), (4, 3), (3, 1), (5, 1)]


@needs_abc2midi
def test_an_ending_on_a_line_of_its_own_is_no_upbeat(tmp_path):
    text = TUNE.replace("|1 F2 :|2 F3 |]", "| [1 F2 :|\n [2 F2 |]")
    assert named(bars_of(tmp_path, text, "a.abc"), 21, 24) == [(3, 1), (5, 1)]


@needs_abc2midi
def test_only_the_first_voice_counts(tmp_path):
    voices = "V:1\\nCDE|FGA|\\nV:2\\nC,|C,|C,|C,|C,|C,|\\n[V:1] GGG|\\n".replace("\\n", "\n")
    text = TUNE.partition("|: ")[0] + voices
    assert bars_of(tmp_path, text, "a.abc") == "0 1 1 3 3"
    assert marked(text.encode()).count(b"control 103") == 4


def test_marking_bars_takes_little_time():
    for hostile in (
        b":" * 400_000,
        b"[" * 400_000,
        b'"' * 400_001,
        b"[A:" * 100_000,
        b"!" * 400_001,
    ):
        assert marked(b"K:C\n" + hostile)
