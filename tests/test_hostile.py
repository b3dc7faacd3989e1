"""Files that no honest program writes, each with the outcome that docs/security.md tells."""

from __future__ import annotations

import json
import os
import struct
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from fuzz.mutators import varlen

import mmid.music.spectrogram
from mmid.cli.index import pieces_table
from mmid.errors import LibraryIndexError, MmidError, ModelError, label
from mmid.identify.answer import Identification, Match
from mmid.identify.batch import Answered, answer_files, hand_out
from mmid.identify.identifier import Identifier
from mmid.identify.timeline import Timeline
from mmid.index.build import update_index
from mmid.index.folder import LibraryIndex
from mmid.model.checkpoint import load_checkpoint, load_tensors, save_checkpoint, save_tensors
from mmid.music.grid import FeatureParams
from mmid.music.library import read_library
from mmid.music.midi import write_midi
from mmid.music.pairs import read_pairs
from mmid.output.answers import answer_heading, answer_line, answer_table, flat_answer
from mmid.output.page.page import Page
from mmid.output.playlist import Playlist
from mmid.output.sidecar import Origin, Sidecars
from mmid.output.sinks import CsvRows, JsonLines
from mmid.output.verdict import answer_view
from mmid.system.tables import info_table

DOCUMENT = Path(__file__).parents[1] / "docs" / "security.md"

# ---- a library of hostile files


def smf(*events: bytes, division: int = 480, title: bytes = b"") -> bytes:
    """Write a file of one track."""
    named = b"\0\xff\x03" + varlen(len(title)) + title if title else b""
    body = named + b"".join(events) + b"\0\xff\x2f\0"
    head = struct.pack(">IHHH", 6, 0, 1, division)
    return b"MThd" + head + b"MTrk" + struct.pack(">I", len(body)) + body


def note(delta: int, pitch: int = 60, channel: int = 0) -> bytes:
    on, off = 0x90 | channel, 0x80 | channel
    return varlen(delta) + bytes([on, pitch, 64, 60, off, pitch, 0])


TUNE = b"".join(note(120, 50 + i % 20) for i in range(40))

REFUSED = {
    "a tick delta of 2^28 - 1.mid": (smf(note(2**28 - 1)), "longer than 100000000 ticks"),
    "a million notes.mid": (smf(note(1) * 1_000_000), "more than 300000 notes"),
    "no notes.mid": (smf(), "no notes"),
    "only drums.mid": (smf(note(0, channel=9)), "no notes but drums"),
    "empty.mid": (b"", "empty file"),
    "17 MB.mid": (bytes(17 * 2**20), "larger than 16777216 bytes"),
}
DAMAGED = {
    "a tick delta of 2^28.mid": (smf(TUNE, b"\x81\x80\x80\x80\0\x90\x3c\x40"), "3 bytes skipped"),
    "zero division.mid": (smf(TUNE, division=0), "time division of zero read as 480"),
    "zero tempo.mid": (smf(b"\0\xff\x51\x03\0\0\0", TUNE), "1 message mended"),
    "absurd tempo.mid": (smf(b"\0\xff\x51\x03\0\0\x02", TUNE), "1 message mended"),
    "cut short.mid": (smf(TUNE)[:-3], "1 byte skipped, 3 bytes missing"),
}
TAKEN = {
    "SMPTE.mid": smf(TUNE, division=0xE728),
    "all at one instant.mid": smf(*(b"\0\x90" + bytes([30 + i, 64]) for i in range(80))),
    "escapes in the title.mid": smf(TUNE, title=b"\x1b[31mred\x07\n::error::x [bold]y[/]"),
    "broken encoding.mid": smf(TUNE, title=b"\xff\xfe\xfd caf\xe9"),
}


