"""`mmid convert`: what mmid understands of scores, as MIDI files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmid.system.console import note, progress, remark


def convert(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Convert these scores (.musicxml, .mxl, .mei, .krn, .abc, .mscz) or folders.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="Write the MIDI files to this folder.")],
) -> None:
    """Convert scores to MIDI files, as mmid reads them.

    The files hold the notes that an index would hold: repeats are unfolded, percussion and chord
    symbols are left out. Every tune of an ABC file gets a file of its own.
    No file is overwritten. Files that could not be converted are reported; the exit status is
    then 1.
    """
    from mmid.music.formats import counted
    from mmid.music.scores.conversion import convert_files

    with progress() as advance:
        converted = convert_files(files, out, advance)
    for bad in converted.bad:
        note(f"left out: {bad.reason}")
    for path in converted.written:
        typer.echo(path)
    remark(f"{counted(len(converted.written), 'MIDI files')} in {out}")
    if converted.bad:
        note(f"{counted(len(converted.bad), 'files')} could not be converted")
        raise typer.Exit(1)
