"""`pieces` and `sources`, and what the packaged model must reach on rendered tunes."""

import json
from dataclasses import replace

import numpy as np
import pytest
from synth import SOUNDFONT, needs_fluidsynth

from mmid.errors import MmidError
from mmid.evaluation.pieces import evaluate_pieces, same_bars
from mmid.evaluation.scores import calibrate, kind_table, verdict_table
from mmid.evaluation.snippets import evaluate_snippets
from mmid.evaluation.sources import (
    ScoreSource,
    open_sources,
    recorded_sources,
    rendered_sources,
    score_sources,
)
from mmid.identify.identifier import Identifier
from mmid.identify.search_options import SearchOptions
from mmid.index.build import build_index
from mmid.index.folder import LibraryIndex
from mmid.model.confidence import confidence
from mmid.model.evidence import Evidence
from mmid.model.loading import load_model
from mmid.music.grid import DEFAULT
from mmid.music.library import Piece, scan_library
from mmid.music.midi import write_midi
from mmid.music.notes import shifted
from mmid.music.pairs import read_pairs
from mmid.music.synthesizer import Synthesizer
from mmid.system.files import file_digest


@pytest.fixture(scope="module")
def opened(demo_index):
    model = load_model()
    return model, LibraryIndex(demo_index, model)


def rendered(piece: Piece) -> np.ndarray:
    with Synthesizer(SOUNDFONT, DEFAULT.sample_rate) as synthesizer:
        return synthesizer.render(piece.midi.notes)


@needs_fluidsynth
def test_the_packaged_model_retrieves_snippets_of_unseen_tunes(demo_tunes):
    result = evaluate_snippets(demo_tunes[:8], rendered, load_model(), pool=200)
    assert result.pool == 200 and result.pieces == 8
    for name in ("audio to MIDI", "MIDI to audio"):
        strict, lenient = result.scores[name], result.scores[f"{name}, repeats right"]
        assert strict.mrr > 0.9
        assert lenient.recall[1] >= strict.recall[1] > 0.85


@needs_fluidsynth
def test_the_packaged_model_identifies_clips_of_unseen_tunes(demo_tunes, opened):
    model, index = opened
    rendered = rendered_sources(demo_tunes[:6], demo_tunes, SOUNDFONT, DEFAULT, tempo=(0.8, 1.25))
    digests = [entry.digest for entry in index.entries]
    identifier = Identifier(model, index)
    short, long = evaluate_pieces(
        rendered, identifier, digests, lengths=[5.0, 10.0], clips=1, absent=True
    )
    assert short.clips == long.clips == 6
    assert short.top1 > 0.8 and long.top1 > 0.8
    assert long.auroc > 0.9 and long.matched > 0.6
    assert long.falsely_matched < long.matched - 0.2
    assert long.median_position_error < 0.5


@needs_fluidsynth
def test_the_packaged_model_finds_the_recordings_of_scores(tmp_path, demo_tunes, write_wav):
    rows = ["id,audio,midi"]
    for number, tune in enumerate(demo_tunes[:3]):
        write_wav(tmp_path / f"{number}.wav", rendered(tune))
        rows.append(f"{number},{number}.wav,{tune.path}")
    (tmp_path / "pairs.csv").write_text("\n".join(rows))
    model = load_model()
    grid = model.encoders.config.features
    count, recordings = scan_library([tmp_path], "auto", grid, jobs=1)
    assert count == 3
    build_index(tmp_path / "index", recordings, model)
    index = LibraryIndex(tmp_path / "index", model)
    digests = [entry.digest for entry in index.entries]
    count, sources = open_sources(tmp_path, None, grid, (1, 1), "all", 0, direction="scores")
    assert count == 3
    identifier = Identifier(model, index, SearchOptions(keys=(0,)))
    (scores,) = evaluate_pieces(sources, identifier, digests, lengths=[10.0], clips=1, absent=True)
    assert scores.clips == 3 and scores.top1 > 0.9 and scores.matched > 0.9
    assert scores.auroc > 0.95 and scores.median_position_error is None


@needs_fluidsynth
def test_performances_can_be_rendered_when_all_have_been_read(midi_folder):
    (midi_folder / "pairs.csv").write_text("id,audio,midi\n0,piece 0.mid,piece 1.mid\n")
    _, sources = open_sources(midi_folder, SOUNDFONT, DEFAULT, (1, 1), "all", 0)
    (source,) = list(sources)
    assert np.abs(source.sound(0, DEFAULT.sample_rate * 5)).max() > 0.01


