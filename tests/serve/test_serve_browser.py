"""The page of `mmid serve`, in a browser: what people drop, press, see and hear."""

from __future__ import annotations

import base64
import json
import threading
import time
from importlib.resources import files
from itertools import product

import mido
import pytest
from browsers import chromium, launched, until
from servers import running

from mmid.cli.demo import prepare_demo
from mmid.index import embedder
from mmid.index.build import update_index
from mmid.index.store import store_at
from mmid.model.loading import load_model
from mmid.music.audio import read_audio
from mmid.serve.answers import identified
from mmid.serve.app import make_app
from mmid.serve.library import ServedLibrary
from mmid.serve.uploads import Limits

HOSTILE = "<img src=x onerror=alert(1)>.wav"
COUNT_TONES = """
window.tones = [];
const start = OscillatorNode.prototype.start;
OscillatorNode.prototype.start = function (at) {
  window.tones.push([this.frequency.value, at]);
  return start.call(this, at);
};
"""
DROP = """
(files) => {
  const dropped = new DataTransfer();
  for (const [name, content] of files) {
    const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
    dropped.items.add(new File([bytes], name));
  }
  document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: dropped, bubbles: true }));
}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return the demo's folder of 48 tunes, and its recording of one."""
    folder = tmp_path_factory.mktemp("served")
    library, recording = prepare_demo(folder / "demo")
    library.rename(folder / "library")
    recording.rename(folder / "recording.ogg")
    (folder / "notes.txt").write_text("no sound")
    return folder


@pytest.fixture(scope="module")
def library(folder) -> ServedLibrary:
    """Return the tunes, served with the packaged model."""
    model = load_model()
    update_index(folder / "index", [folder / "library"], model, jobs=1)
    return ServedLibrary(store_at(folder / "index"), model)


@pytest.fixture(scope="module")
def address(library):
    """Return the address of their server."""
    with running(make_app(library)) as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    """Return a headless Chromium."""
    with chromium() as browser:
        yield browser


@pytest.fixture
def tab(browser):
    """Return what opens a page; in the end there was no complaint, and no request left."""
    opened, complaints, asked = [], [], []

    def open_tab(address: str, **more):
        page = browser.new_page(**more)
        page.add_init_script(COUNT_TONES)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        opened.append(page)
        return page

    yield open_tab
    for page in opened:
        page.close()
    failed = ("Failed to load resource", "net::ERR")  # which the page itself says in words
    assert [text for text in complaints if not any(part in text for part in failed)] == []
    assert all(url.startswith(("http://127.0.0.1:", "blob:", "data:")) for url in asked)


def drop(page, *paths) -> None:
    page.evaluate(
        DROP, [[path.name, base64.b64encode(path.read_bytes()).decode()] for path in paths]
    )


@pytest.fixture
def answered(tab, address, folder):
    """Return a page on which a recording was dropped and answered."""
    page = tab(address)
    drop(page, folder / "recording.ogg")
    page.wait_for_selector(".card .roll", timeout=60_000)
    return page


def test_a_recording_that_is_dropped_is_named(answered):
    assert "swallowtail-jig.mid" in answered.inner_text(".card .said")
    assert answered.inner_text(".card .verdict") == "found"
    assert not answered.locator(".runners-up table").is_visible()
    answered.locator(".runners-up summary").press("Enter")
    rows = answered.locator(".runners-up tbody tr")
    assert rows.count() >= 2 and "swallowtail" in rows.first.inner_text()
    answered.wait_for_selector(".wave:not([hidden])")
    assert len(answered.get_attribute(".wave .sound", "d")) > 1_000


def click_at(page, selector: str, share: float) -> None:
    """Click so far to the right within something."""
    box = page.locator(selector).bounding_box()
    place = {"x": share * box["width"], "y": box["height"] / 2}
    page.locator(selector).click(position=place)


def test_playheads_follow_and_a_click_jumps(answered):
    until(answered, "document.querySelector('audio').duration > 10")
    click_at(answered, ".wave", 0.5)
    until(answered, "Math.abs(document.querySelector('audio').currentTime - 7.5) < 0.2")
    until(
        answered, "Math.abs(document.querySelector('.wave .playhead').x1.baseVal.value - 500) < 20"
    )
    assert answered.evaluate("document.querySelector('.roll .playhead').x1.baseVal.value") > 0
    click_at(answered, ".roll .music", 0.1)
    until(answered, "document.querySelector('audio').currentTime < 3")


def test_the_score_sounds_in_step_as_far_as_the_slider_says(answered):
    slider = answered.locator(".mix input")
    slider.fill("1")
    assert answered.evaluate("document.querySelector('audio').volume") == 0
    slider.fill("0.5")
    assert answered.evaluate("document.querySelector('audio').volume") == 1
    assert answered.evaluate("window.tones.length") == 0
    answered.evaluate("document.querySelector('audio').play()")
    until(answered, "window.tones.length > 3")
    answered.evaluate("document.querySelector('audio').pause()")
    answered.wait_for_timeout(300)
    count = answered.evaluate("window.tones.length")
    answered.wait_for_timeout(500)
    assert answered.evaluate("window.tones.length") == count, "silent once it is paused"


