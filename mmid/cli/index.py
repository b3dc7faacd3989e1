"""`mmid index`: list, check and change what an index holds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from mmid.cli.help import App
from mmid.cli.options import Index, Jobs, JsonFlag, ModelGroup
from mmid.errors import label
from mmid.music.formats import counted
from mmid.system.console import note, progress, remark, stdout
from mmid.system.tables import FittingTable, clock

if TYPE_CHECKING:
    from mmid.index.items import Entry

index_app = App(
    help="List, check and change what an index holds.", epilog="Example: mmid index list"
)


@index_app.command("list", epilog="Example: mmid index list --json")
def list_pieces(
    index: Index = None,
    only_left_out: Annotated[
        bool,
        typer.Option("--left-out", help="List the files that could not be indexed, and why."),
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """List the pieces of the index, by name."""
    from dataclasses import asdict

    from mmid.index.maintenance import left_out
    from mmid.index.store import store_at
    from mmid.output.answers import left_out_table

    opened = store_at(index).open(None)
    entries = sorted(opened.entries, key=lambda e: e.name)
    if only_left_out and as_json:
        typer.echo(json.dumps([asdict(item) for item in left_out(opened)], indent=1))
    elif only_left_out:
        stdout.print(left_out_table(left_out(opened)))
    elif as_json:
        names = ("name", "title", "seconds", "digest", "count")
        typer.echo(json.dumps([{n: getattr(e, n) for n in names} for e in entries], indent=1))
    else:
        stdout.print(pieces_table(entries))


@index_app.command(epilog="Example: mmid index info --index my-index")
def info(index: Index = None, as_json: JsonFlag = False) -> None:
    """Show the size of the index, its model and its folders."""
    from mmid.index.maintenance import describe
    from mmid.index.store import store_at
    from mmid.system.tables import info_table

    found = describe(store_at(index).open(None))
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=1))
    else:
        stdout.print(info_table(found.to_dict()))


@index_app.command(epilog="Example: mmid index remove 'old-songs/*'")
def remove(
    pieces: Annotated[
        list[str],
        typer.Argument(
            help="Remove the pieces of these names or patterns ('old/*'), or of a folder."
        ),
    ],
    index: Index = None,
) -> None:
    """Remove pieces from the index; no file is deleted.

    A piece whose file is still there comes back with the next mmid build-index. To keep all of
    a folder out, name the folder: the index follows it no more.
    """
    from mmid.index.maintenance import remove_pieces
    from mmid.index.store import store_at

    with progress() as advance:
        removed = remove_pieces(store_at(index), pieces, advance)
    for name in removed:
        remark(f"removed: {label(name)}")


@index_app.command(epilog="Example: mmid index duplicates --json")
def duplicates(index: Index = None, as_json: JsonFlag = False) -> None:
    """List groups of pieces that hold the same music, in any key, tempo and file format."""
    from mmid.index.maintenance import same_music
    from mmid.index.store import store_at

    groups = same_music(store_at(index))
    if as_json:
        names = ("name", "title", "seconds")
        listed = [[{n: getattr(entry, n) for n in names} for entry in group] for group in groups]
        typer.echo(json.dumps([{"pieces": group} for group in listed], indent=1))
    else:
        stdout.print(groups_table(groups))


@index_app.command(epilog="Example: mmid index verify")
def verify(index: Index = None, as_json: JsonFlag = False) -> None:
    """Check the index for damage, measure its search, and check the library's files.

    Files that are gone or changed are reported. The exit status is 1 only if the index is damaged.
    """
    from dataclasses import asdict

    from mmid.index.maintenance import verify_index
    from mmid.index.store import store_at

    found = verify_index(store_at(index))
    if as_json:
        typer.echo(json.dumps(asdict(found), indent=1))
    else:
        for fault in found.faults:
            note(f"mmid: {fault}")
        if found.recall is not None:
            stdout.print(f"neighbours found that are the true ones: {found.recall:.1%}")
        for what, names in (("gone", found.missing), ("changed", found.changed)):
            if names:
                first = label(names[0])
                stdout.print(f"{len(names)} files {what}, {first} the first", markup=False)
    if found.faults:
        raise typer.Exit(1)
    if not as_json:
        stdout.print("no damage found")


@index_app.command(epilog="Example: mmid index rebuild --vectors --model best.safetensors")
def rebuild(
    index: Index = None,
    vectors: Annotated[
        bool, typer.Option("--vectors", help="Embed every file again, with --model.")
    ] = False,
    *,
    model: ModelGroup,
    jobs: Jobs = None,
) -> None:
    """Rebuild inverted lists and fingerprints; with --vectors, everything from the files."""
    from mmid.index.build import update_index
    from mmid.index.maintenance import rebuild_caches
    from mmid.index.store import library_of, store_at
    from mmid.index.update_plan import UpdateOptions

    place = store_at(index)
    with progress() as advance:
        if not vectors:
            rebuild_caches(place, advance)
        else:
            library, kind = library_of(place), place.manifest()["kind"]
            loaded, anew = model.load(), UpdateOptions(anew=True)
            update_index(place, library, loaded, kind, anew, jobs=jobs, progress=advance)
    remark(f"rebuilt {place.where}")


@index_app.command(epilog="Example: mmid index merge songs-index folk-index --index all")
def merge(
    others: Annotated[list[str], typer.Argument(help="Merge these indexes of one model.")],
    index: Index = None,
) -> None:
    """Merge several indexes into a new one.

    --index names the new index. The others stay as they are.
    """
    from mmid.index.maintenance import merge_indexes
    from mmid.index.store import store_at

    place = store_at(index)
    with progress() as advance:
        twice = merge_indexes(place, others, advance)
    if twice:
        remark(f"{len(twice)} files are in several of them and were taken once")
    remark(f"merged into {place.where}")


def groups_table(groups: Sequence[Sequence[Entry]]) -> Table:
    """Return groups of items as a table."""
    pieces = sum(map(len, groups))
    table = FittingTable(title=f"{counted(len(groups), 'groups')}, {pieces} pieces")
    table.add_column("group", justify="right")
    table.add_name_column("name")
    table.add_name_column("title")
    table.add_column("length", justify="right")
    for number, group in enumerate(groups, 1):
        for place, entry in enumerate(group):
            shown = (escape(label(name)) for name in (entry.name, entry.title or ""))
            table.add_row("" if place else str(number), *shown, clock(entry.seconds))
    return table


def pieces_table(entries: Sequence[Entry]) -> Table:
    """Return the items of an index as a table."""
    table = FittingTable(title=f"{len(entries)} in the index")
    titled = any(entry.title for entry in entries)
    for name in ("name", *["title"] * titled):
        table.add_name_column(name)
    for name in ("length", "snippets"):
        table.add_column(name, justify="right")
    for entry in entries:
        names = (entry.name, *[entry.title or ""] * titled)
        shown = (escape(label(name)) for name in names)
        table.add_row(*shown, clock(entry.seconds), str(entry.count))
    return table
