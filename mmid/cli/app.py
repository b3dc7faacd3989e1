"""The command line, with all its commands: parse, call the library, print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmid.cli.build import build_index
from mmid.cli.convert import convert
from mmid.cli.doctor import doctor
from mmid.cli.evaluate import evaluation
from mmid.cli.help import LightCommand
from mmid.cli.index import index_app
from mmid.cli.listen import listen
from mmid.cli.model import model_app
from mmid.cli.options import (
    Folders,
    Jobs,
    ModelGroup,
    complete_soundfont,
    open_identifier,
)
from mmid.cli.research import studies
from mmid.cli.root import new_app
from mmid.cli.serve import serve
from mmid.cli.shell import run
from mmid.cli.train import train
from mmid.options import AudioFormat
from mmid.system.console import note, progress, remark, stdout

app = new_app()
evaluation.add_typer(studies)
app.add_typer(evaluation, name="eval")
app.add_typer(index_app, name="index")
app.add_typer(model_app, name="model")
app.command("build-index", epilog="Example: mmid build-index ~/Music/midi --index ~/my-index")(
    build_index
)
app.command(epilog="Example: mmid listen --seconds 30")(listen)
app.command(epilog="Example: mmid serve --open")(serve)
app.command(epilog="Example: mmid convert tunes.abc --out as-midi")(convert)
app.command(epilog="Example: mmid train my-midi --soundfont TimGM --soundfont FluidR3")(train)
app.command(epilog="Example: mmid doctor --json")(doctor)


@app.command(
    cls=LightCommand, epilog="Example: mmid render ~/Music/midi --out my-audio --soundfont TimGM"
)
def render(
    library: Folders,
    out: Annotated[
        Path,
        typer.Option(help="Write the audio to this folder; keep renderings that are up to date."),
    ],
    soundfont: Annotated[
        str | None,
        typer.Option(
            help="Render with this .sf2 or .sf3 file, or installed soundfont.",
            show_default="the first installed",
            autocompletion=complete_soundfont,
        ),
    ] = None,
    sample_rate: Annotated[
        int, typer.Option(min=8_000, max=96_000, help="Set the sample rate, Hz.")
    ] = (44_100),
    encoding: Annotated[
        AudioFormat,
        typer.Option("--format", help="Choose the file format; both are 16-bit stereo."),
    ] = "wav",
    jobs: Jobs = None,
) -> None:
    """Render every MIDI file below the folders to an audio file.

    Drums, pitch bends and pedals are left out, as mmid does not read them.
    A file that was rendered before is rendered again only if it changed.
    The folder also gets a pairs.csv, for mmid eval pieces.
    Bad files are left out and reported; the exit status is then 1.
    """
    from mmid.evaluation.rendering import render_library
    from mmid.music.synthesizer import pick_soundfonts

    [font, *_] = pick_soundfonts([soundfont] if soundfont else None)
    with progress() as advance:
        report = render_library(
            library,
            out,
            font,
            sample_rate=sample_rate,
            encoding=encoding,
            jobs=jobs,
            progress=advance,
        )
    for bad in report.bad:
        note(f"left out: {bad.reason}")
    remark(
        f"{report.made} files rendered with {font.name}, {report.kept} there already;"
        f" {report.seconds / 3600:.1f} hours of audio"
    )
    typer.echo(out)
    if report.bad:
        note(f"{len(report.bad)} files could not be rendered")
        raise typer.Exit(1)


@app.command(epilog="Example: mmid demo")
def demo(
    folder: Annotated[
        Path | None,
        typer.Option(
            help="Write the demo's files to this folder and keep them.",
            show_default="a temporary folder",
        ),
    ] = None,
) -> None:
    """Index the packaged tunes and identify the packaged recording."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory(prefix="mmid-demo-") as temporary:
        _run_demo(folder or Path(temporary))
    stdout.print(
        "\nNow with your own files:\n"
        "  mmid build-index FOLDER-OF-MIDI-FILES\n"
        "  mmid query RECORDING.wav",
        markup=False,
    )


def _run_demo(folder: Path) -> None:
    from mmid.cli.demo import prepare_demo

    library, recording = prepare_demo(folder)
    remark(f"wrote a library of {len(list(library.iterdir()))} public-domain tunes")
    index = str(folder / "index")
    build_index([library], index=index)
    identifier, _ = open_identifier(index, ModelGroup())
    from mmid.output.verdict import answer_view

    stdout.print(answer_view(identifier.identify_file(recording)))


def main() -> None:
    """Run the command that the arguments name."""
    run(app)


if __name__ == "__main__":
    main()