@needs_fluidsynth
def test_a_performance_begins_with_its_first_note(midi_folder, draw_notes):
    cut_out = shifted(draw_notes(0, 50, 10.0), 300.0)
    write_midi(cut_out, midi_folder / "cut out.mid")
    (midi_folder / "pairs.csv").write_text("id,audio,midi\n0,cut out.mid,piece 0.mid\n")
    [source] = open_sources(midi_folder, SOUNDFONT, DEFAULT, (1, 1), "all", 0)[1]
    assert source.size(DEFAULT) <= 11 * DEFAULT.sample_rate
    assert np.abs(source.sound(0, DEFAULT.sample_rate)).max() > 0.01


def test_a_pool_larger_than_the_pieces_is_refused(demo_tunes):
    with pytest.raises(MmidError, match=r"1 pieces hold \d+ snippets, fewer than --pool 100000"):
        evaluate_snippets(demo_tunes[:1], rendered, load_model(), pool=100_000)


SURROUNDINGS = {"seconds": 10.0, "snippets": 1_000}


def judged(present: float, absent: float, rank: int | None = 1) -> dict[str, object]:
    """Return a clip's result as JSON, by what spoke for its answer with and without the piece."""

    def evidence(value: float) -> dict[str, float]:
        figures = ("votes", "explained", "lead", "above")
        return SURROUNDINGS | dict.fromkeys(figures, value)

    return {"rank": rank, "evidence": evidence(present), "absent_evidence": evidence(absent)}


def test_calibration_tells_right_answers_from_answers_without_their_piece():
    clips = [judged(0.8, 0.1), judged(0.7, 0.2), judged(0.15, 0.15, rank=2), judged(0.1, 0.1, None)]
    fitted = calibrate([{"results": clips[:2]}, {"results": clips[2:]}])
    assert np.all(np.isfinite(list(fitted.values())))
    sure = [confidence(Evidence(**judged(v, v)["evidence"]), fitted) for v in (0.75, 0.15)]
    assert sure[0] > sure[1] + 0.2


@pytest.mark.parametrize(
    "scores",
    [
        [{}],
        [3],
        [{"results": [{"votes": 1, "seconds": 1, "rank": 1}]}],
        [{"results": [judged(0.5, 0.1) | {"absent_evidence": None}]}],
        [{"results": [judged(0.5, 0.1) | {"evidence": {"votes": 1.0}}]}],
    ],
)
def test_other_results_cannot_calibrate(scores):
    with pytest.raises(MmidError, match="not the results of mmid eval pieces --absent"):
        calibrate(scores)


def test_clips_without_their_piece_are_judged_from_one_search(tmp_path, pieces, tiny_model):
    build_index(tmp_path / "index", pieces, tiny_model)
    index = LibraryIndex(tmp_path / "index", tiny_model)
    digests = [entry.digest for entry in index.entries]
    sources = [ScoreSource(p.name, frozenset({p.digest}), p.midi) for p in pieces[:2]]
    (scores,) = evaluate_pieces(
        sources, Identifier(tiny_model, index), digests, lengths=[8.0], clips=2, absent=True
    )
    assert scores.clips == 4 and scores.top1 == 1.0
    for clip in scores.results:
        assert clip.answer == clip.source and clip.rank == 1
        assert clip.evidence.votes == clip.votes and clip.evidence.snippets == len(index.vectors)
        assert clip.evidence.seconds == clip.seconds == pytest.approx(8)
        assert clip.evidence.explained > 0.8 > 0.4 > clip.absent_evidence.explained
        assert clip.evidence.lead > clip.absent_evidence.lead
        assert clip.evidence.above > clip.absent_evidence.above
        assert clip.verdict in ("found", "perhaps", "absent")
        assert (clip.verdict == "found") == clip.matched and clip.absent_verdict is not None
    rows = json.loads(json.dumps([scores.to_dict()]))
    assert sum(rows[0]["verdicts"].values()) == sum(rows[0]["absent_verdicts"].values()) == 1
    assert rows[0]["absent_verdicts"]["found_right"] == 0
    assert rows[0]["verdicts"]["found_right"] == scores.matched
    sure = [*(c.confidence for c in scores.results), *(c.absent_confidence for c in scores.results)]
    assert scores.brier == pytest.approx(np.mean((np.array(sure) - ([1] * 4 + [0] * 4)) ** 2))
    assert sum(one["answers"] for one in rows[0]["reliability"]) == 8
    fitted = calibrate(rows)
    assert all(
        confidence(clip.evidence, fitted) > 0.5 > confidence(clip.absent_evidence, fitted)
        for clip in scores.results
    )


