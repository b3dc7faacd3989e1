"""`mmid query` as a process: it loads only what it needs, and is gone when it is done."""

from __future__ import annotations

import json
import subprocess
import sys

LEAVES = """
import os, sys
from mmid.__main__ import main
end, needless = os._exit, {needless}
def leave(status):
    print([name for name in needless if name in sys.modules], file=sys.stderr, flush=True)
    end(status)
os._exit = leave
sys.argv = ["mmid", *{arguments}]
main()
raise AssertionError("it took PyTorch down")
"""
NEEDLESS = (
    *("torch._dynamo", "jinja2", "matplotlib", "filelock", "pymilvus"),
    *("mmid.index.folder_writer", "mmid.index.milvus.client", "mmid.output.page.page"),
    *("mmid.cli.app", "mmid.cli.doctor", "mmid.cli.train"),
)


def leave(*arguments: object) -> tuple[int, str, list[str]]:
    """Run a command; return its status, its output and what it said and loaded needlessly."""
    code = LEAVES.format(needless=NEEDLESS, arguments=[str(one) for one in arguments])
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return run.returncode, run.stdout, run.stderr.splitlines()


def test_a_query_loads_nothing_needless_and_leaves_at_once(recording, built, options):
    status, said, errors = leave("query", recording, *options, "--json")
    assert (status, errors) == (0, ["[]"])
    assert json.loads(said)["matches"]


def test_a_query_that_fails_leaves_at_once(tmp_path, built, options):
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    status, said, errors = leave("query", tmp_path / "broken.wav", *options, "--csv")
    assert status == 1 and len(said.splitlines()) == 2
    assert "broken.wav" in errors[0] and errors[1:] == ["[]"]
