"""The rules of the house: imports go downwards, a light start, modules that say what they are."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import mmid

FOLDER = Path(mmid.__file__).parent

ROOMS = [
    *("mmid", "mmid.__main__", "mmid.cli", "mmid.research", "mmid.serve", "mmid.api"),
    *("mmid.evaluation", "mmid.output", "mmid.identify", "mmid.index", "mmid.training"),
    *("mmid.model", "mmid.music", "mmid.system", "mmid.options", "mmid.settings"),
    *("mmid.errors", "mmid.version"),
]
"""Top to bottom: a module imports only from its own room and from those after it."""

MOST_LEVELS = 10
MOST_FILES = 8
MOST_LINES = 450
MOST_FUNCTION_LINES = 60

LONG_FUNCTIONS: dict[str, int] = {}
"""Those that are longer for now, and how long: entries may go and numbers may fall."""


def module_name(path: Path) -> str:
    parts = path.relative_to(FOLDER.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(FOLDER.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text()) for name, path in MODULES.items()}


def imports(name: str) -> set[str]:
    """Return the modules of mmid that one imports anywhere, functions and type checks too."""
    found = set()
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: a relative import"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= inner & set(MODULES) or {str(node.module)}
    return found & set(MODULES)


IMPORTS = {name: imports(name) for name in MODULES}


def room(name: str) -> str:
    return ".".join(name.split(".")[:2])


def test_every_module_has_a_room():
    assert {room(name) for name in MODULES} == set(ROOMS)
    assert len([path for path in FOLDER.iterdir() if path.is_file()]) <= MOST_FILES


def test_imports_go_downwards():
    up = [
        f"{name} imports {other}"
        for name, others in IMPORTS.items()
        for other in others
        if ROOMS.index(room(other)) < ROOMS.index(room(name))
    ]
    assert up == []


def test_no_imports_go_in_a_circle():
    try:
        TopologicalSorter(IMPORTS).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_only_commands_import_research():
    users = {room(name) for name, others in IMPORTS.items() if "mmid.research" in map(room, others)}
    assert users <= {"mmid.cli", "mmid.research"}


def test_only_commands_import_the_server():
    users = {room(name) for name, others in IMPORTS.items() if "mmid.serve" in map(room, others)}
    assert users <= {"mmid.cli", "mmid.serve"}


def test_there_are_few_levels():
    below: dict[str, set[str]] = {name: set() for name in ROOMS}
    for name, others in IMPORTS.items():
        below[room(name)] |= set(map(room, others)) - {room(name)}
    levels: dict[str, int] = {}
    for name in TopologicalSorter(below).static_order():
        levels[name] = 1 + max((levels[other] for other in below[name]), default=0)
    assert max(levels.values()) <= MOST_LEVELS


@pytest.mark.parametrize("name", MODULES)
def test_every_module_says_what_it_is(name):
    assert len(ast.get_docstring(TREES[name]) or "") > 20
    assert MODULES[name].read_text().count("\n") <= MOST_LINES


def functions(name: str) -> Iterator[tuple[str, int]]:
    """Yield the names and lengths of a module's functions."""
    for node in ast.walk(TREES[name]):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno is not None
            yield f"{name}.{node.name}", node.end_lineno - node.lineno + 1


def test_functions_are_short():
    lengths = [found for name in MODULES for found in functions(name)]
    assert {name: n for name, n in lengths if n > MOST_FUNCTION_LINES} == LONG_FUNCTIONS


HEAVY = ("torch", "torchaudio", "av", "hnswlib", "pretty_midi", "pymilvus", "ray")


def loaded_by(code: str) -> list[str]:
    """Run code in a Python of its own; return which heavy modules it loaded."""
    report = f"\nimport sys\nprint([m for m in {HEAVY} if m in sys.modules], file=sys.stderr)"
    run = subprocess.run([sys.executable, "-c", code + report], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return ast.literal_eval(run.stderr.strip().splitlines()[-1])


def test_importing_mmid_is_light():
    assert loaded_by("import mmid") == []


def test_lists_of_an_index_are_light():
    assert loaded_by("import mmid.cli.index, mmid.index.maintenance, mmid.output.answers") == []


def test_loading_a_model_leaves_pytorchs_compiler_alone():
    code = "import sys\nfrom mmid.model.loading import load_model\nload_model()\n"
    code += "assert 'torch' in sys.modules and 'torch._dynamo' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["train", "--help"]])
def test_asking_for_help_is_light(arguments):
    code = (
        "import sys, mmid.cli.app\n"
        f"sys.argv = ['mmid', *{arguments}]\n"
        "try:\n    mmid.cli.app.main()\nexcept SystemExit as end:\n    assert not end.code"
    )
    assert loaded_by(code) == []


def test_the_version_is_the_packages():
    from importlib.metadata import version

    assert version("mmid") == mmid.__version__
