"""`library_folders` and what is said of it: folders added, kept, dropped; files skipped, left
out."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mmid.cli.app import app
from mmid.cli.inputs import find_inputs
from mmid.errors import LibraryIndexError, MmidError
from mmid.index.build import update_index
from mmid.index.folder import LibraryIndex
from mmid.index.maintenance import describe, left_out, merge_indexes, remove_pieces
from mmid.index.update_plan import UpdateOptions
from mmid.model.checkpoint import Checkpoint
from mmid.music.folders import BadFile
from mmid.music.library import read_library, read_piece
from mmid.music.midi import write_midi

DRUMS = bytes.fromhex(
    "4d54686400000006000000010060 4d54726b0000000c 00992440 60892400 00ff2f00".replace(" ", "")
)
"""A MIDI file of one stroke of a drum."""


@pytest.fixture
def folders(tmp_path, draw_notes, write_wav, play) -> dict[str, Path]:
    """Return folders of two tunes, of three others, and of two recordings."""
    made = {name: tmp_path / "music" / name for name in ("one", "two", "sound")}
    for folder in made.values():
        folder.mkdir(parents=True)
    for seed in range(5):
        write_midi(draw_notes(seed), made["one" if seed < 2 else "two"] / f"{seed}.mid")
    for seed in range(2):
        write_wav(made["sound"] / f"{seed}.wav", play(draw_notes(seed), 5.0))
    return made


@pytest.fixture
def index(tmp_path) -> Path:
    return tmp_path / "index"


@pytest.fixture
def mmid(index, tiny_model, monkeypatch):
    """Return a function that runs a command on the index with a tiny model."""
    monkeypatch.setattr("mmid.model.loading.load_model", lambda *_args: tiny_model)

    def run(*arguments: object):
        return CliRunner().invoke(app, [*map(str, arguments), "--index", str(index)])

    return run


def names(index: Path) -> list[str]:
    return sorted(entry.name for entry in LibraryIndex(index, None).entries)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


BOTH = ["one/0.mid", "one/1.mid", "two/2.mid", "two/3.mid", "two/4.mid"]


# ---- adding, keeping, dropping


def test_a_folder_is_added_and_nothing_is_lost(mmid, index, folders):
    first = mmid("build-index", folders["one"])
    assert first.exit_code == 0 and "2 added\n" in first.stderr
    second = mmid("build-index", folders["two"])
    assert second.exit_code == 0 and "gone" not in second.stderr
    assert f"{folders['one']}: 2 unchanged\n" in second.stderr
    assert f"{folders['two']}: 3 added\n" in second.stderr
    assert names(index) == BOTH
    before = snapshot(index)
    third = mmid("build-index", folders["sound"])
    assert third.exit_code == 1 and isinstance(third.exception, LibraryIndexError)
    said = str(third.exception)
    assert f"{index}: holds MIDI files, and {folders['sound']} recordings; " in said
    assert "--index" in said and "--replace" in said and "\n" not in said
    assert snapshot(index) == before


def test_no_folder_means_all_that_are_followed(mmid, index, folders, draw_notes):
    mmid("build-index", folders["one"])
    mmid("build-index", folders["two"])
    write_midi(draw_notes(9), folders["one"] / "9.mid")
    (folders["two"] / "2.mid").unlink()
    result = mmid("build-index")
    assert result.exit_code == 0
    assert f"{folders['one']}: 2 unchanged, 1 added\n" in result.stderr
    assert f"{folders['two']}: 2 unchanged, 1 gone\n" in result.stderr
    assert names(index) == ["one/0.mid", "one/1.mid", "one/9.mid", "two/3.mid", "two/4.mid"]


def test_folders_are_dropped_when_that_is_asked_for(mmid, index, folders):
    mmid("build-index", folders["one"])
    result = mmid("build-index", folders["two"], "--replace")
    assert f"{folders['two']}: 3 added\n" in result.stderr
    assert f"{folders['one']}: 2 gone\n" in result.stderr
    assert names(index) == ["2.mid", "3.mid", "4.mid"]
    result = mmid("build-index", folders["sound"], "--replace")
    assert result.exit_code == 0 and "2 recordings" in result.stderr
    assert LibraryIndex(index, None).kind == "recordings"


def test_a_folder_is_removed_whole(mmid, index, folders):
    mmid("build-index", folders["one"], folders["two"])
    result = mmid("index", "remove", folders["one"])
    assert result.exit_code == 0 and "removed: one/1.mid" in result.stderr
    assert names(index) == ["two/2.mid", "two/3.mid", "two/4.mid"]
    result = mmid("build-index")
    assert result.exit_code == 0 and "3 unchanged\n" in result.stderr
    assert describe(LibraryIndex(index, None)).folders == (str(folders["two"]),)
    with pytest.raises(LibraryIndexError, match="nothing would be left"):
        remove_pieces(index, [str(folders["two"])])


@pytest.mark.parametrize("harm", ["gone", "empty"])
def test_a_folder_that_is_not_there_keeps_its_pieces(mmid, index, folders, harm, make_model):
    mmid("build-index", folders["one"], folders["two"])
    folders["one"].rename(folders["one"].with_name("away"))
    if harm == "empty":
        folders["one"].mkdir()
    result = mmid("build-index")
    assert result.exit_code == 0 and names(index) == BOTH
    assert f"{folders['one']}: not there, or empty; 2 of the index's MIDI files" in result.stderr
    assert mmid("build-index", "--strict").exit_code == 1
    with pytest.raises(LibraryIndexError, match="one is not there, and its pieces would have"):
        update_index(index, [], make_model(1))
    with pytest.raises(MmidError, match=r"no such folder|no MIDI files"):
        update_index(index, [folders["one"]], make_model(1))
    assert names(index) == BOTH
    assert "2 gone" in mmid("build-index", "--replace").stderr
    assert names(index) == ["2.mid", "3.mid", "4.mid"]


def test_a_folder_that_moved_is_followed_there(mmid, index, folders):
    mmid("build-index", folders["one"], folders["two"])
    moved = folders["one"].rename(folders["one"].with_name("here"))
    result = mmid("build-index", moved)
    assert f"{moved}: 2 moved\n" in result.stderr and "not there" not in result.stderr
    assert "not there" not in mmid("build-index").stderr
    assert names(index) == ["here/0.mid", "here/1.mid", *BOTH[2:]]


def test_all_folders_gone_is_an_error_that_changes_nothing(mmid, index, folders):
    mmid("build-index", folders["one"])
    before = snapshot(index)
    shutil.rmtree(folders["one"])
    for options in ([], ["--replace"]):
        result = mmid("build-index", *options)
        assert result.exit_code == 1 and "one: not there" in str(result.exception)
    assert snapshot(index) == before


def test_a_folder_that_cannot_be_read_keeps_its_pieces(index, folders, tiny_model, monkeypatch):
    top = folders["one"].parent
    update_index(index, [folders["one"], folders["two"]], tiny_model)
    update_index(index, [top], tiny_model, "midi")
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("two"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", refuse)
        report = update_index(index, [], tiny_model)
    assert (report.unchanged, report.kept, report.gone) == (2, 3, 0)
    assert [bad.path for bad in report.broken] == [folders["two"]]
    assert names(index) == BOTH


# ---- folders that overlap


def test_nested_folders_index_no_file_twice(index, folders, tiny_model):
    top = folders["one"].parent
    update_index(index, [folders["one"]], tiny_model)
    report = update_index(index, [top], tiny_model)
    assert (report.unchanged, report.added, report.items) == (2, 3, 5)
    assert describe(LibraryIndex(index, None)).folders == (str(top),)
    report = update_index(index, [folders["two"]], tiny_model)
    assert (report.unchanged, report.added) == (5, 0)
    assert describe(LibraryIndex(index, None)).folders == (str(top),)
    assert names(index) == BOTH


def test_links_index_no_file_twice(index, folders, tiny_model, tmp_path):
    (folders["one"] / "link.mid").symlink_to(folders["one"] / "0.mid")
    (tmp_path / "again").symlink_to(folders["one"])
    report = update_index(index, [folders["one"], tmp_path / "again"], tiny_model)
    assert report.items == 2


# ---- kinds


def test_an_index_of_recordings_stays_one(mmid, index, folders):
    mmid("build-index", folders["sound"])
    shutil.copy(folders["one"] / "0.mid", folders["sound"])
    result = mmid("build-index")
    assert result.exit_code == 0 and "2 unchanged\n" in result.stderr
    assert "skipped: 1 MIDI file (.mid)" in result.stderr
    assert mmid("build-index", folders["one"]).exit_code == 1
    assert mmid("build-index", "--kind", "midi").exit_code == 1
    assert names(index) == ["0.wav", "1.wav"]


def test_how_dense_an_index_is_does_not_leak_to_another_kind(index, folders, tiny_model):
    update_index(index, [folders["one"]], tiny_model, options=UpdateOptions(every=8))
    update_index(index, [folders["two"]], tiny_model)
    assert describe(LibraryIndex(index, None)).recipe == {"every": 8}
    update_index(index, [folders["sound"]], tiny_model, options=UpdateOptions(replace=True))
    assert describe(LibraryIndex(index, None)).recipe == {"every": 1}


# ---- looking before


def test_a_dry_run_says_all_and_writes_nothing(mmid, index, folders, draw_notes):
    empty = mmid("build-index", folders["one"], "--dry-run")
    assert "2 added\n2 pieces, " in empty.stdout and not index.exists()
    mmid("build-index", folders["one"])
    write_midi(draw_notes(9), folders["one"] / "0.mid")
    (folders["one"] / "1.mid").unlink()
    (folders["two"] / "drums.mid").write_bytes(DRUMS)
    before = snapshot(index)
    result = mmid("build-index", folders["two"], "--dry-run")
    assert result.exit_code == 0 and snapshot(index) == before
    assert result.stdout.splitlines()[:3] == [
        f"{folders['one']}: 1 changed, 1 gone",
        f"{folders['two']}: 3 added, 1 left out",
        "left out: drums.mid: no notes but drums",
    ]
    assert "4 pieces, " in result.stdout and "nothing was written" in result.stdout
    assert f"{folders['one']}: 1 changed, 1 gone\n" in mmid("build-index", folders["two"]).stderr


def test_a_dry_run_leaves_the_work_of_a_stopped_build(index, folders, tiny_model):
    def stop(_what, done, _total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        update_index(index, [folders["two"]], tiny_model, progress=stop)
    before = snapshot(index)
    assert before
    update_index(index, [folders["one"]], tiny_model, options=UpdateOptions(every=4, dry_run=True))
    assert snapshot(index) == before


# ---- what is skipped and left out


def test_what_is_skipped_is_counted_by_type(mmid, folders):
    for name in ("a.gp5", "b.NWC", "c.sib", "song.mp4", "take.flac", "notes.txt", "._0.mid"):
        (folders["one"] / name).write_bytes(b"")
    said = mmid("build-index", folders["one"]).stderr
    assert "skipped: 3 scores (.gp5, .nwc, .sib): export as MIDI or MusicXML to index" in said
    assert "skipped: 1 recording (.flac)" in said and "skipped: 1 video (.mp4)" in said
    assert "skipped: 1 macOS shadow file (._)" in said and "txt" not in said


def test_a_folder_of_scores_says_what_to_do(mmid, index, tmp_path):
    (tmp_path / "sheets").mkdir()
    (tmp_path / "sheets" / "a.gp5").touch()
    result = mmid("build-index", tmp_path / "sheets")
    assert result.exit_code == 1 and not index.exists()
    assert "1 score (.gp5): export as MIDI or MusicXML" in str(result.exception)


@pytest.mark.parametrize(
    "suffix", [".mp4", ".mov", ".mkv", ".webm", ".aac", ".AIF", ".wma", ".caf", ".3gp"]
)
def test_all_that_sounds_is_read_from_folders(index, folders, tiny_model, suffix):
    (folders["sound"] / "0.wav").rename(folders["sound"] / f"x{suffix}")  # opened by its content
    assert update_index(index, [folders["sound"]], tiny_model).items == 2
    found = find_inputs([str(folders["sound"])], "midi", [])
    assert folders["sound"] / f"x{suffix}" in found


def test_riff_midi_is_read_from_folders(index, folders, tiny_model):
    tune = (folders["one"] / "0.mid").read_bytes()
    chunk = b"RMIDdata" + len(tune).to_bytes(4, "little") + tune
    path = folders["one"] / "0.mid"
    path.with_suffix(".rmi").write_bytes(b"RIFF" + len(chunk).to_bytes(4, "little") + chunk)
    path.unlink()
    assert update_index(index, [folders["one"]], tiny_model).items == 2
    pieces, _ = read_library([folders["one"]], jobs=1)
    assert [piece.name for piece in pieces] == ["0.rmi", "1.mid"]


def test_what_is_left_out_fails_once_and_is_kept(mmid, index, folders):
    one = folders["one"]
    (one / "drums.mid").write_bytes(DRUMS)
    (one / "empty.mid").write_bytes(b"")
    first = mmid("build-index", one)
    assert first.exit_code == 0 and "left out: empty.mid: empty file" in first.stderr
    (one / "0.mid").write_bytes(b"MThd")
    broken = mmid("build-index")
    assert broken.exit_code == 1
    assert "left out: 0.mid: " in broken.stderr and "the index held it before" in broken.stderr
    assert "1 of 4 files could not be read" in broken.stderr
    assert mmid("build-index").exit_code == 0 and mmid("build-index", "--strict").exit_code == 1
    listed = json.loads(mmid("index", "list", "--left-out", "--json").stdout)
    whys = {name: read_piece(one / name, one).why for name in ("0.mid", "drums.mid", "empty.mid")}
    assert listed == [{"name": name, "reason": why} for name, why in whys.items()]
    table = mmid("index", "list", "--left-out").stdout
    assert "3 left out" in table and "no notes but drums" in table
    assert [piece["name"] for piece in json.loads(mmid("index", "list", "--json").stdout)] == [
        "1.mid"
    ]
    assert json.loads(mmid("index", "info", "--json").stdout)["left_out"] == 3
    (one / "drums.mid").unlink()
    mmid("build-index")
    assert len(left_out(LibraryIndex(index, None))) == 2


def test_what_is_left_out_goes_with_its_folder_and_is_merged(index, folders, tiny_model, tmp_path):
    for name in ("one", "two"):
        (folders[name] / "drums.mid").write_bytes(DRUMS)
        update_index(tmp_path / name, [folders[name]], tiny_model)
    merge_indexes(index, [tmp_path / "one", tmp_path / "two"])
    held = [item.name for item in left_out(LibraryIndex(index, None))]
    assert held == ["one/drums.mid", "two/drums.mid"]
    remove_pieces(index, [str(folders["one"])])
    assert [item.name for item in left_out(LibraryIndex(index, None))] == ["two/drums.mid"]


def test_an_index_made_before_the_list_was_kept_opens_and_works(index, folders, tiny_model):
    update_index(index, [folders["one"]], tiny_model)
    path = index / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["left_out"]
    path.write_text(json.dumps(manifest))
    opened = LibraryIndex(index, tiny_model)
    assert left_out(opened) == () and describe(opened).left_out == 0
    report = update_index(index, [folders["two"]], tiny_model)
    assert (report.unchanged, report.added, report.gone) == (2, 3, 0)


@pytest.mark.parametrize("harm", [3, [["a.mid"]], [["a.mid", 3]], ["ab"], [{"a": 1, "b": 2}]])
def test_a_list_of_another_kind_is_damage(index, folders, tiny_model, harm):
    update_index(index, [folders["one"]], tiny_model)
    path = index / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"left_out": harm}))
    with pytest.raises(LibraryIndexError, match="damaged"):
        LibraryIndex(index, tiny_model)


# ---- an index that does not name its library


def test_an_index_that_does_not_tell_its_library_loses_nothing(
    index, folders, tiny_model: Checkpoint
):
    from mmid.index.build import build_index

    pieces, _ = read_library([folders["one"]], jobs=1)
    build_index(index, pieces, tiny_model)
    with pytest.raises(LibraryIndexError, match="2 of its pieces are not in what you named"):
        update_index(index, [folders["two"]], tiny_model)
    assert names(index) == ["0.mid", "1.mid"]
    assert update_index(index, [folders["one"], folders["two"]], tiny_model).items == 5


def test_a_bad_file_gives_its_reason_without_its_name():
    assert BadFile(Path("x/a.mid"), "a.mid: empty file").why == "empty file"
    assert BadFile(Path("x/a.wav"), "x/a.wav: silent").why == "silent"
    assert BadFile(Path("x/a.wav"), "cannot").why == "cannot"
