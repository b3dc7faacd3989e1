"""`mmid.system.start`: modules load without garbage being looked for, and some not before use."""

from __future__ import annotations

import gc
import sys

import pytest

from mmid.system.start import loading_modules, postpone


def test_no_garbage_is_looked_for_while_modules_load():
    with loading_modules():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ImportError), loading_modules():
        raise ImportError
    assert gc.isenabled()
    gc.unfreeze()


def test_a_postponed_module_loads_when_it_is_used(tmp_path, monkeypatch):
    (tmp_path / "slow_one.py").write_text("answer = 42\n")
    monkeypatch.syspath_prepend(tmp_path)
    postpone("slow_one")
    import slow_one

    assert not hasattr(slow_one, "__file__")  # as is asked of every module, now and then
    stand_in = sys.modules["slow_one"]
    assert stand_in.answer == 42
    assert sys.modules["slow_one"] is not stand_in
    with pytest.raises(AttributeError):
        _ = stand_in.question


def test_a_module_that_is_loaded_is_not_postponed():
    postpone("gc")
    assert sys.modules["gc"] is gc
