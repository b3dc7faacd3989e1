"""`mmid.music.library`: found, read, grouped by music, split."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from mmid.errors import MmidError
from mmid.music.duplicates import (
    drop_duplicates,
    group_duplicates,
    melody_shingles,
    split_groups,
    split_library,
)
from mmid.music.folders import find_midi, guess_kind, library_root
from mmid.music.grid import DEFAULT
from mmid.music.library import (
    BadFile,
    Piece,
    Recording,
    read_library,
    read_piece,
    read_recording,
    scan_library,
)
from mmid.music.midi import Midi, write_midi
from mmid.music.notes import NOTE_DTYPE
from mmid.music.spectrogram import recording_spectrogram
from mmid.system.files import file_digest


def tune(seed: int, count: int = 60) -> np.ndarray:
    """Make up a melody of one voice."""
    rng = np.random.default_rng(seed)
    lengths = rng.choice([0.25, 0.5, 0.75, 1.0], count)
    notes = np.zeros(count, NOTE_DTYPE)
    notes["onset"] = np.cumsum(lengths) - lengths
    notes["offset"] = notes["onset"] + lengths * 0.9
    notes["pitch"] = 67 + np.clip(rng.integers(-3, 4, count).cumsum(), -12, 12)
    notes["velocity"] = 80
    return notes


def transposed(notes: np.ndarray, semitones: int) -> np.ndarray:
    copy = notes.copy()
    copy["pitch"] = copy["pitch"].astype(int) + semitones
    return copy


def scaled(notes: np.ndarray, factor: float) -> np.ndarray:
    copy = notes.copy()
    copy["onset"] *= factor
    copy["offset"] *= factor
    return copy


def accompanied(notes: np.ndarray) -> np.ndarray:
    """Add a triad below every other note of the melody."""
    chords = [notes]
    for below in (12, 16, 19):
        chord = notes[::2].copy()
        chord["pitch"] -= below
        chords.append(chord)
    together = np.concatenate(chords)
    return together[np.lexsort((together["pitch"], together["onset"]))]


def as_piece(name: str, notes: np.ndarray) -> Piece:
    midi = Midi(notes, float(notes["offset"].max()), None, np.ones(len(notes), bool))
    return Piece(name, Path(name), "0" * 64, midi)


# ---- finding and reading


def test_suffixes_in_any_case_are_found_sorted(tmp_path):
    (tmp_path / "b").mkdir()
    for name in (
        "z.mid",
        "A.MID",
        "b/c.Midi",
        "b/song.KAR",
        "x.RMI",
        "._A.MID",
        "notes.txt",
        "sound.wav",
        "mid",
    ):
        (tmp_path / name).touch()
    found = find_midi(tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in found] == [
        "A.MID",
        os.path.join("b", "c.Midi"),
        os.path.join("b", "song.KAR"),
        "x.RMI",
        "z.mid",
    ]


def test_a_file_is_its_own_list(tmp_path):
    path = tmp_path / "odd.name"
    path.touch()
    assert find_midi(path) == [path]


def test_missing_and_empty_folders_are_errors(tmp_path):
    with pytest.raises(MmidError, match="nowhere: no such folder"):
        find_midi(tmp_path / "nowhere")
    with pytest.raises(MmidError, match=r"no MIDI files \(\.mid, \.midi, \.kar, \.rmi.*\) in it$"):
        find_midi(tmp_path)


def test_a_bad_file_among_good_ones_is_reported(midi_folder):
    (midi_folder / "broken.mid").write_bytes(b"MThd nonsense")
    told = []
    pieces, bad = read_library(
        [midi_folder], jobs=1, progress=lambda *progress: told.append(progress)
    )
    assert [piece.name for piece in pieces] == [
        "more/piece 5.mid",
        *(f"piece {i}.mid" for i in range(5)),
    ]
    assert [fault.path.name for fault in bad] == ["broken.mid"]
    assert bad[0].reason.startswith("broken.mid: ")
    assert told[-1] == (7, 7) and len(told) == 7


def test_a_library_without_a_readable_file_is_an_error(tmp_path):
    (tmp_path / "broken.mid").write_bytes(b"no")
    with pytest.raises(MmidError, match=r"the first fault: broken\.mid: not a MIDI file"):
        read_library([tmp_path], jobs=1)


def test_pieces_know_their_file(midi_folder):
    path = midi_folder / "piece 0.mid"
    piece = read_piece(path, midi_folder)
    assert isinstance(piece, Piece)
    assert piece.name == "piece 0.mid" and piece.path == path and len(piece.digest) == 64
    other = read_piece(midi_folder / "piece 1.mid", midi_folder)
    assert isinstance(other, Piece) and other.digest != piece.digest
    assert isinstance(read_piece(midi_folder / "gone.mid", midi_folder), BadFile)


def test_a_file_given_twice_is_read_once(midi_folder):
    pieces, _ = read_library([midi_folder, midi_folder / "more"], jobs=1)
    assert len(pieces) == len({piece.path for piece in pieces}) == 6


def test_names_are_relative_to_the_common_folder(midi_folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    write_midi(tune(0), other / "tune.mid")
    assert library_root([midi_folder, other]) == tmp_path
    assert library_root([midi_folder]) == midi_folder
    names = {piece.name for piece in read_library([midi_folder, other], jobs=1)[0]}
    assert {"library/piece 0.mid", "other/tune.mid"} <= names


def test_many_files_are_read_in_worker_processes_in_order(tmp_path):
    for number in range(40):
        write_midi(tune(number, 5), tmp_path / f"{number:02}.mid")
    pieces, bad = read_library([tmp_path], jobs=2)
    assert not bad
    assert [piece.name for piece in pieces] == [f"{number:02}.mid" for number in range(40)]


# ---- recordings


@pytest.fixture
def recordings(tmp_path, write_wav, play) -> Path:
    folder = tmp_path / "audio"
    (folder / "live").mkdir(parents=True)
    for name in ("b.wav", "live/a.WAV", "c.flac"):
        write_wav(folder / name, play(tune(len(name), 5)))
    (folder / "notes.txt").touch()
    return folder


def test_recordings_are_found_and_read(recordings):
    count, found = scan_library([recordings], "recordings", DEFAULT, jobs=1)
    found = list(found)
    assert count == 3 and [item.name for item in found] == ["b.wav", "c.flac", "live/a.WAV"]
    for item in found:
        assert isinstance(item, Recording) and item.path == recordings / item.name
        assert item.digest == file_digest(item.path)
        expected = recording_spectrogram(item.path).numpy()
        assert np.array_equal(item.spectrogram, expected)


def test_bad_and_silent_recordings_are_reported(recordings, write_wav):
    (recordings / "broken.mp3").write_bytes(b"no sound")
    write_wav(recordings / "silent.wav", np.zeros(50_000))
    _, found = scan_library([recordings], "recordings", DEFAULT, jobs=1)
    bad = {item.path.name: item.reason for item in found if isinstance(item, BadFile)}
    assert sorted(bad) == ["broken.mp3", "silent.wav"]
    assert "broken.mp3: not an audio file" in bad["broken.mp3"]
    assert bad["silent.wav"].endswith("silent.wav: silent from beginning to end")
    assert isinstance(read_recording(recordings / "gone.wav", recordings, DEFAULT), BadFile)


def test_many_recordings_are_read_in_worker_processes_in_order(tmp_path, write_wav, play):
    for number in range(16):
        write_wav(tmp_path / f"{number:02}.wav", play(tune(number, 3)))
    _, found = scan_library([tmp_path], "recordings", DEFAULT, jobs=2)
    found = list(found)
    assert [item.name for item in found] == [f"{number:02}.wav" for number in range(16)]
    assert np.array_equal(found[15].spectrogram, recording_spectrogram(tmp_path / "15.wav").numpy())


def test_midi_files_come_before_recordings(recordings, midi_folder, tmp_path):
    assert guess_kind([recordings]) == "recordings"
    assert guess_kind([recordings / "b.wav"]) == "recordings"
    assert guess_kind([recordings, midi_folder]) == "midi"
    assert guess_kind([midi_folder / "piece 0.mid", recordings / "b.wav"]) == "midi"
    write_midi(tune(0), recordings / "live" / "tune.mid")
    assert guess_kind([recordings]) == "midi"
    (tmp_path / "empty").mkdir()
    assert guess_kind([tmp_path / "empty"]) == guess_kind([tmp_path / "nowhere"]) == "midi"


def test_a_kind_that_is_not_there_is_an_error(recordings, midi_folder):
    with pytest.raises(MmidError, match=r"library: no recordings in it; 6 MIDI files"):
        scan_library([midi_folder], "recordings", DEFAULT)
    with pytest.raises(MmidError, match=r"audio: no MIDI files .* in it; 3 recordings"):
        scan_library([recordings], "midi", DEFAULT)
    count, found = scan_library([midi_folder], "auto", DEFAULT, jobs=1)
    assert count == 6 and all(isinstance(item, Piece) for item in found)


# ---- the same music


def test_copies_in_other_keys_and_tempos_share_a_group():
    melody, other = tune(1), tune(2)
    notes = [
        melody,
        other,
        transposed(melody, 5),
        scaled(melody, 0.7),
        accompanied(scaled(transposed(melody, -3), 1.3)),
        transposed(other, 12),
    ]
    assert group_duplicates(notes).tolist() == [0, 1, 0, 0, 0, 1]


def test_an_excerpt_belongs_to_its_whole():
    melody = tune(3, 200)
    excerpt = melody[60:140].copy()
    excerpt["onset"] -= melody["onset"][60]
    assert group_duplicates([melody, tune(4, 200), excerpt]).tolist() == [0, 1, 0]


def test_any_number_of_copies_is_a_group():
    copies = [transposed(tune(1), key % 12) for key in range(40)]
    assert group_duplicates([tune(2), *copies, tune(2)]).tolist() == [0, *[1] * 40, 0]


def test_different_tunes_stay_apart():
    notes = [tune(seed) for seed in range(50)]
    assert group_duplicates(notes).tolist() == list(range(50))


def test_very_short_pieces_are_grouped_when_they_are_the_same():
    scale, same, other = tune(1, 5), transposed(tune(1, 5), 2), tune(2, 5)
    assert group_duplicates([scale, same, other, tune(3, 1)]).tolist() == [0, 0, 2, 3]
    assert group_duplicates([tune(0)]).tolist() == [0]
    assert group_duplicates([]).tolist() == []


def test_shingles_are_sorted_each_once_and_do_not_change():
    found = melody_shingles(tune(0))
    assert found.dtype == np.uint64 and (found[1:] > found[:-1]).all()
    assert np.array_equal(found, melody_shingles(transposed(tune(0), 7)))


# ---- splits


def test_a_split_is_by_group_in_shares():
    labels = np.arange(1_000)
    sides = split_groups(labels)
    counts = {side: int((sides == side).sum()) for side in ("train", "valid", "test")}
    assert counts == {"train": 750, "valid": 50, "test": 200}


def test_a_split_never_cuts_a_group():
    labels = np.random.default_rng(0).integers(0, 150, 1_000)
    sides = split_groups(labels)
    for group in np.unique(labels):
        assert len(set(sides[labels == group])) == 1
    shares = [(sides == side).mean() for side in ("train", "valid", "test")]
    np.testing.assert_allclose(shares, [0.75, 0.05, 0.2], atol=0.02)


def test_a_split_is_the_same_for_a_seed():
    labels = np.arange(100)
    assert np.array_equal(split_groups(labels, 3), split_groups(labels, 3))
    assert not np.array_equal(split_groups(labels, 3), split_groups(labels, 4))


def test_a_library_is_split_with_its_copies():
    pieces = []
    for seed in range(40):
        pieces.append(as_piece(f"{seed} a", tune(seed)))
        pieces.append(as_piece(f"{seed} b", transposed(tune(seed), 2)))
    sides = split_library(pieces)
    assert sorted(piece.name for side in sides.values() for piece in side) == sorted(
        piece.name for piece in pieces
    )
    for side in sides.values():
        names = {piece.name for piece in side}
        assert {name[:-1] + "a" for name in names} == {name for name in names if name[-1] == "a"}
    assert [len(sides[side]) for side in ("train", "valid", "test")] == [60, 4, 16]


def test_music_of_other_pieces_is_dropped():
    known = [as_piece("a", tune(1)), as_piece("b", tune(2))]
    more = [as_piece("copy", transposed(tune(2), 4)), as_piece("new", tune(3))]
    assert [piece.name for piece in drop_duplicates(more, known)] == ["new"]
    assert drop_duplicates(more, []) == more
