"""`mmid query`: what recordings are performances of."""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmid.cli.options import (
    ModelGroup,
    SearchedIndex,
    SearchGroup,
    ServerOption,
    Top,
    open_identifier,
)
from mmid.cli.shell import LeftAtWork, status_of
from mmid.identify.search_options import SearchOptions
from mmid.system.console import aside, note, progress, stdout, waiting
from mmid.system.threads import MOST_JOBS, queries_at_once

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from rich.console import RenderableType

    from mmid.identify.batch import Answered, Sink
    from mmid.identify.identifier import Identifier
    from mmid.index.protocol import Library
    from mmid.music.folders import BadFile
    from mmid.output.timelines import TimelineSink

INPUT, OUTPUT, SEARCH, MACHINE = "Input", "Output", "Search", "Machine"


@dataclass(frozen=True, kw_only=True)
class SpanGroup:
    """The part of each recording that is used."""

    start: Annotated[
        float,
        typer.Option(min=0, help="Skip this many seconds at the beginning.", rich_help_panel=INPUT),
    ] = 0.0
    duration: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            help="Use this many seconds from there on.",
            show_default="to the end",
            rich_help_panel=INPUT,
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class OutputGroup:
    """What is made of the answers."""

    top: Top = None
    every: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="List the pieces of a long recording with their times; query windows this long.",
            show_default=False,
            rich_help_panel=OUTPUT,
        ),
    ] = None
    cue: Annotated[
        Path | None,
        typer.Option(
            help="With --every, write a cue sheet: a .cue file, or a folder for several.",
            show_default=False,
            rich_help_panel=OUTPUT,
        ),
    ] = None
    json_lines: Annotated[
        bool,
        typer.Option("--json", help="Print one JSON object for each file.", rich_help_panel=OUTPUT),
    ] = False
    csv_rows: Annotated[
        bool,
        typer.Option(
            "--csv",
            help="Print CSV, a row for each file; with --every, for each piece.",
            rich_help_panel=OUTPUT,
        ),
    ] = False
    plot: Annotated[
        Path | None,
        typer.Option(
            help="Draw the evidence for the answer: a .png or .svg file, or a folder for several.",
            show_default=False,
            rich_help_panel=OUTPUT,
        ),
    ] = None
    playlist: Annotated[
        Path | None,
        typer.Option(
            help="Write a playlist of the recordings found to this .m3u8 file.",
            show_default=False,
            rich_help_panel=OUTPUT,
        ),
    ] = None
    sidecar: Annotated[
        bool,
        typer.Option(
            "--sidecar",
            help="Write the answer beside each recording, as recording.wav.mmid.json.",
            rich_help_panel=OUTPUT,
        ),
    ] = False
    export_aligned: Annotated[
        Path | None,
        typer.Option(
            help="Write the MIDI file found, in step with the recording: a .mid file, or a folder.",
            show_default=False,
            rich_help_panel=OUTPUT,
        ),
    ] = None
    report: Annotated[
        Path | None,
        typer.Option(
            help="Write one web page of all answers, with sound and pictures, to this .html file.",
            show_default=False,
            rich_help_panel=OUTPUT,
        ),
    ] = None

    def needing_the_index(self) -> list[str]:
        """Return the options given that a server's answers are not enough for."""
        given = {
            "--every": self.every,
            "--plot": self.plot,
            "--playlist": self.playlist,
            "--sidecar": self.sidecar,
            "--export-aligned": self.export_aligned,
            "--report": self.report,
        }
        return [option for option, value in given.items() if value]

    def check(self) -> None:
        """Refuse options that exclude each other."""
        if self.json_lines and self.csv_rows:
            raise typer.BadParameter("--json and --csv: give one of them")
        if self.every is None and self.cue:
            raise typer.BadParameter("--cue is made of what --every finds: give --every 30 as well")
        unfit = {"--plot": self.plot, "--playlist": self.playlist, "--sidecar": self.sidecar}
        for option, given in {**unfit, "--export-aligned": self.export_aligned}.items():
            if self.every is not None and given:
                goes = "--json, --csv, --report and --cue"
                raise typer.BadParameter(f"--every goes with {goes}: leave {option} out")


