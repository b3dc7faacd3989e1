"""The documents against the code."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "docs" / "cli.md"
DOCUMENTS = [ROOT / "README.md", *sorted(set((ROOT / "docs").glob("*.md")) - {REFERENCE})]


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
