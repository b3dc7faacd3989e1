"""`variants`: which files of a library hold the same tune."""

import numpy as np
import pytest

from mmid.errors import LibraryIndexError
from mmid.evaluation.variants import LEAST_NOTES, Variants, notes_agreed
from mmid.music.notes import NOTE_DTYPE


def tune(pitches, seconds=0.25):
    notes = np.zeros(len(pitches), NOTE_DTYPE)
    notes["pitch"], notes["onset"] = pitches, seconds * np.arange(len(pitches))
    notes["offset"] = notes["onset"] + seconds
    return notes


class Tunes:
    """A library of melodies alone."""

    kind, where = "midi", "tunes"

    def __init__(self, *tunes):
        self.entries = self._tunes = tunes

    def notes(self, piece):
        return self._tunes[piece]

    def melody(self, piece):
        return np.ones(len(self._tunes[piece]), bool)


@pytest.fixture(scope="module")
def drawn():
    rng = np.random.default_rng(0)
    return [60 + rng.integers(0, 12, 80) for _ in range(30)]


def varied(pitches):
    """A fifth up, a note left out of every ten and one changed of every eleven."""
    kept = np.delete(pitches + 7, np.arange(0, len(pitches), 10))
    kept[::11] += 1
    return kept


def test_a_variant_is_found_in_another_key_and_with_other_notes(drawn):
    library = Variants(Tunes(*map(tune, drawn), tune(varied(drawn[4]), 0.4)))
    assert library.of(4) == {30} and library.of(30) == {4}
    assert library.of(5) == frozenset()


def test_a_tune_that_shares_a_phrase_is_no_variant(drawn):
    borrowed = np.concatenate([drawn[0][:30], drawn[1][30:]])
    assert Variants(Tunes(*map(tune, drawn), tune(borrowed))).of(0) == frozenset()


def test_a_few_notes_prove_nothing(drawn):
    short = drawn[0][: LEAST_NOTES - 1]
    assert Variants(Tunes(*map(tune, drawn), tune(short))).of(0) == frozenset()
    long = drawn[0][: LEAST_NOTES + 8]
    assert Variants(Tunes(*map(tune, drawn), tune(long))).of(0) == {30}


def test_silent_and_short_pieces_have_no_variants(drawn):
    library = Variants(Tunes(tune([]), tune([60, 62]), tune(drawn[0])))
    assert [library.of(piece) for piece in range(3)] == [frozenset()] * 3


def test_agreement_counts_notes_left_out_and_changed():
    melody = np.arange(12)
    assert notes_agreed(melody, [melody])[0] == pytest.approx(12)
    assert notes_agreed(melody, [np.delete(melody, 6)])[0] == pytest.approx(11 - 0.7)
    assert notes_agreed(melody, [np.where(melody == 6, 3, melody)])[0] == pytest.approx(11 - 1)


def test_recordings_have_no_melodies_to_compare():
    recordings = Tunes(tune([60]))
    recordings.kind = "recordings"
    with pytest.raises(LibraryIndexError, match="holds recordings"):
        Variants(recordings)
