"""`mmid doctor`: what mmid needs, what of it is there, and what to do about the rest.

Conventions: a finding is ``ok``, ``absent`` where mmid does without, or ``broken`` where it cannot
do what it is for. Nothing here raises: what cannot be looked at is a finding, too.
"""

from __future__ import annotations

import ctypes.util
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import typer
from rich.markup import escape
from rich.table import Table

from mmid.cli.options import Index, JsonFlag, Model
from mmid.errors import MmidError, label
from mmid.settings import VARIABLES, cache_folder
from mmid.system.console import stdout
from mmid.system.tables import FittingTable
from mmid.version import __version__

if TYPE_CHECKING:
    from mmid.index.protocol import Library
    from mmid.model.checkpoint import Checkpoint

STATE_STYLES = {"ok": "green", "absent": "yellow", "broken": "bold red"}

State: TypeAlias = Literal["ok", "absent", "broken"]

COMPILED = {
    "torch": "torch",
    "torchaudio": "mmid.music._torchaudio",
    "av": "av",
    "hnswlib": "hnswlib",
}
"""Packages with machine code that may not suit the machine, and what mmid imports of each."""

IMPORT_SECONDS = 120.0
"""How long importing one may take."""

REINSTALL = "pip install --force-reinstall mmid"


@dataclass(frozen=True)
class Finding:
    """Something that was looked at.

    Parameters
    ----------
    subject : str
    state : {"ok", "absent", "broken"}
    said : str
        What was found.
    mend : str
        What to do about it, if anything.
    """

    subject: str
    state: State
    said: str
    mend: str = ""


