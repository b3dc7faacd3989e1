"""The examples of all documents run, or say why no test runs them."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from examples import (
    CI,
    PAGES,
    REASONS,
    ROOT,
    build,
    check,
    check_statement,
    examples,
    lay_out,
    run,
)

from mmid.model.loading import load_model
from mmid.settings import default_index

EXAMPLES = {page: examples(page) for page in PAGES}
RUN = [page for page, found in EXAMPLES.items() if any(example.is_run for example in found)]
NEED = {"formats": ("verovio", "symusic"), "tutorial": ("matplotlib",), "batch": ("matplotlib",)}
"""Packages of extras that the examples of a page need."""

BUILD = {"README", "formats", "library-index"}
"""Pages that make the user's index themselves."""


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with all files that the examples name in `here`, and a copy in `new`."""
    folder = tmp_path_factory.mktemp("examples")
    lay_out(folder / "here")
    build(folder / "here", load_model())
    shutil.copytree(folder / "here", folder / "new")
    return folder


@pytest.fixture
def files(prepared: Path) -> Path:
    """Return the folder of all files that the examples name, as if no example had run."""
    shutil.rmtree(prepared / "here")
    shutil.copytree(prepared / "new", prepared / "here")  # indexes know their folders' full paths
    return prepared / "here"


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.stem)
def test_the_examples_of_a_page_run(page, files, monkeypatch):
    for package in NEED.get(page.stem, ()):
        pytest.importorskip(package, reason="needs an extra of mmid: test")
    monkeypatch.chdir(files)
    monkeypatch.setenv("HOME", str(files / "home"))
    for name in ("XDG_DATA_HOME", "MMID_INDEX", "MMID_MODEL", "MMID_SERVER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("mmid.cli.doctor._import", lambda *modules: None)  # imports in a process
    monkeypatch.setattr("mmid.output.evidence.DOTS_PER_INCH", 40)  # pictures cost the most
    if page.stem in BUILD:
        shutil.rmtree(default_index())
    for example in EXAMPLES[page]:
        if example.is_run:
            run(example)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_the_examples_name_is_there(page):
    for example in EXAMPLES[page]:
        for statement in example.statements() if example.language == "sh" else ():
            check_statement(statement)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_within_sentences_exist(page):
    for span in re.findall(r"`mmid ([^`\n]+)`", page.read_text(encoding="utf-8")):
        words = span.split(" | ")[0].split()
        check([word for word in words if "…" not in word], complete=False)


def test_the_examples_of_the_commands_are_right():
    lines = re.findall(r"^Example: mmid (.+)$", (ROOT / "docs" / "cli.md").read_text(), re.M)
    assert len(lines) > 20
    for line in lines:
        check(line.split())


def test_what_is_not_run_says_why():
    marked = [example for found in EXAMPLES.values() for example in found if example.mark]
    odd = [f"{e}: {e.mark}" for e in marked if e.reason not in REASONS and e.mark not in CI]
    assert odd == []
    assert {example.reason for example in marked} - {""} == REASONS, "a reason that is not needed"
    assert {e.page.name for e in marked if e.mark in CI} == {"README.md"}


def test_most_pages_have_an_example_that_runs():
    assert len(RUN) > 12 and sum(e.is_run for found in EXAMPLES.values() for e in found) > 35


def test_python_sessions_are_on_the_page_that_test_api_runs():
    pages = [page.name for page in PAGES if "```pycon" in page.read_text(encoding="utf-8")]
    assert pages == ["api.md"]
