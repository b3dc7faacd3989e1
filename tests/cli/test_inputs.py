"""`mmid.cli.inputs`: files, folders, patterns and lists as files to query."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mmid.cli.inputs import find_inputs
from mmid.music.folders import BadFile


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Return a folder with recordings at two depths, a score and a text, and work beside it."""
    for name in ("b.wav", "a.FLAC", "deep/c.opus", "deep/d.mid", "text.txt", "bare/e.txt"):
        path = tmp_path / "takes" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return Path("takes")


def names(named, kind="midi", listed=()) -> list[str]:
    found = find_inputs(named, kind, listed)
    return [f.reason if isinstance(f, BadFile) else f.as_posix() for f in found]


def test_a_folder_is_searched_through(folder):
    recordings = ["takes/a.FLAC", "takes/b.wav", "takes/deep/c.opus"]
    assert names(["takes"]) == recordings
    assert names(["takes"], "recordings") == [*recordings, "takes/deep/d.mid"]


def test_a_file_that_is_named_is_taken_whatever_it_is(folder):
    assert names(["takes/deep/d.mid", "takes/text.txt", "gone.wav"]) == [
        "takes/deep/d.mid",
        "takes/text.txt",
        "gone.wav",
    ]


def test_numbers_in_names_count(folder):
    for number in (10, 2, 1):
        (folder / f"{number}").mkdir()
        (folder / f"{number}" / "take 9.wav").touch()
    (folder / "2" / "take 10.wav").touch()
    ordered = [f"takes/{n}.wav" for n in ("1/take 9", "2/take 9", "2/take 10", "10/take 9")]
    assert names(["takes"])[:4] == names(["takes/*/take*"])[:4] == ordered


def test_patterns_are_expanded(folder, monkeypatch):
    assert names(["takes/*.wav"]) == ["takes/b.wav"]
    assert names(["takes/**/*.[of]*"]) == ["takes/deep/c.opus"]
    assert names(["tak?s"]) == names(["takes"])
    monkeypatch.setenv("HOME", str(folder.absolute()))
    assert names(["~/*.wav"]) == [(folder.absolute() / "b.wav").as_posix()]


def test_a_file_named_like_a_pattern_is_that_file(folder):
    (folder / "[live] b.wav").write_bytes(b"")
    assert names(["takes/[live] b.wav"]) == ["takes/[live] b.wav"]


def test_paths_come_from_a_list(folder):
    listed = [b"takes/b.wav\n", b"\n", b"takes/deep\r\n", "kyrié*.wav".encode()]
    found = names(["-", "takes/a.FLAC"], "midi", listed)
    assert found == ["takes/b.wav", "takes/deep/c.opus", "kyrié*.wav", "takes/a.FLAC"]


def test_names_that_are_no_unicode_survive(folder):
    (found,) = find_inputs(["-"], "midi", [b"\xff.wav\n"])
    assert os.fsencode(found) == b"\xff.wav"


def test_a_file_is_found_once(folder):
    (folder / "again.wav").symlink_to("b.wav")
    found = names(["takes/b.wav", "takes/../takes/b.wav", str(folder.absolute()), "takes"])
    assert found[0] == "takes/b.wav" and len(found) == 3


@pytest.mark.parametrize(
    ("named", "reason"),
    [
        ("takes/bare", "takes/bare: no recording, MIDI file or score in it"),
        ("takes/*.mp3", "takes/*.mp3: no file matches"),
        ("takes/ba*", "takes/ba*: no file matches"),
        ("-", "-: no path on standard input"),
    ],
)
def test_what_finds_nothing_says_so_once(folder, named, reason):
    assert names([named, "takes/b.wav", named]) == [reason, "takes/b.wav"]
