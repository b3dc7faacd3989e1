"""Fit what figures weigh in the ranking and in the confidence, and store it with a model.

``python -m mmid.research.calibrate PAIRS --index INDEX --model MODEL --figures FIGURES.jsonl --out
FITTED.safetensors`` queries each clip that the folders' pairs.csv list, once with its piece in the
library and once without, keeps the candidates' figures in FIGURES.jsonl, fits, says how good that
is on pieces it was not fitted to, and writes the model with its new weights. Run again, it goes on
where it stopped; without PAIRS it only fits, within seconds, so that figures gathered with several
libraries (``--more``) can be fitted together.

Conventions: the ranking is that of `mmid.research.conditional_logit`. The confidence is a logistic
regression on the first match's evidence. Its constant is lowered until, of the queries whose piece
is not there, no more than `FALSE_ACCEPTS` reach 0.5 when judged by weights that were not fitted to
their pieces.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.markup import escape
from rich.table import Table

from mmid.errors import MmidError, label
from mmid.evaluation.calibration import auroc, brier, reliability, reliability_table
from mmid.evaluation.sources import open_sources
from mmid.identify.identifier import Identifier
from mmid.identify.matches import PROBABLE
from mmid.identify.ranking import best_of_each, first_of_each_piece, rerank, rivals
from mmid.identify.search_options import SearchOptions, keys_to_try
from mmid.index.store import store_at
from mmid.model.checkpoint import load_checkpoint, load_tensors, save_tensors
from mmid.model.confidence import fit_confidence, logistic
from mmid.model.evidence import (
    CONSTANT,
    DEFAULT_WEIGHTS,
    Evidence,
    Figures,
    Weights,
    weigh,
    weights_of,
)
from mmid.model.loading import load_model
from mmid.model.registry import find_weights
from mmid.research.candidates import Trial, add_trials, read_trials, try_clips
from mmid.research.conditional_logit import fit_ranking
from mmid.system.console import ProgressCallback, note, progress, quiet, stdout
from mmid.system.tables import FittingTable

FALSE_ACCEPTS = 0.01
"""Of queries whose piece is not there, so many at most may be found."""

FOLDS = 5
"""Parts that the pieces are in; each is judged by weights fitted to the others."""

BEGIN = {**DEFAULT_WEIGHTS.ranking, "tune": 2.0, "melody_claimed": 0.5}
"""What a ranking is learned from: set by hand."""

CONFIDENCE_PENALTY = 1.0
"""On steps of the confidence's weights away from those to begin with."""

MARGIN = 1e-3
"""Log-odds by which the highest false accept that is too many ends up below 0."""

Fit = Callable[[Sequence[Trial]], Weights]


@dataclass(frozen=True)
class Answer:
    """The first match of a query, as some weights have it."""

    trial: Trial
    evidence: Evidence
    right: bool
    name: str


def answer(trial: Trial, ranking: Mapping[str, float]) -> Answer:
    """Rank a query's candidates, and gather what speaks for the first."""
    music = {one.ranked.candidate.piece: one.music for one in trial.candidates}
    right = {one.music for one in trial.candidates if one.right}
    ranked = best_of_each(rerank([one.ranked for one in trial.candidates], ranking))
    groups: dict[int, list[Any]] = {}
    for one in first_of_each_piece(ranked):
        groups.setdefault(music[one.candidate.piece], []).append(one)
    first = next(iter(groups), None)
    best, lead, above, name = Figures(), 0.0, 0.0, ""
    if first is not None:
        best = groups[first][0].figures
        others = rivals(groups[first], list(groups.values()), ranked)
        lead, above = (groups[first][0].support - other for other in others)
        item = groups[first][0].candidate.piece
        name = next(o.name for o in trial.candidates if o.ranked.candidate.piece == item)
    evidence = Evidence(
        **asdict(best), lead=lead, above=above, seconds=trial.seconds, snippets=trial.snippets
    )
    return Answer(trial, evidence, trial.present and first in right, name)


def fit(trials: Sequence[Trial], *, learned: bool = True) -> Weights:
    """Fit a ranking and the confidence that belongs to it; or a confidence to the one by hand."""
    ranking = BEGIN
    if learned:
        ranking = fit_ranking([one for one in trials if one.present], ranking)
    answers = [answer(trial, ranking) for trial in trials]
    evidence, right = [one.evidence for one in answers], [one.right for one in answers]
    calibration = fit_confidence(
        evidence, right, begin=DEFAULT_WEIGHTS.confidence, penalty=CONFIDENCE_PENALTY
    )
    return Weights(ranking, calibration)


