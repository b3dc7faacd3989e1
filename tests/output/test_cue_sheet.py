"""`mmid.output.cue_sheet` and `mmid.output.timelines`: what a timeline becomes."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from mmid.errors import MmidError
from mmid.identify.answer import Match
from mmid.identify.timeline import Played, Timeline
from mmid.output.answers import TIMELINE_COLUMNS
from mmid.output.cue_sheet import CueSheets, cue_time
from mmid.output.timelines import csv_timelines, hand_out_timelines, json_timelines

JIG = Match("tunes/jig.mid", 0.9, 0.5, 0.6, 0.3, 0.4, 1.0, 9.0, 1.0, 2, ("=b.mid",), '=The "Jig"')
AIR = replace(JIG, piece="air\x1b[2J.mid", title=None)


def recital(path: Path | str) -> Timeline:
    played = (Played(4.0, 60.0, JIG), Played(60.001, 75.0, JIG), Played(80.5, 6_100.0, AIR))
    return Timeline(str(path), 6_100.0, played)


def test_a_cue_sheet_has_a_track_a_piece_and_applause_as_its_pregap(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cues").mkdir()
    sink = CueSheets(Path("cues"), [Path("takes/concert.mp3"), Path("bad.wav")], start=10.0)
    sink.take(recital("takes/concert.mp3"))
    sink.take(Timeline("bad.wav", 0.0, error="bad.wav: empty"))
    sink.close()
    assert [path.name for path in Path("cues").iterdir()] == ["concert.cue"]
    assert Path("cues/concert.cue").read_text(encoding="utf-8").splitlines() == [
        f'FILE "{os.path.join("..", "takes", "concert.mp3")}" MP3',
        "  TRACK 01 AUDIO",
        "    TITLE \"=The 'Jig'\"",
        '    REM COMMENT "tunes/jig.mid"',
        "    INDEX 00 00:10:00",
        "    INDEX 01 00:14:00",
        "  TRACK 02 AUDIO",
        "    TITLE \"=The 'Jig'\"",
        '    REM COMMENT "tunes/jig.mid"',
        "    INDEX 01 01:10:00",
        "  TRACK 03 AUDIO",
        '    TITLE "air\\x1b[2J"',
        '    REM COMMENT "air\\x1b[2J.mid"',
        "    INDEX 00 01:25:00",
        "    INDEX 01 01:30:38",
    ]


def test_times_are_rounded_to_frames_and_minutes_go_on():
    assert [cue_time(s) for s in (0.0, 0.0066, 0.0067, 59.999, 6_100.5)] == [
        *("00:00:00", "00:00:00", "00:00:01", "01:00:00", "101:40:38")
    ]


def test_a_name_that_cannot_stand_in_a_cue_sheet_is_reported(tmp_path):
    sink = CueSheets(tmp_path / "a.cue", [Path('say "hi".wav')])
    with pytest.raises(MmidError, match="quotation mark cannot stand in a cue sheet"):
        sink.take(recital('say "hi".wav'))
    with pytest.raises(MmidError, match=r"a\.txt: not named \.cue"):
        CueSheets(tmp_path / "a.txt", [Path("a.wav")])
    assert list(tmp_path.iterdir()) == []


def test_timelines_as_rows_and_as_json():
    rows: list[str] = []
    objects: list[str] = []
    told: list[str] = []
    timelines = [recital("concert.wav"), Timeline("bad.wav", 0.0, error="bad.wav: empty")]
    sinks = [csv_timelines(rows.append), json_timelines(objects.append)]
    assert hand_out_timelines(timelines, sinks, told.append) == 1 and told == ["bad.wav: empty"]
    *played, bad = csv.DictReader(rows)
    assert tuple(bad) == TIMELINE_COLUMNS and bad["error"] == told[0] and bad["piece"] == ""
    assert [row["piece"] for row in played] == [JIG.piece, JIG.piece, "air\\x1b[2J.mid"]
    first = played[0]
    assert [first[n] for n in ("from", "to", "start", "end")] == ["4.0", "60.0", "1.0", "9.0"]
    assert first["also"] == "./=b.mid" and first["title"] == '\'=The "Jig"', "no formulas"
    whole, _ = map(json.loads, objects)
    assert whole["path"] == str(Path("concert.wav").absolute()) and len(whole["played"]) == 3


def test_what_one_sink_refuses_the_others_have(tmp_path):
    objects: list[str] = []
    told: list[str] = []
    name = 'say "hi".wav'
    sinks = [CueSheets(tmp_path / "a.cue", [Path(name)]), json_timelines(objects.append)]
    assert hand_out_timelines([recital(name)], sinks, told.append) == 1
    assert len(objects) == len(told) == 1
