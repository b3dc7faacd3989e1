"""What the tutorial shows of the demo is what the commands print today."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mmid.cli.app import app
from mmid.cli.demo import prepare_demo

DOCS = Path(__file__).parents[1] / "docs"

SHOWN = re.compile(
    r"```sh\n(mmid (?:query|listen) [^\n]*demo/recording[^\n]*)\n```\n\n```text\n(.*?)```", re.S
)
EXAMPLES = [
    (page.name, command, text)
    for page in (DOCS / "tutorial.md", DOCS / "listen.md")
    for command, text in SHOWN.findall(page.read_text(encoding="utf-8"))
]

APART = 5.0
"""How far a number may be from the one printed: processors differ, and so may a confidence."""


def words_and_numbers(text: str) -> tuple[str, list[float]]:
    """Return a text without its line breaks and rules, and its numbers, which `#` stands for."""
    plain = re.sub(r"\s", "", text.replace("─", ""))
    return re.sub(r"\d+(\.\d+)?", "#", plain), [
        float(n) for n in re.findall(r"\d+(?:\.\d+)?", plain)
    ]


@pytest.fixture
def here(tmp_path, demo_index, monkeypatch):
    """Return a folder with the demo's files, where commands run."""
    prepare_demo(tmp_path / "demo")
    (tmp_path / "demo" / "index").symlink_to(demo_index)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_there_are_examples_with_their_output():
    assert len(EXAMPLES) == 3


@pytest.mark.parametrize("page, command, shown", EXAMPLES)
def test_what_a_page_shows_is_printed(page, command, shown, here):
    done = CliRunner().invoke(app, shlex.split(command)[1:])
    assert done.exit_code == 0, done.output
    shown_words, shown_numbers = words_and_numbers(shown)
    words, numbers = words_and_numbers(done.output)
    assert words.startswith(shown_words)  # a page may leave the table out
    apart = [(a, b) for a, b in zip(shown_numbers, numbers, strict=False) if abs(a - b) > APART]
    assert apart == []