@pytest.fixture
def library(tmp_path, midi_folder) -> Path:
    """Add hostile files, links, pipes and names to a folder of six pieces."""
    for name, data in TAKEN.items():
        (midi_folder / name).write_bytes(data)
    for name, (data, _) in [*REFUSED.items(), *DAMAGED.items()]:
        (midi_folder / name).write_bytes(data)
    os.mkfifo(midi_folder / "pipe.mid")
    (midi_folder / "endless.mid").symlink_to("/dev/zero")
    (midi_folder / "itself.mid").symlink_to("itself.mid")
    (midi_folder / "more" / "up").symlink_to(midi_folder)
    tune = midi_folder / "piece 0.mid"
    for odd in (b"line\nbreak 'and\" quotes.mid", b"\x1b]0;title\x07\x1b[31m.mid", b"caf\xe9.mid"):
        Path(os.fsdecode(os.path.join(os.fsencode(midi_folder), odd))).write_bytes(
            tune.read_bytes()
        )
    return midi_folder


def test_a_library_of_hostile_files_is_indexed_but_for_them(library, tmp_path, tiny_model):
    for _ in range(2):  # the second time files are hashed as well
        report = update_index(tmp_path / "index", [library], tiny_model, jobs=1)
        reasons = {bad.path.name: bad.reason for bad in report.bad}
        assert {name for name in reasons} == {*REFUSED, "pipe.mid", "endless.mid", "itself.mid"}
        assert all(why in reasons[name] for name, (_, why) in REFUSED.items())
        assert "not a regular file" in reasons["pipe.mid"] and "regular" in reasons["endless.mid"]
        assert (
            "symbolic links" in reasons["itself.mid"] or "cannot be read" in reasons["itself.mid"]
        )
        assert all(reason.isprintable() for reason in reasons.values())
        assert report.items == 6 + len(TAKEN) + len(DAMAGED) + 3
    titles = {e.name: e.title for e in LibraryIndex(tmp_path / "index", None).entries}
    assert titles["escapes in the title.mid"] == "[31mred ::error::x [bold]y[/]"
    assert "all at one instant.mid" in titles


def test_a_damaged_file_of_a_library_is_warned_of_once(library, tmp_path, tiny_model, caplog):
    caplog.set_level("WARNING", "mmid")
    for _ in range(2):
        update_index(tmp_path / "index", [library], tiny_model, jobs=1)
    assert sorted(caplog.messages) == sorted(
        f"{name}: damaged: {what}" for name, (_, what) in DAMAGED.items()
    )
    caplog.clear()
    read_library([library], jobs=1)
    assert len(caplog.messages) == len(DAMAGED)


def test_a_damaged_file_that_is_asked_about_is_warned_of(tmp_path, opened, caplog):
    path = tmp_path / "cut short.mid"
    path.write_bytes(DAMAGED[path.name][0])
    assert ask(opened, path).error is None
    assert caplog.messages == [f"{path}: damaged: {DAMAGED[path.name][1]}"]