@dataclass(frozen=True, eq=False)
class Judged:
    """Answers, and the log-odds that they are right."""

    answers: tuple[Answer, ...]
    odds: np.ndarray

    @property
    def present(self) -> np.ndarray:
        """Return whether the piece was there."""
        return np.array([one.trial.present for one in self.answers])

    @property
    def right(self) -> np.ndarray:
        """Return whether the first match is right."""
        return np.array([one.right for one in self.answers])

    def of_kind(self, kind: str) -> Judged:
        """Return those of a kind of music."""
        return self._where(lambda trial: trial.kind == kind)

    def of_length(self, seconds: int) -> Judged:
        """Return those of clips of a length, in whole seconds."""
        return self._where(lambda trial: round(trial.seconds) == seconds)

    def _where(self, wanted: Callable[[Trial], bool]) -> Judged:
        own = [n for n, one in enumerate(self.answers) if wanted(one.trial)]
        return Judged(tuple(self.answers[n] for n in own), self.odds[own])


def judge(trials: Sequence[Trial], weights: Weights) -> Judged:
    """Answer queries, with log-odds."""
    answers = tuple(answer(trial, weights.ranking) for trial in trials)
    odds = [weigh(one.evidence.terms(), weights.confidence) for one in answers]
    return Judged(answers, np.array(odds, float))


def cross_validate(trials: Sequence[Trial], fit_to: Fit) -> Judged:
    """Judge each piece's queries by weights fitted to other pieces'."""
    pieces = sorted({trial.piece for trial in trials})
    drawn = np.random.default_rng(0).permutation(len(pieces)) % FOLDS
    fold = dict(zip(pieces, drawn.tolist(), strict=True))
    parts = []
    for number in sorted(set(fold.values())):
        own = [trial for trial in trials if fold[trial.piece] == number]
        others = [trial for trial in trials if fold[trial.piece] != number]
        if others:
            parts.append(judge(own, fit_to(others)))
    answers = tuple(one for part in parts for one in part.answers)
    return Judged(answers, np.concatenate([part.odds for part in parts] or [np.zeros(0)]))


def threshold_shift(absent: np.ndarray, accepts: float = FALSE_ACCEPTS) -> float:
    """Return what to add to log-odds so that few enough of these, all of wrong answers, reach 0.

    Examples
    --------
    >>> threshold_shift(np.array([-3.0, -2.0, -1.0]))
    0.0
    >>> round(threshold_shift(np.array([-3.0, 2.0, 1.0, 0.5]), accepts=0.25), 2)
    -1.0
    """
    allowed = int(accepts * len(absent))
    too_many = np.sort(absent)[::-1][allowed:]
    return min(0.0, -float(too_many.max(initial=-1.0)) - MARGIN)


def calibrate(trials: Sequence[Trial]) -> tuple[Weights, dict[str, Judged], str]:
    """Fit both rankings and their confidences, and choose.

    Returns
    -------
    Weights
        Of the ranking that names more pieces right, and then that whose confidence is the better by
        its Brier score, when judged by weights that were not fitted to their pieces. Its constant
        is that of `threshold_shift`.
    dict of str to Judged
        Of each ranking, the answers so judged, after the shift.
    str
        The ranking chosen.
    """
    if not any(trial.present for trial in trials) or all(trial.present for trial in trials):
        raise MmidError("no queries to fit to: give folders of pairs, or figures of them")
    judged, fitted = {}, {}
    for name, learned in (("learned", True), ("by hand", False)):
        found = cross_validate(trials, lambda some, how=learned: fit(some, learned=how))  # type: ignore[misc]
        shift = threshold_shift(found.odds[~found.present])
        own = fit(trials, learned=learned)
        moved = {**own.confidence, CONSTANT: round(own.confidence[CONSTANT] + shift, 3)}
        judged[name] = replace(found, odds=found.odds + shift)
        fitted[name] = Weights(own.ranking, moved)

    def quality(name: str) -> tuple[int, float]:
        found = judged[name]
        return int(found.right.sum()), -brier(logistic(found.odds), found.right)

    best = max(judged, key=quality)
    return fitted[best], judged, best


