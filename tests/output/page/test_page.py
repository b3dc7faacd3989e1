"""`mmid.output.page.page`: what a batch's page holds, and how it is written."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pages import CLOSING, Parsed, answer_of, write_page
from typer.testing import CliRunner

from mmid.cli.app import app
from mmid.errors import MmidError
from mmid.identify.batch import answer_files
from mmid.music.audio import read_audio
from mmid.output import evidence
from mmid.output.page.mp3_clip import SAMPLE_RATE
from mmid.output.page.page import Page
from mmid.output.pictures import Pictures

# ---- what it holds


def test_every_recording_is_there(markup, answers, recordings):
    page = Parsed(markup)
    assert len(page.all("tr", **{"class": "row"})) == len(answers) == len(recordings) == 3
    assert len(page.all("audio")) == len(page.all("img")) == 2
    assert "not an audio file that can be read" in page.text
    best = answers[0].answer.matches[0]
    assert f"{best.confidence:.0%}" in page.text and f"{best.tempo_ratio:.2f}" in page.text
    assert page.all("tr", **{"class": "why", "id": "why-2"})
    assert not page.all("tr", **{"class": "why", "id": "why-3"}), "there is nothing to tell of it"


def test_sound_and_picture_are_what_they_say(markup, tmp_path):
    page = Parsed(markup)
    kind, data = page.all("audio")[1]["src"].split(";base64,")
    assert kind == "data:audio/mpeg"
    (tmp_path / "clip.mp3").write_bytes(base64.b64decode(data))
    assert len(read_audio(tmp_path / "clip.mp3", SAMPLE_RATE)) / SAMPLE_RATE == pytest.approx(
        8, 0.01
    )
    kind, data = page.all("img")[0]["src"].split(";base64,")
    assert kind == "data:image/png" and base64.b64decode(data).startswith(b"\x89PNG")


def test_the_span_asked_about_is_heard(tmp_path, identifier, recordings):
    page = Page(tmp_path / "page.html", identifier, start=2.0)
    for answered in answer_files(identifier, recordings[1:2], start=2.0, duration=3.0):
        page.take(answered)
    page.close()
    source = Parsed((tmp_path / "page.html").read_text()).all("audio")[0]["src"]
    (tmp_path / "clip.mp3").write_bytes(base64.b64decode(source.split(",")[1]))
    heard = read_audio(tmp_path / "clip.mp3", SAMPLE_RATE)
    asked = read_audio(recordings[1], SAMPLE_RATE, 2.0, 3.0)
    assert len(heard) == pytest.approx(len(asked), rel=0.02)
    shorter = min(len(heard), len(asked))
    assert np.corrcoef(heard[:shorter], asked[:shorter])[0, 1] > 0.9


def test_hostile_names_make_no_elements(markup):
    page = Parsed(markup)
    assert all((found["src"] or "").startswith("data:") for found in page.all("img"))
    scripts = page.all("script")
    assert [found for found in scripts if found.get("type") != "application/json"] == [{}]
    assert not [n for _, found in page.elements for n in found if n.startswith("on")]
    assert "onerror=alert(1)" in page.text, "it is shown, as text"
    assert "\u202e" not in markup and "\\u202e" in markup


def test_every_text_from_outside_is_escaped(tmp_path, identifier):
    hostile = [
        answer_of(CLOSING, CLOSING),
        answer_of("b", matched=False, matches=()),
        answer_of("c\udcff", error=CLOSING),
    ]
    page = Parsed(write_page(tmp_path / "page.html", identifier, hostile))
    assert page.all("script") == [{}]
    assert not [n for _, found in page.elements for n in found if n.startswith("on")]
    assert len(page.all("tbody", **{"class": "recording found"})) == 1
    assert page.text.count("</tbody><svg onload=alert(3)>") >= 4
    assert "c\\udcff" in page.text


def test_a_tuning_is_in_words(tmp_path, identifier):
    tuned = [answer_of(f"{cents}.wav", tuning=cents) for cents in (-1, 20, 0)]
    text = Parsed(write_page(tmp_path / "page.html", identifier, tuned)).text
    assert "-1.wav, tuned 1 cent below concert pitch." in text
    assert "20.wav, tuned 20 cents above concert pitch." in text
    assert text.count("concert pitch") == 2


def test_notes_and_path_are_data(markup):
    blocks = re.findall(r'<script type="application/json" class="path">(.*?)</script>', markup)
    assert len(blocks) == 2
    for block in blocks:
        assert "<" not in block
        path = json.loads(block)
        assert len(path["query"]) == len(path["piece"]) > 10


def test_the_policy_allows_only_what_the_page_holds(markup):
    (policy,) = (
        found["content"]
        for found in Parsed(markup).all("meta", **{"http-equiv": "Content-Security-Policy"})
    )
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["img-src"] == rules["media-src"] == "data:"
    for name in ("script", "style"):
        (text,) = re.findall(f"<{name}>(.*?)</{name}>", markup, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[f"{name}-src"] == f"'sha256-{digest}'"
    assert "unsafe" not in policy and not re.search(r"\sstyle=", markup)


def test_nothing_is_fetched(markup):
    for _, found in Parsed(markup).elements:
        for name in ("src", "href", "srcset", "poster", "action", "data"):
            assert (found.get(name) or "data:").startswith("data:")
    assert "http://" not in markup and "https://" not in markup and "@import" not in markup


def test_the_same_answers_make_the_same_page(markup, tmp_path, identifier, answers):
    assert write_page(tmp_path / "again.html", identifier, answers) == markup


def test_long_recordings_are_cut_and_the_page_says_so(tmp_path, identifier, answers, monkeypatch):
    monkeypatch.setattr("mmid.output.page.media.CLIP_SECONDS", 3.0)
    page = Parsed(write_page(tmp_path / "page.html", identifier, answers[1:2]))
    assert "those of the first 0:03.0 of 0:08.0" in page.text
    sound = base64.b64decode(page.all("audio")[0]["src"].split(",")[1])
    (tmp_path / "clip.mp3").write_bytes(sound)
    assert len(read_audio(tmp_path / "clip.mp3", SAMPLE_RATE)) == 3 * SAMPLE_RATE


def test_a_full_page_takes_answers_without_sound(tmp_path, identifier, answers, monkeypatch):
    monkeypatch.setattr("mmid.output.page.page.MOST_BYTES", 10_000)
    page = Parsed(write_page(tmp_path / "page.html", identifier, answers[:2]))
    assert len(page.all("audio")) == len(page.all("img")) == 1
    assert "No sound, notes or picture: the page holds 0.01 MB of them" in page.text
    assert len(page.all("section")) == 2


def test_a_thousand_answers_make_a_small_page_in_little_memory(tmp_path, identifier):
    page = Page(tmp_path / "page.html", identifier)
    page.take(answer_of("the first"))
    tracemalloc.start()
    for number in range(1_000):
        page.take(answer_of(f"recording {number}.wav"))
    page.close()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2_000_000
    assert (tmp_path / "page.html").stat().st_size < 6_000_000


def test_without_matplotlib_the_picture_is_missed(tmp_path, identifier, answers, no_matplotlib):
    page = Parsed(write_page(tmp_path / "page.html", identifier, [replace(answers[0])]))
    assert "No picture: drawing needs matplotlib: pip install 'mmid[train]'" in page.text
    assert page.all("audio") and not page.all("img")


def test_a_midi_file_has_no_sound(tmp_path, identifier, folder):
    asked = answer_files(identifier, [folder / "library" / "piece 3.mid"])
    page = Parsed(write_page(tmp_path / "page.html", identifier, list(asked)))
    assert "No sound: the query is a MIDI file." in page.text
    assert page.all("svg", **{"class": "music"}) and not page.all("audio")


def test_a_recording_that_went_away_is_told(
    tmp_path, identifier, folder, play, draw_notes, write_wav
):
    path = write_wav(tmp_path / "gone.wav", play(draw_notes(1))[: 22_050 * 3])
    asked = list(answer_files(identifier, [path]))
    path.unlink()
    text = Parsed(write_page(tmp_path / "page.html", identifier, asked)).text
    assert "No sound: " in text and "gone.wav: No such file" in text


# ---- how it is written


@pytest.mark.parametrize(
    ("name", "told"),
    [("page.txt", "not named .html"), ("taken.html", "a folder"), ("no/page.html", "no folder")],
)
def test_a_place_that_cannot_be_is_told_before_work_begins(tmp_path, identifier, name, told):
    (tmp_path / "taken.html").mkdir()
    with pytest.raises(MmidError, match=told):
        Page(tmp_path / name, identifier)
    assert [path.name for path in tmp_path.iterdir()] == ["taken.html"]


def test_a_picture_is_drawn_once_for_a_file_and_the_page(
    tmp_path, identifier, answers, monkeypatch
):
    drawn = []
    monkeypatch.setattr(evidence, "_draw_query", lambda *_: drawn.append(1))
    new = replace(answers[0])
    Pictures(identifier, tmp_path / "why.png", [Path(new.answer.query)]).take(new)
    page = write_page(tmp_path / "page.html", identifier, [new])
    assert len(drawn) == 1 and (tmp_path / "why.png").read_bytes()[:4] == b"\x89PNG"
    assert "data:image/png" in page


def test_no_answer_leaves_what_is_there(tmp_path, identifier):
    path = tmp_path / "page.html"
    path.write_text("before")
    Page(path, identifier).close()
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]


def test_what_an_interrupt_cut_short_goes(tmp_path, identifier):
    page = Page(tmp_path / "page.html", identifier)
    page.take(answer_of("whole"))
    page._parts.write(b"<tbody><tr><td>half an an")
    page.close()
    text = (tmp_path / "page.html").read_text()
    assert "half an an" not in text and "whole" in text and text.endswith("</html>\n")


def test_query_writes_a_report(recordings, identifier, tmp_path, monkeypatch):
    monkeypatch.setattr("mmid.cli.query.open_identifier", lambda *_: (identifier, None))
    asked = ["query", *map(str, recordings[::2]), "--json", "--report", str(tmp_path / "page.html")]
    run = CliRunner().invoke(app, asked)
    assert run.exit_code == 1, "one recording is broken"
    assert len(run.stdout.splitlines()) == 2
    assert len(Parsed((tmp_path / "page.html").read_text()).all("tr", **{"class": "row"})) == 2


def test_what_was_done_before_an_interrupt_is_kept(
    recordings, identifier, answers, tmp_path, monkeypatch
):
    def interrupted(*_, **__):
        yield answers[0]
        raise KeyboardInterrupt

    monkeypatch.setattr("mmid.cli.query.open_identifier", lambda *_: (identifier, None))
    monkeypatch.setattr("mmid.identify.batch.answer_files", interrupted)
    asked = ["query", *map(str, recordings), "--report", str(tmp_path / "page.html")]
    assert CliRunner().invoke(app, asked).exit_code != 0
    assert len(Parsed((tmp_path / "page.html").read_text()).all("tr", **{"class": "row"})) == 1
