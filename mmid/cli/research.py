"""The ``mmid eval`` commands that draw: loss curves, the shared space, lengths, search."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from mmid.cli.help import App
from mmid.cli.options import Index, JsonFlag, Model, ModelGroup, parse_sizes
from mmid.system.console import progress, remark, stdout
from mmid.system.tables import FittingTable, clock

if TYPE_CHECKING:
    from mmid.research.embedding_space import SpaceReport
    from mmid.research.frame_rates import LengthReport
    from mmid.research.hnsw_cost import SearchReport
    from mmid.research.loss_curves import LossCurves

studies = App()

Rendered = Annotated[
    Path,
    typer.Argument(
        help="Use this folder with a pairs.csv (id, audio, midi), played in the score's time."
    ),
]
FigureFile = Annotated[Path | None, typer.Option(help="Draw a figure to this .png or .svg file.")]


@studies.command("curves", epilog="Example: mmid eval curves my-model --out curves.png")
def eval_curves(
    run: Annotated[Path, typer.Argument(help="Read the run in this folder, made by mmid train.")],
    out: Annotated[Path, typer.Option(help="Draw a figure to this .png or .svg file.")] = Path(
        "curves.png"
    ),
    json_lines: JsonFlag = False,
) -> None:
    """Draw the losses of a training run, and name its best epoch."""
    from mmid.research.loss_curves import loss_curves

    curves = loss_curves(run, out)
    _show(curves.to_dict(), curve_table(curves, run.resolve().name), json_lines)


@studies.command("space", epilog="Example: mmid eval space rendered --out space")
def eval_space(
    rendered: Rendered,
    pairs: Annotated[int, typer.Option(min=2, help="Draw this many matching snippets.")] = 500,
    out: Annotated[
        Path | None,
        typer.Option(help="Write a figure and TensorBoard's projector to this new folder."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed the snippets drawn.")] = 0,
    json_lines: JsonFlag = False,
    *,
    model: ModelGroup,
) -> None:
    """Measure how far apart recordings and scores lie in the shared space, and draw both.

    tensorboard --logdir FOLDER shows every snippet of the --out folder in its projector.
    """
    from mmid.music.pairs import read_pairs
    from mmid.research.embedding_space import claim_folder, draw_snippets, measure_space, save_space

    if out:
        claim_folder(out)
    loaded = model.load()
    with progress() as advance:
        drawn = draw_snippets(read_pairs(rendered), loaded, pairs, seed=seed, progress=advance)
    report = measure_space(drawn.audio.numpy(), drawn.rolls.numpy())
    if out:
        save_space(drawn, out)
    _show(report.to_dict(), space_table(report), json_lines)


@studies.command("lengths", epilog="Example: mmid eval lengths rendered --out lengths.png")
def eval_lengths(
    rendered: Rendered,
    limit: Annotated[
        int, typer.Option(min=1, help="Use this many songs, the first of the list.")
    ] = 100,
    out: FigureFile = None,
    json_lines: JsonFlag = False,
) -> None:
    """Compare the lengths of spectrograms and piano rolls at several frame rates.

    A lag is how many frames later the last onset lies in the roll than in the spectrogram.
    """
    from mmid.music.pairs import read_pairs
    from mmid.output.figures import check_target
    from mmid.research.frame_rates import compare_lengths, draw_lengths

    if out:
        check_target(out)
    with progress() as advance:
        report = compare_lengths(read_pairs(rendered)[:limit], advance)
    if out:
        draw_lengths(report, out)
    _show(report.to_dict(), length_table(report), json_lines)


@studies.command("search", epilog="Example: mmid eval search --index my-index --out search.png")
def eval_search(
    index: Index = None,
    sizes: Annotated[
        str, typer.Option(help="Search among this many vectors; several sizes, comma-separated.")
    ] = "1000,10000,100000,1000000",
    queries: Annotated[
        int, typer.Option(min=1, help="Query with this many vectors, which are held out.")
    ] = 1_000,
    neighbours: Annotated[int, typer.Option(min=1, help="Find this many neighbours.")] = 25,
    jitter: Annotated[
        float,
        typer.Option(
            min=0, help="Fill larger sizes with copies, moved by noise of this deviation."
        ),
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed the shuffle and the noise.")] = 0,
    out: FigureFile = None,
    json_lines: JsonFlag = False,
    model: Model = None,
) -> None:
    """Compare an HNSW graph of all vectors with brute force, by size, on one thread."""
    from mmid.index.folder import LibraryIndex
    from mmid.index.store import folder_at
    from mmid.model.loading import load_model
    from mmid.output.figures import check_target
    from mmid.research.hnsw_cost import compare_search, draw_search

    wanted = parse_sizes(sizes)
    if out:
        check_target(out)
    folder = folder_at(index, "the server holds the vectors; give the folder of an index")
    opened = LibraryIndex(folder, load_model(model))
    vectors = opened.vectors[opened.held_rows]
    options: dict[str, Any] = {"queries": queries, "neighbours": neighbours, "jitter": jitter}
    with progress() as advance:
        report = compare_search(vectors, wanted, seed=seed, progress=advance, **options)
    if wanted[-1] > report.available and not jitter:
        remark(f"the index has {report.available:,} vectors to search; larger sizes are left out")
    if out:
        draw_search(report, out)
    _show(report.to_dict(), search_table(report), json_lines)


def _show(data: object, table: Table, json_lines: bool) -> None:
    if json_lines:
        typer.echo(json.dumps(data))
    else:
        stdout.print(table)


def curve_table(curves: LossCurves, name: str) -> Table:
    """Return a run's first, best and last epoch."""
    table = FittingTable("", "epoch", "training loss", "validation loss", title=escape(name))
    for what, row in (("first", 0), ("best", curves.best), ("last", -1)):
        losses = (f"{values[row]:.4f}" for values in (curves.train, curves.valid))
        table.add_row(what, str(curves.epochs[row]), *losses)
    return table


