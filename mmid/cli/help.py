"""How commands take their options, and are listed, named, and explained by ``--help``.

Conventions: help says what a value is in a word, never by a type of Python's. A command may take
options in frozen dataclasses, whose fields are annotated as its own parameters would be.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from shlex import quote
from typing import Any, TypeVar, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from mmid.errors import label
from mmid.system.console import loading

Function = TypeVar("Function", bound=Callable[..., Any])

PANELS = {
    "Identify music": ("query", "build-index", "index", "listen", "serve", "demo", "convert"),
    "Train and measure": ("train", "eval", "render"),
    "Models and installation": ("model", "doctor"),
}
"""Panels of the first help page, and their commands in the order in which they are needed."""

HELP_NAMES = ["--help", "-h"]

WORDS = {
    "<bool>": "",
    "<str>": "TEXT",
    "<list[str]>": "TEXT",
    "<int>": "N",
    "<int range>": "N",
    "<float>": "NUMBER",
    "<float range>": "NUMBER",
    "<path>": "PATH",
    "<list[Path]>": "PATH",
    "<file>": "FILE",
    "<directory>": "FOLDER",
}
"""What help says in place of types; names that can be chosen from stay."""


def _in_words(parameters: list[Any], ctx: Any) -> list[Any]:
    """Have parameters shown by `WORDS`, where this Typer shows types at all."""
    for parameter in parameters:
        if hasattr(parameter, "display_type") and parameter.display_type(ctx) in WORDS:
            word = WORDS[parameter.display_type(ctx)]
            parameter.display_type = lambda ctx, word=word: word
    return parameters


class Command(TyperCommand):
    """A command, which loads PyTorch first unless it is a `LightCommand`, or a server has it."""

    heavy = True

    def get_params(self, ctx: Any) -> Any:
        """Return the parameters, with ``--help``."""
        return _in_words(super().get_params(ctx), ctx)

    def invoke(self, ctx: Any) -> Any:
        """Run it; on a terminal, something is shown while PyTorch loads."""
        if self.heavy and not ctx.params.get("server"):
            loading("torch", "Loading PyTorch")
        return super().invoke(ctx)


class LightCommand(Command):
    """A command that does without PyTorch."""

    heavy = False


class Commands(TyperGroup):
    """Commands that are suggested where one is mistyped or left out."""

    def get_params(self, ctx: Any) -> Any:
        """Return the parameters, with ``--help``."""
        return _in_words(super().get_params(ctx), ctx)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that is named; a file in its place is meant for a query."""
        name = args[0]
        unknown = name not in self.commands and not ctx.resilient_parsing
        if unknown and "query" in self.commands and os.path.exists(name):
            meant = f"mmid query {quote(label(name))}"
            ctx.fail(f"No such command {name!r}. Did you mean: {meant}")
        return super().resolve_command(ctx, args)


class App(typer.Typer):
    """A group of commands of these kinds, which explains itself where none is named."""

    def __init__(self, cls: type[Commands] = Commands, **options: Any) -> None:
        settings = {"help_option_names": HELP_NAMES}
        super().__init__(cls=cls, no_args_is_help=True, context_settings=settings, **options)

    def command(
        self, name: str | None = None, *, cls: type[TyperCommand] | None = None, **options: Any
    ) -> Callable[[Function], Function]:
        """Register a command, as `typer.Typer.command` does."""
        register = super().command(name, cls=cls or Command, **options)

        def registered(function: Function) -> Function:
            register(_with_single_options(function))
            return function

        return registered


def _with_single_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a command that takes the fields of its dataclasses one by one, as Typer needs them."""
    hints = get_type_hints(function, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}
    parameters: list[Parameter] = []
    for name, parameter in signature(function).parameters.items():
        single = [parameter.replace(annotation=hints[name], kind=Parameter.KEYWORD_ONLY)]
        parameters += _parameters(groups[name]) if name in groups else single

    @wraps(function)
    def command(**given: Any) -> Any:
        for name, group in groups.items():
            given[name] = group(**{field.name: given.pop(field.name) for field in fields(group)})
        return function(**given)

    command.__annotations__ = {one.name: one.annotation for one in parameters}
    command.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    return command


def _parameters(group: Any) -> list[Parameter]:
    """Return the fields of a dataclass as parameters of a function."""
    hints = get_type_hints(group, include_extras=True)
    return [
        Parameter(
            field.name,
            Parameter.KEYWORD_ONLY,
            annotation=hints[field.name],
            default=Parameter.empty if field.default is MISSING else field.default,
        )
        for field in fields(group)
    ]
