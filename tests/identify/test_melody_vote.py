"""The melody as a voter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmid.identify.identifier import Identifier
from mmid.identify.melody import AGREED, find_tunes, melody_notes, read_both_ways, with_tunes
from mmid.identify.search_options import SearchOptions
from mmid.identify.voting import Candidate
from mmid.index.build import update_index
from mmid.index.folder import LibraryIndex
from mmid.model.embedding import Score
from mmid.music.grid import DEFAULT
from mmid.music.midi import read_midi, write_midi
from mmid.music.notes import NOTE_DTYPE, transposed

RATE = DEFAULT.frame_rate


def line(seed: int, low: int, high: int, gap: float, count: int = 60) -> np.ndarray:
    rng = np.random.default_rng(seed)
    notes = np.zeros(count, NOTE_DTYPE)
    notes["onset"] = np.cumsum(rng.uniform(0.7, 1.3, count)) * gap
    notes["offset"] = notes["onset"] + gap / 2
    notes["pitch"], notes["velocity"] = rng.integers(low, high, count), 80
    return notes


def arranged(tune: np.ndarray, seed: int) -> np.ndarray:
    """Put other notes under a tune, three for each of its own."""
    below = line(seed, 36, 60, 0.15, 3 * len(tune))
    notes = np.concatenate([tune, below])
    return notes[np.lexsort((notes["pitch"], notes["onset"]))]


@pytest.fixture(scope="module")
def tunes() -> list[np.ndarray]:
    return [line(seed, 62, 82, 0.45) for seed in range(5)]


@pytest.fixture
def index(tmp_path: Path, tunes, tiny_model) -> LibraryIndex:
    """Return a library of melodies alone."""
    folder = tmp_path / "tunes"
    folder.mkdir()
    for number, tune in enumerate(tunes):
        write_midi(tune, folder / f"{number}.mid")
    update_index(tmp_path / "index", [folder], tiny_model, jobs=1)
    return LibraryIndex(tmp_path / "index", tiny_model)


def test_a_melody_is_found_under_another_arrangement_and_an_octave_away(index, tunes):
    query = Score(arranged(tunes[2], 50), 25.0)
    lower = query.transposed(-12)
    found = find_tunes(lower.log_odds, lower.melody, (-12, 0), index, DEFAULT)
    assert len(found) <= AGREED
    best = found[0]
    assert (index.entries[best.piece].name, best.transpose) == ("2.mid", -12)
    assert best.tune > 0.02 and best.start == pytest.approx(0, abs=RATE)
    assert best.tempo_ratio == pytest.approx(1, abs=0.05)


def test_it_is_named_where_other_voters_find_nothing(index, tunes, tiny_model):
    query = Score(transposed(arranged(tunes[3], 51), -3), 25.0)
    answer = Identifier(tiny_model, index, SearchOptions(keys=(0, -3))).identify(query)
    assert answer.matches[0].piece == "3.mid" and answer.matches[0].transpose == -3
    figures = answer.matches[0].figures
    assert figures.tune > 0 and figures.claimed is not None and figures.claimed > 0.95
    assert figures.melody_claimed == pytest.approx(figures.claimed), "the file is a melody alone"


def test_voters_are_put_together_by_position():
    here, there = Candidate(1, 0.4, 1.0, 100.0), Candidate(1, 0.3, 1.0, 5000.0)
    tunes = (
        Candidate(1, 0.0, 1.02, 98.0, tune=0.2),
        Candidate(1, 0.0, 1.0, 100.0, 12, tune=0.1),
        Candidate(7, 0.0, 1.0, 3.0, tune=0.05),
    )
    together = with_tunes([here, there], tunes, frames=200)
    assert [(c.piece, c.share, c.transpose, c.tune) for c in together] == [
        (1, 0.4, 0, 0.2),
        (1, 0.3, 0, 0.0),
        (1, 0.0, 12, 0.1),
        (7, 0.0, 0, 0.05),
    ]


def test_a_tune_an_octave_away_speaks_for_a_candidate_too():
    here, a_third_off = Candidate(1, 0.4, 1.0, 100.0), Candidate(1, 0.4, 1.0, 100.0, 4)
    tunes = (Candidate(1, 0.0, 1.0, 99.0, -12, tune=0.1),)
    together = with_tunes([here, a_third_off], tunes, frames=200)
    assert [(c.transpose, c.tune) for c in together] == [(0, 0.1), (4, 0.0), (-12, 0.1)]


@pytest.mark.parametrize("certain", [2.0, -2.5])
def test_a_melody_is_what_is_likelier_than_the_notes_about_it(tunes, certain):
    query = Score(arranged(tunes[0], 52), 20.0)
    tune = Score(tunes[0], 20.0).log_odds
    melody = certain - 4.0 * (tune < 0)  # e.g. of an instrument that seldom leads
    found = melody_notes(query.log_odds, melody, RATE)
    led = found["pitch"] >= tunes[0]["pitch"].min()
    assert led.sum() == (tunes[0]["onset"] < 20).sum() and led.mean() > 0.9


def test_nothing_is_the_melody_where_no_note_is_likely_to_be(tunes):
    query = Score(tunes[0], 25.0)
    assert len(melody_notes(query.log_odds, query.melody * 0 - 6, RATE)) == 0
    silence = Score(tunes[0][:0], 5.0)
    assert len(melody_notes(silence.log_odds, silence.melody, RATE)) == 0


@pytest.fixture
def songs(tmp_path: Path, tunes, tiny_model) -> LibraryIndex:
    """Return a library of tunes with other notes under them."""
    folder = tmp_path / "songs"
    folder.mkdir()
    for number, tune in enumerate(tunes):
        write_midi(arranged(tune, 60 + number), folder / f"{number}.mid")
    update_index(tmp_path / "index of songs", [folder], tiny_model, jobs=1)
    return LibraryIndex(tmp_path / "index of songs", tiny_model)


def test_a_tune_played_alone_finds_the_file_that_holds_more(songs, tunes, tiny_model):
    query = Score(transposed(tunes[4][20:], -3), 30.0)
    answer = Identifier(tiny_model, songs, SearchOptions(keys=(0, -3))).identify(query)
    first = answer.matches[0]
    assert first.piece == "4.mid" and first.transpose == -3
    assert first.explained is not None and first.explained > 0.5
    assert first.figures.claimed == pytest.approx(first.figures.melody_claimed)


def test_melodies_alone_are_read_where_a_tune_was_found_among_other_notes(songs, index):
    found = [Candidate(0, 0.3, 1.0, 5.0, tune=0.1), Candidate(1, 0.4, 1.0, 5.0)]
    read = read_both_ways(found, songs)
    assert [(c.piece, c.alone, c.share) for c in read] == [
        (0, False, 0.3),
        (1, False, 0.4),
        (0, True, 0.3),
    ]
    assert read_both_ways(found, index) == found, "they hold no other notes"


def test_the_index_says_which_notes_are_the_melody(index, tmp_path):
    for piece, entry in enumerate(index.entries):
        midi = read_midi(tmp_path / "tunes" / entry.name)
        assert np.array_equal(index.melody(piece), midi.melody) and midi.melody.all()
