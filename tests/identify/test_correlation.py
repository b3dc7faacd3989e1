"""Melodies that are found by correlation: in other keys, at other tempi, under an accompaniment."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mmid.identify.correlation import RATIOS, SECONDS, Melodies, correlate
from mmid.index.items import Entry
from mmid.index.melodies import CLASSES, RATE, PackedMelodies, pack_melodies
from mmid.index.notes import mark_melody
from mmid.model.transcriber import LOWEST, PITCHES
from mmid.music.notes import NOTE_DTYPE

FRAME_RATE = 20.0
PIECES, NOTES, LASTING = 30, 120, 70


def a_melody(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return onsets, seconds, and pitches."""
    rng = np.random.default_rng(number)
    onsets = np.cumsum(rng.choice([0.25, 0.5, 1.0], NOTES))
    return onsets, 60 + np.cumsum(rng.integers(-4, 5, NOTES)) % 20


def gathered(*pieces: tuple[np.ndarray, np.ndarray], seconds: Sequence[float]) -> Melodies:
    """Return the melodies of a library that has no other notes."""
    counts = [len(onset) for onset, _ in pieces]
    notes = np.zeros(sum(counts), NOTE_DTYPE)
    notes["onset"], notes["pitch"] = (np.concatenate(side) for side in zip(*pieces, strict=True))
    firsts = np.cumsum([0, *counts])
    entries = [
        Entry("", None, long, "", 0, 0, int(first), count)
        for long, first, count in zip(seconds, firsts, counts, strict=False)
    ]
    melodies = pack_melodies(mark_melody(notes, np.ones(len(notes), bool)), entries)
    packed = PackedMelodies.of([melodies], entries)
    return Melodies.of(SimpleNamespace(entries=entries, melodies=lambda: packed))


@pytest.fixture(scope="module")
def melodies() -> Melodies:
    pieces = [a_melody(number) for number in range(PIECES)]
    return gathered(*pieces, seconds=[LASTING] * PIECES)


def sung(number: int, start: float, ratio: float, key: int, seconds: float = 25.0) -> torch.Tensor:
    """Return the log-odds of a melody's passage, over chords and with notes left out."""
    rng = np.random.default_rng(99)
    frames = int(seconds * FRAME_RATE)
    log_odds = torch.full((2, PITCHES, frames), -4.0)

    def put(onset: float, pitch: int, length: float) -> None:
        a, b = int(onset * FRAME_RATE), int((onset + length) * FRAME_RATE)
        if 0 <= a < frames:
            log_odds[0, pitch - LOWEST, a:b], log_odds[1, pitch - LOWEST, a : a + 2] = 3.0, 3.0

    for onset, pitch in zip(*a_melody(number), strict=True):
        if rng.random() < 0.75:
            put((onset - start) / ratio, int(pitch) + key, 0.3)
    for beat in np.arange(0, seconds, 0.5):
        for pitch in rng.integers(45, 70, 3):
            put(beat, int(pitch), 0.4)
    return log_odds


@pytest.mark.parametrize(("ratio", "key"), [(1.0, 0), (RATIOS[6], 3), (RATIOS[1], -2)])
def test_a_melody_is_found_in_any_key_and_at_any_tempo(melodies, ratio, key):
    found = correlate(sung(7, 12.0, ratio, key), FRAME_RATE, melodies, top=5)
    assert (found[0].piece, found[0].key) == (7, key % CLASSES)
    assert found[0].start == pytest.approx(12.0, abs=0.5)
    assert found[0].tempo_ratio == pytest.approx(ratio, rel=0.06)
    assert found[0].excess > 2 * found[1].excess


def test_what_is_excluded_is_not_found(melodies):
    found = correlate(sung(7, 12.0, 1.0, 0), FRAME_RATE, melodies, top=5, excluded=frozenset({7}))
    assert len(found) == 5
    assert 7 not in {one.piece for one in found}


