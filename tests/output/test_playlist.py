"""`mmid.output.playlist`: the recordings found, under the names of their pieces."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mmid.errors import MmidError
from mmid.identify.answer import Identification, Match
from mmid.identify.batch import Answered
from mmid.output.playlist import Playlist


def found(path: Path | str, matched: bool = True, piece: str = "bach/ärie.mid") -> Answered:
    match = Match(piece, 0.9, 0.5, 0.8, 0.3, 0.4, 1.0, 9.0, 1.0, 0)
    return Answered(Identification(str(path), 12.4, matched, (match,)))


def test_what_was_found_is_listed_with_relative_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lists").mkdir()
    sink = Playlist(Path("lists/found.m3u8"))
    sink.take(found(Path("takes") / "kyrié.wav"))
    sink.take(found(tmp_path / "lists" / "#1.wav", piece="two\nlines.mid"))
    sink.take(found("other.wav", matched=False))
    sink.take(Answered(Identification("bad.wav", 0.0, False, (), error="bad.wav: empty")))
    assert not Path("lists/found.m3u8").exists()
    sink.close()
    assert Path("lists/found.m3u8").read_text(encoding="utf-8").splitlines() == [
        "#EXTM3U",
        "#EXTINF:12,bach/ärie.mid",
        os.path.join("..", "takes", "kyrié.wav"),
        r"#EXTINF:12,two\nlines.mid",
        os.path.join(".", "#1.wav"),
    ]


def test_how_long_a_recording_lasts_is_unknown_of_a_span(tmp_path):
    sink = Playlist(tmp_path / "a.m3u8", whole=False)
    sink.take(found(tmp_path / "a.wav"))
    sink.close()
    assert "#EXTINF:-1,bach/ärie.mid\na.wav\n" in (tmp_path / "a.m3u8").read_text()


def test_a_name_that_is_no_unicode_is_kept(tmp_path):
    sink = Playlist(tmp_path / "a.m3u8")
    sink.take(found(tmp_path / os.fsdecode(b"\xff.wav")))
    sink.close()
    assert (tmp_path / "a.m3u8").read_bytes().endswith(b"\n\xff.wav\n")


def test_a_line_break_in_a_path_is_refused(tmp_path):
    sink = Playlist(tmp_path / "a.m3u8")
    with pytest.raises(MmidError, match=r"x\\ny\.wav: a line break cannot stand in a playlist"):
        sink.take(found(tmp_path / "x\ny.wav"))
    sink.close()
    assert (tmp_path / "a.m3u8").read_text() == "#EXTM3U\n"


def test_where_it_cannot_be_written_is_told_at_once(tmp_path):
    (tmp_path / "folder.m3u8").mkdir()
    for name, reason in (
        ("a.txt", r"a\.txt: not named \.m3u8; give such a name"),
        ("gone/a.m3u8", "no folder .*gone; make it first"),
        ("folder.m3u8", r"cannot be written \(it is a folder\)"),
    ):
        with pytest.raises(MmidError, match=reason):
            Playlist(tmp_path / name)
