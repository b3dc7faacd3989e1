"""Draws the gallery from real runs of the demo: python docs/site/gallery.py [FOLDER].

The pictures go to FOLDER, or else to docs/images/gallery. The concert needs fluidsynth, the pages
need playwright and chromium. A picture whose program is missing is left out, with a line that
says so.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, Popen
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from pictures import COLOUR, IMAGES, run, save_terminal, target_folder
from PIL import Image

from mmid.cli.demo import prepare_demo
from mmid.errors import MmidError
from mmid.music.audio_writer import write_audio
from mmid.music.midi import read_midi
from mmid.music.notes import sounding
from mmid.music.synthesizer import Synthesizer, find_soundfont

RATE = 22_050
CONCERT = ("greensleeves", "swallowtail-jig", "londonderry-air")
PLAYED, PAUSE = 40.0, 8.0
"""How long each piece of the concert is played, and how long nobody plays before it, seconds."""

INDEX = "--index demo/index"
QUERIES = {
    "perhaps": f"mmid query demo/recording.ogg {INDEX} --start 8 --duration 3",
    "batch": f"mmid query takes {INDEX}",
}
WIDE, NARROW = 1280, 390
COLOURS = 64
"""In the palette of a picture."""


def draw_terminals(folder: Path, target: Path) -> None:
    """Draw what queries print."""
    for name, command in QUERIES.items():
        printed = run(command, folder, COLUMNS="100", **COLOUR).stdout
        save_terminal({command: printed}, target / f"{name}.svg")


def make_takes(folder: Path) -> None:
    """Make a folder of two recordings: the demo's, and noise."""
    takes = folder / "takes"
    takes.mkdir()
    shutil.copy(folder / "demo" / "recording.ogg", takes / "jig.ogg")
    rain = 0.1 * np.random.default_rng(0).standard_normal(RATE * 10).astype(np.float32)
    write_audio(takes / "rain.wav", [rain], RATE, "wav")


def draw_concert(folder: Path, target: Path) -> None:
    """Render a concert of three tunes, and draw its timeline."""
    rng, parts = np.random.default_rng(0), []
    with Synthesizer(find_soundfont("TimGM"), RATE) as synthesizer:
        for name in CONCERT:
            notes = read_midi(folder / "demo" / "library" / f"{name}.mid").notes
            quiet = 0.003 * rng.standard_normal(int(PAUSE * RATE))
            parts += [quiet, synthesizer.render(sounding(notes, 0.0, PLAYED))[: int(PLAYED * RATE)]]
    sound = np.concatenate(parts).astype(np.float32)
    write_audio(folder / "concert.flac", [sound], RATE, "flac")
    command = f"mmid query concert.flac {INDEX} --every 30"
    printed = run(command, folder, COLUMNS="100", **COLOUR).stdout
    save_terminal({command: printed}, target / "timeline.svg")


def draw_plot(folder: Path, target: Path) -> None:
    """Draw what an answer rests on."""
    run(f"mmid query demo/recording.ogg {INDEX} --plot {folder / 'plot.png'}", folder)
    save_small(folder / "plot.png", target / "plot.png", 1_000)


def save_small(picture: Path, target: Path, width: int | None = None) -> None:
    """Save a picture with a palette, and no wider than wanted."""
    with Image.open(picture) as image:
        shown = image.convert("RGB")
        if width and shown.width > width:
            shown = shown.resize((width, round(shown.height * width / shown.width)))
        shown.quantize(COLOURS, dither=Image.Dither.NONE).save(target, optimize=True)


@contextmanager
def chromium() -> Iterator[Any]:
    """Give a headless Chromium."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise MmidError("needs playwright: pip install playwright") from error
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        raise MmidError("needs chromium")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


def draw_report(folder: Path, target: Path) -> None:
    """Draw the page that --report writes, a recording of it opened."""
    run(f"mmid query takes {INDEX} --report {folder / 'answers.html'}", folder)
    with chromium() as browser:
        page = browser.new_page(viewport={"width": WIDE, "height": 1_000})
        page.goto((folder / "answers.html").as_uri())
        page.locator(".row button").first.click()
        _shoot(page, folder, target / "report.png")


def draw_served(folder: Path, target: Path) -> None:
    """Draw the served page after a recording was dropped, on a desk and on a telephone."""
    with chromium() as browser, serving(folder) as address:
        for name, width in (("serve", WIDE), ("serve-narrow", NARROW)):
            page = browser.new_page(viewport={"width": width, "height": 900})
            page.goto(address)
            page.set_input_files("#files", folder / "demo" / "recording.ogg")
            page.wait_for_selector(".card .roll", timeout=120_000)
            page.wait_for_selector(".wave:not([hidden])", timeout=120_000)
            _shoot(page, folder, target / f"{name}.png")
            page.close()


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Run mmid serve at a free port, and give its address."""
    command = [sys.executable, "-m", "mmid", "serve", *INDEX.split(), "--port", "0"]
    with Popen(command, cwd=folder, stdout=PIPE, text=True) as server:
        assert server.stdout
        yield next(line for line in server.stdout if line.startswith("http")).strip()
        server.terminate()


def _shoot(page: Any, folder: Path, target: Path) -> None:
    page.wait_for_timeout(500)
    page.screenshot(path=folder / "page.png")
    save_small(folder / "page.png", target)


DRAWN: tuple[Callable[[Path, Path], None], ...] = (
    *(draw_terminals, draw_plot, draw_concert),
    *(draw_report, draw_served),
)


def main() -> None:
    """Draw all into the folder given."""
    target = target_folder(IMAGES / "gallery", "Draw the gallery from real runs of the demo.")
    with TemporaryDirectory() as name:
        folder = Path(name)
        prepare_demo(folder / "demo")
        make_takes(folder)
        run(f"mmid build-index demo/library {INDEX}", folder)
        for draw in DRAWN:
            try:
                draw(folder, target)
            except MmidError as error:
                print(f"left out: {draw.__name__}: {error}")


if __name__ == "__main__":
    main()
