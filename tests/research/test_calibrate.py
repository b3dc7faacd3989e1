"""`mmid.research.calibrate` and its figures: gathered once, fitted again and again."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from typer import Typer
from typer.testing import CliRunner

from mmid.errors import MmidError
from mmid.evaluation.sources import ScoreSource
from mmid.identify.identifier import Identifier
from mmid.identify.ranking import Ranked
from mmid.identify.search_options import SearchOptions
from mmid.identify.voting import Candidate
from mmid.index.build import build_index
from mmid.index.folder import LibraryIndex
from mmid.model.checkpoint import load_checkpoint, save_checkpoint
from mmid.model.confidence import confidence
from mmid.model.evidence import DEFAULT_WEIGHTS, Figures, Weights, weights_of
from mmid.research import calibrate
from mmid.research.calibrate import (
    answer,
    cross_validate,
    figures_of,
    fit,
    judge,
    store_weights,
    threshold_shift,
)
from mmid.research.candidates import Compared, Trial, add_trials, read_trials, try_clips
from mmid.research.conditional_logit import fit_ranking


def candidate(item: int, music: int, *, right: bool, **figures: float) -> Compared:
    own = Figures(**figures)
    placed = Candidate(item, own.votes, 1.0, None, 0, own.triples)
    return Compared(Ranked(placed, own, 0.0), music, right)


def drawn(count: int, seed: int = 0) -> list[Trial]:
    """Draw queries whose right candidate has more melody, and no more votes, than the others."""
    rng, trials = np.random.default_rng(seed), []
    for number in range(count):
        votes, melody = rng.uniform(0, 0.3, 12), rng.uniform(0, 0.6, 12)
        melody[0] = rng.uniform(0.5, 0.9)
        explained = rng.uniform(0.1, 0.3, 12) + 0.3 * (np.arange(12) == 0)
        rows = [
            candidate(n, n, right=n == 0, votes=votes[n], melody=melody[n], explained=explained[n])
            for n in range(12)
        ]
        for present in (True, False):
            own = tuple(rows if present else rows[1:])
            name = f"clip {number}"
            trials.append(Trial(name, "reel", name, 30.0, 50_000, present, "m", own))
    return trials


def test_a_ranking_learns_which_figures_name_the_right_piece():
    trials = drawn(60)
    learned = fit_ranking([one for one in trials if one.present], DEFAULT_WEIGHTS.ranking)
    assert learned["melody"] > 0.1 and "claimed" not in learned, "which nobody knows"
    before, after = (
        figures_of(judge(trials, Weights(ranking, DEFAULT_WEIGHTS.confidence)))["top1"]
        for ranking in (DEFAULT_WEIGHTS.ranking, learned)
    )
    assert after > before + 0.2 and after > 0.9


def test_no_figure_counts_against_what_it_speaks_for():
    def harmful(trial: Trial) -> Trial:
        rows = [
            replace(one, ranked=replace(one.ranked, figures=replace(
                one.ranked.figures, harmony=float(not one.right), tempo_cost=float(one.right)
            )))
            for one in trial.candidates
        ]  # fmt: skip
        return replace(trial, candidates=tuple(rows))

    learned = fit_ranking([harmful(one) for one in drawn(40)], DEFAULT_WEIGHTS.ranking)
    assert all(learned.get(name, 0.0) >= 0 for name in ("votes", "harmony", "melody"))
    assert learned.get("harmony", 0.0) == 0 and learned.get("tempo_cost", 0.0) <= 0


def test_without_right_candidates_the_ranking_stays():
    gone = [one for one in drawn(5) if not one.present]
    assert fit_ranking(gone, DEFAULT_WEIGHTS.ranking) == dict(DEFAULT_WEIGHTS.ranking)
    assert fit_ranking([], DEFAULT_WEIGHTS.ranking) == dict(DEFAULT_WEIGHTS.ranking)


def test_what_was_not_compared_does_not_pass_for_what_does_not_agree():
    """Melodies of the first three alone: they say nothing if they are all alike."""
    rows = tuple(
        candidate(n, n, right=n == 0, votes=0.2 - 0.01 * n, **({"melody": 0.5} if n < 3 else {}))
        for n in range(9)
    )
    trials = [Trial(f"c{n}", "", f"c{n}", 30.0, 50_000, True, "m", rows) for n in range(20)]
    assert "melody" not in fit_ranking(trials, DEFAULT_WEIGHTS.ranking)


def test_files_of_the_same_music_are_no_rivals():
    rows = (
        candidate(4, 4, right=True, votes=0.5),
        candidate(9, 4, right=True, votes=0.45),
        candidate(7, 7, right=False, votes=0.1),
    )
    trial = Trial("a", "", "a", 30.0, 50_000, True, "m", rows)
    found = answer(trial, DEFAULT_WEIGHTS.ranking)
    assert found.right and found.evidence.lead == pytest.approx(2 * (0.5 - 0.1))
    nothing = answer(replace(trial, candidates=()), DEFAULT_WEIGHTS.ranking)
    assert not nothing.right and nothing.evidence.lead == nothing.evidence.votes == 0


def test_a_confidence_tells_queries_with_their_piece_from_others():
    trials = drawn(60)
    found = figures_of(cross_validate(trials, fit))
    assert found["queries"] == 60 and found["auroc"] > 0.95 and found["brier"] < 0.1
    sums = sum(found[name] for name in ("found_right", "found_wrong", "perhaps_right"))
    assert 0.5 < sums <= 1


def test_each_piece_is_judged_by_weights_of_others():
    trials, seen = drawn(20), []

    def fit_to(some: list[Trial]) -> Weights:
        seen.append({one.piece for one in some})
        return DEFAULT_WEIGHTS

    judged = cross_validate(trials, fit_to)
    assert len(seen) == 5 and len(judged.answers) == len(trials)
    assert all(sum(one.piece not in part for part in seen) == 1 for one in trials)


def test_the_threshold_lets_few_through():
    odds = np.random.default_rng(0).normal(0, 2, 1_000)
    moved = odds + threshold_shift(odds)
    assert (moved >= 0).sum() == 10
    assert threshold_shift(odds - 100) == 0 == threshold_shift(np.zeros(0))
    assert (np.ones(50) + threshold_shift(np.ones(50)) < 0).all(), "of fifty none may be found"


def test_what_is_chosen_names_no_fewer_and_lets_few_through():
    weights, judged, best = calibrate.calibrate(drawn(60))
    assert best == "learned" and weights.ranking["melody"] > 0
    assert all(figures_of(found)["absent_found"] <= 0.01 for found in judged.values())
    with pytest.raises(MmidError, match="no queries to fit to"):
        calibrate.calibrate([one for one in drawn(5) if one.present])


def test_figures_survive_their_file_and_a_line_that_broke_off(tmp_path):
    trials, path = drawn(3), tmp_path / "f.jsonl"
    add_trials(path, trials[:4])
    path.write_bytes(path.read_bytes() + b'{"clip": "brok')
    assert len(read_trials(path)) == 4
    add_trials(path, trials[3:])
    again = read_trials(path)
    assert [one.key for one in again] == [one.key for one in trials], "each once"
    for one, other in zip(again, trials, strict=True):
        assert one.piece == other.piece and len(one.candidates) == len(other.candidates)
        for mine, theirs in zip(one.candidates, other.candidates, strict=True):
            assert (mine.music, mine.right, mine.name) == (theirs.music, theirs.right, theirs.name)
            known = theirs.ranked.figures.known()
            assert mine.ranked.figures.known() == pytest.approx(known, abs=1e-4)


@pytest.mark.parametrize("text", ["{}\n", "[1]\n", "x\n", '{"clip": 1, "item": []}\n'])
def test_another_file_is_refused(tmp_path, text):
    (tmp_path / "f.jsonl").write_text(text)
    with pytest.raises(MmidError, match="not a file of mmid"):
        read_trials(tmp_path / "f.jsonl")


def test_clips_are_tried_with_and_without_their_piece(tmp_path, pieces, tiny_model):
    build_index(tmp_path / "index", pieces, tiny_model)
    index = LibraryIndex(tmp_path / "index", tiny_model)
    identifier = Identifier(tiny_model, index, SearchOptions(keys=(0,)))
    sources = [ScoreSource(p.name, frozenset({p.digest}), p.midi, kind="x") for p in pieces[:2]]
    tried = list(try_clips(sources, identifier, [8.0]))
    assert [len(part) for part in tried] == [2, 2]
    for present, absent in tried:
        assert present.present and not absent.present and present.kind == "x"
        assert any(one.right for one in present.candidates)
        assert not any(one.right for one in absent.candidates)
        decided = identifier.decide(identifier.search(sources[0].clip(0, 1, identifier.params)))
        assert decided.seconds > 0
        one, other = (answer(trial, DEFAULT_WEIGHTS.ranking) for trial in (present, absent))
        assert one.right and not other.right
        assert one.evidence.explained > other.evidence.explained
        assert confidence(one.evidence) > confidence(other.evidence)
    done = frozenset(trial.key for part in tried for trial in part)
    assert list(try_clips(sources, identifier, [8.0], done)) == [[], []]


def test_weights_are_stored_with_a_model(tmp_path, tiny_model):
    save_checkpoint(tmp_path / "a.safetensors", tiny_model.encoders, {"seed": 3}, half=True)
    weights, judged, best = calibrate.calibrate(drawn(30))
    store_weights(tmp_path / "a.safetensors", tmp_path / "b.safetensors", weights, judged[best])
    before, after = (
        load_checkpoint(tmp_path / name) for name in ("a.safetensors", "b.safetensors")
    )
    assert after.fingerprint == before.fingerprint, "an index made with it stays right"
    assert after.facts["seed"] == 3 and after.facts["calibrated"]["queries"] == 30
    assert weights_of(after.facts) == weights
    sizes = [(tmp_path / name).stat().st_size for name in ("a.safetensors", "b.safetensors")]
    assert abs(sizes[0] - sizes[1]) < 5_000, "stored as it was"


@pytest.fixture
def run(tmp_path, midi_folder, built, tiny_model, write_wav, play, pieces):
    """Return the command, run on two recordings of a library's pieces."""
    rows = ["id,audio,midi"]
    for number, piece in enumerate(pieces[:2]):
        write_wav(midi_folder / f"{number}.wav", play(piece.midi.notes))
        rows.append(f"r{number},{number}.wav,{piece.path}")
    (midi_folder / "pairs.csv").write_text("\n".join(rows))
    model = tmp_path / "tiny.safetensors"
    save_checkpoint(model, tiny_model.encoders, {})
    app = Typer()
    app.command()(calibrate.main)

    def invoke(*arguments: object):
        fixed = ["--model", model, "--out", tmp_path / "out.safetensors"]
        fixed += ["--figures", tmp_path / "f.jsonl"]
        return CliRunner().invoke(app, [str(one) for one in [*arguments, *fixed]])

    return invoke