def figures_of(judged: Judged) -> dict[str, float]:
    """Return how good answers and their confidences are, by name."""
    sure, right, here = logistic(judged.odds), judged.right, judged.present
    found, perhaps = sure >= 0.5, (sure >= PROBABLE) & (sure < 0.5)
    count, gone = max(1, int(here.sum())), max(1, int((~here).sum()))
    return {
        "queries": int(here.sum()),
        "top1": float(right[here].sum() / count),
        "auroc": auroc(sure[here], sure[~here]),
        "brier": brier(sure, right),
        "found_right": float((found & right).sum() / count),
        "found_wrong": float((found & ~right & here).sum() / count),
        "perhaps_right": float((perhaps & right).sum() / count),
        "perhaps_wrong": float((perhaps & ~right & here).sum() / count),
        "absent_found": float((found & ~here).sum() / gone),
        "absent_perhaps": float((perhaps & ~here).sum() / gone),
    }


COLUMNS = {
    "top1": "top-1",
    "auroc": "AUROC",
    "brier": "Brier",
    "found_right": "found right",
    "found_wrong": "found wrong",
    "perhaps_right": "perhaps right",
    "perhaps_wrong": "perhaps wrong",
    "absent_found": "absent, found",
    "absent_perhaps": "absent, perhaps",
}


def figures_table(rows: Mapping[str, Judged], title: str) -> Table:
    """Return figures of several sets of answers, a row each."""
    table = FittingTable(title=title)
    table.add_column("")
    for name in ("queries", *COLUMNS.values()):
        table.add_column(name, justify="right")
    for name, judged in rows.items():
        found = figures_of(judged)
        cells = [
            f"{found[c]:.3f}" if c in ("auroc", "brier") else f"{found[c]:.1%}" for c in COLUMNS
        ]
        table.add_row(name or "-", f"{found['queries']:.0f}", *cells)
    return table


MOST_WRONG = 10
"""Wrong answers that are named."""


def wrong_table(judged: Judged) -> Table:
    """Return the wrong answers of most confidence: they may turn out to be right after all."""
    table = FittingTable(title="wrong answers of most confidence")
    table.add_name_column("clip")
    for name in ("its piece", "confidence"):
        table.add_column(name, justify="right")
    table.add_name_column("answer")
    sure = logistic(judged.odds)
    order = [n for n in np.argsort(-sure, kind="stable") if not judged.answers[n].right]
    for number in order[:MOST_WRONG]:
        one = judged.answers[number]
        here = "there" if one.trial.present else "taken out"
        names = [escape(label(name)) for name in (one.trial.clip, one.name)]
        table.add_row(names[0], here, f"{sure[number]:.1%}", names[1])
    return table


def report(before: Judged, judged: Mapping[str, Judged], best: str) -> list[Table]:
    """Return what `calibrate` came to: both rankings, every kind, and the reliability."""
    chosen = judged[best]
    kinds = sorted({one.trial.kind for one in chosen.answers})
    by_kind = {kind: chosen.of_kind(kind) for kind in kinds}
    bins = reliability(logistic(chosen.odds), chosen.right)
    return [
        figures_table({**judged, "as it was": before}, "pieces not fitted to, by ranking"),
        figures_table(by_kind, f"by kind; ranking: {best}"),
        reliability_table(bins),
        wrong_table(chosen),
    ]


def store_weights(model: Path, out: Path, weights: Weights, judged: Judged) -> None:
    """Write a model's file again with other weights of its ranking and its confidence.

    Raises
    ------
    MmidError
        If the model cannot be read, or the file cannot be written.
    """
    load_checkpoint(model)
    tensors, header = load_tensors(model)
    fitted = {name: round(value, 4) for name, value in figures_of(judged).items()}
    own = {"ranking": dict(weights.ranking), "confidence": dict(weights.confidence)}
    header["facts"] = {**header.get("facts", {}), **own, "calibrated": fitted}
    try:
        save_tensors(out, tensors, header)
    except OSError as error:
        raise MmidError(f"{label(out)}: cannot be written ({error.strerror})") from error


