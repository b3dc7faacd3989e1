"""The ``mmid eval`` commands."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.table import Table

from mmid.cli.help import App
from mmid.cli.options import (
    AnnotateFlag,
    BaselineOption,
    Folders,
    Index,
    Jobs,
    JsonFlag,
    JunitFile,
    ModelGroup,
    OutFile,
    SearchGroup,
    SideOption,
    open_identifier,
    parse_sizes,
)
from mmid.errors import MmidError, label
from mmid.options import BaselineName, Degradation, Direction, Kind
from mmid.system.console import note, progress, remark, stdout
from mmid.system.threads import MOST_JOBS, queries_at_once

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mmid.evaluation.baselines.methods import Baseline
    from mmid.evaluation.scores import ClipScores
    from mmid.evaluation.sources import Source
    from mmid.identify.identifier import Identifier
    from mmid.index.protocol import Library

evaluation = App(
    help="Measure how good the answers are.",
    epilog="Example: mmid eval pieces my-recordings --index my-index",
)

AtOnce = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Query this many recordings at once; read MIDI files in as many processes.",
        show_default=f"as many as there are cores, {MOST_JOBS} at most",
        rich_help_panel="Machine",
    ),
]


@evaluation.command(
    "snippets", epilog="Example: mmid eval snippets nottingham --soundfont MuseScore --pool 2000"
)
def eval_snippets(
    library: Annotated[Path, typer.Argument(help="Render MIDI files of this folder; see --side.")],
    *,
    soundfont: Annotated[
        str, typer.Option(help="Render with this soundfont, which the model was not trained with.")
    ],
    pool: Annotated[int, typer.Option(min=2, help="Search among this many snippets.")] = 2_000,
    side: SideOption = "test",
    seed: Annotated[int, typer.Option(help="Seed the split and the pool.")] = 0,
    min_r1: Annotated[
        float | None, typer.Option(min=0, max=1, help="Fail if R@1 of a direction is below this.")
    ] = None,
    json_lines: JsonFlag = False,
    out: OutFile = None,
    model: ModelGroup,
    jobs: Jobs = None,
) -> None:
    """Measure how well snippets find each other, from recording to score and back."""
    from mmid.evaluation.snippets import evaluate_snippets, snippet_table
    from mmid.evaluation.sources import held_out
    from mmid.music.synthesizer import Synthesizer, find_soundfont

    loaded = model.load()
    pieces = held_out(library, side, seed, jobs)
    rate = loaded.encoders.config.features.sample_rate
    with progress() as advance, Synthesizer(find_soundfont(soundfont), rate) as synthesizer:
        result = evaluate_snippets(
            pieces,
            lambda piece: synthesizer.render(piece.midi.notes),
            loaded,
            pool=pool,
            seed=seed,
            progress=advance,
        )
    _deliver(result.to_dict(), [snippet_table(result)], json_lines, out)
    lowest = min(scores.recall[1] for scores in list(result.scores.values())[:2])
    _gate("R@1", lowest, min_r1)


@dataclass(frozen=True, kw_only=True)
class SourceGroup:
    """Which recordings there are, and how they sound."""

    direction: Annotated[
        Direction,
        typer.Option(help="Query recordings, or query scores in an index of recordings."),
    ] = "recordings"
    soundfont: Annotated[
        str | None, typer.Option(help="Render the MIDI files with this soundfont.")
    ] = None
    tempo: Annotated[
        str, typer.Option(help="Render at random speeds between these two: slowest:fastest.")
    ] = "1:1"
    semitones: Annotated[
        int,
        typer.Option(min=-12, max=12, help="Transpose the renderings up by this many semitones."),
    ] = 0
    rough: Annotated[
        Degradation | None,
        typer.Option(help="Degrade the recordings first, in this way.", show_default=False),
    ] = None
    side: SideOption = "test"


@dataclass(frozen=True, kw_only=True)
class ClipGroup:
    """What is cut out of each recording."""

    lengths: Annotated[
        str, typer.Option("--clips", help="Cut clips of these lengths, seconds, or 'whole'.")
    ] = "3,5,10,30"
    clips: Annotated[
        int, typer.Option("--per-recording", min=1, help="Cut this many clips from each recording.")
    ] = 3
    absent: Annotated[
        bool,
        typer.Option("--absent", help="Query again with the right pieces taken out of the index."),
    ] = False
    variants: Annotated[
        bool,
        typer.Option("--variants", help="Count other files with the same tune as right, too."),
    ] = False
    seed: Annotated[int, typer.Option(help="Seed the split, the tempi and the clips.")] = 0


@dataclass(frozen=True, kw_only=True)
class ReportGroup:
    """What is made of the scores."""

    min_top1: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Fail if the top-1 of a clip length is below this."),
    ] = None
    junit: JunitFile = None
    annotate: AnnotateFlag = False
    json_lines: JsonFlag = False
    out: OutFile = None

    def check(self) -> None:
        """Refuse options that exclude each other."""
        if self.annotate and self.json_lines:
            raise typer.BadParameter("--annotations and --json both go to stdout: give one of them")


@evaluation.command(
    "pieces",
    epilog="Example: mmid eval pieces my-recordings --index my-index --clips 10,30,whole",
)
def eval_pieces(
    source: Annotated[
        Path,
        typer.Argument(
            help="Use a folder with a pairs.csv (id, audio, midi), or MIDI files to render."
        ),
    ],
    index: Index = None,
    *,
    sources: SourceGroup,
    clips: ClipGroup,
    search: SearchGroup,
    baseline: BaselineOption = None,
    report: ReportGroup,
    model: ModelGroup,
    jobs: AtOnce = None,
) -> None:
    """Measure how many clips are named right, of recordings whose piece is known.

    Where pairs.csv has a column kind, each kind of music is reported as well. A row whose recording
    or MIDI file cannot be read is left out and reported; the exit status is then 1.
    """
    from mmid.evaluation.baselines.methods import open_baselines
    from mmid.evaluation.sources import open_sources

    report.check()
    tempos, lengths = parse_range(sources.tempo), parse_lengths(clips.lengths)
    identifier, opened = open_identifier(index, model, search.options())
    _check_direction(sources.direction, opened.kind)
    baselines = open_baselines(cast(list[BaselineName], baseline or []), identifier.model, opened)
    lost: list[str] = []

    def leave_out(row: str) -> None:
        lost.append(row)
        note(f"left out: {row}")

    found = open_sources(
        source,
        sources.soundfont,
        identifier.params,
        tempos,
        sources.side,
        clips.seed,
        jobs,
        direction=sources.direction,
        semitones=sources.semitones,
        degradation=sources.rough,
        leave_out=leave_out,
    )
    results = _identify_clips(
        found, identifier, opened, lengths, clips, baselines, queries_at_once(jobs), report.out
    )
    _report(results, results[: len(lengths)], report, by_recording=sources.soundfont is None)
    if lost:
        note(f"{len(lost)} rows of {label(source)} could not be used")
        raise typer.Exit(1)


def _check_direction(direction: Direction, kind: Kind) -> None:
    """Refuse an index that does not hold what the direction looks for."""
    from mmid.evaluation.sources import INDEX_KIND

    if kind != INDEX_KIND[direction]:
        raise MmidError(
            f"--direction {direction} needs an index built with --kind"
            f" {INDEX_KIND[direction]}, not {kind}: give another --index or --direction"
        )


def _identify_clips(
    found: tuple[int, Iterable[Source]],
    identifier: Identifier,
    index: Library,
    lengths: Sequence[float | None],
    chosen: ClipGroup,
    baselines: Sequence[Baseline],
    jobs: int,
    out: Path | None,
) -> list[ClipScores]:
    """Identify clips and show progress; what is done stays in a file if it breaks off."""
    from mmid.evaluation.pieces import evaluate_pieces
    from mmid.evaluation.variants import Variants

    (count, sources), done = found, 0
    digests = [entry.digest for entry in index.entries]
    with progress() as advance:

        def progressed(name: str) -> None:
            nonlocal done
            done += 1
            advance("Identifying", done, count)

        def keep(scores: list[ClipScores]) -> None:
            if out:
                _write([score.to_dict() for score in scores], out)
                note(f"mmid: {label(out)}: holds the {done} of {count} that are done")

        return evaluate_pieces(
            sources,
            identifier,
            digests,
            lengths=lengths,
            clips=chosen.clips,
            absent=chosen.absent,
            baselines=baselines,
            variants=Variants(index) if chosen.variants else None,
            seed=chosen.seed,
            jobs=jobs,
            progress=progressed,
            keep=keep,
        )


def _report(
    results: list[ClipScores],
    own: list[ClipScores],
    options: ReportGroup,
    *,
    by_recording: bool,
) -> None:
    """Print and write scores, mmid's own among them; fail if these are too low."""
    from mmid.evaluation.calibration import reliability_table
    from mmid.evaluation.ci_report import github_annotations, write_junit
    from mmid.evaluation.scores import clip_table, kind_table, recording_table, verdict_table

    tables = [clip_table(results)] + [kind_table(results)] * any(row.kinds for row in results)
    tables += [verdict_table(own)]
    tables += [reliability_table(row.reliability) for row in own if row.absent_verdicts]
    tables += [recording_table(results)] * by_recording
    data = [result.to_dict() for result in results]
    _deliver(data, tables, options.json_lines, options.out)
    if options.junit:
        write_junit(own, options.junit)
    if options.annotate:
        typer.echo("\n".join(github_annotations(own, options.min_top1)))
    _gate("top-1", min(result.top1 for result in own), options.min_top1)


