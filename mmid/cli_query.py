"""`mmid query`: what a recording is a performance of."""

from __future__ import annotations

import json
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Annotated

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
from mmid.console import note, stdout


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
    report: Annotated[
        Path | None,
        typer.Option(
            help="Write one web page of all answers, with sound and pictures: an .html file.",
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
    from mmid.batch import answer_files
    from mmid.evidence import draw_evidence, gather_evidence, picture_paths
    from mmid.page import Page
    from mmid.report import answer_table

    pictures = iter(picture_paths(plot, queries) if plot else [])
    identifier, _ = open_identifier(
        index, model, device, search, vote, top, min_confidence, transpose
    )
    failed = False
    with ExitStack() as open_pages:
        page = (
            open_pages.enter_context(closing(Page(report, identifier, start))) if report else None
        )
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
            if page:
                page.take(answered)
    raise typer.Exit(1 if failed else 0)
