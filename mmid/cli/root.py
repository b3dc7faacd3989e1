"""The command line's root: what all commands share, and the one that is to start quickly."""

from __future__ import annotations

from typing import Annotated

import typer

from mmid.cli.help import AnsweringCommand, App
from mmid.cli.query import query
from mmid.cli.shell import AllCommands, run
from mmid.system.console import set_loudness
from mmid.version import __version__

app = App(
    AllCommands,
    name="mmid",
    help="Name the MIDI file in your library that a recording is a performance of.",
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command(
    cls=AnsweringCommand, epilog="Example: mmid query recording.wav --start 30 --duration 20 --json"
)(query)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mmid {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
    silent: Annotated[
        bool, typer.Option("--quiet", "-q", help="Hide notes and progress; show errors only.")
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option("--verbose", "-v", help="Show what was chosen, and how long each step took."),
    ] = False,
) -> None:
    if silent and verbose:
        raise typer.BadParameter("give --quiet or --verbose, not both")
    set_loudness(silent=silent, verbose=verbose)


def main() -> None:
    """Run the command that the arguments name, one of those imported."""
    run(app)
