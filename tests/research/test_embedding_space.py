"""`embedding_space`: the modality gap, principal components, and what the projector is given."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from mmid.cli.app import app
from mmid.errors import MmidError
from mmid.model.checkpoint import save_checkpoint
from mmid.music.grid import DEFAULT
from mmid.music.pairs import read_pairs
from mmid.music.piano_roll import piano_roll
from mmid.music.spectrogram import frame_count, recording_spectrogram
from mmid.research.embedding_space import (
    draw_snippets,
    measure_space,
    project,
    save_space,
    sprite_side,
)


@pytest.fixture
def rendered(midi_folder, pieces, play, write_wav) -> Path:
    """Return a folder of two pieces played in their score's time, as ``mmid render`` makes it."""
    rows = ["id,audio,midi"]
    for number, piece in enumerate(pieces[:2]):
        write_wav(midi_folder / f"{number}.wav", play(piece.midi.notes, piece.midi.seconds + 1.5))
        rows.append(f"take {number},{number}.wav,{piece.name}")
    (midi_folder / "pairs.csv").write_text("\n".join(rows))
    return midi_folder


def unit(points: np.ndarray) -> np.ndarray:
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


def test_two_clusters_have_a_known_gap():
    rng = np.random.default_rng(0)
    angles = rng.uniform(0, 2 * np.pi, 200)
    circle = np.stack([np.cos(angles), np.sin(angles)], 1) * np.sin(0.3)
    audio = np.column_stack([circle, np.full(200, np.cos(0.3)), np.zeros(200)])
    rolls = np.column_stack([circle, np.zeros(200), np.full(200, np.cos(0.3))])
    report = measure_space(audio.astype(np.float32), rolls.astype(np.float32))
    assert report.gap == pytest.approx(np.sqrt(2) * np.cos(0.3), abs=1e-4)
    assert report.matching == pytest.approx(np.sin(0.3) ** 2, abs=1e-5)
    cosines = audio @ rolls.T
    others = cosines[~np.eye(200, dtype=bool)].mean()
    assert report.random == pytest.approx(others, abs=1e-4)


def test_one_cloud_has_hardly_a_gap():
    points = unit(np.random.default_rng(0).standard_normal((2_000, 8)))
    same = measure_space(points, points)
    assert same.gap == 0 and same.matching == pytest.approx(1, abs=1e-5)
    halves = measure_space(points[:1_000], points[1_000:])
    assert halves.gap < 0.15 and abs(halves.matching) < 0.05


def test_components_are_those_the_points_were_made_of():
    rng = np.random.default_rng(1)
    axes = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    spread = np.array([5.0, 3.0, 1.0])
    inside = rng.standard_normal((4_000, 3)) * spread
    positions, shares = project(inside @ axes[:3] + 7.0)
    assert shares == pytest.approx(spread**2 / (spread**2).sum(), abs=0.02)
    assert shares.sum() == pytest.approx(1)
    assert positions.std(0) == pytest.approx(spread, rel=0.05)
    correlation = np.corrcoef(positions.T, inside.T)[:3, 3:]
    assert np.abs(np.diag(correlation)).min() > 0.99


def test_components_have_a_sign_of_their_own():
    points = np.random.default_rng(2).standard_normal((50, 4))
    positions = project(points)[0]
    assert np.allclose(positions, -project(-points)[0])
    assert np.allclose(positions, project(points[::-1])[0][::-1])
    axes = np.linalg.lstsq(points - points.mean(0), positions, rcond=None)[0]
    assert np.allclose(axes.max(0), np.abs(axes).max(0))


def test_pairs_are_the_same_places_of_sound_and_score(rendered, tiny_model):
    takes = read_pairs(rendered)
    drawn = draw_snippets(takes, tiny_model, 30, seed=3)
    assert drawn.audio.shape == drawn.rolls.shape == (30, 16)
    assert set(drawn.pieces) == {"take 0", "take 1"}
    assert torch.allclose(drawn.audio.norm(dim=1), torch.ones(30), atol=1e-3)
    for row in (0, 29):
        take = takes[int(drawn.pieces[row][-1])]
        first = round(drawn.seconds[row] * DEFAULT.frame_rate)
        span = slice(first, first + DEFAULT.snippet)
        bands = recording_spectrogram(take.audio)[None, None, :, span]
        frames = frame_count(take.score.midi.seconds)
        roll = piano_roll(take.score.midi.notes, frames)[None, ..., span]
        assert roll[0, 1].sum() > 0.5
        with torch.inference_mode():
            heard, written = tiny_model.encoders.audio(bands), tiny_model.encoders.roll(roll)
        assert torch.allclose(heard[0, 0], drawn.audio[row], atol=0.02)
        assert torch.allclose(written[0, 0], drawn.rolls[row], atol=0.02)


