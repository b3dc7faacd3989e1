"""The documentation site: built without a warning, nothing loaded from elsewhere, true quotes."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


class Loaded(HTMLParser):
    """What a browser fetches to show a page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        fetched = tag == "link" and values.get("rel") in ("stylesheet", "icon", "preload")
        if fetched or tag in ("script", "img", "iframe"):
            self.addresses.append(values.get("href") or values.get("src") or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """Return the built site; warnings fail the build, but not with -q, which hides them."""
    pytest.importorskip("material", reason="needs the site's packages: pip install 'mmid[docs]'")
    out = tmp_path_factory.mktemp("site")
    build = ["mkdocs", "build", "--strict", "-f", DOCS / "site" / "mkdocs.yml", "-d", out]
    run = subprocess.run([sys.executable, "-m", *build], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    return out


def test_every_page_is_in_the_site(site):
    pages = {path.stem for path in DOCS.glob("*.md")} - {"index"}
    assert pages == {path.parent.name for path in site.glob("*/index.html")}


def test_the_site_loads_nothing_from_other_hosts(site):
    for page in site.rglob("*.html"):
        loaded = Loaded()
        loaded.feed(page.read_text(encoding="utf-8"))
        assert not [a for a in loaded.addresses if re.match("(https?:)?//", a)], page
    for style in [*site.rglob("*.css"), *site.rglob("*.svg")]:
        assert not re.search(r"(@import|url\()\s*[\"']?https?:", style.read_text()), style


def test_formulas_are_drawn_without_a_script(site):
    page = (site / "method" / "index.html").read_text(encoding="utf-8")
    assert page.count("<math ") == (DOCS / "method.md").read_text().count("```math")
    assert "\\frac" not in page


def test_the_reference_has_the_docstrings(site):
    page = (site / "reference" / "index.html").read_text(encoding="utf-8")
    for name in (
        "identify.answer.Match",
        "identify.identifier.Identifier",
        "index.folder.LibraryIndex",
        "music.grid.FeatureParams",
    ):
        assert f'id="mmid.{name}"' in page, name


def test_the_scripts_of_the_site_import_what_there_is():
    for path in (DOCS / "site").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mmid"):
                module = importlib.import_module(node.module)
                assert [a.name for a in node.names if not hasattr(module, a.name)] == [], path


def damages() -> list[tuple[str, str]]:
    """Return what is counted of a broken MIDI file: a noun, and what became of it."""
    code = "".join(path.read_text() for path in (ROOT / "mmid" / "music").glob("midi*.py"))
    return re.findall(r'damage\.add\("([\w ]+)", "(\w+)"', code)


@cache
def patterns() -> list[re.Pattern[str]]:
    """Return what the strings of the code look like, with anything in place of their values."""
    found = [re.compile(rf"\d+ {noun}s? {what}") for noun, what in damages()]
    for path in (ROOT / "mmid").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                parts = [node]
            elif isinstance(node, ast.JoinedStr):
                parts = node.values
            else:
                continue
            texts = [re.escape(p.value) if isinstance(p, ast.Constant) else ".+" for p in parts]
            texts = [text.replace(r"\{\}", ".+") for text in texts]
            if sum(len(text) for text in texts if text != ".+") > 12:
                found.append(re.compile("".join(texts)))
    return found


def quoted() -> list[str]:
    """Return the messages of the first columns of troubleshooting's tables."""
    return re.findall(r"^\| `(.+?)` \|", (DOCS / "troubleshooting.md").read_text(), re.M)


def test_troubleshooting_quotes_enough():
    assert len(quoted()) > 30


@pytest.mark.parametrize("message", quoted())
def test_messages_in_the_documents_are_the_codes(message):
    for part in message.split("damaged: ", 1)[-1].split("`, `"):
        after_the_file = part.split(": ", 1)[-1]
        assert any(p.fullmatch(m) for p in patterns() for m in (part, after_the_file)), part


def test_the_workflow_is_one_and_its_commands_exist():
    [block] = re.findall(r"^```yaml\n(.*?)^```", (DOCS / "ci-gate.md").read_text(), re.M | re.S)
    workflow = yaml.safe_load(block)
    [job] = workflow["jobs"].values()
    assert workflow[True] and job["runs-on"], "YAML 1.1 reads the key on as true"
    assert all(("run" in step) != ("uses" in step) for step in job["steps"])
    commands = [step["run"].split() for step in job["steps"] if "mmid" in step.get("run", "")]
    reference = (DOCS / "cli.md").read_text()
    for words in (w for w in commands if w[0] == "mmid"):
        name = " ".join(words[:3] if words[1] == "eval" else words[:2])
        section = reference.split(f"`{name}`\n", 1)[1].split("\n## ")[0]
        for option in (word for word in words if word.startswith("--")):
            assert re.search(rf"`{option}\b", section), option
