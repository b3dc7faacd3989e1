"""`mmid.output.evidence`: the numbers behind the picture of an answer, and the file it becomes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from mmid.cli.app import app
from mmid.errors import MmidError
from mmid.identify.batch import Answered, answer_files
from mmid.identify.identifier import Identifier
from mmid.identify.search import NEIGHBOURS
from mmid.identify.search_options import TEMPO_RATIOS, SearchOptions
from mmid.index.build import build_index
from mmid.index.folder import LibraryIndex
from mmid.model.checkpoint import save_checkpoint
from mmid.model.embedding import Query, Score, Sound
from mmid.music.grid import DEFAULT, FINE
from mmid.music.library import scan_library
from mmid.music.log_frequency import BINS_PER_SEMITONE, half_frames
from mmid.music.midi import write_midi
from mmid.output import evidence
from mmid.output.evidence import MOST_FAINT, Picture, draw_evidence, gather_evidence, picture_paths

pytestmark = pytest.mark.numerical

FRAME = 1 / DEFAULT.frame_rate


@pytest.fixture
def make_identifier(tmp_path, pieces, tiny_model):
    """Return a function that makes an identifier over the six pieces."""

    def make(model=tiny_model, **options) -> Identifier:
        build_index(tmp_path / "index", pieces, model)
        return Identifier(model, LibraryIndex(tmp_path / "index", model), SearchOptions(**options))

    return make


def gather(identifier: Identifier, query: Query, name: str = "a query") -> Picture | None:
    asked = identifier.search(query)
    return gather_evidence(identifier, Answered(identifier.decide(asked, name), query, asked))


def size(path: Path) -> tuple[int, int]:
    from PIL import Image

    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG" and len(image.convert("L").getcolors()) > 10
        return image.size


def svg(picture: Picture, path: Path) -> str:
    draw_evidence(picture, path)
    return path.read_text()


# ---- what is gathered


def test_points_and_path_lie_on_the_line_of_a_passage(make_identifier, midi_folder, monkeypatch):
    monkeypatch.setattr("mmid.identify.search.LOOKED_UP", 10**6)  # every one, as of a shorter query
    identifier = make_identifier()
    query = identifier.open(midi_folder / "piece 1.mid", 4.0, 10.0)
    picture = gather(identifier, query)
    best = picture.answer.matches[0]
    assert best.piece == "piece 1.mid" and (picture.tempo_ratio, picture.transpose) == (1, 0)
    passage, points = picture.passage, picture.agreeing
    assert passage is not None
    assert (passage.start, passage.end) == (best.start, best.end)
    np.testing.assert_allclose(passage.piece, 4 + passage.query, atol=2 * FRAME)
    assert (np.diff(passage.piece) >= 0).all() and (np.diff(passage.query) > 0).all()
    off = np.abs(points.piece - (4 + points.query))
    asked = np.unique(points.query)
    nearest = np.array([off[points.query == time].min() for time in asked])
    assert len(asked) > 20  # two frames apart; the index has a place every eight
    assert (nearest < 3 * FRAME).mean() > 0.6 and (nearest < 9 * FRAME).mean() > 0.8
    assert points.query.min() >= 0 and points.query.max() <= 10
    assert points.piece.min() >= 0 and points.piece.max() <= picture.piece_seconds


@pytest.mark.parametrize("speed", [0.5, 2.0])
def test_a_tempo_is_the_slope(make_identifier, pieces, speed):
    notes = pieces[3].midi.notes.copy()
    for side in ("onset", "offset"):
        notes[side] /= speed
    picture = gather(make_identifier(), Score(notes, pieces[3].midi.seconds / speed))
    assert picture.answer.matches[0].piece == pieces[3].name and picture.passage is not None
    assert picture.tempo_ratio == pytest.approx(speed)
    rise = np.diff(picture.passage.piece[[0, -1]]) / np.diff(picture.passage.query[[0, -1]])
    assert rise[0] == pytest.approx(speed, rel=0.05)


def test_the_passage_is_in_the_key_found(make_identifier, pieces):
    played = Score(pieces[2].midi.notes, pieces[2].midi.seconds).transposed(3)
    picture = gather(make_identifier(keys=(0, 3, -3)), played)
    assert picture.transpose == picture.answer.matches[0].transpose == 3
    assert picture.passage is not None
    shown, start, end = picture.passage.notes, picture.passage.start, picture.passage.end
    sounding = (played.notes["offset"] >= start) & (played.notes["onset"] <= end)
    np.testing.assert_array_equal(shown, played.notes[sounding])
    assert len(shown) > 30


def test_points_are_the_hits_of_the_best_piece(make_identifier, midi_folder):
    identifier = make_identifier(tempo_ratios=(0.5, 1.0, 2.0))
    query = identifier.open(midi_folder / "piece 4.mid")
    asked = identifier.search(query)
    picture = gather_evidence(identifier, Answered(identifier.decide(asked), query, asked))
    number = identifier.names.index("piece 4.mid")
    counts = {h.tempo_ratio: int((h.piece[:, :NEIGHBOURS] == number).sum()) for h in asked.hits}
    assert picture.tempo_ratio == 1
    assert len(picture.agreeing.query) == len(picture.agreeing.piece) == counts[1.0]
    others = sum(count for ratio, count in counts.items() if ratio != 1)
    assert len(picture.others.query) == min(others, MOST_FAINT)


def test_too_many_faint_points_are_spread(make_identifier, midi_folder, monkeypatch):
    monkeypatch.setattr("mmid.output.evidence.MOST_FAINT", 50)
    identifier = make_identifier()
    picture = gather(identifier, identifier.open(midi_folder / "piece 0.mid"))
    assert len(picture.others.query) == 50


def test_a_recording_heard_note_by_note_has_a_path(make_identifier, transcribing_model, recording):
    identifier = make_identifier(transcribing_model)
    picture = gather(identifier, identifier.open(recording))
    assert isinstance(picture.query, Sound), "the picture shows the sound itself"
    assert picture.passage is not None and len(picture.passage.query) > 100
    best = picture.answer.matches[0]
    assert best.explained is not None
    assert best.start == pytest.approx(picture.passage.piece[0])
    assert picture.tempo_ratio in TEMPO_RATIOS


def test_votes_alone_give_a_straight_path(make_identifier, recording):
    identifier = make_identifier()
    picture = gather(identifier, identifier.open(recording))
    best, passage = picture.answer.matches[0], picture.passage
    assert passage is not None and len(passage.query) == 2
    rise = np.diff(passage.piece)[0] / np.diff(passage.query)[0]
    assert rise == pytest.approx(best.tempo_ratio)
    assert rise == pytest.approx(picture.tempo_ratio, rel=0.2), "the nearest tempo that was tried"
    assert (passage.start, passage.end) == (pytest.approx(best.start), pytest.approx(best.end))


# ---- what is drawn


def test_a_png_is_written_whole(make_identifier, recording, midi_folder, tmp_path):
    identifier = make_identifier()
    (tmp_path / "out").mkdir()
    targets = [tmp_path / "out" / "a.png", tmp_path / "out" / "b.png"]
    paths = [recording, midi_folder / "piece 0.mid"]
    answers = list(answer_files(identifier, paths, 1.0, 5.0))
    for answered, target in zip(answers, targets, strict=True):
        draw_evidence(gather_evidence(identifier, answered), target)
    assert answers[0].answer == identifier.identify_file(recording, 1.0, 5.0)
    assert [size(path) for path in targets] == [(1950, 1200)] * 2
    assert sorted(targets[0].parent.iterdir()) == targets


def test_the_title_says_what_was_found(make_identifier, midi_folder, tmp_path):
    identifier = make_identifier(min_confidence=0.0)
    query = identifier.open(midi_folder / "piece 1.mid", 4.0, 10.0)
    picture = gather(identifier, query, "some/where.mid")
    drawn = svg(picture, tmp_path / "a.svg")
    assert "where.mid (0:10.0): found: piece 1.mid" in drawn and "some/where" not in drawn
    assert "tempo x1.00" in drawn and "notes explained" in drawn
    best = replace(picture.answer.matches[0], piece="$a_b$ <&> \u66f2.mid", transpose=-2)
    doubtful = replace(picture.answer, matched=False, matches=(best,), tuning=-20)
    drawn = svg(replace(picture, answer=doubtful), tmp_path / "b.svg")
    assert "not found; nearest: $a_b$" in drawn
    assert "key -2    tuning -20 cents" in drawn
    perhaps = replace(picture, answer=replace(doubtful, tuning=1, reason="not_confident"))
    drawn = svg(perhaps, tmp_path / "c.svg")
    assert ": perhaps: $a_b$" in drawn
    assert "tuning +1 cent" in drawn and "cents" not in drawn


def test_without_a_match_the_query_is_drawn(make_identifier, tmp_path):
    identifier = make_identifier()
    picture = gather(identifier, Sound(torch.zeros(DEFAULT.bands, 200)))
    assert picture.passage is None and not len(picture.agreeing.query)
    drawn = svg(picture, tmp_path / "a.svg")
    assert "not found" in drawn and "its spectrogram" in drawn


def test_a_fine_spectrogram_is_drawn_once_with_its_half_frames_in_order(
    make_identifier, tmp_path, monkeypatch
):
    drawn = []
    draw = evidence._draw_image
    monkeypatch.setattr(
        evidence, "_draw_image", lambda *given: (drawn.append(given), draw(*given))[1]
    )
    picture = gather(make_identifier(), Sound(torch.zeros(DEFAULT.bands, 200)))
    fine = Sound(torch.rand(FINE.bands, 50, generator=torch.Generator().manual_seed(0)), FINE)
    draw_evidence(replace(picture, query=fine, params=FINE), tmp_path / "a.svg")
    ((axes, values, rate, _),) = drawn
    np.testing.assert_array_equal(values, half_frames(fine.spectrogram))
    assert rate == 2 * FINE.frame_rate
    ticks = np.diff(axes.get_yticks())
    octave = 12 * BINS_PER_SEMITONE
    np.testing.assert_allclose(ticks, octave * np.log2([2, 2, 2.5, 2, 2, 2.5]), atol=0.1)


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_a_moment_of_sound_is_drawn(make_identifier, tmp_path, frames):
    generator = torch.Generator().manual_seed(0)
    query = Sound(torch.rand(DEFAULT.bands, frames, generator=generator))
    draw_evidence(gather(make_identifier(), query), tmp_path / "a.png")
    size(tmp_path / "a.png")


def test_a_plain_majority_tells_no_place(make_identifier, recording, tmp_path):
    identifier = make_identifier(vote="majority")
    picture = gather(identifier, identifier.open(recording))
    assert picture.passage is None and len(picture.agreeing.query)
    assert "gives no position" in svg(picture, tmp_path / "a.svg")


def test_a_library_of_recordings_has_no_notes_to_draw(tmp_path, recording, midi_folder, tiny_model):
    folder = tmp_path / "audio"
    folder.mkdir()
    recording.rename(folder / "played.wav")
    items = scan_library([folder], "recordings", DEFAULT, 1)[1]
    build_index(tmp_path / "index", items, tiny_model)
    identifier = Identifier(tiny_model, LibraryIndex(tmp_path / "index", tiny_model))
    picture = gather(identifier, identifier.open(midi_folder / "piece 2.mid", 0.0, 6.0))
    assert picture.passage is not None and not len(picture.passage.notes)
    assert "no notes known of it" in svg(picture, tmp_path / "a.svg")


# ---- where it goes


def test_a_file_holds_one_picture_and_a_folder_many(tmp_path, monkeypatch):
    one, folder = Path("x/one.wav"), tmp_path / "new" / "pictures"
    assert picture_paths(tmp_path / "a.png", [one]) == [tmp_path / "a.png"]
    queries = [one, Path("y/ONE.mid"), Path("two.wav"), one]
    names = [path.name for path in picture_paths(folder, queries)]
    assert names == ["one.png", "ONE-2.png", "two.png", "one-3.png"]
    assert folder.is_dir() and not list(folder.iterdir())
    monkeypatch.chdir(tmp_path)
    assert picture_paths(Path("."), [one, Path(".")]) == [Path("one.png"), Path("query.png")]
    with pytest.raises(MmidError, match=r"a\.png: one file for 2 answers; give a folder"):
        picture_paths(tmp_path / "a.png", [one, one])


def test_a_place_that_cannot_be_is_refused(tmp_path, monkeypatch):
    one = [Path("one.wav")]
    (tmp_path / "file").write_text("")
    (tmp_path / "out" / "one.png").mkdir(parents=True)
    for place, message in (
        ("file", "file: cannot be made a folder"),
        ("out", r"one\.png: cannot be written \(it is a folder\)"),
        ("missing/a.png", "no folder"),
        ("a.jpg", r"a\.jpg: not named \.png or \.svg"),
    ):
        with pytest.raises(MmidError, match=message):
            picture_paths(tmp_path / place, one)

    def refuse(**options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("mmid.system.outputs.TemporaryFile", refuse)
    with pytest.raises(MmidError, match=r"a\.png: cannot be written \(Permission denied\)"):
        picture_paths(tmp_path / "a.png", one)


@pytest.mark.parametrize("place", ["a.png", "new"])
@pytest.mark.usefixtures("no_matplotlib")
def test_without_matplotlib_nothing_is_begun(tmp_path, place):
    with pytest.raises(MmidError, match=r"drawing needs matplotlib: pip install 'mmid\[train\]'"):
        picture_paths(tmp_path / place, [Path("one.wav")])
    assert not list(tmp_path.iterdir())


def test_the_command_draws_every_answer_it_has(tmp_path, make_identifier, tiny_model, recording):
    make_identifier()
    model, out = tmp_path / "tiny.safetensors", tmp_path / "pictures"
    save_checkpoint(model, tiny_model.encoders, {})
    (tmp_path / "bad.wav").write_bytes(b"no sound")
    options = ["--index", tmp_path / "index", "--model", model, "--plot", out, "--json"]
    arguments = ["query", recording, tmp_path / "bad.wav", *options]
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 1 and "bad.wav: not an audio file" in result.stderr
    good, bad = (json.loads(line) for line in result.stdout.splitlines())
    assert good["error"] is None and bad["error"]
    assert [path.name for path in out.iterdir()] == ["recording.png"]
    size(out / "recording.png")


def test_a_midi_file_of_one_note_is_drawn(make_identifier, draw_notes, tmp_path):
    path = tmp_path / "one.mid"
    write_midi(draw_notes(0, 1, 0.02), path)
    identifier = make_identifier()
    (answered,) = answer_files(identifier, [path])
    assert answered.answer.error is None
    draw_evidence(gather_evidence(identifier, answered), tmp_path / "a.png")
    size(tmp_path / "a.png")