def test_what_was_found_can_be_saved(answered, tmp_path):
    for kind, name in (("midi", "recording.ogg.aligned.mid"), ("json", "recording.ogg.mmid.json")):
        with answered.expect_download() as saved:
            answered.click(f".downloads .{kind}")
        assert saved.value.suggested_filename == name
        saved.value.save_as(tmp_path / name)
    song = mido.MidiFile(tmp_path / "recording.ogg.aligned.mid")
    assert any(one.type == "note_on" for one in song) and song.length < 16
    answer = json.loads((tmp_path / "recording.ogg.mmid.json").read_text())
    assert answer["matched"] and "shown" not in answer
    assert answered.get_attribute(".downloads .csv", "download") == "recording.ogg.csv"


def test_what_is_no_recording_is_said_so_and_its_name_is_text(tab, address, folder):
    page = tab(address)
    hostile = folder / HOSTILE
    hostile.write_bytes(b"no sound")
    drop(page, folder / "notes.txt", hostile)
    until(page, "document.querySelectorAll('.card.failed').length === 2")
    texts = page.locator(".card.failed .said").all_inner_texts()
    assert all("not an audio file" in text for text in texts)
    assert page.locator(".card img").count() == 0
    page.locator(".card .cancel").first.click()
    assert page.locator(".card").count() == 1


def test_what_is_too_large_is_said_so_and_not_sent(tab, library, folder):
    with running(make_app(library, limits=Limits(bytes=1_000))) as address:
        page = tab(address)
        until(page, "document.getElementById('status').className === ''")
        page.wait_for_timeout(300)
        drop(page, folder / "recording.ogg")
        page.wait_for_selector(".card.failed")
        assert "It is larger than" in page.inner_text(".card .said")


def test_a_query_is_cancelled_and_those_behind_it_go_on(tab, library, folder, monkeypatch):
    go = threading.Event()

    def slow(identifier, upload, *rest, **more):
        go.wait(120)
        return {"sentence": "Found: it", "verdict": "found", "matched": True, "matches": []}

    monkeypatch.setattr("mmid.serve.app.identified", slow)
    with running(make_app(library)) as address:
        page = tab(address)
        drop(page, *[folder / "recording.ogg"] * 4)
        told = "1 being identified, 1 waiting"
        until(page, f"document.getElementById('status').textContent === '{told}'")
        for number in (3, 1):  # one that is sent, and one that is not
            page.locator(".card .cancel").nth(number).click()
        go.set()
        until(page, "document.querySelectorAll('.card .verdict.found').length === 2")
        until(page, "document.getElementById('status').textContent === ''")


def test_a_concert_is_shown_as_a_timeline(tab, address, folder):
    page = tab(address)
    page.select_option("#holds", "several")
    drop(page, folder / "recording.ogg")
    page.wait_for_selector(".strip button", timeout=60_000)
    assert "swallowtail" in page.inner_text(".pieces tbody")
    assert page.inner_text(".said").startswith("1 piece in 0:15")
    page.locator(".strip button").first.press("Enter")
    until(page, "!document.querySelector('audio').paused")


# ---- the library


@pytest.fixture
def fresh(tmp_path, transcribing_model, midi_folder, monkeypatch) -> ServedLibrary:
    """Return a library in which nothing is indexed; a file takes a while."""
    plain = embedder.embedded

    def slowly(*given):
        time.sleep(0.25)
        return plain(*given)

    monkeypatch.setattr(embedder, "embedded", slowly)
    (midi_folder / "broken.mid").write_bytes(b"no notes")
    return ServedLibrary(store_at(tmp_path / "new"), transcribing_model)


def test_a_folder_is_added_with_progress_cancelled_and_added_again(tab, fresh, midi_folder):
    with running(make_app(fresh)) as address:
        page = tab(address)
        page.wait_for_selector("#library:not([hidden])")
        until(page, "document.getElementById('holdings').textContent.includes('Nothing is')")
        assert "Nothing is indexed yet" in page.inner_text("#holdings")
        page.fill("#path", str(midi_folder))
        page.press("#path", "Enter")
        until(page, "document.getElementById('work-bar').value >= 2")
        assert str(midi_folder) in page.inner_text("#work-line")
        page.click("#cancel-work")
        until(page, "document.getElementById('outcome').textContent.includes('cancelled')")
        assert (
            not page.locator("#work").is_visible() and page.locator("#pieces tbody tr").count() == 0
        )
        page.press("#path", "Enter")
        page.wait_for_selector("#pieces tbody tr")
        assert page.inner_text("#outcome") == "Done: 6 added; 1 file left out."
        page.click("#left-out summary")
        page.wait_for_selector("#left-out li")
        assert page.inner_text("#left-out li").startswith("broken.mid: ")


