"""`mmid query`: what a recording is a performance of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmid.cli_options import (
    Device,
    Index,
    Model,
    SearchOption,
    TransposeOption,
    VoteOption,
    open_identifier,
)
from mmid.console import note, progress, stdout

if TYPE_CHECKING:
    from mmid.identify import Identifier


def query(
    queries: Annotated[
        list[Path],
        typer.Argument(help="Recordings (wav, flac, ogg, mp3, m4a, opus) or MIDI files."),
    ],
    index: Index = None,
    top: Annotated[int, typer.Option(min=1, help="Matches to show.")] = 5,
    start: Annotated[float, typer.Option(min=0, help="Skip so many seconds.")] = 0.0,
    duration: Annotated[
        float | None,
        typer.Option(min=0.1, help="Use so many seconds.", show_default="to the end"),
    ] = None,
    every: Annotated[
        float | None,
        typer.Option(
            help="Tell what is played from when to when, looking up windows of so many seconds.",
            show_default=False,
        ),
    ] = None,
    json_lines: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a file asked about.")
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option(
            help="Draw what the answer rests on: a .png or .svg file, or a folder, a file a query.",
            show_default=False,
        ),
    ] = None,
    search: SearchOption = "auto",
    vote: VoteOption = "consistent",
    transpose: TransposeOption = "0",
    min_confidence: Annotated[
        float, typer.Option(min=0, max=1, help="A match counts as found from here on.")
    ] = 0.5,
    model: Model = None,
    device: Device = "auto",
) -> None:
    """Name the piece that each recording is a performance of, or the recordings of a MIDI file.

    The exit status is 0 when every file was processed, found or not, and 1 when any failed.
    """
    if every is not None and plot:
        raise typer.BadParameter("--plot draws one answer a file: leave out --every")
    from mmid.batch import answer_files
    from mmid.evidence import draw_evidence, gather_evidence, picture_paths
    from mmid.report import answer_table

    pictures = iter(picture_paths(plot, queries) if plot else [])
    identifier, _ = open_identifier(
        index, model, device, search, vote, top, min_confidence, transpose
    )
    if every is not None:
        raise typer.Exit(_print_timelines(identifier, queries, every, start, duration, json_lines))
    failed = False
    for answered in answer_files(identifier, queries, start, duration):
        answer = answered.answer
        if json_lines:
            typer.echo(json.dumps(answer.to_dict(), allow_nan=False))
        elif answer.error is None:
            stdout.print(answer_table(answer))
        if answer.error is not None:
            failed = True
            note(f"mmid: {answer.error}")
        target = next(pictures, None)
        picture = gather_evidence(identifier, answered) if target else None
        if target and picture:
            draw_evidence(picture, target)
    raise typer.Exit(1 if failed else 0)


def _print_timelines(
    identifier: Identifier,
    queries: list[Path],
    every: float,
    start: float,
    duration: float | None,
    json_lines: bool,
) -> int:
    """Print what is played in each recording from when to when; return the exit status."""
    from mmid.report import timeline_table
    from mmid.timeline import follow_files

    status = 0
    with progress() as tell:
        for timeline in follow_files(identifier, queries, every, start, duration, tell):
            if json_lines:
                typer.echo(json.dumps(timeline.to_dict(), allow_nan=False))
            elif timeline.error is None:
                stdout.print(timeline_table(timeline))
            if timeline.error is not None:
                status = 1
                note(f"mmid: {timeline.error}")
    return status
