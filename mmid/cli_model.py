"""`mmid model`: which models there are, and what they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from mmid.cli_help import App, LightCommand
from mmid.cli_options import MODEL_HELP, JsonFlag
from mmid.console import remark, stdout

model_app = App(help="Look at the models, and copy them out.")

Named = Annotated[
    str | None,
    typer.Argument(help=MODEL_HELP, envvar="MMID_MODEL", show_default="the packaged one"),
]


@model_app.command("list", cls=LightCommand, epilog="Example: mmid model list --json")
def list_models(as_json: JsonFlag = False) -> None:
    """List the models that have names, and those fetched from hubs."""
    from dataclasses import asdict

    from mmid.report import models_table
    from mmid.weights import list_models as find_models

    found = find_models()
    if as_json:
        typer.echo(json.dumps([asdict(model) for model in found], indent=1))
    else:
        stdout.print(models_table(found))


@model_app.command(epilog="Example: mmid model info mmid-2")
def info(model: Named = None, as_json: JsonFlag = False) -> None:
    """Tell what a model is: its features, networks, training, calibration and hash."""
    from mmid.pretrained import describe_model
    from mmid.report import info_table

    found = describe_model(model)
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=1))
    else:
        stdout.print(info_table(found.to_dict()))


@model_app.command(epilog="Example: mmid model export mmid-3 my-copy.safetensors")
def export(
    model: Annotated[str, typer.Argument(help=MODEL_HELP)],
    target: Annotated[Path, typer.Argument(help="A .safetensors file to write.")],
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Copy a model's file as it is stored."""
    from mmid.pretrained import export_model

    export_model(model, target, force=force)
    remark(f"wrote {target}")
