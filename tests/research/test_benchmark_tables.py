"""The tables of `mmid.research.benchmarks`, made of small results as the commands store them."""

from __future__ import annotations

import json

import pytest

from mmid.evaluation.scores import ClipResult, compare, sum_up
from mmid.evaluation.snippets import SnippetScores
from mmid.model.evidence import Evidence
from mmid.model.metrics import Retrieval
from mmid.research.benchmark_tables import GROWTH, NOT_MEASURED, TABLES, fill

EVIDENCE = Evidence(votes=0.5, explained=0.5, lead=0.1, above=0.1, seconds=10.0, snippets=100)


def clip(piece, rank, seconds=10.0, error=None):
    return ClipResult(
        f"{piece}.wav", 0.0, seconds, rank, rank == 1, "tune.mid", 0.9, 0.5, error, EVIDENCE,
        piece=piece, verdict="found",
    )  # fmt: skip


def scores(ranks, seconds=10.0, errors=(None,) * 9):
    """Return mmid's scores of a clip of each piece, a letter each, with these ranks."""
    clips = [clip(p, r, seconds, e) for p, r, e in zip("abcdefghi", ranks, errors, strict=False)]
    return sum_up(seconds, clips, 0.5)


def stored(*rows):
    return json.loads(json.dumps([row.to_dict() for row in rows]))


def lines(name, results):
    return TABLES[name](results).splitlines()


def with_kinds(whole, *kinds):
    row = whole.to_dict()
    parts = [part.to_dict() | {"kind": kind, "results": []} for kind, part in kinds]
    return json.loads(json.dumps(row | {"kinds": parts}))


def test_clips_of_which_none_was_queried_without_its_piece_have_a_row():
    row = with_kinds(scores([1, 3, 1, 1]), ("game", scores([1, 1])), ("new", scores([2, 9])))
    table = lines("b8-lengths", {"b8-10": [row], "b8-whole": [row]})
    assert [line.split(" | ")[0] for line in table[2:]] == ["| game", "| new", "| all"]
    assert table[2].startswith("| game | 100.0 % | 100 to 100 | 100.0 % | 0.0 % | 100.0 %")


def test_degraded_sound_is_compared_with_clean_sound_piece_by_piece():
    results = {
        "b3": stored(scores([1, 1], 5.0), scores([1, 1, 1, 2])),
        "b6-up": stored(scores([1, 1, 1, 1])),
        "b6-room": stored(scores([2, 1, 2, 2])),
    }
    assert lines("b6", results)[2:] == [
        "| as it is | 4 | 75.0 % |  | 75.0 % | 25.0 % |",
        "| a reverberant room | 4 | 25.0 % | -50.0 (-100 to +0) | 25.0 % | 75.0 % |",
        "| two semitones up | 4 | 100.0 % | +25.0 (+0 to +75) | 100.0 % | 0.0 % |",
    ]
    with pytest.raises(KeyError):
        TABLES["b6"]({"b3": results["b3"]})


def test_every_degradation_has_a_row():
    from mmid.research.benchmarks import COMMANDS
    from mmid.research.comparison_tables import SOUNDS

    assert set(SOUNDS) == {name[3:] for name in COMMANDS if name.startswith("b6-")}