def test_a_folder_that_cannot_be_read_is_not_taken_for_gone(tmp_path, midi_folder, monkeypatch):
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("more"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    pieces, bad = read_library([midi_folder], jobs=1)
    assert len(pieces) == 5 and [file.path.name for file in bad] == ["more"]


# ---- recordings


@pytest.fixture(scope="module")
def opened(tmp_path_factory, tiny_model, draw_notes) -> Identifier:
    folder = tmp_path_factory.mktemp("opened")
    (folder / "library").mkdir()
    for seed in range(3):
        write_midi(draw_notes(seed), folder / "library" / f"{seed}.mid")
    update_index(folder / "index", [folder / "library"], tiny_model, jobs=1)
    return Identifier(tiny_model, LibraryIndex(folder / "index", tiny_model))


def float_wav(samples: np.ndarray, rate: int = 22_050, channels: int = 1) -> bytes:
    data = np.asarray(samples, "<f4").tobytes()
    form = struct.pack("<HHIIHH", 3, channels, rate, rate * 4 * channels, 4 * channels, 32)
    chunks = b"fmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WAVE" + chunks


def ask(opened: Identifier, path: Path) -> Identification:
    """Ask as a batch does."""
    [answered] = answer_files(opened, [path])
    json.dumps(answered.answer.to_dict(), allow_nan=False)
    assert answered.answer.error is None or answered.answer.error.isprintable()
    return answered.answer


LOUD = np.sin(np.arange(22_050) / 20)
HEARD = {
    "NaN.wav": float_wav(np.full(30_000, np.nan)),
    "infinite.wav": float_wav(np.where(np.arange(30_000) % 2, np.inf, -np.inf)),
    "one sample.wav": float_wav(np.ones(1)),
    "DC only.wav": float_wav(np.ones(40_000)),
    "silence.wav": float_wav(np.zeros(40_000)),
    "1e30 loud.wav": float_wav(LOUD * 1e30),
    "768 kHz, 32 channels.wav": float_wav(np.zeros(32 * 768_00), 768_000, 32),
}
UNHEARD = {
    "no sample.wav": (float_wav(np.zeros(0)), "no sound"),
    "1 MHz.wav": (float_wav(LOUD, 1_000_000), "outside 1000..768000"),
    "1 Hz.wav": (float_wav(LOUD, 1), "outside 1000..768000"),
    "65 channels.wav": (float_wav(np.zeros(650), channels=65), "65 channels, more than 64"),
    "text.wav": (b"[red]hello", "not an audio file that can be read"),
    "pointer.wav": (b"version https://git-lfs.github.com/spec/v1\n", "run git lfs pull"),
    "page.mp3": (b"<!DOCTYPE html><html>", "this is an HTML page, not the file itself"),
    "zip.wav": (b"PK\x03\x04" + bytes(99), "this is a zip archive, not an audio file: unpack it"),
    "song.wav": (smf(TUNE), "this is a MIDI file, not an audio file: name it .mid"),
    "unfinished.m4a": (
        b"\0\0\0\x1cftypM4A " + bytes(16) + b"\0\0\1\0mdat" + bytes(248),
        "the recording was not finished",
    ),
    "empty.wav": (b"", "the file is empty"),
}


@pytest.mark.parametrize("name", HEARD)
def test_strange_sound_has_an_answer(tmp_path, opened, name):
    (tmp_path / name).write_bytes(HEARD[name])
    answer = ask(opened, tmp_path / name)
    assert answer.error is None and answer.seconds < 3


@pytest.mark.parametrize("name", UNHEARD)
def test_no_sound_is_a_clear_line(tmp_path, opened, name):
    data, why = UNHEARD[name]
    (tmp_path / name).write_bytes(data)
    assert why in (ask(opened, tmp_path / name).error or "")


def test_hours_of_silence_end_at_the_limit(tmp_path, opened, monkeypatch):
    """Ten hours of silence take 36 MB of mp3; here the limit is a minute, and the file ten."""
    path = tmp_path / "long.mp3"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libmp3lame", rate=8_000, layout="mono")
        stream.bit_rate = 8_000
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8_000 * 600), np.int16), "s16p", "mono")
        frame.sample_rate = 8_000
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    assert path.stat().st_size < 700_000
    monkeypatch.setattr(mmid.music.spectrogram, "MAX_SECONDS", 60.0)
    assert "too long; query a span" in (ask(opened, path).error or "")
    [answered] = answer_files(opened, [path], duration=10.0)
    assert answered.answer.error is None


def test_a_compressed_bomb_is_streamed(tmp_path, opened):
    """A minute at 96 kHz in 8 channels, 184 MB as samples, lies in a flac of some KB."""
    import resource

    path = tmp_path / "bomb.flac"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("flac", rate=96_000, layout="7.1")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8 * 96_000), np.int16), "s16", "7.1")
        frame.sample_rate = 96_000
        for second in range(60):
            frame.pts = second * 96_000
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    assert path.stat().st_size < 200_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert ask(opened, path).error is None
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024


