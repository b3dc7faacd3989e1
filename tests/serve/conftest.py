"""A small library, served."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import HERE
from starlette.testclient import TestClient

from mmid.index.build import update_index
from mmid.index.store import store_at
from mmid.serve.app import make_app
from mmid.serve.library import ServedLibrary


@pytest.fixture
def library(tmp_path, midi_folder, transcribing_model) -> ServedLibrary:
    """Return a library of six pieces; tiny models name recordings at random."""
    update_index(tmp_path / "index", [midi_folder], transcribing_model, jobs=1)
    return ServedLibrary(store_at(tmp_path / "index"), transcribing_model)


@pytest.fixture
def empty(tmp_path, transcribing_model) -> ServedLibrary:
    """Return a library in which nothing is indexed yet."""
    return ServedLibrary(store_at(tmp_path / "new"), transcribing_model)


@pytest.fixture
def client(library) -> Iterator[TestClient]:
    """Return a client of the server of `library`."""
    with TestClient(make_app(library), base_url=HERE) as client:
        yield client


@pytest.fixture
def sent(recording: Path) -> bytes:
    """Return a recording as it is sent."""
    return recording.read_bytes()