def test_baselines_stand_beside_mmid_on_the_same_clips():
    own, beaten, level = scores([1, 1, 1, 2]), scores([1, 2, 2, 9]), scores([2, 1, 1, 1])
    both = [compare(beaten, own, "chroma"), compare(level, own, "fingerprints")]
    short = scores([1, 1], 3.0)
    results = {
        "b3": stored(own),
        "b3-baselines": stored(short, own, compare(short, short, "fingerprints"), *both[::-1]),
        "b8-baselines": [
            with_kinds(own, ("game", scores([1, 1]))),
            with_kinds(both[0], ("game", compare(scores([1, 2]), scores([1, 1]), "chroma"))),
        ],
    }
    table = lines("baselines", results)
    assert table[0] == (
        "| music | clip | clips | mmid | fingerprints | mmid ahead, points"
        " | chroma | mmid ahead, points |"
    )
    pianists = "| rendered pianists (B3) |"
    assert table[2:] == [
        f"{pianists} 3 s | 2 | 100.0 % | 100.0 % | +0.0 (+0 to +0) |  |  |",
        f"{pianists} 10 s | 4 | 75.0 % | 75.0 % | +0.0 (-75 to +75) | 25.0 % |"
        " +50.0 (+0 to +100) |",
        "| game music | 10 s | 2 | 100.0 % |  |  | 50.0 % | +50.0 (+0 to +100) |",
        "| all of these kinds | 10 s | 4 | 75.0 % |  |  | 25.0 % | +50.0 (+0 to +100) |",
    ]
    with pytest.raises(KeyError):
        TABLES["baselines"]({"b3": results["b3"]})


def test_snippets_have_a_row_a_direction():
    found = Retrieval(200, {1: 0.9, 5: 0.95, 25: 1.0}, 0.925, 1.0)
    result = SnippetScores(200, 4, {"audio to MIDI": found, "MIDI to audio": found})
    table = lines("b1", {"b1": json.loads(json.dumps(result.to_dict()))})
    assert table[0] == "| direction | R@1 | R@5 | R@25 | MRR | median rank |"
    assert table[2] == "| audio to MIDI | 90.0 % | 95.0 % | 100.0 % | 92.5 % | 1 |"
    assert len(table) == 4


def test_starts_have_a_row_where_they_are_known():
    results = {"b2": stored(scores([1, 1], errors=[0.25, 0.25])), "b3": stored(scores([1]))}
    assert lines("starts", results)[2:] == ["| rendered tunes | 10 s | 0.25 s | 0.25 s |"]


def test_speed_is_a_column_a_size():
    sizes = [dict.fromkeys(GROWTH, 0.5) | {"pieces": count} for count in (1_000, 10_000)]
    table = fill("<!-- table b7 -->\n<!-- end -->", {"b7": sizes})[0]
    assert "|  | 1,000 pieces | 10,000 pieces |" in table and "| 50.0 % | 50.0 % |" in table
    del sizes[0]["cold_seconds"]
    assert len(lines("b7", {"b7": sizes})) == 1 + len(GROWTH)


def test_query_times_say_whether_the_piece_was_there():
    rows = [
        {"seconds": 10.0, "present": there, "clips": 3, "median": 1, "slow": 2.5, "processor": 3}
        for there in (True, False)
    ]
    assert lines("queries", {"queries": rows})[2:] == [
        "| 10 s | in the library | 1.00 s | 2.50 s | 3.00 s |",
        "| 10 s | taken out | 1.00 s | 2.50 s | 3.00 s |",
    ]


def test_calibration_is_three_tables():
    names = ("top1", "auroc", "brier", "found_right", "found_wrong", "absent_found")
    row = {"queries": 12} | dict.fromkeys(names, 0.5)
    bins = [{"low": 0.0, "high": 0.1, "answers": 7, "confidence": 0.02, "right": 0.0}]
    fitted = {"rankings": {"learned": row}, "lengths": {"3": row}, "kinds": {"piano": row}}
    results = {"calibration": fitted | {"reliability": bins}}
    shown = "12 | 50.0 % | 0.500 | 0.500 | 50.0 % | 50.0 % | 50.0 % |"
    assert lines("rankings", results)[2:] == [f"| learned | {shown}"]
    assert lines("fitted-kinds", results)[2:] == [f"| of 3 s | {shown}", f"| piano | {shown}"]
    assert lines("reliability", results)[2:] == ["| 0 to 10 % | 7 | 2.0 % | 0.0 % |"]


def test_a_table_without_results_says_so():
    text = "before\n<!-- table b1 -->\n| old | 99 % |\n<!-- end -->\nafter"
    assert fill(text, {}) == (
        f"before\n<!-- table b1 -->\n\n{NOT_MEASURED}\n\n<!-- end -->\nafter",
        [],
    )
