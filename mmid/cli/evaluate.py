"""The ``mmid eval`` commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.table import Table

from mmid.cli.help import App
from mmid.cli.options import (
    AnnotateFlag,
    BaselineOption,
    Device,
    Folders,
    Index,
    Jobs,
    JsonFlag,
    JunitFile,
    Model,
    OutFile,
    SearchOption,
    SideOption,
    TransposeOption,
    VoteOption,
    open_identifier,
    parse_sizes,
)
from mmid.errors import MmidError, label
from mmid.options import BaselineName, Direction, Roughness
from mmid.system.console import note, progress, remark, stdout

if TYPE_CHECKING:
    from mmid.evaluation.scores import ClipScores

evaluation = App(help="Measure how good the answers are.")


@evaluation.command(
    "snippets", epilog="Example: mmid eval snippets nottingham --soundfont MuseScore --pool 2000"
)
def eval_snippets(
    library: Annotated[Path, typer.Argument(help="Folder of MIDI files; its test part is used.")],
    soundfont: Annotated[str, typer.Option(help="A soundfont the model never heard.")],
    pool: Annotated[int, typer.Option(min=2, help="Snippets to tell apart.")] = 2_000,
    side: SideOption = "test",
    seed: Annotated[int, typer.Option(help="Of the split and the pool.")] = 0,
    min_r1: Annotated[
        float | None, typer.Option(min=0, max=1, help="Fail below this R@1, either direction.")
    ] = None,
    json_lines: JsonFlag = False,
    out: OutFile = None,
    model: Model = None,
    device: Device = "auto",
    jobs: Jobs = None,
) -> None:
    """Retrieve snippets of rendered pieces from a pool, in both directions."""
    from mmid.evaluation.snippets import evaluate_snippets, snippet_table
    from mmid.evaluation.sources import held_out
    from mmid.model.encoders import pick_device
    from mmid.model.loading import load_model
    from mmid.music.synthesizer import Synthesizer, find_soundfont

    loaded = load_model(model, pick_device(device))
    pieces = held_out(library, side, seed, jobs)
    rate = loaded.encoders.config.features.sample_rate
    with progress() as tell, Synthesizer(find_soundfont(soundfont), rate) as synthesizer:
        result = evaluate_snippets(
            pieces,
            lambda piece: synthesizer.render(piece.midi.notes),
            loaded,
            pool=pool,
            seed=seed,
            progress=tell,
        )
    _deliver(result.to_dict(), [snippet_table(result)], json_lines, out)
    lowest = min(scores.recall[1] for scores in list(result.scores.values())[:2])
    _gate("R@1", lowest, min_r1)


@evaluation.command(
    "pieces",
    epilog="Example: mmid eval pieces my-recordings --index my-index --clips 10,30,whole",
)
def eval_pieces(
    source: Annotated[
        Path,
        typer.Argument(help="A folder with a pairs.csv (id, audio, midi), or one of MIDI files."),
    ],
    index: Index = None,
    direction: Annotated[
        Direction,
        typer.Option(help="Ask for the pieces of recordings, or for the recordings of scores."),
    ] = "recordings",
    soundfont: Annotated[
        str | None, typer.Option(help="Render the MIDI files with this one.")
    ] = None,
    tempo: Annotated[str, typer.Option(help="Speeds to render at, slowest:fastest.")] = "1:1",
    semitones: Annotated[
        int, typer.Option(min=-12, max=12, help="Render performances so much higher.")
    ] = 0,
    rough: Annotated[
        Roughness | None, typer.Option(help="What the sound suffers first.", show_default=False)
    ] = None,
    side: SideOption = "test",
    lengths: Annotated[
        str, typer.Option("--clips", help="Clip lengths, seconds, or 'whole'.")
    ] = "3,5,10,30",
    clips: Annotated[int, typer.Option("--per-recording", min=1, help="Clips of each.")] = 3,
    absent: Annotated[
        bool, typer.Option("--absent", help="Ask again with the right answers taken out.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the split, the tempi and the clips.")] = 0,
    search: SearchOption = "auto",
    vote: VoteOption = "consistent",
    transpose: TransposeOption = "0",
    baseline: BaselineOption = None,
    min_top1: Annotated[
        float | None, typer.Option(min=0, max=1, help="Fail if any length's top-1 is below.")
    ] = None,
    junit: JunitFile = None,
    annotate: AnnotateFlag = False,
    json_lines: JsonFlag = False,
    out: OutFile = None,
    model: Model = None,
    device: Device = "auto",
    jobs: Jobs = None,
) -> None:
    """Identify clips of recordings, rendered MIDI files or scores whose match is known.

    Recordings are asked of an index of MIDI files, scores of an index of recordings. Where
    pairs.csv has a column kind, each kind of music is reported, too. A row whose recording or MIDI
    file cannot be read is left out and reported; the exit status is then 1.
    """
    from mmid.evaluation.baselines.methods import open_baselines
    from mmid.evaluation.ci_report import github_annotations, write_junit
    from mmid.evaluation.pieces import evaluate_pieces
    from mmid.evaluation.scores import clip_table, kind_table, recording_table
    from mmid.evaluation.sources import ASKED_OF, open_sources
    from mmid.model.encoders import pick_device
    from mmid.model.loading import load_model

    if annotate and json_lines:
        raise typer.BadParameter("--annotations and --json both go to stdout: give one of them")
    tempos, seconds = _parse_range(tempo), _parse_lengths(lengths)
    identifier, opened = open_identifier(index, model, device, search, vote, transpose=transpose)
    if opened.kind != ASKED_OF[direction]:
        raise MmidError(
            f"--direction {direction} asks an index built with --kind"
            f" {ASKED_OF[direction]}, not {opened.kind}: give another --index or --direction"
        )
    loaded = load_model(model, pick_device(device))
    baselines = open_baselines(cast(list[BaselineName], baseline or []), loaded, opened)
    lost: list[str] = []

    def leave_out(row: str) -> None:
        lost.append(row)
        note(f"left out: {row}")

    count, sources = open_sources(
        source,
        soundfont,
        identifier.params,
        tempos,
        side,
        seed,
        jobs,
        direction=direction,
        semitones=semitones,
        rough=rough,
        leave_out=leave_out,
    )
    done: list[str] = []
    with progress() as tell:

        def progressed(name: str) -> None:
            done.append(name)
            tell("Identifying", len(done), count)

        def keep(scores: list[ClipScores]) -> None:
            if out:
                _write([score.to_dict() for score in scores], out)
                note(f"mmid: {label(out)}: holds the {len(done)} of {count} that are done")

        results = evaluate_pieces(
            sources,
            identifier,
            [entry.digest for entry in opened.entries],
            lengths=seconds,
            clips=clips,
            absent=absent,
            baselines=baselines,
            seed=seed,
            progress=progressed,
            keep=keep,
        )
    tables = [clip_table(results)] + [kind_table(results)] * any(row.kinds for row in results)
    tables += [recording_table(results)] * (soundfont is None)
    _deliver([result.to_dict() for result in results], tables, json_lines, out)
    own = results[: len(seconds)]
    if junit:
        write_junit(own, junit)
    if annotate:
        typer.echo("\n".join(github_annotations(own, min_top1)))
    _gate("top-1", min(result.top1 for result in own), min_top1)
    if lost:
        note(f"{len(lost)} rows of {label(source)} could not be used")
        raise typer.Exit(1)


@evaluation.command(
    "speed", epilog="Example: mmid eval speed my-midi --query take1.wav --sizes 1000,10000"
)
def eval_speed(
    library: Folders,
    query: Annotated[Path, typer.Option(help="A recording; its first 30 s are asked about.")],
    sizes: Annotated[
        str, typer.Option(help="Pieces; more than there are get copies in other keys and tempi.")
    ] = "1000,10000",
    json_lines: JsonFlag = False,
    out: OutFile = None,
) -> None:
    """Measure how an index grows: building, adding, size, memory, asking, recall.

    The packaged model is used. The commands run as processes of their own, one at a time.
    """
    from tempfile import TemporaryDirectory

    from mmid.evaluation.growth import growth_table, measure_growth
    from mmid.model.encoders import pick_device
    from mmid.model.loading import load_model

    wanted, loaded = parse_sizes(sizes), load_model(None, pick_device("cpu"))
    rows = []
    for size in wanted:
        with TemporaryDirectory(prefix="mmid-speed-") as folder:
            rows.append(measure_growth(library, query, size, Path(folder), loaded, remark))
    _deliver([row.to_dict() for row in rows], [growth_table(rows)], json_lines, out)


@evaluation.command(
    "timeline", epilog="Example: mmid eval timeline medley.csv medley.flac --index my-index"
)
def eval_timeline(
    truth: Annotated[
        Path,
        typer.Argument(help="A CSV of what is played: start, end, id, midi (several split by |)."),
    ],
    recording: Annotated[Path, typer.Argument(help="The recording.")],
    index: Index = None,
    every: Annotated[float, typer.Option(help="Length of the windows, seconds.")] = 30.0,
    json_lines: JsonFlag = False,
    out: OutFile = None,
    model: Model = None,
    device: Device = "auto",
) -> None:
    """Follow a long recording and compare its timeline with what is played in it."""
    from mmid.evaluation.timelines import evaluate_timeline, told_table

    identifier, opened = open_identifier(index, model, device)
    with progress() as tell:
        scores = evaluate_timeline(identifier, opened.entries, truth, recording, every, tell)
    _deliver(scores.to_dict(), [told_table(scores)], json_lines, out)


@evaluation.command(
    "confidence", epilog="Example: mmid eval confidence results.json, from pieces --absent --out"
)
def eval_confidence(
    results: Annotated[list[Path], typer.Argument(help="Files of mmid eval pieces --absent.")],
) -> None:
    """Fit the confidence to answers known to be right or wrong; print its weights."""
    from mmid.evaluation.scores import calibrate

    try:
        scores = [row for path in results for row in json.loads(path.read_text())]
    except (OSError, ValueError) as error:
        raise MmidError(f"cannot read the results: {error}") from error
    typer.echo(json.dumps(calibrate(scores)))


def _parse_range(text: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in text.split(":"))
    except ValueError:
        low, high = 0.0, 0.0
    if not 0.1 <= low <= high <= 10:
        raise typer.BadParameter(f"{text!r}: give slowest:fastest, such as 0.8:1.25")
    return low, high


def _parse_lengths(text: str) -> list[float | None]:
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
        raise MmidError(f"{name} is {reached:.1%}, below the {wanted:.1%} asked for")
