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
    "path",
    [*sorted(set(DOCUMENTS) - {ROOT / "docs" / "model-card.md"}), REFERENCE],
    ids=lambda p: p.name,
)
def test_earlier_models_and_commits_are_in_the_changelog_and_the_model_card_alone(path):
    assert HISTORY.findall(path.read_text()) == []


NOT_RUN = {
    "pip install": "would change this environment",
    "python3 -m venv": "the same",
    "source ": "the same",
    "python -c": "its lines are Python's",
}
"""Commands of the tutorial that the next test leaves out, and why. Those of other pages name files
of the reader's, servers, or training that takes hours; that they exist is tested above."""


def tutorial() -> list[list[str]]:
    """Return the words of the tutorial's shell commands, in their order."""
    text = (ROOT / "docs" / "tutorial.md").read_text()
    blocks = [code for language, code in FENCED.findall(text) if language == "sh"]
    lines = [line for block in blocks for line in block.splitlines() if "python -c" not in block]
    chosen = [line for line in lines if not line.startswith(tuple(NOT_RUN))]
    return [shlex.split(line.split(" > answers")[0]) for line in chosen]


def test_the_commands_of_the_tutorial_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pytest.importorskip("matplotlib", reason="--plot needs the extra train")
    run = []
    for words in tutorial():
        if words[0] == "mmid":
            result = CliRunner().invoke(app, words[1:])
            assert result.exit_code == 0, (words, result.output, result.exception)
            run.append(words[1])
        elif words[0] == "printf":
            Path(words[-1]).write_text(words[1].encode().decode("unicode_escape"))
        else:
            subprocess.run(words, check=True)
    assert len(run) > 10 and {"demo", "build-index", "index", "query", "eval"} <= set(run)
    assert Path("why.png").stat().st_size and Path("answers.html").stat().st_size
