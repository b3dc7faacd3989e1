"""`mmid.output.page.page`: what a batch's page holds, and what it does in a browser."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import tracemalloc
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from mmid.cli.app import app
from mmid.errors import MmidError
from mmid.identify.answer import Identification, Match
from mmid.identify.batch import Answered, answer_files
from mmid.identify.identifier import Identifier
from mmid.index.build import build_index
from mmid.index.folder import LibraryIndex
from mmid.music.audio import read_audio
from mmid.music.library import read_library
from mmid.music.midi import write_midi
from mmid.output import evidence
from mmid.output.page.mp3_clip import SAMPLE_RATE
from mmid.output.page.page import Page
from mmid.output.sinks import Pictures

HOSTILE = "<img src=x onerror=alert(1)> \"'\n\u202e&amp;"
CLOSING = "</script><script>alert(2)</script></tbody><svg onload=alert(3)>"


class Parsed(HTMLParser):
    """A page's elements as ``(name, attributes)``, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, name: str, **attributes: str) -> list[dict[str, str | None]]:
        return [
            found
            for tag, found in self.elements
            if tag == name and all(found.get(key) == value for key, value in attributes.items())
        ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, draw_notes, play, write_wav) -> Path:
    """Return a folder of six MIDI files, one with a hostile name, and recordings of two."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "library").mkdir()
    for seed in range(6):
        name = f"piece {seed}" if seed else HOSTILE
        write_midi(draw_notes(seed), folder / "library" / f"{name}.mid")
    hostile = folder / "<" / "script><script>alert(4)<"
    hostile.mkdir(parents=True)
    write_wav(folder / "second.wav", play(draw_notes(2))[: 22_050 * 8])
    write_wav(hostile / f"{HOSTILE}.wav", play(draw_notes(0))[: 22_050 * 4])
    (folder / f"broken{HOSTILE}.wav").write_bytes(b"no sound")
    return folder


@pytest.fixture(scope="module")
def identifier(folder, listening_model) -> Identifier:
    """Return an identifier over the six, whose model tells notes."""
    build_index(folder / "index", read_library([folder / "library"], jobs=1)[0], listening_model)
    return Identifier(listening_model, LibraryIndex(folder / "index", listening_model))


@pytest.fixture(scope="module")
def recordings(folder) -> list[Path]:
    """Return the recordings, the broken one last."""
    return sorted(folder.rglob("*.wav"), key=lambda path: ("broken" in path.name, path.name))


@pytest.fixture(scope="module")
def answers(identifier, recordings) -> list[Answered]:
    """Return what the recordings are answered with; tiny models name them at random."""
    return list(answer_files(identifier, recordings))


def write_page(path: Path, identifier: Identifier, answers: list[Answered]) -> str:
    page = Page(path, identifier)
    for answered in answers:
        page.take(answered)
    page.close()
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def written(folder, identifier, answers) -> Path:
    """Return the page of all recordings."""
    path = folder / "page.html"
    write_page(path, identifier, answers)
    return path


@pytest.fixture
def markup(written) -> str:
    """Return that page's text."""
    return written.read_text(encoding="utf-8")


def answer_of(name: str, piece: str = "a.mid", **changes: Any) -> Answered:
    match = Match(piece, 0.9, 0.5, None, 0.3, 0.4, 1.0, 9.0, 1.0, 0, (piece,))
    return Answered(replace(Identification(name, 8.0, True, (match,)), **changes))


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
    def interrupted(*_):
        yield answers[0]
        raise KeyboardInterrupt

    monkeypatch.setattr("mmid.cli.query.open_identifier", lambda *_: (identifier, None))
    monkeypatch.setattr("mmid.identify.batch.answer_files", interrupted)
    asked = ["query", *map(str, recordings), "--report", str(tmp_path / "page.html")]
    assert CliRunner().invoke(app, asked).exit_code != 0
    assert len(Parsed((tmp_path / "page.html").read_text()).all("tr", **{"class": "row"})) == 1


# ---- in a browser

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--autoplay-policy=no-user-gesture-required",
)