def test_the_draw_depends_on_the_seed_alone(rendered, tiny_model):
    takes = read_pairs(rendered)
    first, again, other = (draw_snippets(takes, tiny_model, 10, seed=s).seconds for s in (0, 0, 1))
    assert first == again != other
    assert len(set(first)) > 5


def test_too_many_pairs_are_refused(rendered, tiny_model):
    with pytest.raises(MmidError, match=r"2 recordings hold \d+ snippets, fewer than --pairs 9999"):
        draw_snippets(read_pairs(rendered), tiny_model, 9_999)


def test_a_recording_in_another_time_is_refused(rendered, tiny_model, write_wav):
    write_wav(rendered / "1.wav", np.ones(22_050 * 40) * 0.1)
    with pytest.raises(MmidError, match=r"1\.wav: lasts 40\.0 s, its score .* mmid render"):
        draw_snippets(read_pairs(rendered), tiny_model, 10)


def test_the_projector_is_given_vectors_names_and_pictures(
    tensorboard, rendered, tiny_model, tmp_path
):
    from PIL import Image

    drawn = draw_snippets(read_pairs(rendered), tiny_model, 12)
    figure = save_space(drawn, tmp_path / "deep" / "space")
    assert figure.stat().st_size > 1_000
    data = next((tmp_path / "deep" / "space").rglob("tensors.tsv")).parent
    vectors = np.loadtxt(data / "tensors.tsv")
    assert np.allclose(vectors[:12], drawn.audio, atol=1e-5) and vectors.shape == (24, 16)
    head, *rows = (data / "metadata.tsv").read_text().splitlines()
    assert head == "modality\tpiece\tseconds" and len(rows) == 24
    assert rows[0] == f"audio\t{drawn.pieces[0]}\t{drawn.seconds[0]:.2f}"
    assert rows[12] == rows[0].replace("audio", "MIDI")
    with Image.open(data / "sprite.png") as sheet:
        assert sheet.size == (5 * 64, 5 * 64)
        pixels = np.asarray(sheet.convert("L"))
    roll = pixels[2 * 64 : 3 * 64, 2 * 64 : 3 * 64]  # the 13th picture
    assert roll == pytest.approx((drawn.pictures[12] * 255).numpy(), abs=1)
    assert 0 < (roll > 200).mean() < 0.5
    config = (tmp_path / "deep" / "space" / "projector_config.pbtxt").read_text()
    assert "single_image_dim: 64" in config


def test_pictures_show_low_notes_at_the_bottom(rendered, tiny_model):
    drawn = draw_snippets(read_pairs(rendered), tiny_model, 40)
    rolls = drawn.pictures[40:]
    notes = read_pairs(rendered)[0].score.midi.notes
    lit = np.flatnonzero(rolls.amax((0, 2)))
    top, bottom = ((108 - notes["pitch"].max()) / 88, (108 - notes["pitch"].min()) / 88)
    assert lit.min() / 64 == pytest.approx(top, abs=0.08)
    assert lit.max() / 64 == pytest.approx(bottom, abs=0.08)


@pytest.mark.parametrize("count", [2, 1_000, 17_000, 100_000, 1_000_000])
def test_the_sheet_of_pictures_is_never_too_large(count):
    columns = int(np.ceil(np.sqrt(count)))
    assert 0 < sprite_side(count) * columns <= 8_192
    assert sprite_side(count) == 64 or (sprite_side(count) + 1) * columns > 8_192


def test_the_command_measures_and_writes_once(tensorboard, rendered, tiny_model, tmp_path):
    model, out = tmp_path / "tiny.safetensors", tmp_path / "space"
    save_checkpoint(model, tiny_model.encoders, {})
    arguments = ["eval", "space", str(rendered), "--model", str(model), "--pairs", "20"]
    result = CliRunner().invoke(app, [*arguments, "--out", str(out), "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["pairs"] == 20 and 0 < report["gap"] <= 2 and len(report["shares"]) == 3
    assert (out / "space.png").exists()
    again = CliRunner().invoke(app, [*arguments, "--out", str(out)])
    assert isinstance(again.exception, MmidError) and "not empty" in str(again.exception)
    table = CliRunner().invoke(app, arguments).stdout
    assert f"{report['gap']:.3f}" in table
