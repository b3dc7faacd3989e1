"""The ablation table: one run a choice, all on the same budget and the same unseen tunes.

``python -m mmid.research.ablation NOTTINGHAM --unseen MuseScore --soundfont TimGM ... --out
FOLDER`` trains and measures every row that FOLDER does not hold yet and prints the table; ``--row
NAME`` does some.

Conventions: a row is an experiment that differs from the one it is compared with in what its name
says. Pieces are named among the test tunes, at the score's tempo, which is not searched.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, get_args

import numpy as np
import typer

from mmid.evaluation.pieces import evaluate_pieces
from mmid.evaluation.snippets import evaluate_snippets
from mmid.evaluation.sources import RecordedSource, held_out, rendered_sources
from mmid.identify.identifier import Identifier
from mmid.identify.search_options import SearchOptions
from mmid.index.build import build_index
from mmid.index.folder import LibraryIndex
from mmid.model.checkpoint import Checkpoint, load_checkpoint
from mmid.model.encoders import pick_device
from mmid.music.grid import FeatureParams
from mmid.music.library import Piece
from mmid.music.synthesizer import find_soundfont, pick_soundfonts
from mmid.options import Vote
from mmid.system.console import ProgressCallback, note, progress
from mmid.training.augmentation import EFFECTS
from mmid.training.corpus import Corpus, prepare_corpus
from mmid.training.experiment import PRESETS, Experiment
from mmid.training.loop import BEST_NAME, describe_epoch, start_run

EPOCHS = 5
"""The budget is spent in so many epochs; the best one counts."""

EXCERPT, CLIP, POOL = 30.0, 10.0, 2_000
RESULT_NAME = "result.json"


@dataclass(frozen=True)
class Row:
    """A choice to measure.

    Parameters
    ----------
    name : str
    experiment : Experiment
    soundfonts : int or None
        How many of those given to train with; None is all.
    init : tuple of str
        Rows whose weights to begin with.
    """

    name: str
    experiment: Experiment
    soundfonts: int | None = None
    init: tuple[str, ...] = ()


def _ladder() -> list[Row]:
    """From the report to mmid's default, each row with what the one before has."""
    report = PRESETS["report-2020"]
    exact = replace(report, roll_rate="exact", spectrogram="log")
    batch = _batch()
    nce = replace(batch, loss="info-nce")
    conv = replace(nce, encoder="conv", optimizer="adamw", weight_decay=1e-4, schedule="decay")
    anywhere = replace(conv, sampling="random", epoch_pairs=20_000)
    onsets = replace(anywhere, onsets=True)
    fonts = replace(onsets, copies=2)
    varied = replace(fonts, performance="varied")
    effects = replace(varied, augment=EFFECTS)
    return [
        Row("report-2020", report, 1),
        Row("+ exact grid, log bands", exact, 1),
        Row("+ negatives from the batch", batch, 1),
        Row("+ InfoNCE", nce, 1),
        Row("+ mmid's pathways and optimiser", conv, 1),
        Row("+ snippets from anywhere", anywhere, 1),
        Row("+ onset channel", onsets, 1),
        Row("+ all soundfonts", fonts),
        Row("+ varied performances", varied),
        Row("+ effects on snippets", effects),
        Row("+ neighbours, batch of 128", _default()),
        Row("+ CCA", replace(_default(), cca=True)),
        Row("+ notes transcribed first: mmid", replace(_default(), cca=True, encoder="notes")),
    ]


def _batch() -> Experiment:
    """Return the report's run on mmid's grid, each snippet against the rest of its batch."""
    report = PRESETS["report-2020"]
    return replace(report, roll_rate="exact", spectrogram="log", negatives="batch")


def _default() -> Experiment:
    """Return mmid's default but for CCA and a transcriber, with a batch for a short run."""
    return replace(PRESETS["default"], encoder="conv", batch=128, copies=2, cca=False)


def _changes_to_report() -> list[Row]:
    report = PRESETS["report-2020"]
    encoders = ("audio autoencoder", "midi autoencoder")
    return [
        Row("audio autoencoder", replace(report, task="audio-autoencoder"), 1),
        Row("midi autoencoder", replace(report, task="midi-autoencoder"), 1),
        Row("+ negatives from the batch, and CCA", replace(_batch(), cca=True), 1),
        Row("report, begun with autoencoders", report, 1, encoders),
        Row("report, contrastive MIDI too", replace(report, loss="ranking-both"), 1),
    ]


def _changes_to_default() -> list[Row]:
    base = _default()

    def without(effect: str) -> Experiment:
        return replace(base, augment=tuple(name for name in EFFECTS if name != effect))

    return [
        Row("mmid, batch of 512", replace(base, batch=512)),
        Row("mmid, mel bands", replace(base, spectrogram="mel")),
        Row("mmid, adaptive roll rate", replace(base, roll_rate="adaptive")),
        Row("mmid, no onset channel", replace(base, onsets=False)),
        Row("mmid, unstacked roll", replace(base, unstacked=True)),
        Row("mmid, ranking loss, one-sided", replace(base, loss="ranking")),
        Row("mmid, ranking loss, two-sided", replace(base, loss="ranking-both")),
        Row("mmid, plain performances", replace(base, performance="plain")),
        Row("mmid, no noise", without("noise")),
        Row("mmid, no mismatch in tempo", without("mismatch")),
        *(Row(f"mmid, snippets of {n} frames", replace(base, snippet=n)) for n in (10, 21, 84)),
    ]


def all_rows() -> list[Row]:
    """List the rows in the order in which they are run."""
    return [*_ladder(), *_changes_to_report(), *_changes_to_default()]