@dataclass(frozen=True)
class Examination:
    """All that was found."""

    findings: tuple[Finding, ...]

    @property
    def sound(self) -> bool:
        """Whether nothing that is needed is broken."""
        return all(finding.state != "broken" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready names and values."""
        return {"sound": self.sound} | asdict(self)


Check: TypeAlias = Callable[[], Iterator[Finding]]


def examine(index: str | os.PathLike[str] | None = None, model: str | None = None) -> Examination:
    """Look at everything mmid needs.

    Parameters
    ----------
    index : str or path, optional
        The index to look at; one that is named must be there.
    model : str, optional
        A model's name or .safetensors file; by default the packaged one.
    """
    findings = [*_look("mmid", _mmid), *_look("packages", _packages)]
    findings += [*_look("machine code", _machine_code)]
    if all(finding.state == "ok" for finding in findings):
        findings += _look("device", _device)
        findings += _look("model and index", lambda: _model_and_index(index, model))
    for subject, check in (
        ("extras", _extras),
        ("rendering", _rendering),
        ("cache", _cache),
        ("variables", _variables),
    ):
        findings += _look(subject, check)
    return Examination(tuple(findings))


def _look(subject: str, check: Check) -> list[Finding]:
    """Return what a check finds; one that fails is a finding."""
    findings: list[Finding] = []
    try:
        findings.extend(check())
    except MmidError as error:
        findings.append(Finding(subject, "broken", str(error)))
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        findings.append(Finding(subject, "broken", f"cannot be looked at ({reason})", REINSTALL))
    return findings


def _mmid() -> Iterator[Finding]:
    yield Finding("mmid", "ok", f"{__version__} in {label(Path(__file__).parents[1])}")
    yield Finding("python", "ok", f"{platform.python_version()} on {platform.platform()}")


def _requirements(extra: str | None) -> list[tuple[str, str]]:
    """Return name and version bounds of what mmid, or an extra of it, requires."""
    from packaging.requirements import Requirement

    found = []
    for required in map(Requirement, requires("mmid") or []):
        marker = str(required.marker or "")
        wanted = re.search(r"extra == ['\"](.+?)['\"]", marker)
        if (wanted.group(1) if wanted else None) == extra and required.name != "mmid":
            found.append((required.name, str(required.specifier)))
    return found


def _package(name: str, bounds: str, lacking: State, mend: str) -> Finding:
    """Return whether a package is installed in a version that will do."""
    from packaging.specifiers import SpecifierSet

    try:
        installed = version(name)
    except PackageNotFoundError:
        return Finding(name, lacking, "not installed", mend)
    if not SpecifierSet(bounds).contains(installed, prereleases=True):
        return Finding(name, "broken", f"{installed}, not {bounds}", mend)
    return Finding(name, "ok", installed)


def _packages() -> Iterator[Finding]:
    for name, bounds in _requirements(None):
        yield _package(name, bounds, "broken", f"pip install '{name}{bounds}'")


def _machine_code() -> Iterator[Finding]:
    """Import what is compiled in a process of its own, which may die of it."""
    if _import(*COMPILED.values()) is None:
        import av

        codec = ".".join(map(str, av.library_versions["libavcodec"]))
        yield Finding("machine code", "ok", f"loads; FFmpeg's libavcodec is {codec}")
        return
    for name, module in COMPILED.items():
        fault = _import(module)
        if fault is not None:
            yield Finding(name, "broken", fault, f"pip install --force-reinstall {name}")


def _import(*modules: str) -> str | None:
    """Return why modules cannot be imported; None if they can."""
    command = [sys.executable, "-c", f"import {', '.join(modules)}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=IMPORT_SECONDS)
    except subprocess.TimeoutExpired:
        return f"not imported after {IMPORT_SECONDS:g} s"
    if done.returncode < 0:
        return f"kills Python by signal {-done.returncode}: not made for this processor"
    said = done.stderr.strip().splitlines()
    return None if done.returncode == 0 else (said or ["cannot be imported"])[-1]


def _device() -> Iterator[Finding]:
    import torch

    from mmid.model.encoders import pick_device

    device = pick_device()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    cores = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
    yield Finding("device", "ok", f"{device.type} ({name or cores})")


def _model_and_index(index: str | os.PathLike[str] | None, model: str | None) -> Iterator[Finding]:
    from mmid.model.encoders import pick_device
    from mmid.model.loading import load_model

    name, where = _find_model(model)
    loaded = None
    if where == "hub":
        mend = "the first command that needs it fetches it"
        yield Finding("model", "absent", f"{name}, not fetched yet", mend)
    else:
        try:
            loaded = load_model(name, pick_device())
            facts = (
                f"{loaded.encoders.config.audio.embedding} dimensions, {loaded.fingerprint[:12]}"
            )
            yield Finding("model", "ok", f"{label(name)}, {where}, hash right, {facts}")
            yield _precision(loaded)
        except MmidError as error:
            yield Finding("model", "broken", str(error), "mmid model list names others")
    yield _index(index, loaded)


def _precision(model: Checkpoint) -> Finding:
    """Say how the model is computed here, and why."""
    try:
        found = model.encoders.precision
    except (MmidError, RuntimeError) as error:  # of PyTorch, where no snippet fits the networks
        return Finding("precision", "broken", str(error).splitlines()[0])
    said = f"{found.name}: {found.reason}"
    if found.fault:
        mend = "answers are right, but slower; another PyTorch may do better"
        return Finding("precision", "absent", said, mend)
    return Finding("precision", "ok", said)


def _find_model(model: str | None) -> tuple[str, str]:
    """Return a model's name, and where it is; ``hub`` where it was not fetched yet."""
    from mmid.model.hub import SCHEME, HubFile
    from mmid.model.registry import list_models, read_registry

    listed = {known.name: known.where for known in list_models()}
    name = model or read_registry().default
    if name.startswith(SCHEME):
        name = str(HubFile.parse(name))
        return name, listed.get(name, "hub")
    return name, listed.get(name, "a file")


def _index(place: str | os.PathLike[str] | None, model: Checkpoint | None) -> Finding:
    """Say whether an index can be queried; hashes what has changed since it was hashed last."""
    from mmid.index.folder import LibraryIndex
    from mmid.index.manifest import GRAPH, MANIFEST
    from mmid.index.store import FolderStore, store_at

    try:
        store = store_at(place)
        if isinstance(store, FolderStore) and not (store.folder / MANIFEST).exists():
            said, mend = f"none in {label(store.where)}", "mmid build-index FOLDER makes one"
            return Finding("index", "broken" if place else "absent", said, mend)
        opened = store.open(None)
        if isinstance(opened, LibraryIndex):
            opened.checks.check(GRAPH)
    except MmidError as error:
        return Finding("index", "broken", str(error), "mmid index verify says more")
    what = "pieces" if opened.kind == "midi" else "recordings"
    said = f"{len(opened)} {what} in {label(store.where)}, made by {_maker(opened, model)}"
    if model and opened.manifest["model"] != model.fingerprint:
        return Finding("index", "broken", said, "mmid build-index again, or --model as it was")
    return Finding("index", "ok", said)


def _maker(index: Library, model: Checkpoint | None) -> str:
    """Name the model that made an index."""
    from mmid.model.checkpoint import load_checkpoint
    from mmid.model.registry import list_models

    made_by = index.manifest["model"]
    if model and model.fingerprint == made_by:
        return "this model"
    for known in list_models():
        usable = known.path if known.where in ("cached", "packaged") else None
        if usable and load_checkpoint(Path(usable)).fingerprint == made_by:
            return known.name
    return f"another model ({made_by[:12]})"


def _extras() -> Iterator[Finding]:
    """Report on what is needed only for some commands."""
    from importlib.metadata import metadata

    from mmid.music.scores.converters import find_musescore

    for extra in metadata("mmid").get_all("Provides-Extra") or []:
        found = [
            _package(name, bounds, "absent", f"pip install 'mmid[{extra}]'")
            for name, bounds in _requirements(extra)
        ]
        lacking = [f"{f.subject} {f.said}" for f in found if f.state != "ok"]
        mend = f"pip install 'mmid[{extra}]'" if lacking else ""
        said = ", ".join(lacking) or ", ".join(f"{f.subject} {f.said}" for f in found)
        yield Finding(f"mmid[{extra}]", "absent" if lacking else "ok", said, mend)
    musescore = find_musescore()
    state: State = "ok" if musescore else "absent"
    mend = "" if musescore else "install it to read .mscz and .mscx"
    yield Finding("MuseScore", state, label(musescore or "not installed"), mend)


def _rendering() -> Iterator[Finding]:
    from mmid.music.synthesizer import find_soundfonts

    library = ctypes.util.find_library("fluidsynth")
    if library:
        yield Finding("fluidsynth", "ok", library)
    else:
        yield Finding("fluidsynth", "absent", "not installed", "apt-get install fluidsynth")
    fonts = ", ".join(label(path.name) for path in find_soundfonts())
    mend = "" if fonts else "apt-get install timgm6mb-soundfont, or set SF2_PATH"
    yield Finding("soundfonts", "ok" if fonts else "absent", fonts or "none", mend)


def _cache() -> Iterator[Finding]:
    place = cache_folder()
    if not place.exists():
        yield Finding("cache", "ok", f"nothing yet in {label(place)}")
        return
    faults: list[OSError] = []
    size = 0
    for root, _, names in os.walk(place, onerror=faults.append):
        for name in names:
            try:
                size += os.lstat(os.path.join(root, name)).st_size
            except OSError as error:
                faults.append(error)
    said = f"{size / 1e6:.1f} MB in {label(place)}"
    if faults or not os.access(place, os.R_OK | os.W_OK | os.X_OK):
        reason = faults[0].strerror if faults else "may not be written"
        mend = "make it a folder of your own, or name another in MMID_CACHE"
        yield Finding("cache", "broken", f"{said}; {reason}", mend)
    else:
        yield Finding("cache", "ok", said)


def _variables() -> Iterator[Finding]:
    for name in VARIABLES:
        if os.environ.get(name):
            yield Finding(name, "ok", label(os.environ[name]))


def doctor(index: Index = None, model: Model = None, as_json: JsonFlag = False) -> None:
    """Check packages, device, model and index, and say what to do about what is wrong.

    The exit status is 1 if something that mmid needs is broken.
    """
    found = examine(index, model)
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=1))
    else:
        stdout.print(findings_table(found.findings))
    if not found.sound:
        raise typer.Exit(1)


def findings_table(findings: Sequence[Finding]) -> Table:
    """Return what a look at the installation found, with the way out of what is wrong."""
    table = FittingTable("", "")
    table.add_name_column("found")
    for finding in findings:
        state = f"[{STATE_STYLES[finding.state]}]{finding.state}[/]"
        lines = [finding.said, f"-> {finding.mend}"] if finding.mend else [finding.said]
        table.add_row(escape(finding.subject), state, escape("\n".join(lines)))
    return table
