"""Scores on the command line: indexed tune by tune, followed, queried, compared, converted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scores import needs_abc2midi
from typer.testing import CliRunner

from mmid.cli.app import app
from mmid.model.checkpoint import save_checkpoint
from mmid.music.bars import moment
from mmid.music.midi import read_midi, write_midi
from mmid.music.notes import NOTE_DTYPE, shifted
from mmid.music.scores import converters
from mmid.music.scores.reading import read_music

runner = CliRunner()
STEPS = ("CDEF GABc|cAGE FDCD|EGce dBGD|C4", "cBAG FEDC|DFAc BGEC|FAcf edcB|c4")


def tune(number: int, melody: str, key: str = "C") -> str:
    return f"X:{number}\nT:Tune {number}\nL:1/8\nM:4/4\nK:{key}\n|:{melody}:|\n\n"


@pytest.fixture
def mmid(tmp_path, tiny_model):
    save_checkpoint(tmp_path / "tiny.safetensors", tiny_model.encoders, {})
    options = {
        "build-index": ("--model", tmp_path / "tiny.safetensors"),
        "query": ("--model", tmp_path / "tiny.safetensors"),
    }

    def run(*arguments: object, status: int = 0):
        more = (*options.get(str(arguments[0]), ()), "--index", tmp_path / "index")
        if arguments[0] == "convert":
            more = ()
        result = runner.invoke(app, [str(argument) for argument in (*arguments, *more)])
        assert result.exit_code == status, result.output
        return result

    return run


@pytest.fixture
def book(tmp_path) -> Path:
    path = tmp_path / "music" / "book.abc"
    path.parent.mkdir()
    path.write_text(tune(1, STEPS[0]) + tune(2, STEPS[1]))
    return path


def names(mmid) -> list[str]:
    return [row["name"] for row in json.loads(mmid("index", "list", "--json").stdout)]


@needs_abc2midi
def test_tunes_are_removed_without_their_titles_and_books_whole(mmid, book):
    write_midi(read_music(book.with_name("book.abc#X:1")).notes, book.with_name("other.mid"))
    mmid("build-index", book.parent)
    mmid("index", "remove", "book.abc#X:1")
    assert names(mmid) == ["book.abc#X:2 Tune 2", "other.mid"]
    mmid("build-index")
    mmid("index", "remove", "book.abc")
    assert names(mmid) == ["other.mid"]
    assert "no piece 'other'" in str(mmid("index", "remove", "other", status=1).exception)


@needs_abc2midi
def test_a_book_is_followed_tune_by_tune(mmid, book):
    mmid("build-index", book.parent)
    assert names(mmid) == ["book.abc#X:1 Tune 1", "book.abc#X:2 Tune 2"]
    book.write_text(tune(1, STEPS[0]) + tune(3, STEPS[1]) + "X:4\nT:Silent\nK:C\n\n")
    result = mmid("build-index")
    assert "1 added, 1 unchanged, 1 gone" in result.stderr
    assert "left out: book.abc#X:4 Silent: " in result.stderr
    assert names(mmid) == ["book.abc#X:1 Tune 1", "book.abc#X:3 Tune 3"]
    mmid("index", "remove", "book.abc#X:3*")
    assert names(mmid) == ["book.abc#X:1 Tune 1"]


@needs_abc2midi
def test_an_answer_names_the_bar(mmid, book):
    mmid("build-index", book.parent)
    mmid("convert", book, "--out", book.parent.parent)
    query = book.with_name("late.mid")
    notes = read_midi(book.parent.parent / "book-1 Tune 1.mid").notes
    write_midi(shifted(notes[notes["onset"] >= 4], -4), query)
    answer = json.loads(mmid("query", query, "--json").stdout)
    [match] = [m for m in answer["matches"] if m["piece"].endswith("X:1 Tune 1")]
    found = moment("0 1 1 4 2;8 1 1 4 2", match["start"])
    assert match["start"] is not None and found is not None
    assert (match["start_bar"], match["start_beat"]) == found
    assert f"({found})" in mmid("query", query).stdout or not answer["matched"]


@needs_abc2midi
def test_a_book_that_is_named_is_followed_too(mmid, book):
    mmid("build-index", book)
    assert "2 unchanged" in mmid("build-index").stderr
    result = mmid("index", "verify")
    assert "no damage found" in result.stdout and "gone" not in result.stdout


@needs_abc2midi
def test_tunes_stay_where_their_reader_is_gone(mmid, book, monkeypatch):
    mmid("build-index", book.parent)
    write_midi(np.array([(0, 1, 60, 90, 0)], NOTE_DTYPE), book.parent / "a.mid")
    monkeypatch.setitem(converters.ABC2MIDI.__dict__, "find", lambda: None)
    result = mmid("build-index")
    assert "1 added, 2 kept" in result.stderr
    assert "skipped: 1 score (.abc): pip install 'mmid[scores]' to read them" in result.stderr
    book.unlink()
    assert "2 gone" in mmid("build-index").stderr


@needs_abc2midi
def test_the_same_tune_in_another_key_and_format_is_a_duplicate(mmid, book):
    copy = book.with_name("copy.abc")
    copy.write_text(tune(1, STEPS[0].replace("F", "F"), "C transpose=5"))
    mmid("convert", copy, "--out", book.parent)
    mmid("build-index", book.parent)
    [group] = json.loads(mmid("index", "duplicates", "--json").stdout)
    found = [piece["name"] for piece in group["pieces"]]
    assert found == ["book.abc#X:1 Tune 1", "copy.abc", "copy.mid"]
    assert "1 group, 3 pieces" in mmid("index", "duplicates").stdout


@needs_abc2midi
def test_every_tune_of_a_book_is_a_query(mmid, book):
    mmid("build-index", book.parent)
    lines = mmid("query", book, "--json").stdout.splitlines()
    answers = [json.loads(line) for line in lines]
    assert [Path(answer["query"]).name for answer in answers] == names(mmid)
    assert [answer["matches"][0]["piece"] for answer in answers] == names(mmid)
    folder = mmid("query", book.parent, "--json").stdout.splitlines()
    assert len(folder) == 2


@needs_abc2midi
def test_what_cannot_be_converted_is_reported(mmid, book, tmp_path):
    (tmp_path / "bad.abc").write_text("nothing")
    result = mmid("convert", book, tmp_path / "bad.abc", "--out", tmp_path / "out", status=1)
    assert "left out: bad.abc: no tune in it" in result.stderr
    assert len(result.stdout.splitlines()) == 2
    again = mmid("convert", book, "--out", tmp_path / "out", status=1)  # nothing is written over
    assert "book-1 Tune 1.mid is there already" in again.stderr and again.stdout == ""
