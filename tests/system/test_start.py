"""`mmid.system.start`: modules load without garbage being looked for."""

from __future__ import annotations

import gc

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
