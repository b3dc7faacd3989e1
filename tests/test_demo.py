"""The packaged demo: its tunes, its recording, and the recording identified."""

from fractions import Fraction as F
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from synth import SOUNDFONT, needs_fluidsynth

from mmid.audio import read_audio
from mmid.build import build_index
from mmid.demo import (
    NOISE_DECIBELS,
    RECORDED_SECONDS,
    RECORDED_TEMPO,
    RECORDED_TUNE,
    ROOM_SECONDS,
    SAMPLE_RATE,
    add_room,
    background_noise,
    make_recording,
    prepare_demo,
    read_library,
    render_dry,
    write_library,
)
from mmid.errors import MmidError
from mmid.identify import Identifier
from mmid.index import LibraryIndex
from mmid.library import Recording, read_recording
from mmid.library import read_library as read_midi_library
from mmid.lookup import KEYS
from mmid.params import DEFAULT
from mmid.pretrained import load_model
from mmid.tune import Tune

LIBRARY = read_library()


def decibels(sound: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.square(sound, dtype=np.float64)) + 1e-20))


# --- the library


def test_library_has_enough_tunes_with_distinct_names() -> None:
    assert len(LIBRARY) >= 44
    assert len({tune.slug for tune in LIBRARY}) == len(LIBRARY)
    assert [tune.number for tune in LIBRARY] == list(range(1, len(LIBRARY) + 1))


@pytest.mark.parametrize("tune", LIBRARY, ids=lambda tune: tune.slug)
def test_library_bars_are_full(tune: Tune) -> None:
    full = F(4 * tune.meter[0], tune.meter[1])
    lengths = [after - before for before, after in pairwise([*tune.bars, tune.length])]
    for number, length in enumerate(lengths[1:-1], start=2):
        assert length == full, f"{tune.title}, played bar {number}: {length} quarter notes"
    assert 0 < lengths[0] <= full
    assert lengths[-1] in (full, full - lengths[0])


@pytest.mark.parametrize("tune", LIBRARY, ids=lambda tune: tune.slug)
def test_library_tune_is_playable(tune: Tune) -> None:
    assert 15 <= tune.seconds <= 180
    assert tune.chords, "an accompaniment is expected"
    assert all(48 <= note.pitch <= 88 for note in tune.notes)
    assert all(F(1, 8) <= note.duration <= 8 for note in tune.notes)
    assert all(a.onset + a.duration <= b.onset for a, b in pairwise(tune.notes))


def test_library_melodies_differ_in_any_key() -> None:
    seen: dict[tuple[int, ...], str] = {}
    for tune in LIBRARY:
        intervals = tuple(b.pitch - a.pitch for a, b in pairwise(tune.notes[:16]))
        assert intervals not in seen, f"{tune.title} starts like {seen[intervals]}"
        seen[intervals] = tune.title


@pytest.mark.parametrize(
    ("slug", "opening"),
    [
        ("greensleeves", [69, 72, 74, 76, 78, 76, 74, 71, 67]),
        ("ode-to-joy", [66, 66, 67, 69, 69, 67, 66, 64, 62, 62, 64, 66, 66, 64, 64]),
        ("frere-jacques", [65, 67, 69, 65, 65, 67, 69, 65, 69, 70, 72]),
        ("fur-elise", [76, 75, 76, 75, 76, 71, 74, 72, 69]),
        ("minuet-in-g", [74, 67, 69, 71, 72, 74, 67, 67, 76]),
        ("turkish-march", [71, 69, 68, 69, 72, 74, 72, 71, 72, 76]),
    ],
)
def test_library_openings(slug: str, opening: list[int]) -> None:
    (tune,) = (tune for tune in LIBRARY if tune.slug == slug)
    assert [note.pitch for note in tune.notes[: len(opening)]] == opening


def test_write_library_names_files_after_the_tunes(tmp_path: Path) -> None:
    paths = write_library(tmp_path / "demo")
    assert [path.name for path in paths] == [f"{tune.slug}.mid" for tune in LIBRARY]
    assert "greensleeves.mid" in [path.name for path in paths]
    assert all(path.is_file() for path in paths)


# --- the recording


def test_packaged_recording_decodes_at_its_length(tmp_path: Path) -> None:
    _, recording = prepare_demo(tmp_path)
    assert recording.stat().st_size < 150_000
    sound = read_audio(recording, 22_050)
    assert len(sound) / 22_050 == pytest.approx(RECORDED_SECONDS, abs=0.05)
    assert 0.3 < np.abs(sound).max() <= 1
    loud = [decibels(part) for part in np.array_split(sound, 15)]
    assert min(loud) > max(loud) - 20, "music throughout"


def test_a_room_dies_away_in_its_time() -> None:
    click = np.zeros(SAMPLE_RATE, np.float32)
    click[0] = 1
    heard = add_room(click, np.random.default_rng(0))
    assert heard[0] == 1
    window = SAMPLE_RATE // 20
    early, half = heard[1 : 1 + window], round(ROOM_SECONDS / 2 * SAMPLE_RATE)
    assert decibels(early) - decibels(heard[1 + half :][:window]) == pytest.approx(30, abs=1)


def test_background_noise_is_pink() -> None:
    noise = background_noise(4 * SAMPLE_RATE, np.random.default_rng(0))
    assert decibels(noise) == pytest.approx(0, abs=0.01)
    power = np.abs(np.fft.rfft(noise)) ** 2
    octaves = [power[4 * f : 8 * f].sum() for f in (100, 400, 1_600, 6_400)]
    assert max(octaves) / min(octaves) < 1.3


@needs_fluidsynth
def test_a_made_recording_is_the_excerpt_in_a_room_with_noise(tmp_path: Path) -> None:
    make_recording(tmp_path / "a.ogg", SOUNDFONT)
    make_recording(tmp_path / "b.ogg", SOUNDFONT)
    assert (tmp_path / "a.ogg").read_bytes() == (tmp_path / "b.ogg").read_bytes()
    dry = render_dry(SOUNDFONT)
    sound = read_audio(tmp_path / "a.ogg", SAMPLE_RATE)[: len(dry)]
    dry = dry[: len(sound)]
    likeness = float(np.corrcoef(dry, sound)[0, 1])
    assert 0.4 < likeness < 0.95, "the same music, changed"
    floor = decibels(sound[:1_000]) - decibels(sound)
    assert floor == pytest.approx(NOISE_DECIBELS, abs=6)
    assert decibels(dry[:1_000]) < decibels(dry) - 40, "silence before the first note"


# --- the demo


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


def test_the_packaged_model_identifies_the_recording(tmp_path: Path) -> None:
    library, recording = prepare_demo(tmp_path)
    model = load_model()
    pieces, bad = read_midi_library([library], jobs=1)
    assert not bad
    build_index(tmp_path / "index", pieces, model)
    identifier = Identifier(model, LibraryIndex(tmp_path / "index", model))
    answer = identifier.identify_file(recording)
    best = answer.matches[0]
    assert answer.matched
    assert best.piece == f"{RECORDED_TUNE}.mid"
    assert best.tempo_ratio == pytest.approx(RECORDED_TEMPO, abs=0.07)
    (tune,) = (tune for tune in LIBRARY if tune.slug == RECORDED_TUNE)
    start = (tune.seconds - RECORDED_SECONDS * RECORDED_TEMPO) / 2
    assert best.start == pytest.approx(start, abs=2)
    all_keys = Identifier(model, LibraryIndex(tmp_path / "index", model), keys=KEYS)
    tried = all_keys.identify_file(recording).matches[0]
    assert (tried.piece, tried.transpose) == (best.piece, 0)
    assert tried.confidence > best.confidence - 0.02


def test_the_recording_is_found_by_the_whole_tune_at_its_tempo(tmp_path: Path) -> None:
    """The tune is twice as long as the part of it that was recorded."""
    library, recording = prepare_demo(tmp_path)
    model = load_model()
    part = read_recording(recording, recording.parent, DEFAULT)
    assert isinstance(part, Recording)
    build_index(tmp_path / "index", [part], model)
    identifier = Identifier(model, LibraryIndex(tmp_path / "index", model))
    best = identifier.identify_file(library / f"{RECORDED_TUNE}.mid").matches[0]
    assert best.tempo_ratio == pytest.approx(RECORDED_TEMPO, abs=0.05)
