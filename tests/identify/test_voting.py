"""`mmid.identify.voting` on hits made by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mmid.identify.voting import (
    BIN_FRAMES,
    DOUBT,
    Candidate,
    Hits,
    consistent,
    elect,
    joined,
    majority,
    nearest,
    straightened,
)

K = 6


def hits(rows: list[list[tuple[int, float]]], ratio: float = 1.0, step: float = 4.0) -> Hits:
    """Make hits of (piece, position), a row a query snippet, all equally near."""
    piece = np.array([[piece for piece, _ in row] for row in rows], np.int64)
    position = np.array([[position for _, position in row] for row in rows], np.int64)
    frames = np.arange(len(rows)) * step
    return Hits(ratio, frames, piece, position, np.ones(piece.shape, np.float32))


def scattered_against_aligned(snippets: int = 20) -> Hits:
    """Give piece 7 four scattered hits a snippet and piece 3 one at the right position."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(snippets):
        loud = [(7, float(position)) for position in rng.integers(0, 50_000, 4)]
        rows.append([*loud, (3, 1_000 + 4 * number), (9, float(rng.integers(0, 50_000)))])
    return hits(rows)


def test_majority_and_consistent_votes_may_disagree():
    found = scattered_against_aligned()
    assert majority(found, 5)[0].piece == 7
    assert consistent(found, 5)[0].piece == 3


def test_a_majoritys_shares_are_of_all_votes():
    found = majority(scattered_against_aligned(), 5)
    assert [(c.piece, c.share) for c in found] == [
        (7, pytest.approx(4 / 6)),
        (3, pytest.approx(1 / 6)),
        (9, pytest.approx(1 / 6)),
    ]
    assert all(c.start is None and c.tempo_ratio == 1 for c in found)


def test_a_consistent_vote_of_every_snippet_is_a_full_share():
    found = scattered_against_aligned()
    best, *others = consistent(found, 5)
    queries = len(found.query_frame)
    assert best.share == pytest.approx(queries / (queries + DOUBT), abs=0.01)
    assert all(0 < c.share < 0.5 for c in others)


@pytest.mark.parametrize("ratio", [0.5, 1.0, 1.7])
@pytest.mark.parametrize("start", [-13.0, 0.0, 700.0, 123_456.0])
def test_the_start_is_found_within_a_bin(ratio, start):
    rng = np.random.default_rng(1)
    rows = []
    for number in range(30):
        right = (2, start + 4 * number * ratio + rng.uniform(-4, 4))
        rows.append([right, *((int(p), float(rng.integers(0, 2_000))) for p in (4, 5, 6))])
    best = consistent(hits(rows, ratio), 3)[0]
    assert best.piece == 2 and best.tempo_ratio == ratio
    assert best.start == pytest.approx(start, abs=BIN_FRAMES)


def test_the_wrong_tempo_scatters_the_votes():
    rows = [[(1, 500 + 4 * number * 2.0), (2, 37.0 * number % 991)] for number in range(60)]
    right, wrong = (consistent(hits(rows, ratio), 2)[0] for ratio in (2.0, 1.0))
    assert right.share > 2 * wrong.share


def test_a_snippet_votes_once_for_a_position():
    repeated = [[(1, 100.0)] * K for _ in range(3)] + [
        [(2, 100.0), *[(5 + i, 1e6 * i) for i in range(K - 1)]] for _ in range(7)
    ]
    found = consistent(hits(repeated, step=0.0), 5)
    assert found[0].piece == 2 and found[0].share == pytest.approx(7 / (10 + DOUBT))


def test_each_piece_is_there_once_best_first():
    rng = np.random.default_rng(2)
    rows = [
        [(int(rng.integers(0, 4)), float(rng.integers(0, 300))) for _ in range(K)]
        for _ in range(40)
    ]
    for how in ("consistent", "majority"):
        found = elect([hits(rows, ratio) for ratio in (0.5, 1.0, 2.0)], how, 10)
        pieces = [candidate.piece for candidate in found]
        assert len(pieces) == len(set(pieces)) == 4
        shares = [candidate.share for candidate in found]
        assert shares == sorted(shares, reverse=True) and 0 < shares[-1] <= shares[0] <= 1


