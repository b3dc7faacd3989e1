"""`mmid query`: what recordings are performances of."""

from __future__ import annotations

import os
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmid.cli.options import (
    Device,
    Model,
    SearchedIndex,
    SearchOption,
    Top,
    TransposeOption,
    VoteOption,
    open_identifier,
)
from mmid.cli.shell import LeftAtWork, status_of
from mmid.system.console import aside, note, progress, stdout, waiting

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import RenderableType

    from mmid.identify.batch import Answered, Sink
    from mmid.identify.identifier import Identifier
    from mmid.music.library import BadFile
    from mmid.output.timelines import TimelineSink

ASKED, OUTPUT, SEARCH, MACHINE = "What to ask", "Output", "Search", "Machine"
MOST_JOBS = 4
"""Files asked about at once, unless the user wants more: each takes some 100 MB."""


def query(
    queries: Annotated[
        list[str],
        typer.Argument(
            help="Recordings (wav, flac, ogg, mp3, m4a, opus), MIDI files, folders, patterns such"
            " as 'takes/**/*.wav', or - for a list of paths on standard input.",
            rich_help_panel=ASKED,
        ),
    ],
    start: Annotated[
        float, typer.Option(min=0, help="Skip so many seconds.", rich_help_panel=ASKED)
    ] = 0.0,
    duration: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            help="Use so many seconds.",
            show_default="to the end",
            rich_help_panel=ASKED,
        ),
    ] = None,
    top: Top = None,
    every: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Say what is played in a long recording from when to when, looking up windows of"
            " so many seconds.",
            show_default=False,
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    cue: Annotated[
        Path | None,
        typer.Option(
            help="With --every, write a cue sheet of the pieces: a .cue file, or a folder, a file a"
            " recording.",
            show_default=False,
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    json_lines: Annotated[
        bool,
        typer.Option("--json", help="Print one JSON object a file.", rich_help_panel=OUTPUT),
    ] = False,
    csv_rows: Annotated[
        bool,
        typer.Option(
            "--csv",
            help="Print a header and one row of CSV a file; with --every, a piece.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option(
            help="Draw what the answer rests on: a .png or .svg file, or a folder, a file a query.",
            show_default=False,
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    playlist: Annotated[
        Path | None,
        typer.Option(
            help="List the recordings found, with their pieces, in this .m3u8 file.",
            show_default=False,
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    sidecar: Annotated[
        bool,
        typer.Option(
            "--sidecar",
            help="Write the answer beside each recording, as recording.wav.mmid.json.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    export_aligned: Annotated[
        Path | None,
        typer.Option(
            help="Write the MIDI file found in the recording's time, so that both play in step: a"
            " .mid file, or a folder, a file a query.",
            show_default=False,
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            help="Write one web page of all answers, with sound and pictures: an .html file.",
            show_default=False,
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    index: SearchedIndex = None,
    search: SearchOption = "auto",
    vote: VoteOption = "consistent",
    transpose: TransposeOption = "0",
    min_confidence: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="A match counts as found from here on.", rich_help_panel=SEARCH
        ),
    ] = 0.5,
    model: Model = None,
    device: Device = "auto",
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Files to ask about at once.",
            show_default=f"as many as there are cores, {MOST_JOBS} at most",
            rich_help_panel=MACHINE,
        ),
    ] = None,
) -> None:
    """Name the piece that each recording is a performance of, or the recordings of a MIDI file.

    Answers come in the order of the files, each file once. One that fails does not stop the rest.

    Exit status: 0 all files were processed, found or not; 1 any failed; 2 wrong usage;
    130 stopped by Ctrl-C, with what was answered until then kept.
    """
    if json_lines and csv_rows:
        raise typer.BadParameter("--json and --csv: give one of them")
    unfit = {"--plot": plot, "--playlist": playlist, "--sidecar": sidecar}
    _check_every(every, cue, {**unfit, "--export-aligned": export_aligned})
    from mmid.cli.inputs import find_inputs
    from mmid.identify.batch import answer_files
    from mmid.music.library import BadFile
    from mmid.output.aligned_midi import AlignedMidi
    from mmid.output.cue_sheet import CueSheets
    from mmid.output.page.page import Page
    from mmid.output.playlist import Playlist
    from mmid.output.sidecar import Origin, Sidecars
    from mmid.output.sinks import Pictures
    from mmid.output.timelines import TimelinePage

    with waiting("Loading the model and the index"):
        identifier, opened = open_identifier(
            index, model, device, search, vote, top, min_confidence, transpose
        )
        files = find_inputs(queries, identifier.kind, sys.stdin.buffer)
    paths = [file.path if isinstance(file, BadFile) else file for file in files]
    page = Page(report, identifier, start) if report else None
    if every is not None:
        written: list[TimelineSink] = [TimelinePage(page, identifier, start)] if page else []
        written += [CueSheets(cue, paths, start)] if cue else []
        printed = _timelines(json_lines=json_lines, csv_rows=csv_rows)
        span = every, start, duration
        raise typer.Exit(_follow(identifier, files, span, [printed, *written]))
    sinks: list[Sink] = []
    if plot:
        sinks.append(Pictures(identifier, plot, paths))
    if page:
        sinks.append(page)
    if playlist:
        sinks.append(Playlist(playlist, whole=not start and duration is None))
    if sidecar:
        made_by = opened.manifest["model"]
        sinks.append(Sidecars(Origin(made_by, opened.where, start, duration)))
    if export_aligned:
        sinks.append(AlignedMidi(identifier, export_aligned, paths, start))
    at_once = min(jobs or min(os.cpu_count() or 1, MOST_JOBS), len(files))
    with closing(answer_files(identifier, files, start, duration, at_once)) as answers:
        kind = {"json_lines": json_lines, "csv_rows": csv_rows, "all_rows": top is not None}
        failed = _hand_out(answers, [_screen(len(files), **kind), *sinks], len(files))
    if failed and len(files) > 1:
        note(f"{failed} of {len(files)} files failed")
    raise typer.Exit(1 if failed else 0)


def _check_every(every: float | None, cue: Path | None, unfit: dict[str, object]) -> None:
    """Refuse output that is not made of timelines with ``--every``, and the other way round."""
    if every is None and cue:
        raise typer.BadParameter("--cue is made of what --every finds: give --every 30 as well")
    for option, given in unfit.items():
        if every is not None and given:
            goes = "--json, --csv, --report and --cue"
            raise typer.BadParameter(f"--every goes with {goes}: leave {option} out")


def _write(text: str) -> None:
    with aside():
        typer.echo(text)


def _show(table: RenderableType) -> None:
    with aside():
        stdout.print(table)


def _screen(files: int, *, json_lines: bool, csv_rows: bool, all_rows: bool) -> Sink:
    """Return what prints the answers."""
    from mmid.output.sinks import CsvRows, JsonLines, Lines, Tables

    if json_lines:
        return JsonLines(_write)
    if csv_rows:
        return CsvRows(_write)
    return Tables(_show, all_rows=all_rows) if files == 1 else Lines(_show)


def _timelines(*, json_lines: bool, csv_rows: bool) -> TimelineSink:
    """Return what prints timelines."""
    from mmid.output.timelines import csv_timelines, json_timelines, table_timelines

    if json_lines:
        return json_timelines(_write)
    return csv_timelines(_write) if csv_rows else table_timelines(_show)


def _hand_out(answers: Iterable[Answered], sinks: Sequence[Sink], files: int) -> int:
    """Give answers to sinks and tell of progress; return how many files failed."""
    from mmid.identify.batch import hand_out
    from mmid.output.sinks import Count

    with progress() if files > 1 else waiting("Reading") as tell:
        count = Count(tell, files)
        try:
            return hand_out(answers, [*sinks, count], lambda why: note(f"mmid: {why}"))
        except KeyboardInterrupt as stop:
            status = status_of(stop)
    note(f"mmid: stopped, {count.left} of {files} files left")
    raise LeftAtWork(status)


def _follow(
    identifier: Identifier,
    files: Sequence[Path | BadFile],
    span: tuple[float, float, float | None],
    sinks: Sequence[TimelineSink],
) -> int:
    """Say what is played in each recording from when to when; return the exit status."""
    from mmid.identify.timeline import follow_files
    from mmid.output.timelines import hand_out_timelines

    with progress() as tell:
        timelines = follow_files(identifier, files, *span, tell)
        failed = hand_out_timelines(timelines, sinks, lambda why: note(f"mmid: {why}"))
    return 1 if failed else 0
