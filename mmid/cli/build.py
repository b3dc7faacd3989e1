"""`mmid build-index`: bring an index up to its library, and say what was done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmid.cli.options import Index, Jobs, KindOption, ModelGroup
from mmid.errors import label
from mmid.music.formats import WORDS, counted, skipped_lines
from mmid.system.console import note, progress, remark, stdout

if TYPE_CHECKING:
    from mmid.index.build import BuildReport
    from mmid.music.folders import BadFile

NAMED = 3
"""Files named of those left out for the same reason."""

REASONS = 12
"""Reasons given at most; `mmid index list --left-out` has them all."""


@dataclass(frozen=True, kw_only=True)
class UpdateGroup:
    """What of the library an index takes up, and what of it stays."""

    every: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=8,
            help="Keep one in N positions (0.19 s apart); a higher N makes a smaller index.",
            show_default="2 of scores, 1 of recordings",
        ),
    ] = None
    keep_missing: Annotated[bool, typer.Option(help="Keep pieces whose files are gone.")] = False
    replace: Annotated[
        bool,
        typer.Option(
            "--replace", help="Follow the folders given and no others; drop all other pieces."
        ),
    ] = False
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Report what would be done, and write nothing.")
    ] = False


def build_index(
    library: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Add these folders of MIDI files and scores, or of recordings.",
            show_default="those the index follows",
        ),
    ] = None,
    index: Index = None,
    kind: KindOption = "auto",
    update: UpdateGroup = UpdateGroup(),
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail if a file is left out or a folder is missing.")
    ] = False,
    engine: Annotated[
        str,
        typer.Option(
            metavar="[local|ray|ray://HOST:PORT]",
            help="Embed on this machine, or on the CPUs of a Ray cluster.",
            rich_help_panel="Machine",
        ),
    ] = "local",
    model: ModelGroup = ModelGroup(),
    jobs: Jobs = None,
) -> None:
    """Index every MIDI file and score, or every recording, below the folders.

    Run it again to update the index: it adds the new and changed files of all its folders, and
    drops those that are gone. A folder that you name is added to its folders.
    Every tune of an ABC file is a piece of its own.
    Files that cannot be read are left out and reported; the exit status is 1 if the index held
    them before.
    """
    from mmid.index.build import update_index
    from mmid.index.store import store_at
    from mmid.index.update_plan import UpdateOptions
    from mmid.system.processes import parallel
    from mmid.system.ray_cluster import engine_named

    place, library = store_at(index), library or []
    cluster = engine_named(engine)
    if cluster:
        if model.device not in ("auto", "cpu"):
            raise typer.BadParameter("a cluster embeds on CPUs")
        library, model = [path.absolute() for path in library], replace(model, device="cpu")
    used, options, run_by = model.load(), UpdateOptions(**asdict(update)), cluster or parallel
    with progress() as advance:
        report = update_index(
            place, library, used, kind, options, jobs=jobs, engine=run_by, progress=advance
        )
    _say_what_was_built(report, place.where, dry_run=update.dry_run, strict=strict)


def _say_what_was_built(report: BuildReport, where: str, *, dry_run: bool, strict: bool) -> None:
    """Print what a build did; end with exit status 1 if files could not be read that should be.

    These are files that the index held before; if the user is strict, all of them, and folders
    that are not there.
    """
    say = _result if dry_run else remark
    for line in [*_changes(report), *_skipped(report)]:
        say(line)
    for bad in report.broken:
        note(f"left out: {label(bad.path.name)}: {bad.why}; the index held it before")
    known = [bad for bad in report.bad if bad not in report.broken]
    for line in _left_out(known):
        (note if strict else say)(line)
    for folder in report.missing:
        kept = report.folders.get(str(folder), {}).get("kept", 0)
        note(
            f"{label(folder)}: not there, or empty; {kept} of the index's {WORDS[report.kind]} are"
            " kept (mmid index remove FOLDER drops them)"
        )
    say(_summary(report, where, dry_run))
    failed = len(report.bad if strict else report.broken)
    if failed:
        note(f"{failed} of {report.items + len(report.bad)} files could not be read")
    if failed or (strict and report.missing):
        raise typer.Exit(1)


def _result(line: str) -> None:
    stdout.print(label(line), markup=False, soft_wrap=True)


def _changes(report: BuildReport) -> Iterator[str]:
    """Say how many files were added and so on; where there are several folders, of each."""
    if len(report.folders) > 1:
        for folder, counts in report.folders.items():
            said = ", ".join(f"{count} {what}" for what, count in counts.items())
            yield f"{label(folder)}: {said or 'nothing'}"
        return
    names = ("added", "changed", "moved", "unchanged", "gone", "kept")
    counts = {name: getattr(report, name) for name in names}
    yield ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "nothing"


def _skipped(report: BuildReport) -> Iterator[str]:
    yield from (f"skipped: {line}" for line in skipped_lines(report.skipped))


def _left_out(bad: Sequence[BadFile]) -> Iterator[str]:
    """Say what was left out, a line a reason."""
    reasons: dict[str, list[BadFile]] = {}
    for file in bad:
        reasons.setdefault(file.why, []).append(file)
    for why, files in list(reasons.items())[:REASONS]:
        if len(files) == 1:
            yield f"left out: {label(files[0].path.name)}: {why}"
        else:
            more = f" and {len(files) - NAMED} more" if len(files) > NAMED else ""
            names = ", ".join(label(file.path.name) for file in files[:NAMED])
            yield f"left out: {len(files)} files, {why}: {names}{more}"
    if len(reasons) > REASONS:
        yield f"left out for {len(reasons) - REASONS} other reasons: mmid index list --left-out"


def _summary(report: BuildReport, where: str, dry_run: bool) -> str:
    minutes = report.seconds_of_music / 60
    length = f"{minutes / 60:.1f} hours" if minutes >= 60 else f"{minutes:.1f} minutes"
    held = counted(report.items, "pieces" if report.kind == "midi" else "recordings")
    if dry_run:
        return f"{held}, {length} of music would be in {where}; nothing was written"
    return f"{held}, {length} of music, {report.snippets} snippets in {where}"
