"""`mmid.system.start`: modules load without garbage being looked for, some only when wanted."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from mmid.system.start import loading_modules


def test_no_garbage_is_looked_for_while_modules_load():
    with loading_modules():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ImportError), loading_modules():
        raise ImportError
    assert gc.isenabled()
    gc.unfreeze()


def test_what_only_compilers_need_loads_once_it_is_wanted():
    script = """
import sys
from mmid.system.start import COMPILERS_PART, load_no_compiler
load_no_compiler()
import torch
torch.nn.Conv2d(2, 2, 3)(torch.zeros(1, 2, 4, 4))
with torch.device("meta"):  # as models are built
    torch.nn.Conv2d(2, 2, 3)
assert "torch._refs" not in sys.modules
from torch import _meta_registrations
assert callable(_meta_registrations.register_meta) and "torch._refs" in sys.modules
assert sys.modules[COMPILERS_PART].__file__
"""
    subprocess.run([sys.executable, "-c", script], check=True)
