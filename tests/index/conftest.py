"""A small library, and its index."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmid.index import embedder
from mmid.index.build import update_index
from mmid.music.midi import write_midi


@pytest.fixture
def library(tmp_path, draw_notes) -> Path:
    folder = tmp_path / "library"
    (folder / "more").mkdir(parents=True)
    for seed in range(4):
        write_midi(draw_notes(seed), folder / f"{seed}.mid")
    write_midi(draw_notes(4), folder / "more" / "4.mid")
    return folder


@pytest.fixture
def built(tmp_path, library, tiny_model) -> Path:
    update_index(tmp_path / "index", [library], tiny_model)
    return tmp_path / "index"


@pytest.fixture
def embedded(monkeypatch) -> list[str]:
    """List the files that are embedded."""
    names: list[str] = []
    plain = embedder.embedded

    def spy(item, *rest):
        names.append(item.name)
        return plain(item, *rest)

    monkeypatch.setattr(embedder, "embedded", spy)
    return names
