"""`mmid index`: look at an index and look after it."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from mmid.cli_help import App
from mmid.cli_options import Device, Index, Jobs, JsonFlag, Model
from mmid.console import note, progress, remark, stdout
from mmid.errors import label

index_app = App(help="Look at an index, and look after it.")


@index_app.command("list", epilog="Example: mmid index list --json")
def list_pieces(index: Index = None, as_json: JsonFlag = False) -> None:
    """List what the index holds, by name."""
    from mmid.report import pieces_table
    from mmid.store import store_at

    entries = sorted(store_at(index).open(None).entries, key=lambda e: e.name)
    if as_json:
        names = ("name", "title", "seconds", "digest", "count")
        typer.echo(json.dumps([{n: getattr(e, n) for n in names} for e in entries], indent=1))
    else:
        stdout.print(pieces_table(entries))


@index_app.command(epilog="Example: mmid index info --index my-index")
def info(index: Index = None, as_json: JsonFlag = False) -> None:
    """Tell what the index is: its size, its model, where its files come from."""
    from mmid.report import info_table
    from mmid.store import store_at
    from mmid.upkeep import describe

    found = describe(store_at(index).open(None))
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=1))
    else:
        stdout.print(info_table(found.to_dict()))


@index_app.command(epilog="Example: mmid index remove 'old-songs/*'")
def remove(
    pieces: Annotated[
        list[str], typer.Argument(help="Names as mmid index list shows them; * and ? may be used.")
    ],
    index: Index = None,
) -> None:
    """Take pieces out of the index; their files may be gone.

    What lies in the library folders still comes back with the next mmid build-index.
    """
    from mmid.store import store_at
    from mmid.upkeep import remove_pieces

    with progress() as tell:
        removed = remove_pieces(store_at(index), pieces, tell)
    for name in removed:
        remark(f"removed: {label(name)}")


@index_app.command(epilog="Example: mmid index verify")
def verify(index: Index = None, as_json: JsonFlag = False) -> None:
    """Hash every file of the index, tell how well it searches, and look for its files.

    The exit status is 1 if anything of the index is damaged; files that are gone or changed are
    only told.
    """
    from dataclasses import asdict

    from mmid.store import store_at
    from mmid.upkeep import verify_index

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
        stdout.print("sound")


@index_app.command(epilog="Example: mmid index rebuild --vectors --model mmid-2")
def rebuild(
    index: Index = None,
    vectors: Annotated[
        bool, typer.Option("--vectors", help="Embed every file again as well, with --model.")
    ] = False,
    model: Model = None,
    device: Device = "auto",
    jobs: Jobs = None,
) -> None:
    """Make cells and note triples anew; with --vectors, everything, from the files."""
    from mmid.build import update_index
    from mmid.encoders import pick_device
    from mmid.pretrained import load_model
    from mmid.store import library_of, store_at
    from mmid.upkeep import rebuild_caches

    place = store_at(index)
    with progress() as tell:
        if not vectors:
            rebuild_caches(place, tell)
        else:
            library, kind = library_of(place), place.manifest()["kind"]
            loaded = load_model(model, pick_device(device))
            update_index(place, library, loaded, kind, jobs=jobs, anew=True, progress=tell)
    remark(f"rebuilt {place.where}")


@index_app.command(epilog="Example: mmid index merge songs-index folk-index --index all")
def merge(
    others: Annotated[list[str], typer.Argument(help="Indexes made by one model.")],
    index: Index = None,
) -> None:
    """Make a new index of several."""
    from mmid.store import store_at
    from mmid.upkeep import merge_indexes

    place = store_at(index)
    with progress() as tell:
        twice = merge_indexes(place, others, tell)
    if twice:
        remark(f"{len(twice)} files are in several of them and were taken once")
    remark(f"merged into {place.where}")
