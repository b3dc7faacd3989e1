"""Melodies packed into a byte a note."""

from __future__ import annotations

import numpy as np
import pytest

from mmid.index.items import Entry
from mmid.index.melodies import CLASSES, RATE, REST, PackedMelodies, pack_melodies
from mmid.index.notes import mark_melody
from mmid.music.notes import NOTE_DTYPE


def entry(first_note: int, notes: int) -> Entry:
    return Entry("", None, 1.0, "", 0, 0, first_note, notes)


def noted(onset, pitch, melody=None) -> np.ndarray:
    """Return notes as they are stored; all of the melody, or some."""
    notes = np.zeros(len(onset), NOTE_DTYPE)
    notes["onset"], notes["pitch"] = onset, pitch
    return mark_melody(notes, np.ones(len(onset), bool) if melody is None else melody)


def unpacked(packed: PackedMelodies, item: int) -> list[tuple[float, int]]:
    """Return the seconds and the pitch classes of an item."""
    codes, counts = packed.codes_of(np.array([item]))
    assert counts == len(codes)
    notes = zip(np.cumsum(codes // CLASSES, dtype=int).tolist(), codes.tolist(), strict=True)
    return [(frame / RATE, code % CLASSES) for frame, code in notes if code < REST]


def test_notes_come_out_in_quarter_seconds_and_pitch_classes():
    notes = noted([0.1, 0.4, 2.0, 2.0, 500.0], [60, 61, 74, 64, 71])
    packed = PackedMelodies.of([pack_melodies(notes, [entry(0, 5)])], [entry(0, 5)])
    assert unpacked(packed, 0) == [(0.0, 0), (0.5, 1), (2.0, 2), (2.0, 4), (500.0, 11)]
    assert len(packed.codes) == 5 + 498 * RATE // (REST // CLASSES)


def test_many_pieces_come_out_each_as_it_was():
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 40, 600)
    firsts = np.cumsum(counts) - counts
    entries = [entry(int(first), int(count)) for first, count in zip(firsts, counts, strict=True)]
    onset = np.concatenate([np.cumsum(rng.choice([0.5, 1, 9], n)) for n in counts])
    pitch, melody = rng.integers(40, 90, counts.sum()), rng.random(counts.sum()) < 0.7
    packed = PackedMelodies.of([pack_melodies(noted(onset, pitch, melody), entries)], entries)
    assert len(packed) == 600
    for item, own in enumerate(map(slice, firsts, firsts + counts)):
        theirs = onset[own][melody[own]], pitch[own][melody[own]] % CLASSES
        assert unpacked(packed, item) == list(zip(*map(np.ndarray.tolist, theirs), strict=True))
    some = np.array([7, 8, 3])
    together = np.concatenate([packed.codes_of(some[i : i + 1])[0] for i in range(3)])
    assert packed.codes_of(some)[0].tolist() == together.tolist()


def test_notes_repeated_at_once_count_once():
    trill = np.arange(20) / 10, np.where(np.arange(20) % 2, 62, 60)
    codes, bounds = pack_melodies(noted(*trill), [entry(0, 20)])
    packed = PackedMelodies.of([(codes, bounds)], [entry(0, 20)])
    assert np.bincount([sounds for _, sounds in unpacked(packed, 0)]).tolist() == [4, 0, 5]
    assert bounds.tolist() == [[0, 20], [0, 9]]


def test_two_data_folders_read_as_one_and_removed_items_are_passed_over():
    first, second = noted([0, 1, 2, 3], [60, 61, 62, 63]), noted([0, 1, 2], [64, 65, 66])
    base = pack_melodies(first, [entry(0, 2), entry(2, 2)])
    delta = pack_melodies(second, [entry(0, 1), entry(2, 1)])  # between them one was removed
    packed = PackedMelodies.of([base, delta], [entry(2, 2), entry(4, 1), entry(5, 0), entry(6, 1)])
    assert [unpacked(packed, item) for item in range(4)] == [
        [(2.0, 2), (3.0, 3)],
        [(0.0, 4)],
        [],
        [(2.0, 6)],
    ]


def test_melodies_of_other_pieces_are_refused():
    parts = [pack_melodies(noted([0, 1], [60, 61]), [entry(0, 2)])]
    with pytest.raises(ValueError, match="other pieces"):
        PackedMelodies.of(parts, [entry(1, 1)])
