"""`mmid.output.page.piano_roll_svg`: the passage found as a drawing."""

from __future__ import annotations

import re

import numpy as np

from mmid.music.notes import NOTE_DTYPE
from mmid.output.evidence import Passage
from mmid.output.page.piano_roll_svg import LEAST_ROWS, MOST_TICKS, UNITS, draw_roll


def passage(notes, start=10.0, end=20.0) -> Passage:
    array = np.array([(on, off, pitch, 64, 0) for on, off, pitch in notes], NOTE_DTYPE)
    query = np.linspace(0, end - start, 101)
    return Passage(start, end, query, start + query, array)


def lines(text: str) -> list[tuple[int, int, int]]:
    return [tuple(map(int, line)) for line in re.findall(r"M(\d+) (\d+)h(\d+)", text)]


def test_notes_lie_where_they_sound_in_the_passage():
    roll = draw_roll(passage([(9, 11, 60), (12, 13.5, 72), (19, 25, 48)]), 60)
    assert (roll.start, roll.width, roll.count, roll.left_out) == (10.0, 10 * UNITS, 3, 0)
    (first, second, third) = lines(roll.notes)
    assert first[::2] == (0, 100) and second[::2] == (200, 150) and third[::2] == (900, 100)
    assert first[1] - second[1] == 12 == third[1] - first[1]
    assert second[1] >= 0 and third[1] < roll.height
    named = {tick.name: tick.at for tick in roll.octaves}
    for row, name in ((first[1], "C4"), (second[1], "C5"), (third[1], "C3")):
        assert abs(named[name] - 100 * (row + 0.5) / roll.height) < 0.01


def test_one_pitch_is_no_slab_and_a_note_is_never_nothing():
    roll = draw_roll(passage([(12, 12.001, 60)]), 60)
    assert roll.height == LEAST_ROWS
    ((_, row, length),) = lines(roll.notes)
    assert length == 1 and LEAST_ROWS // 3 < row < 2 * LEAST_ROWS // 3


def test_only_what_is_heard_is_drawn():
    roll = draw_roll(passage([(11, 12, 60), (18, 19, 62)]), 4.0)
    assert roll.count == 1 and roll.width == 4 * UNITS
    assert roll.query[-1] == 4.0 and roll.piece[-1] == 14.0


def test_a_path_that_leaps_back_is_drawn_whole():
    found = passage([(11, 12, 60), (18, 19, 62)])
    turned = Passage(10.0, 20.0, found.query, np.roll(found.piece, 50), found.notes)
    roll = draw_roll(turned, 60)
    assert roll.count == 2 and (roll.start, roll.width) == (10.0, 10 * UNITS)
    assert roll.piece == turned.piece.round(2).tolist()


def test_too_many_notes_are_counted(monkeypatch):
    monkeypatch.setattr("mmid.output.page.piano_roll_svg.MOST_NOTES", 5)
    notes = [(10 + i, 10.5 + i, 60) for i in range(9)]
    roll = draw_roll(passage(notes), 60)
    assert (roll.count, roll.left_out, len(lines(roll.notes))) == (5, 4, 5)


def test_times_are_round_and_few():
    for seconds in (0.01, 0.6, 3, 45, 61, 500, 20_000):
        roll = draw_roll(passage([(10, 10 + seconds, 60)], 10, 10 + seconds), seconds)
        assert len(roll.times) <= MOST_TICKS
        assert all(0 <= tick.at <= 100 for tick in roll.times)
    roll = draw_roll(passage([(0, 60, 60)], 58.0, 66.0), 60)
    assert [tick.name for tick in roll.times][:3] == ["0:59.0", "1:00.0", "1:01.0"]
    assert roll.times[1].at == 25


def test_no_notes_no_roll():
    assert draw_roll(passage([]), 60) is None
    assert draw_roll(passage([(30, 31, 60)]), 60) is None
