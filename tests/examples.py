"""The examples of the documents: their blocks, what is marked as not run, and how they run.

Conventions: an example is a block of `sh`, `python` or `yaml`. A comment before it,
``<!-- not run: REASON -->``, says why no test runs it; the reason is one of `REASONS`.
"""

from __future__ import annotations

import importlib
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cache
from io import StringIO
from pathlib import Path
from textwrap import dedent
from typing import Any

import typer
from typer.main import get_command
from typer.testing import CliRunner

from mmid.cli.app import app
from mmid.cli.demo import prepare_demo
from mmid.index.build import update_index
from mmid.model.checkpoint import Checkpoint
from mmid.model.loading import export_model
from mmid.music.audio import read_audio
from mmid.music.audio_writer import write_audio

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

REASONS = {
    "installs packages",
    "runs until it is stopped",
    "needs a cluster or a server",
    "needs a microphone",
    "needs a GPU",
    "needs a soundfont",
    "needs the archives",
    "needs your own files",
    "takes minutes or hours",
    "publishes or downloads",
    "changes your shell",
    "a workflow of GitHub's",
}
"""Why a test may not run an example. What it names is checked all the same."""

CI = {"setup", "test"}
"""Marks of README's two commands, which `.ci/run` reads and runs."""

BLOCK = re.compile(r"^(?: *<!-- ([^\n]*) -->\n)?( *)```(\w*)\n(.*?)^\2```", re.M | re.S)


@dataclass(frozen=True)
class Example:
    """A block of a page; `mark` is the comment before it."""

    page: Path
    line: int
    language: str
    code: str
    mark: str

    @property
    def reason(self) -> str:
        """Return why it is not run; nothing where it is."""
        return self.mark.removeprefix("not run: ") if self.mark.startswith("not run: ") else ""

    @property
    def is_run(self) -> bool:
        return not self.reason and self.mark not in CI

    def statements(self) -> list[str]:
        """Return a shell's commands, without their comments; one may be of several lines."""
        found, begun = [], ""
        for line in self.code.splitlines(keepends=True):
            begun += re.sub(r"(^|\s+)# .*$", "", line)
            if begun.endswith("\\\n"):
                begun = begun[:-2]
            elif _ends(begun):
                found += [begun.strip()] * bool(begun.strip())
                begun = ""
        assert not begun, f"{self}: ends within a command"
        return found

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def _ends(command: str) -> bool:
    """Return whether every quotation is closed."""
    try:
        shlex.split(command)
    except ValueError:
        return False
    return True


def examples(page: Path) -> list[Example]:
    """Return the examples of a page, in their order."""
    text = page.read_text(encoding="utf-8")
    blocks = [
        Example(page, text[: m.start()].count("\n") + 1, m[3], dedent(m[4]), m[1] or "")
        for m in BLOCK.finditer(text)
    ]
    return [b for b in blocks if b.language in ("sh", "python", "yaml")]


@cache
def mmid_command() -> Any:
    return get_command(app)


def check(words: list[str], complete: bool = True) -> None:
    """Parse the words behind `mmid` as it would; an unknown name, option or value fails.

    Where they are not complete, arguments may be missing.
    """
    command, parent = mmid_command(), None
    while True:
        context = command.context_class(command, parent=parent, info_name=command.name)
        leaf = not hasattr(command, "commands")
        value = [] if complete or not leaf else ["1"]  # of an option that ends the sentence's words
        given, rest, _ = command.make_parser(context).parse_args([*words, *value])
        for parameter in command.get_params(context):
            value = given.get(parameter.name)
            if value in (None, (), []):
                missing = parameter.required and complete
                assert not missing, f"{shlex.join(words)}: no {parameter.name}"
            elif not parameter.callback:
                parameter.process_value(context, value)
        if leaf:
            assert not rest or not complete, f"{shlex.join(words)}: {rest} is too much"
            return
        if not rest:
            return
        name, words, parent = rest[0], rest[1:], context
        assert name in command.commands, f"no command {name!r}"
        command = command.commands[name]


def check_module(name: str, words: list[str]) -> None:
    """Parse the words behind `python -m mmid.…`, where Typer runs the module's `main`."""
    module = importlib.import_module(name)
    assert hasattr(module, "main") or '__name__ == "__main__"' in Path(module.__file__).read_text()
    if "typer.run(main)" in Path(module.__file__).read_text():
        single = typer.Typer(add_completion=False)
        single.command()(module.main)
        command = get_command(single)
        context = command.context_class(command, info_name=name)
        command.make_parser(context).parse_args(list(words))