@pytest.fixture(scope="module")
def browser():
    """Return a headless Chromium."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="needs playwright: pip install playwright"
    )
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("chromium is not installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture
def opened(browser, written):
    """Return the page opened; in the end nothing was complained of, and nothing asked for."""
    page = browser.new_page()
    heard: list[str] = []
    page.on("console", lambda message: heard.append(message.text))
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on("dialog", lambda dialog: heard.append(dialog.message))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(written.as_uri())
    yield page
    page.close()
    assert heard == []
    assert [url for url in asked if not url.startswith("data:")] == [written.as_uri()]


def column(page, name: str) -> list[str]:
    number = page.locator("#answers > thead th").evaluate_all(
        "(cells, name) => cells.findIndex((cell) => cell.dataset.column === name)", name
    )
    return page.locator(".row").evaluate_all(
        "(rows, number) => rows.map((row) => row.cells[number]?.dataset.value ?? '')", number
    )


def numbers(values: list[str]) -> list[float]:
    return [float(value) for value in values if value]


@pytest.mark.parametrize("how", ["click", "keyboard"])
def test_the_table_sorts_both_ways(opened, how):
    heading = opened.locator("th[data-column=length]")
    assert heading.get_attribute("aria-sort") == "none"
    for order, turned in (("ascending", False), ("descending", True)):
        if how == "click":
            heading.get_by_role("button").click()
        else:
            heading.get_by_role("button").press("Enter")
        assert heading.get_attribute("aria-sort") == order
        lengths = column(opened, "length")
        assert len(lengths) == 3 and lengths[-1] == "", "what failed comes last"
        assert numbers(lengths) == sorted(numbers(lengths), reverse=turned)
    opened.locator("th[data-column=verdict] button").click()
    assert heading.get_attribute("aria-sort") == "none"
    verdicts = column(opened, "verdict")
    assert verdicts == sorted(verdicts)


def test_numbers_sort_as_numbers(browser, identifier, tmp_path):
    lengths = (9.0, 100.0, 20.0)
    many = [answer_of(f"{seconds}", seconds=seconds) for seconds in lengths]
    write_page(tmp_path / "page.html", identifier, many)
    page = browser.new_page()
    page.goto((tmp_path / "page.html").as_uri())
    page.locator("th[data-column=length] button").click()
    assert numbers(column(page, "length")) == sorted(lengths)
    page.close()


def test_the_filter_filters(opened):
    opened.get_by_label("Filter").fill("second")
    assert opened.locator(".row:visible").count() == 1
    assert opened.locator("#shown").text_content() == "1 of 3"
    opened.get_by_label("Filter").fill("FAILED onerror")
    assert opened.locator(".row:visible").count() == 1
    opened.get_by_label("Filter").fill("")
    assert opened.locator(".row:visible").count() == 3
    assert opened.locator("#shown").text_content() == ""


def test_a_section_opens_from_its_row(opened):
    button = opened.get_by_role("button", name="second.wav")
    section = opened.locator("#" + button.get_attribute("aria-controls"))
    assert not section.is_visible()
    button.press("Enter")
    assert section.is_visible() and button.get_attribute("aria-expanded") == "true"
    opened.wait_for_function(
        "(id) => document.getElementById(id).querySelector('img').naturalWidth > 0",
        arg=section.get_attribute("id"),
    )
    button.click()
    assert not section.is_visible() and button.get_attribute("aria-expanded") == "false"


PLAYHEAD = "(line) => line.x1.baseVal.value"


def test_the_sound_plays_and_the_playhead_follows(opened):
    opened.get_by_role("button", name="second.wav").click()
    recording = opened.locator(".recording.open")
    audio, playhead = recording.locator("audio"), recording.locator(".playhead")
    before = playhead.evaluate(PLAYHEAD)
    audio.evaluate("(audio) => { audio.muted = true; return audio.play(); }")
    opened.wait_for_function("() => document.querySelector('.open audio').currentTime > 1")
    audio.evaluate("(audio) => audio.pause()")
    opened.wait_for_timeout(100)
    assert playhead.evaluate(PLAYHEAD) != before
    path = json.loads(recording.locator(".path").text_content())
    start = float(recording.locator(".roll").get_attribute("data-start"))
    for heard in (6.0, 2.0):
        audio.evaluate("(audio, time) => { audio.currentTime = time; }", heard)
        expected = 100 * (np.interp(heard, path["query"], path["piece"]) - start)
        opened.wait_for_function(
            "(place) => Math.abs(document.querySelector('.open .playhead')"
            ".x1.baseVal.value - place) < 5",
            arg=expected,
        )
    assert "0:02.0 in the recording" in recording.locator(".clock").text_content()


def test_a_click_on_the_roll_plays_from_there(opened):
    opened.get_by_role("button", name="second.wav").click()
    recording = opened.locator(".recording.open")
    path = json.loads(recording.locator(".path").text_content())
    music = recording.locator("svg.music")
    box = music.bounding_box()
    music.click(position={"x": box["width"] / 2, "y": 20})
    opened.wait_for_function("() => document.querySelector('.open audio').currentTime > 0")
    heard = recording.locator("audio").evaluate("(audio) => audio.currentTime")
    start = float(recording.locator(".roll").get_attribute("data-start"))
    width = recording.locator("svg.music > svg").evaluate("(svg) => svg.viewBox.baseVal.width")
    time = np.interp(heard, path["query"], path["piece"])
    assert time == pytest.approx(start + width / 200, abs=0.3)


def test_the_roll_zooms_without_widening_the_page(opened):
    opened.get_by_role("button", name="second.wav").click()
    music = opened.locator(".open svg.music")
    for width in (390, 1_280):
        opened.set_viewport_size({"width": width, "height": 844})
        opened.locator(".open .zoom").fill("1")
        before = music.bounding_box()["width"]
        opened.locator(".open .zoom").fill("8")
        assert music.bounding_box()["width"] > 2 * before
        assert opened.evaluate("document.documentElement.scrollWidth") <= width


def test_dark_is_dark(opened):
    shades = {}
    for scheme in ("light", "dark"):
        opened.emulate_media(color_scheme=scheme)
        colour = opened.evaluate("getComputedStyle(document.body).backgroundColor")
        shades[scheme] = sum(map(int, re.findall(r"\d+", colour)))
    assert shades["dark"] < 150 < 600 < shades["light"]


def test_without_scripts_all_is_open(browser, written):
    page = browser.new_page(java_script_enabled=False)
    page.goto(written.as_uri())
    assert page.locator(".why:visible").count() == 2
    page.close()
