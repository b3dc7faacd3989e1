"""`mmid doctor`: what is installed, what would be used, what is wrong with it."""

from __future__ import annotations

import json

import typer

from mmid.cli_options import Index, JsonFlag, Model
from mmid.console import stdout


def doctor(index: Index = None, model: Model = None, as_json: JsonFlag = False) -> None:
    """Say what is installed, which device, model and index would be used, and what is wrong.

    The exit status is 1 if something that mmid needs is broken.
    """
    from mmid.doctor import examine
    from mmid.report import findings_table

    found = examine(index, model)
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=1))
    else:
        stdout.print(findings_table(found.findings))
    if not found.sound:
        raise typer.Exit(1)
