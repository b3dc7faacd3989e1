"""`mmid model`: which models there are, and what they are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from mmid.cli.help import App, LightCommand
from mmid.cli.options import MODEL_HELP, JsonFlag
from mmid.errors import label
from mmid.system.console import remark, stdout
from mmid.system.tables import FittingTable

if TYPE_CHECKING:
    from mmid.model.registry import Listed

model_app = App(help="List, describe and export models.", epilog="Example: mmid model list")

Named = Annotated[
    str | None,
    typer.Argument(help=MODEL_HELP, envvar="MMID_MODEL", show_default="the packaged one"),
]


@model_app.command("list", cls=LightCommand, epilog="Example: mmid model list --json")
def list_models(as_json: JsonFlag = False) -> None:
    """List the models that have a name, and those downloaded from hubs."""
    from dataclasses import asdict

    from mmid.model.registry import list_models as find_models

    found = find_models()
    if as_json:
        typer.echo(json.dumps([asdict(model) for model in found], indent=1))
    else:
        stdout.print(models_table(found))


@model_app.command(epilog="Example: mmid model info mmid-4")
def info(model: Named = None, as_json: JsonFlag = False) -> None:
    """Show a model's features, networks, training, calibration and hash."""
    from mmid.model.loading import describe_model
    from mmid.system.tables import info_table

    found = describe_model(model)
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=1))
    else:
        stdout.print(info_table(found.to_dict()))


@model_app.command(epilog="Example: mmid model export mmid-4 my-copy.safetensors")
def export(
    model: Annotated[str, typer.Argument(help=MODEL_HELP)],
    target: Annotated[Path, typer.Argument(help="Write to this .safetensors file.")],
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that exists.")] = False,
) -> None:
    """Copy a model to a file."""
    from mmid.model.loading import export_model

    export_model(model, target, force=force)
    remark(f"wrote {target}")


def models_table(models: Sequence[Listed]) -> Table:
    """Return models, one a row, the default one starred."""
    table = FittingTable("")
    table.add_name_column("model")
    table.add_column("where")
    table.add_column("size", justify="right")
    for model in models:
        size = "" if model.bytes is None else f"{model.bytes / 1e6:.1f} MB"
        table.add_row("*" if model.default else "", escape(label(model.name)), model.where, size)
    return table
