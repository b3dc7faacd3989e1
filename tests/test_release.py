"""What is released: one version, told alike everywhere, and pins that fit the bounds."""

from __future__ import annotations

import re
from importlib.metadata import requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from typer.testing import CliRunner

from mmid import __version__
from mmid.cli.app import app

ROOT = Path(__file__).parents[1]

NOT_PINNED = {"mmid", "hatchling"}


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if not line.startswith("#")]
    return {canonicalize_name(name): pin for name, pin in pairs}


def test_the_metadata_and_the_command_tell_the_version():
    assert version("mmid") == __version__
    assert CliRunner().invoke(app, ["--version"]).stdout == f"mmid {__version__}\n"


def test_the_version_is_written_in_one_place():
    assert 'dynamic = ["version"]' in (ROOT / "pyproject.toml").read_text()
    homes = [path.name for path in (ROOT / "mmid").rglob("*.py") if __version__ in path.read_text()]
    assert homes == ["version.py"]


def test_the_changelog_knows_the_version():
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.M)
    released = [Version(name) for name in headings if name != "Unreleased"]
    assert headings[0] in ("Unreleased", __version__)
    assert released == sorted(set(released), reverse=True)
    assert all(release <= Version(__version__) for release in released)
    assert headings[0] == "Unreleased" or released[0] == Version(__version__)


@pytest.mark.parametrize("line", requires("mmid") or [])
def test_every_dependency_is_pinned_within_its_bounds(line):
    requirement = Requirement(line)
    name = canonicalize_name(requirement.name)
    if name not in NOT_PINNED:
        assert requirement.specifier.contains(pins()[name])