def check_statement(statement: str) -> None:
    """Check that what a command of the documents names is there: commands, options, scripts."""
    words = shlex.split(re.split(r" [|>] ", statement)[0])
    words = words[1:] if words and re.fullmatch(r"[A-Z_0-9]+=\S*", words[0]) else words
    if "-m" in words and words[words.index("-m") + 1].split(".")[0] == "mmid":
        name, *rest = words[words.index("-m") + 1 :]
        check(rest) if name == "mmid" else check_module(name, rest)
    elif Path(words[0]).name == "mmid":
        check(words[1:])
    elif words[0].startswith(".ci/"):
        assert (ROOT / words[0]).is_file()
    elif Path(words[0]).name == "python" and words[1].endswith(".py"):
        assert (ROOT / words[1]).is_file()
        campaigns = runpy.run_path(str(ROOT / words[1])).get("CAMPAIGNS")
        assert campaigns is None or words[2] in campaigns


TUNES = ("amazing-grace", "auld-lang-syne", "greensleeves", "swallowtail-jig", "frere-jacques")
"""Those of the demo that the folders of MIDI files in the examples hold."""

SECONDS = 6
"""How long the recordings are; the demo's own has 15."""

RECORDINGS = (
    *("recording.wav", "take.wav", "concert.flac", "radio.mp3", "my-recordings/take.wav"),
    "my-takes/take.wav",
    *("takes/one.wav", "takes/two.flac", "more/one.wav", "home/Music/takes/one.wav"),
    "home/recordings/phone.m4a",
)
FOLDERS = (
    *("home/Music/midi", "home/Music/scores", "home/scores", "home/scores/drafts"),
    *("home/more", "my-midi-files", "midi"),
)
BOOKS = ("book.abc", "tunes.abc", "tune.abc", "home/Music/scores/book.abc")
BOOK = """X:12
T:The Swallowtail Jig
M:4/4
L:1/4
K:C
CDEF|GABc|cBAG|FEDC|

X:13
T:Air
K:D
DFAd|]
"""
PAIRS = "id,audio,midi\ntake1,take.wav,swallowtail-jig.mid\n"
PLAYED = f"{PAIRS}take2,take.wav,swallowtail-jig.mid\n"


def lay_out(folder: Path) -> None:
    """Make the files that the examples name: the demo's, under the names of a reader's files."""
    library, recording = prepare_demo(folder / "demo")
    beginning = read_audio(recording, 22_050)[: SECONDS * 22_050]
    write_audio(folder / "recording.wav", [beginning], 22_050, "wav")
    for name in ("demo/recording.ogg", *RECORDINGS[1:]):
        _copy(folder / "recording.wav", folder / name)
    for name in FOLDERS:
        for tune in TUNES:
            _copy(library / f"{tune}.mid", folder / name / f"{tune}.mid")
    for name, rows in (("my-recordings", PAIRS), ("my-takes", PLAYED)):
        _copy(library / "swallowtail-jig.mid", folder / name / "swallowtail-jig.mid")
        (folder / name / "pairs.csv").write_text(rows)
    for name in BOOKS:
        (folder / name).write_text(BOOK)
    export_model(None, folder / "best.safetensors")
    _copy(folder / "best.safetensors", folder / "my-model" / "best.safetensors")
    (folder / "last").touch()
    os.utime(folder / "last", (0, 0))


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


INDEXES = {
    "demo/index": "demo/library",
    "my-index": "my-midi-files",
    "songs-index": "home/scores",
    "folk-index": "home/Music/midi",
    "home/.local/share/mmid/index": "home/Music/midi",
}


def build(folder: Path, model: Checkpoint) -> None:
    """Make the indexes that the examples name."""
    for index, library in INDEXES.items():
        update_index(folder / index, [folder / library], model, jobs=1)


def run(example: Example) -> None:
    """Run an example in this folder; every command must succeed."""
    if example.language == "python":
        exec(compile(example.code, str(example), "exec"), {})
        return
    for statement in example.statements():
        run_statement(statement)


def run_statement(statement: str) -> str:
    """Run a command as a shell would, mmid's own in this process; return what it prints."""
    fed, _, last = statement.rpartition(" | ")
    command, _, target = last.partition(" > ")
    if command.startswith("python -m mmid."):
        return _module(*shlex.split(command)[2:])
    if not command.startswith("mmid "):
        return _shell(statement)
    words = _shell(f"printf '%s\\0' {command}").split("\0")[1:-1]
    result = CliRunner().invoke(app, words, input=_shell(fed) if fed else None)
    assert result.exit_code == 0, f"{statement}: {result.output} {result.exception!r}"
    if target:
        Path(target).write_text(result.stdout)
    return result.stdout


def _module(name: str, *words: str) -> str:
    """Run a module's own command in this process; return what it prints."""
    with redirect_stdout(StringIO()) as printed:
        assert importlib.import_module(name).main(words) == 0, f"{name} {shlex.join(words)}"
    return printed.getvalue()


def _shell(command: str) -> str:
    """Return what a command prints."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    settings = {**os.environ, "PATH": path}
    done = subprocess.run(["sh", "-c", command], env=settings, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout
