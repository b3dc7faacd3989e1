"""The packaged demo: its tunes, its recording, and the recording identified."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from mmid.cli.demo import DEMO, prepare_demo
from mmid.errors import MmidError
from mmid.identify.identifier import Identifier
from mmid.identify.search_options import SearchOptions
from mmid.index.build import build_index
from mmid.index.folder import LibraryIndex
from mmid.model.loading import load_model
from mmid.music.library import Recording, read_recording
from mmid.music.midi import Midi
from mmid.research.demo_recording import RECORDED_SECONDS, RECORDED_TEMPO, RECORDED_TUNE

FLUTE, GUITAR = 73, 24


@pytest.fixture(scope="module")
def tunes(demo_tunes) -> dict[str, Midi]:
    return {Path(piece.name).stem: piece.midi for piece in demo_tunes}


def melody(tune: Midi) -> np.ndarray:
    return tune.notes[tune.notes["program"] == FLUTE]


def test_the_text_beside_them_lists_the_tunes(tunes):
    listed = [
        line.split("`")[1]
        for line in (DEMO / "README.md").read_text().splitlines()
        if line[:3] == "| `"
    ]
    assert listed == [f"{name}.mid" for name in sorted(tunes)]
    assert len(tunes) == 48


def test_tunes_are_playable(tunes):
    for name, tune in tunes.items():
        notes = melody(tune)
        assert 15 <= tune.seconds <= 180, name
        assert set(tune.notes["program"]) == {FLUTE, GUITAR}, "an accompaniment is expected"
        assert ((notes["pitch"] >= 48) & (notes["pitch"] <= 88)).all(), name
        assert (notes["offset"][:-1] <= notes["onset"][1:] + 1e-3).all(), name


def test_melodies_differ_in_any_key(tunes):
    seen: dict[tuple[int, ...], str] = {}
    for name, tune in tunes.items():
        intervals = tuple(int(b) - int(a) for a, b in pairwise(melody(tune)["pitch"][:16]))
        assert intervals not in seen, f"{name} starts like {seen[intervals]}"
        seen[intervals] = name


@pytest.mark.parametrize(
    ("name", "opening"),
    [
        ("greensleeves", [69, 72, 74, 76, 78, 76, 74, 71, 67]),
        ("ode-to-joy", [66, 66, 67, 69, 69, 67, 66, 64, 62, 62, 64, 66, 66, 64, 64]),
        ("frere-jacques", [65, 67, 69, 65, 65, 67, 69, 65, 69, 70, 72]),
        ("fur-elise", [76, 75, 76, 75, 76, 71, 74, 72, 69]),
        ("minuet-in-g", [74, 67, 69, 71, 72, 74, 67, 67, 76]),
        ("turkish-march", [71, 69, 68, 69, 72, 74, 72, 71, 72, 76]),
    ],
)
def test_openings(tunes, name, opening):
    assert melody(tunes[name])["pitch"][: len(opening)].tolist() == opening


def test_prepare_demo_lays_out_library_and_recording(tmp_path: Path) -> None:
    library, recording = prepare_demo(tmp_path / "demo")
    assert len(list(library.glob("*.mid"))) >= 40
    assert (library / f"{RECORDED_TUNE}.mid").is_file()
    assert recording.is_file()
    assert prepare_demo(tmp_path / "demo") == (library, recording)


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(MmidError, match="cannot prepare the demo"):
        prepare_demo(tmp_path / "file")


def test_the_packaged_model_identifies_the_recording(tmp_path, tunes, demo_index):
    _, recording = prepare_demo(tmp_path)
    model = load_model()
    index = LibraryIndex(demo_index, model)
    answer = Identifier(model, index, SearchOptions(keys=(0,))).identify_file(recording)
    best = answer.matches[0]
    assert answer.matched
    assert best.piece == f"{RECORDED_TUNE}.mid"
    assert best.tempo_ratio == pytest.approx(RECORDED_TEMPO, abs=0.07)
    start = (tunes[RECORDED_TUNE].seconds - RECORDED_SECONDS * RECORDED_TEMPO) / 2
    assert best.start == pytest.approx(start, abs=2)
    tried = Identifier(model, index).identify_file(recording).matches[0]
    assert (tried.piece, tried.transpose) == (best.piece, 0)
    assert tried.confidence > best.confidence - 0.02


def test_the_recording_is_found_by_the_whole_tune_at_its_tempo(tmp_path: Path) -> None:
    """The tune is twice as long as the part of it that was recorded."""
    library, recording = prepare_demo(tmp_path)
    model = load_model()
    part = read_recording(recording, recording.parent, model.encoders.config.features)
    assert isinstance(part, Recording)
    build_index(tmp_path / "index", [part], model)
    identifier = Identifier(model, LibraryIndex(tmp_path / "index", model))
    best = identifier.identify_file(library / f"{RECORDED_TUNE}.mid").matches[0]
    assert best.tempo_ratio == pytest.approx(RECORDED_TEMPO, abs=0.05)