@evaluation.command(
    "speed", epilog="Example: mmid eval speed my-midi --query take1.wav --sizes 1000,10000"
)
def eval_speed(
    library: Folders,
    query: Annotated[Path, typer.Option(help="Query the first 30 s of this recording.")],
    sizes: Annotated[
        str,
        typer.Option(help="Measure with this many pieces; transposed copies make up the number."),
    ] = "1000,10000",
    work: Annotated[
        Path | None,
        typer.Option(
            help="Keep libraries, indexes and results in this folder, to continue from.",
            show_default="a temporary folder",
        ),
    ] = None,
    json_lines: JsonFlag = False,
    out: OutFile = None,
) -> None:
    """Measure how time, memory and disk grow with the library.

    The packaged model is used. Each step is a command of its own, one at a time.
    After a stop, run it again with the same --work: it goes on from the last finished step.
    """
    from mmid.evaluation.growth import growth_table, measure_growth

    wanted, loaded = parse_sizes(sizes), ModelGroup(device="cpu").load()
    rows = []
    try:
        for size in wanted:
            with _folder_of(size, work) as folder:
                rows.append(measure_growth(library, query, size, Path(folder), loaded, remark))
    except KeyboardInterrupt:
        if work:
            note(f"mmid: {label(work)}: holds what is done; the same command goes on from there")
        raise
    _deliver([row.to_dict() for row in rows], [growth_table(rows)], json_lines, out)


