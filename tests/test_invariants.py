"""What must hold for any input: hypothesis looks for one for which it does not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from mmid.errors import LibraryIndexError
from mmid.identify.voting import Candidate, Hits, consistent, majority
from mmid.index.fingerprint_table import library_postings
from mmid.index.fingerprints import FINGERPRINT, find_triples
from mmid.index.hnsw import build_graph
from mmid.index.inverted_lists import InvertedLists, learn_centroids, nearest_centroids
from mmid.index.manifest import FORMAT, MANIFEST, read_manifest
from mmid.index.quantization import INT8_SCALE, pack, unpack
from mmid.music.notes import NOTE_DTYPE, PITCHES

EMBEDDING, K = 16, 4

examples = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
seeds = st.integers(0, 2**32 - 1)


def unit_vectors(seed: int, count: int) -> np.ndarray:
    drawn = np.random.default_rng(seed).standard_normal((count, EMBEDDING))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


# ---- votes


@st.composite
def hits(draw: st.DrawFn) -> Hits:
    """Draw hits of a query, a part of which lie on a line through one piece."""
    rng = np.random.default_rng(draw(seeds))
    queries = draw(st.integers(1, 40))
    ratio = draw(st.sampled_from([0.5, 1.0, 1.25, 2.0]))
    frames = 4 * np.arange(queries, dtype=np.int64)
    piece = rng.integers(0, 6, (queries, K))
    position = rng.integers(0, 5_000, (queries, K))
    aligned = rng.random(queries) < draw(st.floats(0, 1))
    piece[aligned, 0] = 2
    position[aligned, 0] = (700 + frames[aligned] * ratio).astype(np.int64)
    similarity = -np.sort(-rng.uniform(0.2, 1.0, (queries, K)), axis=1)
    return Hits(ratio, frames, piece, position, similarity.astype(np.float32))


def standings(found: list[Candidate]) -> dict[int, float]:
    return {candidate.piece: pytest.approx(candidate.share) for candidate in found}


@examples
@given(hits())
def test_votes_do_not_depend_on_the_order_of_pieces(found):
    renamed = Hits(
        found.tempo_ratio, found.query_frame, 5 - found.piece, found.position, found.similarity
    )
    for vote in (consistent, majority):
        before = {5 - candidate.piece: candidate.share for candidate in vote(found, 10)}
        assert before == standings(vote(renamed, 10))


@examples
@given(hits(), st.integers(1, 20))
def test_a_later_position_in_the_pieces_moves_starts_and_changes_no_share(found, bins):
    queries = found.query_frame * found.tempo_ratio
    width = 24 + 0.05 * (queries.max() - queries.min())
    later = bins * round(20 * width)  # whole bins: positions within bins stay as they are
    assume(later == bins * 20 * width)
    moved = Hits(
        found.tempo_ratio, found.query_frame, found.piece, found.position + later, found.similarity
    )
    before, after = consistent(found, 10), consistent(moved, 10)
    assert standings(before) == {c.piece: c.share for c in after}
    starts = {candidate.piece: candidate.start + later for candidate in before}
    assert {candidate.piece: candidate.start for candidate in after} == starts


@examples
@given(hits(), st.sampled_from([2, 4]))
def test_a_query_read_at_another_rate_votes_alike(found, factor):
    """A query frame stands for more of the piece exactly as its tempo ratio says."""
    slower = Hits(
        found.tempo_ratio * factor,
        found.query_frame // factor,  # frames are multiples of four
        found.piece,
        found.position,
        found.similarity,
    )
    before, after = consistent(found, 10), consistent(slower, 10)
    assert standings(before) == {c.piece: c.share for c in after}
    assert {c.piece: c.start for c in before} == {c.piece: c.start for c in after}


@examples
@given(hits(), st.integers(-12, 12))
def test_shares_are_shares_in_any_key(found, transpose):
    moved = Hits(
        found.tempo_ratio,
        found.query_frame,
        found.piece,
        found.position,
        found.similarity,
        transpose,
    )
    for vote in (consistent, majority):
        elected = vote(moved, 10)
        assert [c.share for c in elected] == [c.share for c in vote(found, 10)]
        assert 0 <= sum(c.share for c in majority(moved, 10)) <= 1 + 1e-9
        assert all(0 <= c.share <= 1 for c in elected)


# ---- note-triple fingerprints


def some_notes(seed: int, count: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    notes = np.zeros(count, NOTE_DTYPE)
    notes["onset"] = np.sort(rng.integers(0, 40 * max(count, 1), count)) / 100
    notes["offset"] = notes["onset"] + 0.2
    notes["pitch"] = rng.integers(40, 90, count)
    return notes


def postings(*what) -> np.ndarray:
    return np.concatenate(list(library_postings(*what)))


@examples
@given(st.lists(st.tuples(seeds, st.integers(0, 60)), min_size=1, max_size=8), st.data())
def test_postings_that_grow_piece_by_piece_are_those_of_a_rebuild(drawn, data):
    pieces = [some_notes(*what) for what in drawn]
    firsts = np.cumsum([0, *(len(piece) for piece in pieces[:-1])])
    notes = np.concatenate(pieces)
    first = data.draw(st.integers(0, len(pieces) - 1))
    known, start = postings(notes[: firsts[first]], firsts[:first]), int(firsts[first])
    assert np.array_equal(postings(notes, firsts, known, start), postings(notes, firsts))


@examples
@given(seeds, st.integers(3, 60), st.floats(0.25, 4.0), st.floats(0.0, 100.0))
def test_fingerprints_survive_any_tempo_and_beginning(seed, count, tempo, later):
    rng = np.random.default_rng(seed)
    pitch = rng.integers(40, 90, count).astype(np.uint8)
    onset = np.cumsum(rng.uniform(0.24, 0.32, count))  # at a quarter of these still apart
    written = find_triples(onset, pitch)
    played = find_triples(onset / tempo + later, pitch)
    assert len(written) == len(played) > 0
    off = played.fingerprint.astype(np.int64) - written.fingerprint.astype(np.int64)
    assert np.isin(
        off, (-PITCHES, 0, PITCHES)
    ).all()  # a ratio on the edge of two bins may round into the next
    np.testing.assert_allclose(written.span / played.span, tempo, rtol=1e-6)


@examples
@given(seeds, st.integers(3, 60))
def test_postings_are_sorted_and_name_notes_that_exist(seed, count):
    notes = some_notes(seed, count)
    found = postings(notes, [0])
    assert (found[1:] >= found[:-1]).all()
    own = find_triples(notes["onset"].astype(np.float64), notes["pitch"]).fingerprint
    assert np.isin(found >> FINGERPRINT, own).all()


# ---- vectors


@examples
@given(seeds, st.integers(1, 200))
def test_packing_loses_at_most_half_a_step(seed, count):
    vectors = unit_vectors(seed, count)
    packed = pack(vectors)
    assert np.abs(unpack(packed) - vectors).max() <= 0.5 / INT8_SCALE + 1e-6
    assert np.array_equal(pack(unpack(packed)), packed)


@examples
@given(seeds, st.integers(1, 300), st.integers(1, 12))
def test_all_lists_probed_are_an_exact_search(seed, count, queries):
    packed = pack(unit_vectors(seed, count))
    asking = unit_vectors(seed ^ 1, queries)
    centroids = learn_centroids(packed)  # fewer than are probed
    lists = InvertedLists.of(
        packed, centroids, nearest_centroids(packed, centroids), build_graph(centroids)
    )
    k = min(5, count)
    rows, cosine = lists.search(asking, k)
    exact = asking @ unpack(packed).T
    np.testing.assert_allclose(cosine, -np.sort(-exact, axis=1)[:, :k], atol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(exact, rows, 1), cosine, atol=1e-5)


# ---- the manifest of an index

names = st.text(st.characters(codec="utf-8"), max_size=20)
plain = st.one_of(st.integers(-(2**31), 2**31), st.booleans(), names)
manifests = st.fixed_dictionaries(
    {
        "format": st.just(FORMAT),
        "mmid": names,
        "made": names,
        "kind": st.sampled_from(["midi", "recordings"]),
        "model": names,
        "features": st.dictionaries(names, plain, max_size=3),
        "recipe": st.dictionaries(names, plain, max_size=3),
        "rows": st.integers(0, 2**31),
        "root": names,
        "folders": st.lists(names, max_size=3),
        "data": st.from_regex(r"data-[0-9a-f]{12}", fullmatch=True),
        "files": st.dictionaries(names, names, max_size=3),
    }
)


@examples
@given(manifest=manifests)
def test_a_manifest_is_read_as_it_was_written(tmp_path: Path, manifest):
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    read = read_manifest(tmp_path)
    assert {name: read[name] for name in manifest} == manifest


@examples
@given(manifest=manifests, data=st.data())
def test_a_damaged_manifest_is_refused_or_still_a_manifest(tmp_path: Path, manifest, data):
    whole = json.dumps(manifest).encode()
    first = data.draw(st.integers(0, len(whole) - 1))
    last = data.draw(st.integers(first, min(len(whole), first + 40)))
    damaged = whole[:first] + data.draw(st.binary(max_size=8)) + whole[last:]
    (tmp_path / MANIFEST).write_bytes(damaged)
    try:
        read = read_manifest(tmp_path)
    except LibraryIndexError as error:
        assert "\n" not in str(error).replace(str(tmp_path), "")
    else:
        assert read["format"] == FORMAT and read["kind"] in ("midi", "recordings")
        assert isinstance(read["rows"], int) and isinstance(read["files"], dict)


@examples
@given(manifest=manifests, data=st.data())
def test_a_manifest_without_one_of_its_facts_is_refused(tmp_path: Path, manifest, data):
    del manifest[data.draw(st.sampled_from(sorted(manifest)))]
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(LibraryIndexError):
        read_manifest(tmp_path)
