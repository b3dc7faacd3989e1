"""A page of three recordings, one of them broken, with hostile names."""

from __future__ import annotations

from pathlib import Path

import pytest
from pages import HOSTILE, write_page

from mmid.identify.batch import Answered, answer_files
from mmid.identify.identifier import Identifier
from mmid.index.build import build_index
from mmid.index.folder import LibraryIndex
from mmid.music.library import read_library
from mmid.music.midi import write_midi


@pytest.fixture(scope="session")
def folder(tmp_path_factory, draw_notes, play, write_wav) -> Path:
    """Return a folder of six MIDI files, one with a hostile name, and recordings of two."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "library").mkdir()
    for seed in range(6):
        name = f"piece {seed}" if seed else HOSTILE
        write_midi(draw_notes(seed), folder / "library" / f"{name}.mid")
    hostile = folder / "<" / "script><script>alert(4)<"
    hostile.mkdir(parents=True)
    write_wav(folder / "second.wav", play(draw_notes(2))[: 22_050 * 8])
    write_wav(hostile / f"{HOSTILE}.wav", play(draw_notes(0))[: 22_050 * 4])
    (folder / f"broken{HOSTILE}.wav").write_bytes(b"no sound")
    return folder


@pytest.fixture(scope="session")
def identifier(folder, transcribing_model) -> Identifier:
    """Return an identifier over the six, whose model transcribes."""
    build_index(folder / "index", read_library([folder / "library"], jobs=1)[0], transcribing_model)
    return Identifier(transcribing_model, LibraryIndex(folder / "index", transcribing_model))


@pytest.fixture(scope="session")
def recordings(folder) -> list[Path]:
    """Return the recordings, the broken one last."""
    return sorted(folder.rglob("*.wav"), key=lambda path: ("broken" in path.name, path.name))


@pytest.fixture(scope="session")
def answers(identifier, recordings) -> list[Answered]:
    """Return what the recordings are answered with; tiny models name them at random."""
    return list(answer_files(identifier, recordings))


@pytest.fixture(scope="session")
def written(folder, identifier, answers) -> Path:
    """Return the page of all recordings."""
    path = folder / "page.html"
    write_page(path, identifier, answers)
    return path


@pytest.fixture
def markup(written) -> str:
    """Return that page's text."""
    return written.read_text(encoding="utf-8")