def _folder_of(size: int, work: Path | None) -> AbstractContextManager[str | Path]:
    """Return where a size is measured; what is there is deleted in the end if none was given."""
    from tempfile import TemporaryDirectory

    return nullcontext(work / str(size)) if work else TemporaryDirectory(prefix="mmid-speed-")


@evaluation.command(
    "timeline", epilog="Example: mmid eval timeline medley.csv medley.flac --index my-index"
)
def eval_timeline(
    truth: Annotated[
        Path,
        typer.Argument(
            help="Read what is played from this CSV: start, end, id, midi (several split by |)."
        ),
    ],
    recording: Annotated[Path, typer.Argument(help="Follow this recording.")],
    index: Index = None,
    *,
    every: Annotated[float, typer.Option(help="Look up windows of this many seconds.")] = 30.0,
    json_lines: JsonFlag = False,
    out: OutFile = None,
    model: ModelGroup,
) -> None:
    """Compare the timeline of a long recording with what is played in it."""
    from mmid.evaluation.timelines import evaluate_timeline, timeline_scores_table

    identifier, opened = open_identifier(index, model)
    with progress() as advance:
        scores = evaluate_timeline(identifier, opened.entries, truth, recording, every, advance)
    _deliver(scores.to_dict(), [timeline_scores_table(scores)], json_lines, out)


@evaluation.command("confidence", epilog="Example: mmid eval confidence results.json")
def eval_confidence(
    results: Annotated[
        list[Path], typer.Argument(help="Fit to these results of mmid eval pieces --absent --out.")
    ],
) -> None:
    """Fit the confidence to measured answers, and print its weights."""
    from mmid.evaluation.scores import calibrate

    try:
        scores = [row for path in results for row in json.loads(path.read_text())]
    except (OSError, ValueError) as error:
        raise MmidError(f"cannot read the results: {error}") from error
    typer.echo(json.dumps(calibrate(scores)))


def parse_range(text: str) -> tuple[float, float]:
    """Read a range of speeds as a user gives it."""
    try:
        low, high = (float(part) for part in text.split(":"))
    except ValueError:
        low, high = 0.0, 0.0
    if not 0.1 <= low <= high <= 10:
        raise typer.BadParameter(f"{text!r}: give slowest:fastest, such as 0.8:1.25")
    return low, high


def parse_lengths(text: str) -> list[float | None]:
    """Read lengths of clips as a user gives them; None is the whole."""
    try:
        lengths = [None if part == "whole" else float(part) for part in text.split(",")]
    except ValueError:
        lengths = [0.0]
    if not all(length is None or 0 < length < 86_400 for length in lengths):
        raise typer.BadParameter(f"{text!r}: give seconds, such as 3,10,30,whole")
    return lengths


def _deliver(data: object, tables: list[Table], json_lines: bool, out: Path | None) -> None:
    if json_lines:
        typer.echo(json.dumps(data))
    else:
        for table in tables:
            stdout.print(table)
    if out:
        _write(data, out)


def _write(data: object, out: Path) -> None:
    from mmid.system.outputs import written_target

    with written_target(out) as part:
        part.write_text(json.dumps(data, indent=1))


def _gate(name: str, reached: float, wanted: float | None) -> None:
    if wanted is not None and reached < wanted:
        raise MmidError(f"{name} is {reached:.1%}, below the {wanted:.1%} required")
