"""Draws the documents' pictures from real runs: python docs/site/pictures.py [FOLDER].

The pictures go to FOLDER, or else to docs/images. `terminal.svg` is what two commands print,
`votes.png` is how the votes of the demo's recording agree on a position.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

from mmid.cli.demo import prepare_demo

IMAGES = Path(__file__).parents[1] / "images"

WIDTH = 100
COLOUR = {"FORCE_COLOR": "1", "TERM": "xterm-256color"}


def run(command: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run mmid in a folder."""
    words = [sys.executable, "-m", "mmid", *command.split()[1:]]
    settings = {**os.environ, **environment}
    return subprocess.run(
        words, cwd=folder, env=settings, capture_output=True, text=True, check=True
    )


def draw_terminal(folder: Path, target: Path) -> None:
    """Draw two commands and what they print."""
    build = "mmid build-index demo/library --index demo/index"
    query = "mmid query demo/recording.ogg --index demo/index"
    printed = {build: run(build, folder).stderr, query: run(query, folder, **COLOUR).stdout}
    save_terminal(printed, target)


def save_terminal(printed: Mapping[str, str], target: Path) -> None:
    """Draw commands and what they printed; without the web font that Rich would have fetched."""
    with open(os.devnull, "w") as nowhere:
        console = Console(record=True, width=WIDTH, file=nowhere)
        for command, text in printed.items():
            console.print(f"[bold green]$[/] {command}", highlight=False)
            console.print(Text.from_ansi(text))
    plain = re.sub(r"@font-face \{\{.*?\}\}\n", "", CONSOLE_SVG_FORMAT, flags=re.S)
    console.save_svg(str(target), title="mmid", code_format=plain, unique_id="mmid")


def draw_votes(folder: Path, target: Path) -> None:
    """Draw where the hits at the right tempo say that the query begins, and the path found."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    from mmid.identify.alignment import draw_spans, note_gains
    from mmid.identify.identifier import Identifier
    from mmid.identify.voting import SHARPNESS
    from mmid.index.folder import LibraryIndex
    from mmid.model.loading import load_model

    model = load_model()
    index = LibraryIndex(folder / "demo" / "index", model)
    identifier = Identifier(model, index)
    asked = identifier.search(identifier.open(folder / "demo" / "recording.ogg"))
    best, rival = identifier.decide(asked).matches[:2]
    trace = identifier.trace(asked, best)
    tempo = trace.candidate.tempo_ratio  # of note triples it is between those tried
    hits = min(asked.hits, key=lambda tried: abs(np.log2(tried.tempo_ratio / tempo)))
    rate = identifier.params.frame_rate
    starts = (hits.position - hits.query_frame[:, None] * hits.tempo_ratio) / rate
    nearest = hits.similarity[:, :1]
    weights = np.exp(SHARPNESS * (hits.similarity - nearest)) * nearest.clip(0, 1)
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    for match, colour in ((rival, "tab:orange"), (best, "tab:green")):
        mine = hits.piece == identifier.names.index(match.piece)
        left.hist(
            starts[mine],
            np.arange(-10, 40, 0.5),
            weights=weights[mine],
            color=colour,
            alpha=0.8,
            label=match.piece,
        )
    left.set(xlabel="where the query would begin, s of the piece", ylabel="weight of the hits")
    left.legend(frameon=False)
    heard = note_gains(asked.query.log_odds)
    step = trace.candidate.tempo_ratio * heard.step
    frames = int(trace.seconds * rate / step) + 2
    whole = [(trace.candidate, 0.0, step)]
    roll = draw_spans(whole, frames, index.notes, identifier.params)[0]
    gains = (heard.values.T @ roll).numpy()
    extent = (0, trace.seconds, 0, asked.query.seconds)
    limit = float(np.abs(gains).max())
    shown = {"aspect": "auto", "cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
    right.imshow(gains, origin="lower", extent=extent, **shown)
    right.plot(trace.path.score, trace.path.query, color="black", linewidth=1)
    right.set(xlabel=f"{best.piece}, s", ylabel="recording, s", title="gain of each pair of frames")
    figure.savefig(target, dpi=110)


def target_folder(default: Path, description: str) -> Path:
    """Return the folder that the command line names, or the default, and make it."""
    parser = ArgumentParser(description=description)
    text = f"write the pictures here (default: {default})"
    parser.add_argument("folder", nargs="?", type=Path, default=default, help=text)
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def main() -> None:
    """Draw both into the folder given."""
    target = target_folder(IMAGES, "Draw the documents' pictures from real runs of the demo.")
    with TemporaryDirectory() as name:
        prepare_demo(Path(name) / "demo")
        draw_terminal(Path(name), target / "terminal.svg")
        draw_votes(Path(name), target / "votes.png")


if __name__ == "__main__":
    main()