def gather(
    folders: Sequence[Path],
    identifier: Identifier,
    lengths: Sequence[float],
    figures: Path,
    *,
    soundfont: str | None = None,
    advance: ProgressCallback = quiet,
) -> None:
    """Query the clips of folders of pairs, and keep their candidates' figures in a file."""
    done = frozenset(trial.key for trial in _known(figures, identifier.model.fingerprint))

    def trials() -> Iterator[Trial]:
        for folder in folders:
            count, sources = open_sources(
                folder, soundfont, identifier.params, (0.8, 1.25), "all", 0, leave_out=note
            )
            for number, found in enumerate(try_clips(sources, identifier, lengths, done), 1):
                yield from found
                advance(f"Querying {label(folder.name)}", number, count)

    add_trials(figures, trials())


def _known(figures: Path, model: str) -> list[Trial]:
    """Read figures gathered before, by the same model."""
    trials = []
    with suppress(FileNotFoundError):
        figures.stat()
        trials = read_trials(figures)
    if any(trial.model != model for trial in trials):
        raise MmidError(f"{label(figures)}: figures of another model; give another file")
    return trials


def main(
    out: Annotated[Path, typer.Option(help="The .safetensors file to write, with the weights.")],
    figures: Annotated[Path, typer.Option(help="File of the candidates' figures, .jsonl.")],
    pairs: Annotated[
        list[Path] | None,
        typer.Argument(help="Folders with a pairs.csv, or of MIDI files to render."),
    ] = None,
    index: Annotated[str | None, typer.Option(help="Index to look them up in.")] = None,
    model: Annotated[str | None, typer.Option(help="A model's name or file.")] = None,
    more: Annotated[
        list[Path] | None, typer.Option(help="More figures, gathered with another library.")
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(help="A clip not to fit to: its wrong answer turned out to be right."),
    ] = None,
    clips: Annotated[str, typer.Option(help="Clip lengths, seconds.")] = "10,30",
    transpose: Annotated[str, typer.Option(help="Semitones, or auto: all keys.")] = "auto",
    soundfont: Annotated[str | None, typer.Option(help="Render MIDI files with this one.")] = None,
    json_lines: Annotated[bool, typer.Option("--json", help="Print JSON, not tables.")] = False,
) -> None:
    """Fit the ranking and the confidence of a model to clips whose piece is known."""
    try:
        path = find_weights(model)
        loaded = load_model(model)
        if pairs:
            keys = keys_to_try("auto" if transpose == "auto" else int(transpose))
            opened = store_at(index).open(loaded)
            identifier = Identifier(loaded, opened, SearchOptions(keys=keys))
            lengths = [float(part) for part in clips.split(",")]
            with progress() as advance:
                gather(pairs, identifier, lengths, figures, soundfont=soundfont, advance=advance)
        trials = [t for file in (figures, *(more or ())) for t in _known(file, loaded.fingerprint)]
        trials = [trial for trial in trials if trial.clip not in (ignore or ())]
        weights, judged, best = calibrate(trials)
        store_weights(path, out, weights, judged[best])
    except (MmidError, ValueError) as error:
        typer.echo(f"mmid: {error}", err=True)
        raise typer.Exit(1) from None
    _print(judge(trials, weights_of(loaded.facts)), weights, judged, best, json_lines)


def _print(
    before: Judged,
    weights: Weights,
    judged: Mapping[str, Judged],
    best: str,
    json_lines: bool,
) -> None:
    own = {"ranking": dict(weights.ranking), "confidence": dict(weights.confidence)}
    if json_lines:
        rankings = {name: figures_of(found) for name, found in judged.items()}
        chosen = judged[best]
        bins = [asdict(one) for one in reliability(logistic(chosen.odds), chosen.right)]
        kinds = sorted({one.trial.kind for one in chosen.answers})
        by_kind = {kind: figures_of(chosen.of_kind(kind)) for kind in kinds}
        lengths = sorted({round(one.trial.seconds) for one in chosen.answers})
        by_length = {str(length): figures_of(chosen.of_length(length)) for length in lengths}
        said = {"chosen": best, "rankings": rankings, "kinds": by_kind, "lengths": by_length}
        typer.echo(json.dumps(own | said | {"reliability": bins}))
        return
    for table in report(before, judged, best):
        stdout.print(table)
    typer.echo(json.dumps(own, indent=1))


if __name__ == "__main__":
    typer.run(main)