def test_each_kind_is_scored_by_its_own_clips(tmp_path, pieces, tiny_model):
    build_index(tmp_path / "index", pieces, tiny_model)
    index = LibraryIndex(tmp_path / "index", tiny_model)
    digests = [entry.digest for entry in index.entries]
    right = [pieces[0].digest, pieces[1].digest, pieces[0].digest, pieces[3].digest]
    sources = [
        ScoreSource(piece.name, frozenset({digest}), piece.midi, kind=kind)
        for piece, digest, kind in zip(pieces, right, ["reel", "jig", "reel", ""], strict=False)
    ]
    asked = {"lengths": [3.0, 8.0], "clips": 1, "absent": True}
    identifier = Identifier(tiny_model, index, SearchOptions(keys=(0,)))
    short, long = evaluate_pieces(sources, identifier, digests, **asked)
    alone = evaluate_pieces(sources[1:2], identifier, digests, **asked)
    for row, jig in zip((short, long), alone, strict=True):
        reels, jigs, others = row.kinds
        assert [part.kind for part in row.kinds] == ["reel", "jig", ""] and row.kind == ""
        assert [part.clips for part in row.kinds] == [2, 1, 1]
        assert reels.top1 == 0.5 and jigs.top1 == others.top1 == 1, "the second reel is another"
        assert all(part.seconds == row.seconds and not part.results for part in row.kinds)
        assert replace(jig.kinds[0], kinds=()) == jigs
    table = kind_table([short, long])
    assert table.columns[0].header == "kind"
    assert list(table.columns[0].cells) == ["reel", "reel", "jig", "jig", "-", "-"]
    assert list(table.columns[1].cells) == ["3 s", "8 s"] * 3
    verdicts = verdict_table([short, long])
    assert list(verdicts.columns[0].cells) == ["all", "reel", "jig", "-"] * 2
    assert list(verdicts.columns[1].cells) == ["3 s"] * 4 + ["8 s"] * 4
    assert reels.verdicts.found_right + reels.verdicts.perhaps_right <= 0.5


def test_a_variant_of_the_tune_counts_as_right_and_is_taken_out_too(tmp_path, pieces, tiny_model):
    build_index(tmp_path / "index", pieces, tiny_model)
    index = LibraryIndex(tmp_path / "index", tiny_model)
    digests = [entry.digest for entry in index.entries]
    names = [entry.name for entry in index.entries]
    played, other = names.index(pieces[0].name), names.index(pieces[1].name)
    source = ScoreSource("other", frozenset({digests[other]}), pieces[0].midi)

    class OneVariant:
        def of(self, piece):
            return frozenset({other: {played}}.get(piece, ()))

    identifier = Identifier(tiny_model, index, SearchOptions(keys=(0,)))
    asked = {"lengths": [8.0], "clips": 1, "absent": True}
    (alone,) = evaluate_pieces([source], identifier, digests, **asked)
    (both,) = evaluate_pieces([source], identifier, digests, variants=OneVariant(), **asked)
    assert (alone.top1, both.top1) == (0, 1)
    assert both.results[0].answer == pieces[0].name and both.results[0].position_error is None
    assert alone.falsely_matched == 1 and both.falsely_matched == 0


def test_several_at_once_are_scored_as_one_after_the_other(tmp_path, pieces, tiny_model):
    build_index(tmp_path / "index", pieces, tiny_model)
    index = LibraryIndex(tmp_path / "index", tiny_model)
    digests = [entry.digest for entry in index.entries]
    sources = [ScoreSource(p.name, frozenset({p.digest}), p.midi) for p in pieces[:4]]
    identifier = Identifier(tiny_model, index, SearchOptions(keys=(0,)))
    names: list[str] = []
    asked = {"lengths": [3.0, 8.0], "clips": 1, "absent": True, "progress": names.append}
    one, three = (
        evaluate_pieces(iter(sources), identifier, digests, jobs=jobs, **asked) for jobs in (1, 3)
    )
    assert [row.to_dict() for row in one] == [row.to_dict() for row in three]
    assert names == [source.name for source in sources] * 2


def test_sources_without_a_kind_are_not_told_apart(tmp_path, pieces, tiny_model):
    build_index(tmp_path / "index", pieces, tiny_model)
    index = LibraryIndex(tmp_path / "index", tiny_model)
    sources = [ScoreSource(p.name, frozenset({p.digest}), p.midi) for p in pieces[:2]]
    (scores,) = evaluate_pieces(sources, Identifier(tiny_model, index), [], lengths=[3.0])
    assert scores.kinds == ()


@pytest.mark.parametrize("start", [1.0, -0.5])  # a recording may begin before its score
def test_repeated_bars_are_found_wherever_they_are(start, draw_notes):
    bars = draw_notes(0, 60, 10.0)
    bars["offset"] = np.minimum(bars["offset"], 10.0)
    seconds = 215 / DEFAULT.frame_rate  # a whole number of frames
    parts = [bars, draw_notes(1, 60, 9.0), bars]
    for number, part in enumerate(parts):
        parts[number] = part.copy()
        parts[number]["onset"] += number * seconds
        parts[number]["offset"] += number * seconds
    positions = same_bars(np.concatenate(parts), start, 8.0)
    assert positions[0] == start
    far = np.abs(positions[:, None] - [start, start + 2 * seconds])
    assert far.min(1).max() < 0.1 and far.min(0).max() < 0.1