def query(
    queries: Annotated[
        list[str],
        typer.Argument(
            help="Query these recordings (wav, flac, ogg, mp3, m4a, opus), MIDI files, scores,"
            " folders or patterns such as 'takes/**/*.wav'; - reads paths from standard input.",
            rich_help_panel=INPUT,
        ),
    ],
    *,
    span: SpanGroup,
    output: OutputGroup,
    index: SearchedIndex = None,
    server: ServerOption = None,
    search: SearchGroup,
    min_confidence: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="Report a match as found from this confidence on.",
            rich_help_panel=SEARCH,
        ),
    ] = SearchOptions.min_confidence,
    model: ModelGroup,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Query this many files at once.",
            show_default=f"as many as there are cores, {MOST_JOBS} at most",
            rich_help_panel=MACHINE,
        ),
    ] = None,
) -> None:
    """Name the piece that each recording is a performance of.

    Where the index holds recordings, query a MIDI file to find its recordings.
    Answers come in the order of the files. A file that fails does not stop the rest.

    Exit status: 0 all files were processed, found or not.
    1 a file failed. 2 wrong usage.
    130 stopped by Ctrl-C; the answers so far are printed and written.
    """
    output.check()
    if server:
        failed = _ask(server, queries, span, output, search, min_confidence, jobs)
        raise typer.Exit(1 if failed else 0)
    from mmid.cli.inputs import find_inputs

    with waiting("Loading the model and the index"):
        options = search.options(top=output.top, min_confidence=min_confidence)
        identifier, opened = open_identifier(index, model, options)
        files = find_inputs(queries, identifier.kind, sys.stdin.buffer)
    if output.every is not None:
        failed = _follow(identifier, files, span, output)
    else:
        sinks = _sinks(identifier, opened, files, span, output)
        failed = _answer(identifier, files, span, _at_once(jobs, files), sinks)
    raise typer.Exit(1 if failed else 0)


def _at_once(jobs: int | None, files: Sequence[Path | BadFile]) -> int:
    """Return how many files to query at once."""
    return min(queries_at_once(jobs), max(1, len(files)))


def _ask(
    address: str,
    queries: Sequence[str],
    span: SpanGroup,
    output: OutputGroup,
    search: SearchGroup,
    min_confidence: float,
    jobs: int | None,
) -> int:
    """Have a server identify files, without loading PyTorch; return how many failed."""
    from mmid.cli.inputs import find_inputs
    from mmid.serve.client import Server, ask_files

    if unfit := output.needing_the_index():
        raise typer.BadParameter(f"{unfit[0]} needs the index itself: leave --server out")
    server = Server(address)
    files = find_inputs(queries, server.kind(), sys.stdin.buffer)
    options = {
        "start": span.start,
        "duration": span.duration,
        "top": output.top,
        "transpose": search.transpose,
        "search": search.search,
        "vote": search.vote,
        "min_confidence": min_confidence,
    }
    answers = ask_files(server, files, options, _at_once(jobs, files))
    return _hand_out(answers, len(files), [_printer(output, len(files))])


def _write(text: str) -> None:
    with aside():
        typer.echo(text)


def _show(table: RenderableType) -> None:
    with aside():
        stdout.print(table)


def _paths(files: Sequence[Path | BadFile]) -> list[Path]:
    return [file if isinstance(file, Path) else file.path for file in files]


