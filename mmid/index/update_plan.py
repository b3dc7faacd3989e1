"""What has to be done for an index to follow its library: found, embedded, planned.

Conventions: items are known by the names that they have now, whatever root they had before. Rows of
the old index are known by their positions there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from mmid.index.embedder import Embed, embed_files, file_stat
from mmid.index.items import Entry
from mmid.index.library_folders import Followed
from mmid.index.pending import Embedded, Pending
from mmid.index.protocol import Library
from mmid.model.checkpoint import Checkpoint
from mmid.music.folders import BadFile, item_name
from mmid.music.formats import unread_here
from mmid.music.scores.tune_books import file_of, piece_digest
from mmid.system.console import ProgressCallback
from mmid.system.processes import Engine

COUNTED = ("added", "changed", "moved", "unchanged", "gone", "kept")
"""What a file is against the index; ``kept`` is one that is not there and whose piece stays."""

LEFT_OUT = "left out"


@dataclass(frozen=True)
class UpdateOptions:
    """What an update does beyond following its library.

    Parameters
    ----------
    every : int, optional
        As of `mmid.index.embedder.embed_whole`; by default as the index that is there, if any.
    keep_missing : bool
        Keep items whose files are not in the library any more.
    replace : bool
        Follow nothing but the library named, whatever its kind; if none is, only what is there.
    anew : bool
        Embed every file again.
    dry_run : bool
        Read what is new, but embed and write nothing.
    """

    every: int | None = None
    keep_missing: bool = False
    replace: bool = False
    anew: bool = False
    dry_run: bool = False


USUAL = UpdateOptions()


@dataclass
class Plan:
    """The rows of the index to write.

    Parameters
    ----------
    kept : list of (Entry, Entry)
        Old rows, in their order, and what they say now.
    fresh : list of Entry
        New rows.
    counts : dict of Path to Counter
        Files of each folder by what they are, as `COUNTED`, and those left out.
    """

    kept: list[tuple[Entry, Entry]]
    fresh: list[Entry]
    counts: dict[Path, Counter[str]] = field(default_factory=dict)

    @property
    def entries(self) -> list[Entry]:
        """All rows as they will be."""
        return [*(after for _, after in self.kept), *self.fresh]

    def total(self, what: str) -> int:
        """Count the files of one sort."""
        return sum(counts[what] for counts in self.counts.values())

    def by_folder(self) -> dict[str, dict[str, int]]:
        """Return the counts that are not 0 of each folder."""
        return {str(path): dict(+counts) for path, counts in self.counts.items()}

    def keeps_all(self, entries: list[Entry]) -> bool:
        """Return whether nothing of the old rows would change."""
        return [before for before, _ in self.kept] == entries and all(
            before == after for before, after in self.kept
        )


def _saying(entry: Entry, **facts: str | int) -> Entry:
    """Return a row that says something; itself where it does so already, as most rows do."""
    says = all(getattr(entry, name) == value for name, value in facts.items())
    return entry if says else replace(entry, **facts)  # type: ignore[arg-type]


class Update:
    """What is known of a library's files, and what has to be embedded.

    Parameters
    ----------
    held : Library or None
        The index that is there.
    reused : Library or None
        The same, if its vectors can be.
    pending : Pending or None
        Where embedded items wait; None for a dry run, which only counts.
    followed : Followed
    """

    def __init__(
        self,
        held: Library | None,
        reused: Library | None,
        pending: Pending | None,
        followed: Followed,
    ) -> None:
        self.held, self.reused, self.pending = held, reused, pending
        self._followed = followed
        self._files = followed.files
        root = held.manifest["root"] if held else ""
        self._held = [
            _saying(entry, name=followed.renamed(entry.name, root))
            for entry in (held.entries if held else [])
        ]
        self._stats: dict[str, tuple[int, int]] = {}
        self._held_names = {entry.name for entry in self._held}
        known = self._held if reused is not None else []
        self._by_name = {entry.name: i for i, entry in enumerate(known)}
        self._by_digest = {entry.digest: i for i, entry in enumerate(known)}
        self._embedded = dict(pending.entries) if pending is not None else {}
        self._digests: dict[str, str] = {}
        self.bad: list[BadFile] = []
        self.broken: list[BadFile] = []

    def embed(
        self,
        model: Checkpoint,
        embed: Embed,
        jobs: int | None,
        engine: Engine,
        progress: ProgressCallback,
    ) -> None:
        """Embed what is not known; what is done when this is stopped waits on disk."""
        what = "Reading" if self.pending is None else "Indexing"
        try:
            for done, _ in enumerate(self._names_done(model, embed, jobs, engine), 1):
                progress(what, done, len(self._files))
        finally:
            if self.pending is not None:
                self.pending.flush()

    def _names_done(
        self, model: Checkpoint, embed: Embed, jobs: int | None, engine: Engine
    ) -> Iterator[str]:
        unknown = []
        for name, path in self._files.items():
            digest = self._known(name, path)
            if digest is None:
                unknown.append(name)
            else:
                self._digests[name] = digest
                yield name
        paths = [self._files[name] for name in unknown]
        root, kind = self._followed.root, self._followed.kind
        items = embed_files(paths, root, kind, model, embed, jobs, engine)
        for name, item in zip(unknown, items, strict=True):
            if isinstance(item, BadFile):
                self._leave_out(name, item)
            else:
                self._take(name, item)
            yield name

    def _take(self, name: str, item: Embedded) -> None:
        self._digests[name] = item.entry.digest
        self._embedded[item.entry.digest] = item.entry
        if self.pending is not None:
            self.pending.add(item)

    def _leave_out(self, name: str, item: BadFile) -> None:
        self.bad.append(item)
        closed = item.path.is_dir() and any(e.startswith(f"{name}/") for e in self._held_names)
        if closed or name in self._held_names:
            self.broken.append(item)

    def _known(self, name: str, path: Path) -> str | None:
        """Return the digest of a file that was embedded before."""
        if name in self._by_name:
            entry = self._held[self._by_name[name]]
            if (entry.size, entry.changed) == self._stat(name) != (0, 0):
                return entry.digest
        if not (self._by_digest or self._embedded):
            return None
        try:
            digest = piece_digest(path)
        except OSError:
            return None
        return digest if digest in self._by_digest or digest in self._embedded else None

    def _stat(self, name: str) -> tuple[int, int]:
        """Return size and time of change of a file, as they were when it was first looked at."""
        if name not in self._stats:
            self._stats[name] = file_stat(self._files[name])
        return self._stats[name]

    def plan(self, keep_missing: bool) -> Plan:
        """Sort files into rows that stay, new ones, and those that go."""
        kept: dict[int, Entry] = {}
        plan = Plan([], [], {folder: Counter() for folder in self._followed.folders})
        for name, digest in self._digests.items():
            position = self._position_of(name, digest)
            size, changed = self._stat(name)
            if position is None or position in kept:
                entry = self._entry(digest)
                plan.fresh.append(replace(entry, name=name, size=size, changed=changed))
                self._count(plan, name, "changed" if name in self._by_name else "added")
            else:
                before = self._held[position]
                kept[position] = _saying(before, name=name, size=size, changed=changed)
                self._count(plan, name, "unchanged" if before.name == name else "moved")
        for item in self.bad:
            self._count(plan, item_name(item.path, self._followed.root), LEFT_OUT)
        self._settle_absent(plan, kept, keep_missing)
        if self.reused:
            plan.kept = [(self.reused.entries[i], kept[i]) for i in sorted(kept)]
        return plan

    def _settle_absent(self, plan: Plan, kept: dict[int, Entry], keep_missing: bool) -> None:
        """Keep or drop what has no file."""
        closed = tuple(
            f"{item_name(bad.path, self._followed.root)}/" for bad in self.bad if bad.path.is_dir()
        )
        for number, entry in enumerate(self._held):
            if number in kept or entry.name in self._files:
                continue
            missing = self._followed.folder_of(entry.name) in self._followed.missing
            unread = unread_here(entry.name) and self._lies_there(entry.name)
            stays = keep_missing or missing or unread or entry.name.startswith(closed)
            if self.reused and stays:
                kept[number] = entry
            self._count(plan, entry.name, "kept" if number in kept else "gone")

    def _lies_there(self, name: str) -> bool:
        return file_of(Path(self._followed.root, name)).is_file()

    def still_followed(self, plan: Plan) -> Followed:
        """Return what the index follows from now on.

        A folder that is not there and held nothing, or moved, need not be waited for.
        """
        empty = [f for f in self._followed.missing if not plan.counts[f]["kept"]]
        return self._followed.without(empty) if self.held else self._followed

    def _count(self, plan: Plan, name: str, what: str) -> None:
        plan.counts.setdefault(self._followed.folder_of(name), Counter())[what] += 1

    def _position_of(self, name: str, digest: str) -> int | None:
        """Find the old row of a file: of its name if it is the same, else of its content."""
        position = self._by_name.get(name)
        if position is not None and self._held[position].digest == digest:
            return position
        position = self._by_digest.get(digest)
        if position is not None and self._held[position].name in self._files:
            return None  # that file is there still, this is a copy of it
        return position

    def _entry(self, digest: str) -> Entry:
        """Return what is known of a content."""
        found = self._embedded.get(digest)
        return found or self._held[self._by_digest[digest]]

    def load(self, digest: str) -> Embedded:
        """Return a content, embedded."""
        if self.pending is not None and digest in self.pending:
            return self.pending[digest]
        assert self.reused
        return self.reused.item(self._by_digest[digest])