def test_rows_of_one_piece_are_right_for_each_other(midi_folder, recording):
    names = sorted(path.relative_to(midi_folder) for path in midi_folder.rglob("*.mid"))[:3]
    rows = [f"r{i},{recording},{name},{'x' if i else 'y'}" for i, name in enumerate(names)]
    (midi_folder / "pairs.csv").write_text("\n".join(["id,audio,midi,piece", *rows]))
    first, second, third = recorded_sources(read_pairs(midi_folder), DEFAULT)
    assert second.right == third.right and len(second.right) == 2
    assert not first.right & second.right


def test_sources_are_of_the_kind_that_the_list_says(midi_folder, recording):
    rows = [f"r{i},{recording},piece {i}.mid,{kind}" for i, kind in enumerate(["reel", ""])]
    (midi_folder / "pairs.csv").write_text("\n".join(["id,audio,midi,kind", *rows]))
    pairs = read_pairs(midi_folder)
    assert [pair.kind for pair in pairs] == ["reel", ""]
    opened = (midi_folder, None, DEFAULT, (1, 1), "all", 0)
    ways = ({}, {"degradation": "flat"}, {"degradation": "skip"}, {"direction": "scores"})
    for sources in (open_sources(*opened, **way)[1] for way in ways):
        assert [source.kind for source in sources] == ["reel", ""]


@pytest.fixture
def paired(midi_folder, recording, write_wav):
    """Return pairs of four recordings: two of one score, two of scores that are one piece."""
    rows = ["id,audio,midi,piece"]
    names = ["piece 0.mid", "piece 0.mid", "piece 1.mid", "piece 2.mid"]
    for number, (name, piece) in enumerate(zip(names, ["", "", "x", "x"], strict=True)):
        write_wav(midi_folder / f"{number}.wav", np.full(22_050, number / 10))
        rows.append(f"r{number},{number}.wav,{name},{piece}")
    (midi_folder / "pairs.csv").write_text("\n".join(rows))
    return read_pairs(midi_folder)


def test_the_recordings_of_a_score_are_right_for_it(paired, midi_folder):
    digests = [file_digest(midi_folder / f"{number}.wav") for number in range(4)]
    first, *others = score_sources(paired)
    assert first.name == "piece 0.mid" and first.right == set(digests[:2])
    assert [source.name for source in others] == ["piece 1.mid", "piece 2.mid"]
    assert all(source.right == set(digests[2:]) for source in others)
    assert len(list(recorded_sources(paired, DEFAULT))) == 4, "each recording is asked about"


def test_a_clip_is_a_span_of_its_source(paired):
    recorded, score = next(recorded_sources(paired, DEFAULT)), score_sources(paired)[0]
    assert recorded.size(DEFAULT) == 22_050
    assert score.size(DEFAULT) == int(paired[0].score.midi.seconds * 22_050)
    heard, read = (source.clip(5_000, 11_025, DEFAULT) for source in (recorded, score))
    assert heard.kind == "recordings" and heard.seconds == pytest.approx(0.5, abs=0.1)
    assert read.kind == "midi" and read.seconds == pytest.approx(0.5)
    whole = score.clip(0, score.size(DEFAULT), DEFAULT)
    assert whole.seconds == pytest.approx(paired[0].score.midi.seconds, abs=1e-3)


def test_a_missing_recording_is_named(paired, midi_folder):
    (midi_folder / "2.wav").unlink()
    with pytest.raises(MmidError, match=r"2\.wav: No such file"):
        score_sources(paired)


def test_scores_need_no_soundfont(midi_folder):
    with pytest.raises(MmidError, match="leave out the soundfont"):
        open_sources(midi_folder, "x.sf2", DEFAULT, (1, 1), "all", 0, direction="scores")


@pytest.mark.parametrize("text", ["", "id,audio\n1,2\n", "id,audio,midi\n"])
def test_a_list_without_its_columns_or_rows_is_refused(tmp_path, text):
    (tmp_path / "pairs.csv").write_text(text)
    with pytest.raises(MmidError, match=r"pairs\.csv: needs a header with the columns id, audio"):
        open_sources(tmp_path, None, DEFAULT, (1.0, 1.0), "test", 0)


def test_no_list_says_so(tmp_path):
    with pytest.raises(MmidError, match=r"pairs\.csv: cannot read the list of pairs"):
        open_sources(tmp_path, None, DEFAULT, (1.0, 1.0), "test", 0)