def _sinks(
    identifier: Identifier,
    opened: Library,
    files: Sequence[Path | BadFile],
    span: SpanGroup,
    output: OutputGroup,
) -> list[Sink]:
    """Return what becomes of the answers: what prints them, then what writes files."""
    paths, start = _paths(files), span.start
    sinks: list[Sink] = []
    if output.plot:
        from mmid.output.pictures import Pictures

        sinks.append(Pictures(identifier, output.plot, paths))
    if output.report:
        from mmid.output.page.page import Page

        sinks.append(Page(output.report, identifier, start))
    if output.playlist:
        from mmid.output.playlist import Playlist

        sinks.append(Playlist(output.playlist, whole=not start and span.duration is None))
    if output.sidecar:
        from mmid.output.sidecar import Origin, Sidecars

        made_by = opened.manifest["model"]
        sinks.append(Sidecars(Origin(made_by, opened.where, start, span.duration)))
    if output.export_aligned:
        from mmid.output.aligned_midi import AlignedMidi

        sinks.append(AlignedMidi(identifier, output.export_aligned, paths, start))
    return [_printer(output, len(files)), *sinks]  # begun last: a heading is printed at once


def _printer(output: OutputGroup, files: int) -> Sink:
    """Return what prints the answers."""
    from mmid.output.sinks import CsvRows, JsonLines, Lines, Tables

    if output.json_lines:
        return JsonLines(_write)
    if output.csv_rows:
        return CsvRows(_write)
    return Tables(_show, all_rows=output.top is not None) if files == 1 else Lines(_show)


def _timeline_sinks(
    identifier: Identifier, paths: Sequence[Path], start: float, output: OutputGroup
) -> list[TimelineSink]:
    """Return what becomes of the timelines: what prints them, then what writes files."""
    from mmid.output.timelines import (
        TimelinePage,
        csv_timelines,
        json_timelines,
        table_timelines,
    )

    sinks: list[TimelineSink] = []
    if output.report:
        from mmid.output.page.page import Page

        sinks.append(TimelinePage(Page(output.report, identifier, start), identifier, start))
    if output.cue:
        from mmid.output.cue_sheet import CueSheets

        sinks.append(CueSheets(output.cue, paths, start))
    if output.json_lines:
        return [json_timelines(_write), *sinks]
    return [csv_timelines(_write) if output.csv_rows else table_timelines(_show), *sinks]


def _answer(
    identifier: Identifier,
    files: Sequence[Path | BadFile],
    span: SpanGroup,
    jobs: int,
    sinks: Sequence[Sink],
) -> int:
    """Identify files, hand the answers out and show progress; return how many files failed."""
    from mmid.identify.batch import answer_files

    explained = any(sink.explains for sink in sinks)
    answers = answer_files(identifier, files, span.start, span.duration, jobs, explained=explained)
    return _hand_out(answers, len(files), sinks)


def _hand_out(answers: Generator[Answered, None, None], files: int, sinks: Sequence[Sink]) -> int:
    """Give answers to sinks and show progress; return how many files failed."""
    from mmid.identify.batch import hand_out
    from mmid.output.sinks import Count

    with closing(answers):
        with progress() if files > 1 else waiting("Reading") as advance:
            count = Count(advance, files)
            try:
                failed = hand_out(answers, [*sinks, count], lambda why: note(f"mmid: {why}"))
            except KeyboardInterrupt as stop:
                status = status_of(stop)
            else:
                if failed and files > 1:
                    note(f"{failed} of {files} files failed")
                return failed
        note(f"mmid: stopped, {count.left} of {files} files left")
        raise LeftAtWork(status)


def _follow(
    identifier: Identifier,
    files: Sequence[Path | BadFile],
    span: SpanGroup,
    output: OutputGroup,
) -> int:
    """Say what is played in each recording from when to when; return how many failed."""
    from mmid.identify.timeline import follow_files
    from mmid.output.timelines import hand_out_timelines

    assert output.every is not None
    sinks = _timeline_sinks(identifier, _paths(files), span.start, output)
    with progress() as advance:
        timelines = follow_files(
            identifier, files, output.every, span.start, span.duration, advance
        )
        return hand_out_timelines(timelines, sinks, lambda why: note(f"mmid: {why}"))
