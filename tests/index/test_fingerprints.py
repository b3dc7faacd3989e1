"""`fingerprints`: a passage of a library is found by its notes, at its tempo, where it lies."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmid.errors import LibraryIndexError
from mmid.index.fingerprint_search import search_triples
from mmid.index.fingerprint_table import library_postings
from mmid.index.fingerprints import (
    FINGERPRINT,
    NOTE_BITS,
    SPAN_BITS,
    STOP,
    Ranges,
    find_triples,
    look_up,
    spans_of,
)
from mmid.index.manifest import POSTINGS
from mmid.index.notes import mark_melody
from mmid.index.packed_numbers import PackedNumbers, store_sorted
from mmid.index.sorted_file import SortedFile
from mmid.model.transcriber import LOWEST, ONSET_THRESHOLD, PITCHES, transcribed_notes
from mmid.music.notes import NOTE_DTYPE


@pytest.fixture
def library(draw_notes):
    """Return forty pieces, one of them empty, as notes end to end and where each begins."""
    pieces = [draw_notes(seed, count=120, seconds=60.0) for seed in range(40)]
    pieces[3] = np.zeros(0, NOTE_DTYPE)
    firsts = np.cumsum([0, *(len(piece) for piece in pieces[:-1])])
    return np.concatenate(pieces), firsts, pieces


@pytest.fixture
def stored(tmp_path):
    """Return what puts postings into a file."""

    def store(postings: np.ndarray) -> SortedFile:
        store_sorted(tmp_path, POSTINGS, [postings])
        return SortedFile(*map(tmp_path.joinpath, POSTINGS))

    return store


def passage(
    notes: np.ndarray, start: float, end: float, ratio: float, semitones: int = 0
) -> np.ndarray:
    """Return what is played from one time to another, so many times as fast, in another key."""
    inside = notes[(notes["onset"] >= start) & (notes["onset"] < end)].copy()
    for moment in ("onset", "offset"):
        inside[moment] = (inside[moment] - start) / ratio
    inside["pitch"] += np.uint8(semitones % 256)
    return inside


def listed(*what, melody: bool = False) -> np.ndarray:
    """Return all postings of a library."""
    whole = np.concatenate(list(library_postings(*what, melody=melody)))
    assert whole.dtype == np.uint64
    return whole


@pytest.mark.parametrize("ratio", [0.3, 0.7, 1.0, 1.6, 3.5])
def test_a_passage_is_found_at_its_tempo_and_position(library, stored, ratio):
    notes, firsts, pieces = library
    postings = stored(listed(notes, firsts))
    for piece in (0, 2, 4, 39):
        query = passage(pieces[piece], 20.0, 32.0, ratio)
        first, *others = search_triples(postings, notes, firsts, query, 10)
        assert first.piece == piece and first.share > 0.8
        assert first.tempo_ratio == pytest.approx(ratio, rel=0.05)
        assert first.start == pytest.approx(20.0, abs=0.5)
        assert all(other.share < first.share / 2 for other in others)


@pytest.mark.parametrize("semitones", [-12, -5, 0, 1, 12])
def test_a_passage_is_found_in_any_key_at_once(library, stored, semitones):
    notes, firsts, pieces = library
    postings = stored(listed(notes, firsts))
    query = passage(pieces[4], 20.0, 32.0, 1.3, semitones)
    best, *others = search_triples(postings, notes, firsts, query, 10, range(-12, 13))
    own = search_triples(postings, notes, firsts, query, 10, (semitones,))[0]
    assert (best.piece, best.transpose) == (own.piece, own.transpose) == (4, semitones)
    assert best.tempo_ratio == pytest.approx(1.3, rel=0.05) and best.share > 0.8
    assert own.start == best.start == pytest.approx(20.0, abs=0.5)
    assert all(other.share < best.share / 2 for other in others)
    missed = search_triples(postings, notes, firsts, query, 10, (semitones + 1, semitones - 1))
    assert all(at.share < best.share / 2 and at.transpose != semitones for at in missed)


def test_the_rarest_triples_are_looked_up(library, stored, monkeypatch):
    notes, firsts, pieces = library
    postings = stored(listed(notes, firsts))
    query = passage(pieces[4], 10.0, 40.0, 1.0)
    whole = search_triples(postings, notes, firsts, query, 1, range(-12, 13))[0]
    monkeypatch.setattr("mmid.index.fingerprint_search.MOST_READ", 200)
    some = search_triples(postings, notes, firsts, query, 1, range(-12, 13))[0]
    assert (some.piece, some.transpose) == (4, 0) and 2 < some.votes < whole.votes / 2
    monkeypatch.setattr("mmid.index.fingerprint_search.MOST_READ", 0)
    assert search_triples(postings, notes, firsts, query, 1) == []


def test_ranges_at_the_ends_of_the_compass_hold_their_postings():
    triples = find_triples(np.array([0.0, 0.06, 7.9]), np.array([127, 126, 126], np.uint8))
    which, found = look_up(triples.postings(), triples, Ranges.of(triples, -12, 12))
    assert which.tolist() == [0] and found.pitch.tolist() == [127]


@pytest.mark.parametrize("seconds", [2.5, 4.0, 30.0])
@pytest.mark.parametrize("top", [1, 5, 40])
def test_positions_of_few_postings_are_passed_over_without_loss(
    library, stored, monkeypatch, seconds, top
):
    notes, firsts, pieces = library
    postings = stored(listed(notes, firsts))
    query = passage(pieces[4], 5.0, 5.0 + seconds, 1.2)
    found = search_triples(postings, notes, firsts, query, top)
    monkeypatch.setattr("mmid.index.fingerprint_search.CROWDED", (0,))
    assert found == search_triples(postings, notes, firsts, query, top)
    assert 1 <= len(found) <= top


def test_wrong_and_missing_notes_are_borne(library, stored):
    notes, firsts, pieces = library
    postings = stored(listed(notes, firsts))
    rng = np.random.default_rng(0)
    query = passage(pieces[7], 10.0, 25.0, 1.1)
    query["onset"] += rng.normal(0, 0.015, len(query))
    kept = rng.random(len(query)) < 0.8
    wrong = rng.random(len(query)) < 0.1
    query["pitch"][wrong] += 1
    query = np.sort(query[kept], order="onset")
    assert search_triples(postings, notes, firsts, query, 5)[0].piece == 7


def test_of_few_notes_nothing_is_said(library, stored):
    notes, firsts, pieces = library
    postings = stored(listed(notes, firsts))
    for count in (0, 1, 2):
        assert search_triples(postings, notes, firsts, pieces[0][:count], 5) == []
    nothing = np.zeros(0, NOTE_DTYPE)
    none = stored(listed(nothing, [0, 0]))
    assert len(none) == 0
    assert search_triples(none, nothing, np.array([0, 0]), pieces[0], 5) == []


def test_the_middle_of_a_long_query_is_looked_up(library, stored):
    notes, firsts, pieces = library
    postings = stored(listed(notes, firsts))
    long = passage(pieces[5], 0.0, 60.0, 0.25)  # four minutes
    assert search_triples(postings, notes, firsts, long, 1)[0].piece == 5


def test_postings_are_the_same_at_once_and_bit_by_bit(library, monkeypatch):
    notes, firsts, _ = library
    whole = listed(notes, firsts)
    assert (np.diff(whole.astype(object)) >= 0).all() and len(whole) > 10_000
    for pieces in (1, 3, 4, 20):
        half = int(firsts[pieces])
        before = listed(notes[:half], firsts[:pieces])
        assert np.array_equal(listed(notes, firsts, before, half), whole)
    monkeypatch.setattr("mmid.index.fingerprint_table.NOTES_AT_ONCE", 300)
    assert np.array_equal(listed(notes, firsts), whole)
    monkeypatch.setattr("mmid.index.fingerprint_table.NOTES_OF_RUN", 500)
    monkeypatch.setattr("mmid.index.fingerprint_table.BLOCK", 2_000)
    parts = list(library_postings(notes, firsts))
    assert np.array_equal(np.concatenate(parts), whole)
    assert len(parts) > 3 and max(map(len, parts)) < len(whole) / 2


def test_of_one_fingerprint_there_may_be_any_number(monkeypatch):
    """That of all lowest digits, which is the first, too."""
    monkeypatch.setattr("mmid.index.fingerprint_table.NOTES_OF_RUN", 500)
    monkeypatch.setattr("mmid.index.fingerprint_table.BLOCK", 2_000)
    notes = np.zeros(4_000, NOTE_DTYPE)
    notes["onset"] = np.cumsum(np.tile([4.0, 0.1], 2_000))
    postings = listed(notes, [*range(0, 4_000, 100)])
    assert (spans_of(postings) == STOP).any()
    assert (np.diff(postings.astype(object)) > 0).all()


@pytest.mark.parametrize(("common", "large"), [(1, 10**9), (1, 27_500)])
def test_of_common_fingerprints_only_stop_entries_are_kept(
    library, monkeypatch, tmp_path, common, large
):
    notes, firsts, pieces = library
    everything = listed(notes, firsts)
    monkeypatch.setattr("mmid.index.fingerprints.MOST_POSTINGS", common)
    monkeypatch.setattr("mmid.index.fingerprints.LARGE", large)
    monkeypatch.setattr("mmid.index.fingerprint_table.BLOCK", 1_000)
    monkeypatch.setattr("mmid.index.fingerprint_table.NOTES_OF_RUN", 500)
    most = common << max(0, (len(everything) // large).bit_length() - 1)
    fingerprint, counts = np.unique(everything >> FINGERPRINT, return_counts=True)
    rare = np.isin(everything >> FINGERPRINT, fingerprint[counts <= most])
    kept = listed(notes, firsts)
    stops = (kept & np.uint64(STOP)) == STOP
    assert np.array_equal(kept[~stops], everything[rare]) and 0 < rare.mean() < 1
    assert np.array_equal(kept[stops] >> FINGERPRINT, fingerprint[counts > most])
    note = kept[stops] >> np.uint64(SPAN_BITS) & np.uint64(2**NOTE_BITS - 1)
    assert np.array_equal(note, counts[counts > most])
    for known in (1, 5, 39):
        before = listed(notes[: firsts[known]], firsts[:known])
        assert np.array_equal(listed(notes, firsts, before, int(firsts[known])), kept)
        store_sorted(tmp_path, POSTINGS, np.array_split(before, 7))
        packed = PackedNumbers.map(tmp_path / POSTINGS.heads, tmp_path / POSTINGS.tails)
        assert np.array_equal(listed(notes, firsts, packed, int(firsts[known])), kept)
    triples = find_triples(pieces[9]["onset"].astype(float), pieces[9]["pitch"])
    expected, found = look_up(everything[rare], triples), look_up(kept, triples)
    assert np.array_equal(found[0], expected[0])
    assert np.array_equal(found[1].postings(), expected[1].postings())


def test_heard_notes_lie_between_frames():
    log_odds = torch.full((2, PITCHES, 50), -8.0)
    for pitch, frame, share in ((60, 10, 0.0), (64, 20, 0.25), (67, 30, 0.5)):
        for offset, probability in ((0, 1 - share), (1, share)):
            odds = torch.tensor(probability).clamp(1e-3, 1 - 1e-3).logit()
            log_odds[1, pitch - LOWEST, frame + offset] = odds
    log_odds[1, 70 - LOWEST, 40] = torch.tensor(ONSET_THRESHOLD / 2).logit()
    notes = transcribed_notes(log_odds, frame_rate=20.0)
    assert notes["pitch"].tolist() == [60, 64, 67]
    assert notes["onset"] == pytest.approx([0.5, 1.0125, 1.525], abs=0.002)


@pytest.mark.parametrize("key", [0, 3, 12])
def test_the_pages_read_answer_as_the_whole(library, stored, monkeypatch, key):
    for module in ("packed_numbers", "sorted_file"):
        monkeypatch.setattr(f"mmid.index.{module}.PAGE", 16)
    notes, firsts, pieces = library
    whole = listed(notes, firsts)
    triples = find_triples(pieces[9]["onset"].astype(float), pieces[9]["pitch"])
    ranges = Ranges.of(triples, -key, key)
    file = stored(whole)
    part = file.near(ranges.low, ranges.high)
    assert len(part) < len(whole)
    pages = file.pages_within(ranges.low, ranges.high)
    found = np.searchsorted(whole, ranges.high, "right") - np.searchsorted(whole, ranges.low)
    assert (pages >= 1).all() and (pages * 16 >= found).all()
    expected, found = look_up(whole, triples, ranges), look_up(part, triples, ranges)
    assert np.array_equal(found[0], expected[0])
    assert np.array_equal(found[1].postings(), expected[1].postings())


def test_more_notes_than_postings_can_number_are_refused(draw_notes, monkeypatch):
    notes = draw_notes(0, 40)
    monkeypatch.setattr("mmid.index.fingerprint_table.NOTE_BITS", 5)
    with pytest.raises(LibraryIndexError, match="40 notes are too many for one index"):
        listed(notes, [0])


def test_a_melody_is_found_among_other_notes(stored):
    """Its triples are those of its own notes, whatever sounds between them."""
    rng = np.random.default_rng(3)
    pieces, marked = [], []
    for _ in range(12):
        onset = np.cumsum(rng.uniform(0.3, 0.6, 40))
        tune = np.zeros(40, NOTE_DTYPE)
        tune["onset"], tune["offset"], tune["pitch"] = onset, onset + 0.3, rng.integers(65, 80, 40)
        below = np.zeros(400, NOTE_DTYPE)
        below["onset"], below["pitch"] = rng.uniform(0, onset[-1], 400), rng.integers(30, 60, 400)
        together = np.concatenate([tune, below])
        order = np.argsort(together["onset"], kind="stable")
        pieces.append(tune)
        marked.append(mark_melody(together[order], (np.arange(440) < 40)[order]))
    library, firsts = np.concatenate(marked), np.arange(12) * 440
    query = passage(pieces[7], 4.0, 14.0, 1.25)
    melodies = stored(listed(library, firsts, melody=True))
    first, *others = search_triples(melodies, library, firsts, query, 5)
    assert first.piece == 7 and first.share > 0.9
    assert first.start == pytest.approx(4.0, abs=0.1)
    assert first.tempo_ratio == pytest.approx(1.25, abs=0.02)
    assert all(other.share < 0.2 for other in others)
    everything = search_triples(stored(listed(library, firsts)), library, firsts, query, 5)
    assert not everything or everything[0].share < 0.3, "lost among the other notes"
    extended = listed(
        library, firsts, listed(library[:2200], firsts[:5], melody=True), 2200, melody=True
    )
    assert np.array_equal(extended, listed(library, firsts, melody=True))