def test_hypotheses_merge_to_each_pieces_best():
    slow = hits([[(1, 10 + 2.0 * n), (2, 8e3 * n)] for n in range(0, 80, 4)], 0.5)
    fast = hits([[(2, 10 + 8.0 * n / 4), (1, 7e3 * n)] for n in range(0, 80, 4)], 2.0)
    found = elect([slow, fast], "consistent", 5)
    assert {c.piece: c.tempo_ratio for c in found[:2]} == {1: 0.5, 2: 2.0}
    assert elect([fast, slow], "consistent", 1)[0].piece in (1, 2)
    assert len(elect([slow, fast], "consistent", 1)) == 1


def test_hypotheses_are_elected_from_together_as_each_by_itself():
    rng = np.random.default_rng(5)
    tried = [
        hits([[(int(rng.integers(0, 9)), float(rng.integers(0, 90))) for _ in range(K)]] * 6, ratio)
        for ratio in (0.5, 0.7, 1.0, 1.4)
    ]
    alone = [candidate for one in tried for candidate in consistent(one, 9)]
    best = sorted(alone, key=lambda c: -c.share)
    together = elect(tried, "consistent", 36, each=4)
    assert [c.share for c in together] == pytest.approx([c.share for c in best])
    assert set(together) == set(best)


def test_near_hits_weigh_more_than_far_ones():
    both = hits([[(1, 4.0 * n), (2, 4.0 * n)] for n in range(10)])
    similarity = np.tile(np.array([0.9, 0.6], np.float32), (10, 1))
    found = consistent(Hits(1.0, both.query_frame, both.piece, both.position, similarity), 2)
    assert [c.piece for c in found] == [1, 2]
    assert found[0].share > 2 * found[1].share


def test_one_snippet_is_enough():
    single = hits([[(4, 12.0), (5, 800.0)]])
    for how in ("consistent", "majority"):
        assert {c.piece for c in elect([single], how, 5)} == {4, 5}


# ---- hits and positions kept


def similar(rows: list[list[tuple[int, float]]]) -> Hits:
    """Make hits whose first of a row is the nearest."""
    found = hits(rows)
    closeness = np.linspace(0.9, 0.5, found.piece.shape[1], dtype=np.float32)
    return replace(found, similarity=np.tile(closeness, (len(rows), 1)))


def test_the_nearest_hits_outside_the_pieces_named_are_kept():
    found = similar([[(1, 10), (2, 20), (1, 30), (3, 40)], [(2, 5), (3, 6), (3, 7), (1, 8)]])
    kept = nearest(found, 2, frozenset({1}))
    assert kept.piece.tolist() == [[2, 3], [2, 3]]
    assert kept.position.tolist() == [[20, 40], [5, 6]]
    np.testing.assert_array_equal(kept.similarity[0], found.similarity[0, [1, 3]])
    np.testing.assert_array_equal(kept.similarity[1], found.similarity[1, [0, 1]])
    assert kept.query_frame is found.query_frame and kept.tempo_ratio == found.tempo_ratio


def test_the_nearest_hits_of_all_are_the_first():
    found = similar([[(1, 10), (2, 20), (1, 30)]])
    assert nearest(found, 2).piece.tolist() == [[1, 2]]
    assert nearest(found, 9).position.tolist() == [[10, 20, 30]]
    assert found.piece.shape == (1, 3), "what was found stays as it is"


def test_hits_in_pieces_named_come_last_where_there_are_no_others():
    found = similar([[(1, 10), (1, 20), (2, 30)], [(1, 1), (1, 2), (1, 3)]])
    kept = nearest(found, 2, frozenset({1}))
    assert kept.piece.tolist() == [[2, 1], [1, 1]]