def test_of_a_long_query_the_middle_counts_and_its_start_is_given(melodies):
    seconds = 2 * SECONDS
    found = correlate(sung(3, 2.0, 1.0, 0, seconds), FRAME_RATE, melodies, top=1)
    assert found[0].piece == 3
    assert found[0].start == pytest.approx(2.0, abs=0.5)


def test_a_query_that_begins_ahead_of_the_piece_is_found(melodies):
    found = correlate(sung(5, -3.0, 1.0, 0), FRAME_RATE, melodies, top=1)
    assert found[0].piece == 5
    assert found[0].start == pytest.approx(-3.0, abs=0.5)


def test_nothing_sounds_and_nothing_is_found(melodies):
    silent = torch.full((2, PITCHES, 200), -9.0)
    assert correlate(silent, FRAME_RATE, melodies) == []


def test_too_short_a_query_is_not_correlated(melodies):
    assert correlate(sung(1, 0.0, 1.0, 0, seconds=1.5), FRAME_RATE, melodies) == []


def test_a_library_without_melodies_gives_nothing():
    nothing = np.zeros(0), np.zeros(0, int)
    empty = gathered(nothing, seconds=[10.0])
    assert correlate(sung(1, 0.0, 1.0, 0), FRAME_RATE, empty) == []


@pytest.mark.parametrize("ratio", [1.0, RATIOS[5]])
def test_a_large_library_is_tried_coarsely_first(melodies, monkeypatch, ratio):
    query = sung(7, 12.0, ratio, 3)
    whole = correlate(query, FRAME_RATE, melodies, top=2)
    tried = []
    passages = Melodies.passages

    def seen(self: Melodies, pieces: np.ndarray, apart: int) -> Iterator[tuple[np.ndarray, ...]]:
        tried.append(len(pieces))
        return passages(self, pieces, apart)

    monkeypatch.setattr(Melodies, "passages", seen)
    monkeypatch.setattr("mmid.identify.correlation.SHORTLIST", 6)
    first = correlate(query, FRAME_RATE, melodies, top=2)[0]
    assert replace(first, excess=0.0) == replace(whole[0], excess=0.0)
    assert tried == [PIECES, 6]


def test_what_is_excluded_has_no_part_in_the_shortlist(melodies, monkeypatch):
    monkeypatch.setattr("mmid.identify.correlation.SHORTLIST", 1)
    excluded = frozenset(range(PIECES)) - {4, 7}
    found = correlate(sung(7, 12.0, 1.0, 0), FRAME_RATE, melodies, top=5, excluded=excluded)
    assert [one.piece for one in found] == [7]


def test_pieces_are_laid_so_that_no_passage_spans_two():
    melodies = gathered(*[(np.array([5.0]), np.array([64]))] * 2, seconds=[10.0, 5.5])
    assert melodies.seconds.tolist() == [14, 10]
    line = melodies.line(np.array([0, 1]))
    assert (line.frame - line.first).tolist() == [5 * RATE] * 2
    assert np.diff(line.first) > 5 * RATE + SECONDS * max(RATIOS) * RATE
    assert line.before[line.frame // RATE + 1].tolist() == [1, 2]


def test_a_length_that_is_made_up_leads_to_no_other_piece(melodies):
    made_up = replace(melodies, seconds=np.full(PIECES, 1))
    assert correlate(sung(7, 0.0, 1.0, 0), FRAME_RATE, made_up, top=1)[0].piece == 7


def test_what_is_the_melodys_counts_more_than_what_is_not(melodies):
    sound = torch.maximum(sung(7, 12.0, 1.0, 0), sung(11, 3.0, 1.0, 0))
    by_melody = [
        correlate(sound, FRAME_RATE, melodies, top=5, melody=sung(number, start, 1.0, 0))[0].piece
        for number, start in ((7, 12.0), (11, 3.0))
    ]
    assert by_melody == [7, 11]
