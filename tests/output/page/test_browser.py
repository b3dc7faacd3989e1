"""`mmid.output.page.page`: what a batch's page does in a browser."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from browsers import chromium
from pages import answer_of, write_page


@pytest.fixture(scope="module")
def browser():
    """Return a headless Chromium."""
    with chromium() as browser:
        yield browser


@pytest.fixture
def opened(browser, written):
    """Return the page opened; in the end there was no complaint, and no request."""
    page = browser.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto(written.as_uri())
    yield page
    page.close()
    assert complaints == []
    assert [url for url in requests if not url.startswith("data:")] == [written.as_uri()]


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
    for complaints in (6.0, 2.0):
        audio.evaluate("(audio, time) => { audio.currentTime = time; }", complaints)
        expected = 100 * (np.interp(complaints, path["query"], path["piece"]) - start)
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
    complaints = recording.locator("audio").evaluate("(audio) => audio.currentTime")
    start = float(recording.locator(".roll").get_attribute("data-start"))
    width = recording.locator("svg.music > svg").evaluate("(svg) => svg.viewBox.baseVal.width")
    time = np.interp(complaints, path["query"], path["piece"])
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