def test_each_piece_may_have_several_positions():
    """Hypotheses differ in where they put a piece; each keeps only its best position in it."""
    spread = [hits([[(1, first + 4 * n), (2, 8e3 * n)] for n in range(20)]) for first in (0, 900)]
    transposed = replace(spread[0], transpose=2)
    voted = elect([*spread, transposed], "consistent", 10, each=2)
    assert [c.piece for c in voted[:2]] == [1, 1] and voted[0] != voted[1]
    pieces = [c.piece for c in voted]
    assert pieces.count(1) == pieces.count(2) == 2
    shares = [c.share for c in voted]
    assert shares == sorted(shares, reverse=True)
    everything = elect([*spread, transposed], "consistent", 10, each=3)
    assert {(c.start, c.transpose) for c in everything if c.piece == 1} == {
        (0.0, 0),
        (900.0, 0),
        (0.0, 2),
    }
    assert len(elect([*spread, transposed], "consistent", 3, each=3)) == 3
    assert [c.piece for c in elect(spread, "consistent", 10)] == [1, 2], "one by default"


# ---- parts of what is queried, and positions between the tempi that were tried


def part_of(query: int, first: int, last: int, ratio: float, tried: float, seed: int = 3) -> Hits:
    """Make hits of a query of which only the snippets from first to last lie in piece 1."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(query):
        right = 4 * (number - first) * ratio
        there = first <= number < last
        rows.append([(1, right if there else float(rng.integers(0, 300)))])
    return replace(hits(rows), tempo_ratio=tried)


def test_a_part_is_found_at_its_own_tempo_not_at_one_that_squeezes_the_whole_into_it():
    """Of 60 snippets 25 lie in the piece, 100 frames long; at a quarter all 60 would."""
    whole = [(1, 4 * number * 0.4) for number in range(60)]
    squeezed = hits(
        [[(1, position + (number % 2) * 15)] for number, (_, position) in enumerate(whole)]
    )
    squeezed = replace(squeezed, tempo_ratio=0.4)
    true = part_of(60, 20, 45, 1.0, 1.0)
    blind = elect([squeezed, true], "consistent", 1)[0]
    fair = elect([squeezed, true], "consistent", 1, length_of=lambda _: 100.0)[0]
    assert blind.tempo_ratio == 0.4 and fair.tempo_ratio == 1.0
    assert fair.start == pytest.approx(-80, abs=BIN_FRAMES) and 0.5 < fair.share <= 1


def test_where_all_falls_within_the_piece_its_length_changes_nothing():
    found = scattered_against_aligned()
    assert consistent(found, 5, lambda _: 1e6) == [
        replace(c, share=pytest.approx(c.share)) for c in consistent(found, 5)
    ]


@pytest.mark.parametrize("ratio", [0.95, 1.0, 1.06])
def test_a_tempo_between_those_tried_is_read_off_the_hits(ratio):
    rows = [[(2, 500 + round(4 * n * ratio)), (3, 37 * n % 900)] for n in range(60)]
    [best] = consistent(hits(rows), 1)
    fine = straightened([hits(rows)], best)
    assert best.tempo_ratio == 1.0 and fine.tempo_ratio == pytest.approx(ratio, abs=0.005)
    assert fine.start == pytest.approx(500, abs=2) and fine.share == best.share


def test_hits_that_tell_no_line_leave_the_tempo_that_was_tried():
    few = hits([[(2, 4 * n)] for n in range(4)])
    back = hits([[(2, 10 - (n % 2))] for n in range(10)])
    for made in (few, back):
        [best] = consistent(made, 1)
        assert straightened([made], best) == best
    untold = majority(few, 1)[0]
    assert straightened([few], untold) == untold


def test_votes_for_a_position_that_triples_found_are_counted_there():
    """Most snippets vote for one position of a piece; for another, found by triples, eight do."""
    rows = [[(1, 4 * n), *([(1, 5_000 + 4 * n)] if n < 8 else [(2, 9)])] for n in range(20)]
    made = hits(rows)
    elected = elect([made], "consistent", 5)
    there = Candidate(1, 0.0, 1.05, 4_998.0, 0, 0.5)
    elsewhere = replace(there, start=2_000.0)
    other_key = replace(there, transpose=1)
    shares = [c.share for c in joined(elected, [there, elsewhere, other_key], 100, [made])[-3:]]
    assert shares == [pytest.approx(8 / (20 + DOUBT), abs=0.01), 0.0, 0.0]
    assert joined(elected, [there], 100)[-1].share == 0.0, "not without the hits"
