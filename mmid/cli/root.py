"""The command line's root: what all commands share, and ``query``, which is to start quickly."""

from __future__ import annotations

from typing import Annotated

import typer

from mmid.cli.help import App
from mmid.cli.query import query
from mmid.cli.shell import AllCommands, run
from mmid.system.console import set_loudness
from mmid.version import __version__


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mmid {__version__}")
        raise typer.Exit


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


def new_app() -> App:
    """Return a command line that has the options all commands share, and ``query``."""
    app = App(
        AllCommands,
        name="mmid",
        help="Name the MIDI file in your library that a recording is a performance of.",
        epilog="Example: mmid query recording.wav",
        add_completion=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
    )
    app.callback()(_options)
    example = "mmid query recording.wav --start 30 --duration 20 --json"
    app.command(epilog=f"Example: {example}")(query)
    return app


def main() -> None:
    """Run a query."""
    run(new_app())
