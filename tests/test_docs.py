"""The documents against the code: their commands, links, words and figures."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mmid.cli.app import app

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
REFERENCE = ROOT / "docs" / "cli.md"
DOCUMENTS = [README, *sorted(set((ROOT / "docs").glob("*.md")) - {REFERENCE})]


def test_the_reference_is_the_commands_own():
    generated = subprocess.run(
        [sys.executable, "-m", "typer", "mmid.cli.app", "utils", "docs", "--name", "mmid"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert REFERENCE.read_text().strip() == generated.strip(), (
        "run the command that docs/contributing.md names"
    )


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_commands_in_the_documents_exist(path):
    reference = REFERENCE.read_text()
    blocks = "\n".join(re.findall(r"^```\w*\n(.*?)^```", path.read_text(), re.M | re.S))
    for line in re.findall(r"^(?:\$ )?(?:\.venv/bin/)?(mmid [a-z].*)$", blocks, re.M):
        words = line.replace("\\", "").split("#")[0].split()
        name = " ".join(words[:3] if words[1] in ("eval", "index", "model") else words[:2])
        section = reference.split(f"`{name}`\n", 1)
        assert len(section) == 2, f"{path.name}: no command {name!r}"
        for option in re.findall(r"--[a-z0-9-]+", line):
            known = re.search(rf"(`|/ ){option}\b", section[1].split("\n## ")[0])
            assert known, f"{path.name}: {line}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", path.read_text()):
        assert (path.parent / target).exists(), f"{path.name}: {target}"


FENCED = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.M | re.S)


def test_readme_is_short():
    lines = README.read_text().splitlines()
    assert len(lines) < 90
    assert [line for line in lines if len(line) > 120] == []


PRIVATE = re.compile(
    r"\b(un)?heard\b|\bt[eo]l(l|ls|d)\b|\bask(s|ed)\b|\b(un|not )sure\b|\bsure(r|st)\b|\bears?\b"
    r"|looks? after|looks? at it\b|\blistens rather\b",
    re.I,
)
"""Words that were used in a sense of mmid's own; docs/glossary.md has those of the field."""


@pytest.mark.parametrize("path", [*DOCUMENTS, REFERENCE], ids=lambda path: path.name)
def test_words_are_those_of_the_field(path):
    prose = re.sub(r"`[^`]*`|^ +members:.*", "", FENCED.sub("", path.read_text()), flags=re.M)
    assert [found.group() for found in PRIVATE.finditer(prose)] == []


HISTORY = re.compile(r"\bmmid-[123]\b|\bcommits? `?[0-9a-f]{7,}")


@pytest.mark.parametrize(
    "path", [*set(DOCUMENTS) - {ROOT / "docs" / "model-card.md"}, REFERENCE], ids=lambda p: p.name
)
def test_earlier_models_and_commits_are_in_the_changelog_and_the_model_card_alone(path):
    assert HISTORY.findall(path.read_text()) == []


NOT_RUN = {
    "serve": "runs until it is stopped",
    "train": "takes hours",
    "eval speed": "takes minutes, and the machine for itself",
    "--device cuda": "needs a GPU",
    "--soundfont": "needs fluidsynth and a soundfont that may not be there",
    "my-": "needs the reader's own model or index",
    "milvus": "needs a server",
}
"""Commands on the demo's files that the next test leaves out, and why."""


def examples(page: str) -> list[list[str]]:
    """Return the words of a page's shell commands on the demo's files, in their order."""
    text = (ROOT / "docs" / f"{page}.md").read_text()
    blocks = (code for language, code in FENCED.findall(text) if language == "sh")
    lines = [line for block in blocks for line in block.splitlines() if "demo" in line]
    chosen = [line for line in lines if not any(mark in line for mark in NOT_RUN)]
    return [shlex.split(line.split(" > answers")[0], comments=True) for line in chosen]


def test_examples_on_the_demos_files_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pytest.importorskip("matplotlib", reason="--plot needs the extra train")
    run = []
    for words in [*examples("tutorial"), *examples("listen"), *examples("large-library")]:
        if words[0] == "mmid":
            result = CliRunner().invoke(app, words[1:])
            assert result.exit_code == 0, (words, result.output, result.exception)
            run.append(words[1])
        elif words[0] in ("mkdir", "cp"):
            subprocess.run(words, check=True)
        elif words[0] == "printf":
            Path(words[-1]).write_text(words[1].encode().decode("unicode_escape"))
    assert len(run) > 15 and {"demo", "build-index", "query", "index", "listen", "eval"} <= set(run)