# ---- what others made: indexes, models, sidecars, lists


def test_pipes_in_the_place_of_files_are_not_waited_for(tmp_path, opened, recording):
    index = tmp_path / "index"
    index.mkdir()
    os.mkfifo(index / "manifest.json")
    with pytest.raises(LibraryIndexError, match="no index there"):
        LibraryIndex(index, None)
    os.mkfifo(recording.with_name(recording.name + ".mmid.json"))
    with pytest.raises(MmidError, match="cannot be written"):
        Sidecars(Origin("a", "b")).take(Answered(replace(ask(opened, recording))))
    os.mkfifo(tmp_path / "pairs.csv")
    with pytest.raises(MmidError, match="not a regular file"):
        read_pairs(tmp_path)


def test_json_nested_too_deep_is_damage(tmp_path, opened):
    folder = opened.index.folder
    copy = tmp_path / "index"
    copy.mkdir()
    (copy / "manifest.json").write_text("[" * 100_000)
    with pytest.raises(LibraryIndexError, match="damaged"):
        LibraryIndex(copy, None)
    (copy / "manifest.json").write_bytes(b" " * (17 * 2**20))
    with pytest.raises(LibraryIndexError, match="damaged"):
        LibraryIndex(copy, None)
    assert (folder / "manifest.json").is_file()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"window": 2**40}, "out of range: window"),
        ({"bands": 10**9}, "out of range: bands"),
        ({"hop": 0}, "out of range: hop"),
        ({"compression": float("nan")}, "out of range: compression"),
        ({"scale": "x"}, "of another kind: scale"),
        ({"high": 20_000.0}, "do not go together"),
    ],
)
def test_a_grid_beyond_reason_is_refused(change, reason):
    with pytest.raises(MmidError, match=reason):
        FeatureParams.from_dict(change)


@pytest.mark.parametrize(
    ("part", "value", "reason"),
    [
        ("widths", [60_000, 60_000], "weights, more than"),
        ("widths", [10**9, 8], "absurd layers"),
        ("widths", [4] * 10_000, "absurd layers"),
        ("embedding", -1, "absurd layers"),
    ],
)
def test_a_model_larger_than_any_file_is_refused_unbuilt(tmp_path, tiny_model, part, value, reason):
    path = tmp_path / "m.safetensors"
    save_checkpoint(path, tiny_model.encoders, {})
    tensors, header = load_tensors(path)
    header["config"]["audio"][part] = value
    save_tensors(path, tensors, header)
    with pytest.raises(ModelError, match=reason):
        load_checkpoint(path)


def test_weights_and_facts_that_are_no_numbers_are_refused(tmp_path, tiny_model):
    path = tmp_path / "m.safetensors"
    save_checkpoint(path, tiny_model.encoders, {"confidence": ["x"] * 7})
    with pytest.raises(ModelError, match="do not fit"):
        load_checkpoint(path)
    save_checkpoint(path, tiny_model.encoders, {})
    tensors, header = load_tensors(path)
    tensors["log_scale"].fill_(float("nan"))
    save_tensors(path, tensors, header)
    with pytest.raises(ModelError, match="not finite"):
        load_checkpoint(path)


# ---- names


EVIL = "\x1b[31mred\n::error::boo\u202e[bold]x[/]<script>alert(1)</script>\x07.mid"


def evil_answer(query: str = EVIL) -> Identification:
    match = Match(EVIL, 0.9, 0.5, 0.4, 0.1, 0.2, 3.0, 9.0, 1.0, 0, also=(EVIL,))
    return Identification(query, 6.0, True, (match,), error=None)


def shown(*parts: object) -> str:
    from rich.console import Console

    console = Console(width=200, color_system=None, force_terminal=True, emoji=False)
    with console.capture() as captured:
        for part in parts:
            console.print(part)
    return captured.get()


