"""torchaudio's functions, with its native extension and without."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
USE = """
import torch
from mmid.music._torchaudio import functional
tone = torch.sin(torch.arange(44_100) * (2 * torch.pi * 440 / 44_100))
assert functional.resample(tone, 44_100, 22_050).shape == (22_050,)
window = torch.hann_window(2_048)
power = functional.spectrogram(tone, 0, window, 2_048, 1_024, 2_048, 2.0, False)
assert power.shape == (1_025, 44) and power[:, 20].argmax() == round(440 * 2_048 / 44_100)
"""
FAILS = """
import sys
try:
    import mmid.music._torchaudio
except {error} as error:
    assert {reason!r} in str(error), error
else:
    raise SystemExit("no error")
assert not [name for name in sys.modules if name.startswith("torchaudio._ext")]
"""


def python(code, *path):
    """Run code in a fresh interpreter, with some folders before its import path."""
    paths = os.pathsep.join(map(str, [*path, ROOT]))
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert done.returncode == 0, done.stderr
    return done


def fake(folder, files):
    for name, text in files.items():
        path = folder / "torchaudio" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_functions_work_where_the_extension_cannot_load():
    broken = """
import torch
def load_library(path):
    raise OSError(f"Could not load this library: {path}")
torch.ops.load_library = load_library
"""
    done = python(broken + USE)
    assert done.stdout == "" and done.stderr == ""


def test_functions_work_as_installed():
    exec(USE, {})


@pytest.mark.parametrize(
    "failure",
    [
        "raise OSError('Could not load this library')",
        "raise ImportError('Failed to load libtorchaudio')",
        "raise RuntimeError('compiled with different CUDA versions')",
    ],
)
def test_only_the_extension_is_left_out(tmp_path, failure):
    folder = fake(
        tmp_path,
        {
            "__init__.py": "from . import _extension, functional",
            "functional.py": "answer = 42",
            "_extension/__init__.py": "from .utils import _load_lib\nnative = _load_lib('x')",
            "_extension/utils.py": f"def _load_lib(lib):\n    {failure}",
        },
    )
    code = """
from mmid.music._torchaudio import functional
import torchaudio
assert functional is torchaudio.functional and functional.answer == 42
assert torchaudio._extension.native is False
"""
    python(code, folder)


def test_a_working_extension_is_kept(tmp_path):
    folder = fake(
        tmp_path,
        {
            "__init__.py": "from . import _extension, functional",
            "functional.py": "",
            "_extension/__init__.py": "from .utils import _load_lib\nnative = _load_lib('x')",
            "_extension/utils.py": "def _load_lib(lib):\n    return True",
        },
    )
    python("import mmid.music._torchaudio, torchaudio; assert torchaudio._extension.native", folder)


@pytest.mark.parametrize(
    ("files", "error", "reason"),
    [
        ({"__init__.py": "raise ImportError('elsewhere')"}, "ImportError", "elsewhere"),
        ({"__init__.py": "import not_installed"}, "ModuleNotFoundError", "not_installed"),
        ({"__init__.py": "", "functional.py": "raise OSError('disk')"}, "OSError", "disk"),
        (
            {
                "__init__.py": "from . import _extension",
                "_extension/__init__.py": "raise OSError('not the library')",
                "_extension/utils.py": "",
            },
            "OSError",
            "not the library",
        ),
    ],
)
def test_other_failures_surface(tmp_path, files, error, reason):
    python(FAILS.format(error=error, reason=reason), fake(tmp_path, files))


def test_a_missing_torchaudio_surfaces():
    code = "import sys\nsys.modules['torchaudio'] = None\ntry:\n    import mmid.music._torchaudio\n"
    python(code + "except ModuleNotFoundError:\n    pass\nelse:\n    raise SystemExit('no error')")


def test_an_imported_torchaudio_is_used_as_it_is(tmp_path):
    folder = fake(tmp_path, {"__init__.py": "", "functional.py": ""})
    code = "import torchaudio.functional as f; from mmid.music._torchaudio import functional as g"
    python(code + "; assert f is g", folder)
