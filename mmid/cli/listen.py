"""`mmid listen`: what is played just now."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mmid.cli.options import Device, Index, Model, Top, TransposeOption
from mmid.cli.shell import Terminated
from mmid.errors import label
from mmid.identify.search_options import SearchOptions
from mmid.system.console import remark, remarks_shown, stderr, stdout

if TYPE_CHECKING:
    from collections.abc import Callable

    from mmid.identify.live import Guess

    Show = Callable[[Guess], None]


def listen(
    index: Index = None,
    seconds: Annotated[float, typer.Option(min=1, help="Stop after this many seconds.")] = 60.0,
    device_name: Annotated[
        str | None,
        typer.Option(
            help="Use the microphone whose name contains this.", show_default="the system's choice"
        ),
    ] = None,
    list_inputs: Annotated[
        bool, typer.Option("--list-inputs", help="List the microphones and exit.")
    ] = False,
    from_file: Annotated[
        Path | None,
        typer.Option("--from", help="Use this recording in place of a microphone."),
    ] = None,
    fast: Annotated[
        bool, typer.Option("--fast", help="With --from, read the recording faster than it sounds.")
    ] = False,
    json_lines: Annotated[
        bool,
        typer.Option("--json", help="Print every guess as a JSON object; the last one counts."),
    ] = False,
    top: Top = None,
    transpose: TransposeOption = "auto",
    min_confidence: Annotated[
        float, typer.Option(min=0, max=1, help="Report a match as found from this confidence on.")
    ] = SearchOptions.min_confidence,
    model: Model = None,
    device: Device = "auto",
) -> None:
    """Name the piece that is played into the microphone.

    Stop when confident, after --seconds, or at Ctrl-C, with the best guess so far. The exit
    status is 0, found or not.
    """
    from mmid import api
    from mmid.identify import live as listening

    if list_inputs:
        return typer.echo("\n".join(listening.input_names()))
    key: int | Literal["auto"] = "auto" if transpose == "auto" else int(transpose)
    opened = api.Index.open(index, model, device)
    played = listening.file_source(from_file, fast=fast) if from_file else None
    source = nullcontext(played) if played else listening.microphone(device_name)
    with source as sound, _shown(json_lines) as show:
        remark(f"listening to {label(sound.name)}")
        identify = partial(
            opened.identify,
            transpose=key,
            top=top or SearchOptions.top,
            min_confidence=min_confidence,
        )
        last = _follow(listening.listen(identify, sound, seconds), show)
    if not json_lines:
        _show_answer(last, all_rows=top is not None)


def _follow(guesses: Iterator[Guess], show: Show) -> Guess:
    """Show every guess; return the last one, which may be the last before Ctrl-C."""
    last = None
    try:
        for last in guesses:
            show(last)
    except KeyboardInterrupt as stop:
        if last is None or isinstance(stop, Terminated):
            raise
    assert last is not None  # `listen` gives one, or raises
    return last


@contextmanager
def _shown(json_lines: bool) -> Iterator[Show]:
    """Give what shows a guess: a JSON line, a line that is overwritten, or line after line."""
    from rich.live import Live
    from rich.text import Text

    if json_lines:
        yield lambda guess: typer.echo(json.dumps(guess.to_dict(), allow_nan=False))
    elif stderr.is_terminal and remarks_shown():
        with Live(console=stderr, transient=True, auto_refresh=False) as display:
            yield lambda guess: display.update(Text(_describe(guess)), refresh=True)
    else:
        yield lambda guess: remark(_describe(guess))


def _describe(guess: Guess) -> str:
    span = f"{guess.heard:4.0f} s"
    if guess.silent:
        return f"{span}  silence; is the microphone on, and may the terminal use it?"
    if not guess.answer.matches:
        return f"{span}  nothing yet"
    best = guess.answer.matches[0]
    return f"{span}  {best.confidence:4.0%}  {label(best.piece)}"


def _show_answer(guess: Guess, *, all_rows: bool) -> None:
    from mmid.output.verdict import answer_view

    stdout.print(answer_view(guess.answer, all_rows=all_rows))
