"""The documents: the reference of commands, links, words and lengths of lines."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from mmid.model.loading import load_model

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
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", path.read_text()):
        assert (path.parent / target).exists(), f"{path.name}: {target}"


FENCED = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.M | re.S)


def test_readme_is_short():
    assert len(README.read_text().splitlines()) < 90


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_lines_are_short_outside_of_code_and_tables(path):
    lines = FENCED.sub("", path.read_text()).splitlines()
    assert [line for line in lines if len(line) > 120 and not line.lstrip().startswith("|")] == []


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


@pytest.mark.dev
def test_pages_are_easy_to_read():
    pytest.importorskip("textstat", reason="needs an extra of mmid: dev")
    command = [sys.executable, str(ROOT / "docs" / "site" / "readability.py")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_formula_of_the_support_has_the_packaged_weights():
    page = (ROOT / "docs" / "method.md").read_text()
    [formula] = re.findall(r"^S = (.*)$", page, re.M)
    ranking = load_model().facts["ranking"]
    names = {"other key": "key_cost", "log2": "tempo_cost"}
    terms = re.findall(r"([+-]? ?[\d.]+)\\, (?:\\mathrm{([^}]*)}|\(\\(log)_(2))", formula)
    shown = {
        re.sub(r"\\(?=[_ ])", "", name) or log + base: float(number.replace(" ", ""))
        for number, name, log, base in terms
    }
    assert {names.get(name, name): weight for name, weight in shown.items()} == {
        name: pytest.approx(weight, abs=0.006)
        for name, weight in ranking.items()
        if name != "harmony"
    }


HISTORY = re.compile(r"\bmmid-[123]\b|\bcommits? `?[0-9a-f]{7,}")


@pytest.mark.parametrize(
    "path",
    [*sorted(set(DOCUMENTS) - {ROOT / "docs" / "model-card.md"}), REFERENCE],
    ids=lambda p: p.name,
)
def test_earlier_models_and_commits_are_in_the_changelog_and_the_model_card_alone(path):
    assert HISTORY.findall(path.read_text()) == []