def space_table(report: SpaceReport) -> Table:
    """Return what was measured of the shared space."""
    table = FittingTable(
        "measure", "value", title=f"{report.pairs} matching snippets", show_header=False
    )
    table.add_row("modality gap", f"{report.gap:.3f}")
    table.add_row("mean cosine, matching", f"{report.matching:.3f}")
    table.add_row("mean cosine, random", f"{report.random:.3f}")
    shares = " + ".join(f"{share:.1%}" for share in report.shares)
    table.add_row("variance of the first components", f"{shares} = {sum(report.shares):.1%}")
    return table


def length_table(report: LengthReport) -> Table:
    """Return every roll frame rate's differences in length and lags, in frames."""
    seconds = [song.seconds for song in report.songs]
    span = f"{clock(min(seconds))} to {clock(max(seconds))}"
    table = FittingTable(title=f"{len(seconds)} songs of {span}, in frames")
    for name in ("roll frame rate", "length: least", "most", "mean |d|"):
        table.add_column(name, justify="left" if name == "roll frame rate" else "right")
    for name in ("lag at the end: least", "most", "median |lag|"):
        table.add_column(name, justify="right")
    for rate in report.rates:
        lags = (f"{lag:+.1f}" for lag in (rate.least_lag, rate.most_lag))
        length = (f"{rate.least:+d}", f"{rate.most:+d}", f"{rate.mean:.1f}")
        table.add_row(rate.name, *length, *lags, f"{rate.median_lag:.1f}")
    return table


def search_table(report: SearchReport) -> Table:
    """Return times, speed-up and errors, one row a size."""
    title = f"{report.queries} queries on one thread, each alone / all in batches"
    if report.jitter:
        title += f"; sizes over {report.available:,} hold copies with noise of {report.jitter:g}"
    table = FittingTable(title=title)
    heads = ("brute force, ms a query", "HNSW, ms a query", "times faster", "build, s", "graph, MB")
    for head in ("vectors", *heads, "error@1", f"error@{report.neighbours}"):
        table.add_column(head, justify="right")
    for row in report.rows:
        mark = "*" if row.jittered else ""
        table.add_row(
            f"{row.size:,}{mark}",
            f"{row.exact_single:.3f} / {row.exact_batch:.3f}",
            f"{row.graph_single:.3f} / {row.graph_batch:.3f}",
            f"{row.speedup_single:.1f} / {row.speedup_batch:.1f}",
            f"{row.build_seconds:.1f}",
            f"{row.graph_bytes / 1e6:.1f}",
            f"{row.error_first:.2%}",
            f"{row.error_all:.2%}",
        )
    return table