def test_two_tabs_see_the_same(tab, fresh, midi_folder):
    with running(make_app(fresh)) as address:
        one, other = tab(address), tab(address)
        for page in (one, other):
            page.wait_for_selector("#library:not([hidden])")
        one.fill("#path", str(midi_folder))
        one.click("#add button")
        other.wait_for_selector("#work:not([hidden])")
        assert other.locator("#add button").is_disabled()
        for page in (one, other):
            until(page, "document.querySelectorAll('#pieces tbody tr').length === 6")
        one.on("dialog", lambda dialog: dialog.accept())
        one.get_by_label("Remove piece 1.mid").click()
        for page in (one, other):
            until(page, "document.querySelectorAll('#pieces tbody tr').length === 5")


def test_the_library_is_searched(tab, address):
    page = tab(address)
    page.click("#to-library")
    page.wait_for_selector("#pieces tbody tr")
    assert "48 pieces" in page.inner_text("#holdings")
    page.fill("#search", "jig")
    until(page, "document.querySelectorAll('#pieces tbody tr').length === 3")
    assert page.inner_text("#count") == "3 pieces found"


def test_a_folder_that_is_not_there_is_said_so(tab, address):
    page = tab(address)
    page.click("#to-library")
    page.fill("#path", "/nowhere")
    page.click("#add button")
    page.wait_for_selector("#outcome.failed")
    assert page.inner_text("#outcome") == "/nowhere: no such folder"


# ---- the server


def test_the_page_notices_that_the_server_goes_during_a_query_and_is_back(
    tab, library, folder, monkeypatch
):
    gone = threading.Event()

    def slow(*given, **more):
        gone.wait(20)
        return identified(*given, **more)

    monkeypatch.setattr("mmid.serve.app.identified", slow)
    with running(make_app(library)) as address:
        page = tab(address)
        drop(page, folder / "recording.ogg")
        until(page, "document.getElementById('status').textContent === '1 being identified'")
    page.wait_for_selector("#status.lost")
    gone.set()
    page.wait_for_selector(".card.failed")
    assert "does not answer" in page.inner_text(".card .said")
    with running(make_app(library), int(address.rsplit(":", 1)[1])):
        page.wait_for_selector("#status:not(.lost)", state="attached")
        drop(page, folder / "recording.ogg")
        page.wait_for_selector(".card .roll", timeout=60_000)


def test_the_token_goes_from_the_address_into_requests(tab, library):
    with running(make_app(library, token="secret")) as address:
        page = tab(f"{address}/#token=secret")
        page.click("#to-library")
        page.wait_for_selector("#pieces tbody tr")
        assert page.url == f"{address}/"
        other = tab(address)
        other.wait_for_selector("#status.lost")
        assert "token" in other.inner_text("#status")


def test_the_microphone_names_what_is_played(browser, address, folder, write_wav):
    sound = write_wav(folder / "sounding.wav", read_audio(folder / "recording.ogg", 22_050))
    fake = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    played = f"--use-file-for-fake-audio-capture={sound}"
    with launched(browser.browser_type, *fake, played) as listener:
        page = listener.new_page()
        page.goto(address)
        page.click("#listen")
        page.wait_for_selector("#listen[aria-pressed=true]")
        page.wait_for_selector(".card .roll", timeout=90_000)
        assert "swallowtail-jig.mid" in page.inner_text(".card .said")
        assert page.inner_text("#listen") == "Listen"


# ---- for everyone


def serious_faults(page) -> list[tuple[str, list[str]]]:
    found = page.evaluate(
        "axe.run({ resultTypes: ['violations'] }).then(({ violations }) => violations)"
    )
    return [
        (fault["id"], [node["html"][:200] for node in fault["nodes"]])
        for fault in found
        if fault["impact"] in ("serious", "critical")
    ]


def test_it_is_readable_and_without_serious_faults_of_access(tab, address, folder):
    pytest.importorskip("axe_playwright_python", reason="needs axe-playwright-python")
    page = tab(address)
    drop(page, folder / "recording.ogg", folder / "notes.txt")
    page.wait_for_selector(".card .roll", timeout=60_000)
    page.wait_for_selector(".card.failed")
    page.click(".runners-up summary")
    page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text())
    for part, width, scheme in product(("identify", "library"), (390, 1280), ("light", "dark")):
        page.set_viewport_size({"width": width, "height": 844})
        page.emulate_media(color_scheme=scheme)
        page.click(f"#to-{part}")
        page.wait_for_selector(f"#{part}:not([hidden])")
        shown = f"{part}, {width} wide, {scheme}"
        assert page.evaluate("document.documentElement.scrollWidth") <= width, shown
        assert serious_faults(page) == [], shown