def test_the_command_gathers_fits_and_stores(run, tmp_path, midi_folder, built):
    ways = ("--index", built, "--clips", "8", "--transpose", "0")
    first = run(midi_folder, *ways, "--json")
    assert first.exit_code == 0, first.output
    lines = (tmp_path / "f.jsonl").read_text()
    assert lines.count("\n") == 4
    said = json.loads(first.stdout)
    stored = weights_of(load_checkpoint(tmp_path / "out.safetensors").facts)
    assert said["confidence"] == stored.confidence and said["ranking"] == stored.ranking
    assert said["rankings"][said["chosen"]]["queries"] == 2
    again = run(midi_folder, *ways)
    assert again.exit_code == 0 and (tmp_path / "f.jsonl").read_text() == lines, "nothing anew"
    fitted = run()
    assert fitted.exit_code == 0 and "reliability" in fitted.stdout
    assert "taken out" in fitted.stdout, "what is wrong is named"
    ignored = run("--ignore", "r0", "--ignore", "r1")
    assert ignored.exit_code == 1 and "no queries to fit to" in ignored.stderr


def test_what_the_command_cannot_use_is_one_line(run, tmp_path, midi_folder, built):
    empty = run()
    assert empty.exit_code == 1 and empty.stderr.count("\n") == 1
    (tmp_path / "f.jsonl").write_text(drawn(1)[0].to_json() + "\n")
    other = run()
    assert other.exit_code == 1 and "figures of another model" in other.stderr
    wrong = run(midi_folder, "--index", built, "--transpose", "high")
    assert wrong.exit_code == 1 and wrong.stderr.count("\n") == 1
