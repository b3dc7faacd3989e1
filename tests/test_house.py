"""The rules of the house: one order of imports, a light start, modules that say what they are."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import mmid

FOLDER = Path(mmid.__file__).parent
MODULES = sorted(FOLDER.glob("*.py"))

# The line from a file to an answer, then the side branch that trains, then what uses both.
ORDER = [
    *("__init__", "errors", "choices", "params", "defaults"),
    *("console", "tables", "regular", "arrays", "whole", "workers", "cluster"),
    *("_torchaudio", "audio", "smf", "midi", "paged", "triples", "tokens", "tune", "abc"),
    *(
        "memory",
        "log_frequency",
        "features",
        "transcriber",
        "harmonic",
        "pathways",
        "encoders",
        "confidence",
        "checkpoint",
    ),
    *("library", "hub", "weights", "pretrained"),
    *(
        "query",
        "pieces",
        "packed",
        "pending",
        "graph",
        "cells",
        "contents",
        "index",
        "embed",
        "writer",
        "milvus",
        "copied",
        "served",
        "store",
        "build",
        "upkeep",
    ),
    *("vote", "align", "answer"),
    *("lookup", "identify", "hearing", "tracking", "timeline"),
    *("inputs", "batch", "targets", "playlist", "sidecar", "aligned"),
    *("api", "listen"),
    *("losses", "metrics", "render", "renderings", "augment", "corpus", "data", "cca"),
    *("copies", "figures", "autoencoders", "experiment", "ranks", "tasks", "train"),
    *("bootstrap", "chroma", "basicpitch", "fingerprints", "baselines"),
    *(
        "rough",
        "reference",
        "pairs",
        "sources",
        "medley",
        "recital",
        "asap",
        "retrieval",
        "evaluate",
        "space",
        "lengths",
        "neighbours",
        "speed",
        "doctor",
        "report",
        "gate",
        "evidence",
        "clip",
        "roll",
        "exhibit",
        "page",
        "sinks",
        "demo",
        "ablation",
        "simulate",
        "trade",
        "distill",
    ),
    *("cli_shell", "cli_options", "cli_doctor", "cli_eval", "cli_figures", "cli_index"),
    *("cli_listen", "cli_model", "cli_query", "cli_train", "cli", "__main__"),
]
"""A module imports only modules before it in this list."""

MOST_LINES = 450


def imports(path: Path) -> set[str]:
    """Return the mmid modules that a module imports anywhere, functions and type checks too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
            if node.module == "mmid":
                names = [f"mmid.{alias.name}" for alias in node.names]
        else:
            assert not isinstance(node, ast.ImportFrom), f"{path.name}: a relative import"
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("mmid.")}
    return found & {path.stem for path in MODULES}


def test_every_module_has_its_place():
    assert {path.stem for path in MODULES} <= set(ORDER)
    assert len(ORDER) == len(set(ORDER))


@pytest.mark.parametrize("name", [path.stem for path in MODULES if path.stem != "__init__"])
def test_imports_go_one_way(name):
    assert imports(FOLDER / f"{name}.py") <= set(ORDER[: ORDER.index(name)])


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_every_module_says_what_it_is(path):
    text = path.read_text()
    assert len(ast.get_docstring(ast.parse(text)) or "") > 20
    assert text.count("\n") <= MOST_LINES


HEAVY = ("torch", "torchaudio", "av", "hnswlib", "pretty_midi", "pymilvus", "ray")


def loaded_by(code: str) -> list[str]:
    """Run code in a Python of its own; return which heavy modules it loaded."""
    report = f"\nimport sys\nprint([m for m in {HEAVY} if m in sys.modules], file=sys.stderr)"
    run = subprocess.run([sys.executable, "-c", code + report], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return ast.literal_eval(run.stderr.strip().splitlines()[-1])


def test_importing_mmid_is_light():
    assert loaded_by("import mmid") == []


def test_loading_a_model_leaves_pytorchs_compiler_alone():
    code = "import sys\nfrom mmid.pretrained import load_model\nload_model()\n"
    code += "assert 'torch' in sys.modules and 'torch._dynamo' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["train", "--help"]])
def test_asking_for_help_is_light(arguments):
    code = (
        "import sys, mmid.cli\n"
        f"sys.argv = ['mmid', *{arguments}]\n"
        "try:\n    mmid.cli.main()\nexcept SystemExit as end:\n    assert not end.code"
    )
    assert loaded_by(code) == []


def test_the_version_is_the_packages():
    from importlib.metadata import version

    assert version("mmid") == mmid.__version__