@dataclass(frozen=True, eq=False)
class Bench:
    """What all rows share.

    Parameters
    ----------
    library : Path
        Folder of MIDI files.
    soundfonts : tuple of Path
        To train with.
    unseen : Path
        The soundfont to measure with.
    out : Path
        Folder of the runs and their features.
    pairs : int
        The budget of a row.
    jobs : int or None
    """

    library: Path
    soundfonts: tuple[Path, ...]
    unseen: Path
    out: Path
    pairs: int
    jobs: int | None = None

    @cached_property
    def _tests(self) -> list[Piece]:
        return held_out(self.library, "test", 0, self.jobs)

    @cached_property
    def _sources(self) -> list[RecordedSource]:
        pieces = self._tests
        return list(rendered_sources(pieces, pieces, self.unseen, FeatureParams()))

    def _play(self, piece: Piece) -> np.ndarray:
        return next(source.samples for source in self._sources if source.name == piece.name)

    def folder(self, name: str) -> Path:
        """Return where a row's run lives."""
        return self.out / re.sub(r"[^\w+]+", "-", name)

    @cached_property
    def _corpora(self) -> dict[Any, Corpus]:
        return {}

    def corpus(self, row: Row, report: ProgressCallback) -> Corpus:
        """Render what a row trains on; rows with the same renderings share it."""
        x, fonts = row.experiment, self.soundfonts[: row.soundfonts]
        key = fonts, x.features.spectrogram_values, x.copies, x.performance
        if key not in self._corpora:
            self._corpora[key] = prepare_corpus(
                [self.library],
                [],
                fonts,
                self.out / "features",
                x.features,
                copies=x.copies,
                performance=x.performance,
                excerpt=EXCERPT,
                workers=self.jobs,
                progress=report,
            )
        return self._corpora[key]

    def train(self, row: Row, report: ProgressCallback) -> None:
        """Spend the budget, half of it on an autoencoder; a run that was cut off goes on."""
        share = 1 if row.experiment.task == "retrieval" else 2
        pairs = self.pairs // share // EPOCHS
        experiment = replace(row.experiment, epochs=EPOCHS, patience=EPOCHS, epoch_pairs=pairs)
        init = [self.folder(name) / BEST_NAME for name in row.init]
        corpus, device = self.corpus(row, report), pick_device()
        for epoch in start_run(self.folder(row.name), corpus, experiment, device, report, init):
            note(f"{row.name}: {describe_epoch(epoch)}")

    def measure(self, row: Row) -> dict[str, Any]:
        """Return R@1 and MRR in both directions, and piece top-1 by both votes."""
        model = load_checkpoint(self.folder(row.name) / BEST_NAME, pick_device())
        scores = list(evaluate_snippets(self._tests, self._play, model, pool=POOL).scores.values())
        figures = {"recall": [s.recall[1] for s in scores[:2]], "mrr": [s.mrr for s in scores[:2]]}
        return figures | self._piece_top1(model)

    def _piece_top1(self, model: Checkpoint) -> dict[str, float]:
        with TemporaryDirectory(prefix="mmid-ablation-") as folder:
            build_index(Path(folder), self._tests, model)
            index = LibraryIndex(Path(folder), model)
            digests = [entry.digest for entry in index.entries]
            top1 = {}
            for vote in get_args(Vote):
                named = Identifier(model, index, SearchOptions(vote=vote, tempo_ratios=(1.0,)))
                found = evaluate_pieces(self._sources, named, digests, lengths=[CLIP], clips=1)
                top1[vote] = found[0].top1
        return top1

    def run(self, row: Row) -> None:
        """Train and measure a row, unless it has been."""
        result = self.folder(row.name) / RESULT_NAME
        if result.exists():
            return
        with progress() as report:
            self.train(row, report)
        figures = self.measure(row) if row.experiment.task == "retrieval" else {}
        result.write_text(json.dumps(figures))
        note(f"{row.name}: {figures}")


def table(bench: Bench, rows: Sequence[Row]) -> str:
    """Return the measured rows as a Markdown table."""
    head = (
        "| choice | audio to MIDI: R@1 | MRR | MIDI to audio: R@1 | MRR | piece, majority | piece |"
    )
    lines = [head, "|" + " --- |" * 7]
    for row in rows:
        path = bench.folder(row.name) / RESULT_NAME
        figures = json.loads(path.read_text()) if path.exists() else {}
        if figures:
            ways = zip(figures["recall"], figures["mrr"], strict=True)
            values = [*(v for way in ways for v in way), figures["majority"], figures["consistent"]]
            lines.append(f"| {row.name} | " + " | ".join(f"{v:.1%}" for v in values) + " |")
    return "\n".join(lines)


def main(
    library: Path,
    out: Annotated[Path, typer.Option(help="Folder of the runs; those there are kept.")],
    unseen: Annotated[str, typer.Option(help="The soundfont to measure with.")],
    soundfont: Annotated[list[str], typer.Option(help="To train with; may be repeated.")],
    pairs: Annotated[int, typer.Option(help="Budget of each row.")] = 20_000,
    row: Annotated[list[str] | None, typer.Option(help="Only rows that begin so.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Worker processes.")] = None,
) -> None:
    """Train and measure the rows that are missing, then print the table."""
    fonts = tuple(pick_soundfonts(soundfont))
    bench = Bench(library, fonts, find_soundfont(unseen), out, pairs, jobs)
    for each in all_rows():
        if not row or any(each.name.startswith(name) for name in row):
            bench.run(each)
    typer.echo(table(bench, all_rows()))


if __name__ == "__main__":
    typer.run(main)