def check_inert(text: str) -> None:
    """See nothing that a terminal or a CI log acts on."""
    assert "\x07" not in text and "\u202e" not in text and "\x1b[31m" not in text
    assert "::error" not in text


def test_names_do_not_paint_the_terminal(opened):
    entry = replace(opened.index.entries[0], name=EVIL, title=EVIL)
    tables = [
        answer_table(evil_answer()),
        answer_view(evil_answer(), all_rows=True),
        answer_heading(),
        answer_line(evil_answer()),
        pieces_table([entry]),
        info_table({"folders": [EVIL], "root": EVIL, EVIL: {"x": EVIL}}),
    ]
    text = shown(*tables)
    check_inert(text)
    assert "[bold]x[/]" in text and text.count("\\x1b[31mred\\n") >= 7


def test_a_wrapped_name_begins_no_command():
    text = shown(answer_line(evil_answer("a" * 97 + "::error::boo.wav")))
    check_inert(text)


def test_the_titles_of_a_timeline_are_shown_plain():
    from mmid.output.answers import timeline_table

    check_inert(shown(timeline_table(Timeline(EVIL, 6.0, (), ()))))


def test_messages_are_one_line_whatever_they_name(capfd):
    from mmid.system.console import note as say

    say(f"mmid: {EVIL}: no such file")
    text = capfd.readouterr().err
    check_inert(text)
    assert text.replace("\n", "", 1).count("\n") == 0


def test_json_csv_playlist_and_sidecar_hold_names_as_data(tmp_path):
    lines: list[str] = []
    (tmp_path / "takes").mkdir()
    query = str(tmp_path / "takes" / "=1+1 \x1b[31m::error::x.wav")
    Path(query).touch()
    answer = replace(evil_answer(query), matches=evil_answer().matches)
    sinks = [JsonLines(lines.append), CsvRows(lines.append), Sidecars(Origin("a", "b"))]
    hand_out([Answered(answer)], [*sinks, Playlist(tmp_path / "a.m3u8")], print)
    assert all("\n" not in line and line.isprintable() for line in lines)
    rows = [line for line in lines if line.startswith("{")]
    assert json.loads(rows[0])["query"] == query and len(rows) == 1
    check_inert(lines[-1])
    playlist = (tmp_path / "a.m3u8").read_text().splitlines()
    assert len(playlist) == 3 and playlist[1].startswith("#EXTINF:6,\\x1b[31mred\\n:")
    assert json.loads(Path(query + ".mmid.json").read_text())["answer"]["query"] == query


@pytest.mark.parametrize("name", ["=cmd()", "+1", "-1", "@SUM(1)"])
def test_no_cell_of_csv_is_a_formula(name):
    answer = replace(evil_answer(f"{name}.wav"), error=f"{name}.wav: no such file")
    match = replace(answer.matches[0], piece=f"{name}.mid", also=(f"{name}.mid",))
    cells = flat_answer(replace(answer, matches=(match,)))
    assert [cells[n][:3] for n in ("query", "piece", "also", "error")] == [f"./{name[0]}"] * 4


def test_the_report_holds_names_as_text(tmp_path, opened):
    page = Page(tmp_path / "page.html", opened)
    page.take(Answered(replace(evil_answer(), matched=False, matches=(), error=EVIL)))
    page.close()
    text = (tmp_path / "page.html").read_text()
    check_inert(text)
    assert "<script>alert" not in text and "&lt;script&gt;alert" in text


def test_a_label_may_be_labelled_again():
    assert label(label(EVIL)) == label(EVIL) and label("plain: a::b") == "plain: a:\\x3ab"


def test_every_outcome_is_documented():
    text = DOCUMENT.read_text()
    for name in [*REFUSED, *DAMAGED, *TAKEN, *HEARD, *UNHEARD]:
        assert f"| {Path(name).stem} |" in text, name
    for _, why in [*REFUSED.values(), *DAMAGED.values(), *UNHEARD.values()]:
        assert why in text, why
