"""`mmid.training.snippet_pairs`: snippets and the rolls that match them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from mmid.errors import MmidError
from mmid.music.grid import DEFAULT, FINE, FeatureParams
from mmid.music.log_frequency import BINS, HALVES, LOWEST_PITCH, half_frames
from mmid.music.notes import NOTE_DTYPE
from mmid.music.performance import Recipe
from mmid.music.piano_roll import piano_roll
from mmid.training import corpus
from mmid.training.augmentation import Augmentation
from mmid.training.corpus import LEVELS, Job, feature_arrays, make_features
from mmid.training.snippet_pairs import Batch, PairSource


@pytest.fixture
def paths(tmp_path, draw_notes, play, monkeypatch) -> list[Path]:
    """Return four cached renderings of 20 s, played as sines."""

    class Sines:
        def render(self, notes, **_how):
            return play(notes, 21.0)

    monkeypatch.setattr(corpus, "_synthesizer", lambda *_: Sines())
    made = []
    for seed in range(4):
        job = Job(tmp_path / f"{seed}", draw_notes(seed, 100), Recipe("font.sf2"), DEFAULT)
        assert make_features(job) is None
        made.append(job.target)
    return made


def notes_of(path: Path) -> np.ndarray:
    arrays = load_file(path)
    notes = np.zeros(len(arrays["pitches"]), NOTE_DTYPE)
    notes["onset"], notes["offset"] = arrays["times"].T
    notes["pitch"], notes["program"] = arrays["pitches"], arrays["programs"]
    return notes


@pytest.mark.parametrize("augmentation", [None, Augmentation()])
def test_batches_are_the_same_for_a_seed(paths, augmentation):
    source = PairSource(paths, DEFAULT, augmentation)
    one, two, other = (list(source.batches(12, 3, seed)) for seed in ([1, 2], [1, 2], [1, 3]))
    for a, b, c in zip(one, two, other, strict=True):
        assert a.audio.shape == (12, 1, 92, 42) and a.rolls.shape == (12, 2, 128, 42)
        assert a.audio.dtype == a.rolls.dtype == torch.float32
        assert torch.equal(a.audio, b.audio) and torch.equal(a.rolls, b.rolls)
        assert not torch.equal(a.rolls, c.rolls)
        assert torch.isfinite(a.audio).all() and a.rolls.min() >= 0 and a.rolls.max() <= 1
    assert not torch.equal(one[0].rolls, one[1].rolls)


@pytest.mark.parametrize("first", [0, 33, 200, 350])
def test_plain_pairs_come_from_the_same_place(paths, first, monkeypatch):
    source = PairSource(paths[:1], DEFAULT, None)
    monkeypatch.setattr(source, "_place", lambda *_: float(first))
    batch = next(source.batches(3, 1, 0))
    cached = load_file(paths[0])["spectrogram"].astype(np.float32).T / LEVELS
    for audio, roll in zip(batch.audio, batch.rolls, strict=True):
        np.testing.assert_allclose(audio[0], cached[:, first : first + 42], atol=1e-6)
        expected = piano_roll(notes_of(paths[0]), 42, first=first)
        torch.testing.assert_close(roll, expected, atol=1e-4, rtol=0)


def test_short_notes_before_a_snippet_show_in_it(tmp_path, monkeypatch):
    notes = np.zeros(40, NOTE_DTYPE)
    notes["onset"] = (np.arange(40) * 2 + 0.5) / DEFAULT.frame_rate  # half-way between frames
    notes["offset"], notes["pitch"] = notes["onset"] + 0.01, 60
    bands = torch.rand(92, 100)
    monkeypatch.setattr(corpus, "_sound", lambda job: (job.notes, bands))
    make_features(Job(tmp_path / "x", notes, Recipe("font.sf2"), DEFAULT))
    source = PairSource([tmp_path / "x"], DEFAULT, None)
    monkeypatch.setattr(source, "_place", lambda *_: 1.0)
    roll = next(source.batches(1, 1, 0)).rolls[0]
    torch.testing.assert_close(roll, piano_roll(notes, 42, first=1), atol=1e-4, rtol=0)


def test_stretched_pairs_stay_aligned(paths):
    stretched = Augmentation(
        stretch=0.25, mismatch=0, shift=0, cents=0, equalizer=0, gain=0, noise=0, reverb=0,
        telephone=0,
    )  # fmt: skip
    batch = next(PairSource(paths, DEFAULT, stretched).batches(64, 1, 0))
    flux = batch.audio[:, 0].diff(dim=-1).clamp_min(0).sum(1)
    attacks = batch.rolls[:, 1].sum(1)
    lags = range(-6, 7)
    scores = [float((flux * attacks[:, 1:].roll(lag, dims=1)).sum()) for lag in lags]
    assert abs(lags[int(np.argmax(scores))]) <= 1


def test_neighbours_come_from_the_same_rendering(tmp_path, monkeypatch):
    paths = []
    for number in range(8):
        notes = np.zeros(200, NOTE_DTYPE)
        notes["onset"] = np.arange(200) / 10
        notes["offset"], notes["pitch"] = notes["onset"] + 0.1, 40 + number
        bands = torch.full((92, 430), number / 10)
        monkeypatch.setattr(corpus, "_sound", lambda job, b=bands: (job.notes, b))
        make_features(Job(tmp_path / f"{number}", notes, Recipe("font.sf2"), DEFAULT))
        paths.append(tmp_path / f"{number}")
    for neighbours in (1, 2, 4):
        batch = next(PairSource(paths, DEFAULT, None, neighbours).batches(16, 1, 0))
        heard = (batch.audio.mean((1, 2, 3)) * 10).round().int()
        read = batch.rolls[:, 0].sum(-1).argmax(1) - 40
        assert heard.tolist() == read.tolist(), "sound and roll are of the same piece"
        groups = heard.view(-1, neighbours)
        assert (groups == groups[:, :1]).all()
    assert len(set(heard.tolist())) > 1


def test_repeats_are_identical_rolls():
    torch.manual_seed(0)
    rolls = (torch.rand(6, 2, 128, 42) > 0.97).float()
    rolls[4] = rolls[1]
    rolls[5] = rolls[2] * 0.5
    rolls[0] = 0
    repeats = Batch(torch.zeros(6, 1, 92, 42), rolls).repeats()
    expected = torch.eye(6, dtype=torch.bool)
    expected[1, 4] = expected[4, 1] = expected[2, 5] = expected[5, 2] = True
    expected[0, 0] = False  # an empty roll is like nothing
    assert torch.equal(repeats, expected)


def test_snippets_lie_where_notes_are(tmp_path, monkeypatch):
    notes = np.zeros(60, NOTE_DTYPE)
    notes["onset"] = np.arange(60) / 10  # six seconds of music, then a long silence
    notes["offset"], notes["pitch"] = notes["onset"] + 0.1, 60
    monkeypatch.setattr(corpus, "_sound", lambda job: (job.notes, torch.zeros(92, 500)))
    make_features(Job(tmp_path / "x", notes, Recipe("font.sf2"), DEFAULT))
    rolls = next(PairSource([tmp_path / "x"], DEFAULT, None).batches(200, 1, 0)).rolls
    assert (rolls[:, 1].sum((1, 2)) >= 1).float().mean() > 0.6


def test_short_renderings_are_left_out(tmp_path, monkeypatch, draw_notes):
    monkeypatch.setattr(corpus, "_sound", lambda job: (job.notes, torch.zeros(92, 50)))
    make_features(Job(tmp_path / "x", draw_notes(0), Recipe("font.sf2"), DEFAULT))
    with pytest.raises(MmidError, match="no piece is long enough"):
        PairSource([tmp_path / "x"], DEFAULT, None)


def test_hours_and_other_grids(paths):
    source = PairSource(paths, DEFAULT, None)
    assert source.hours * 3600 == pytest.approx(4 * 21, abs=1)
    params = FeatureParams(onsets=False, snippet=20)
    batch = next(PairSource(paths, params, None).batches(4, 1, 0))
    assert batch.rolls.shape == (4, 1, 128, 20) and batch.audio.shape == (4, 1, 92, 20)


def test_unstacked_pairs_show_each_family_in_its_channels(paths):
    params = FeatureParams(unstacked=True)
    source = PairSource(paths[:1], params, None)
    rolls = next(source.batches(8, 1, 0)).rolls
    notes = notes_of(paths[0])
    assert rolls.shape == (8, 32, 128, 42)
    families = set((notes["program"] // 8).tolist())
    assert set(rolls.sum((0, 2, 3)).nonzero()[:, 0].tolist()) <= {
        channel for family in families for channel in (family, 16 + family)
    }
    stacked = next(PairSource(paths[:1], DEFAULT, None).batches(8, 1, 0)).rolls
    torch.testing.assert_close(rolls[:, :16].sum(1).clamp_max(1), stacked[:, 0])


def test_an_adaptive_rate_moves_rolls_against_the_sound(paths, monkeypatch):
    params = FeatureParams(roll_rate="adaptive")
    source = PairSource(paths[:1], params, None)
    monkeypatch.setattr(source, "_place", lambda *_: 200.0)
    batch = next(source.batches(1, 1, 0))
    notes = notes_of(paths[0])
    expected = piano_roll(notes, 42, params, first=200)
    torch.testing.assert_close(batch.rolls[0], expected, atol=1e-4, rtol=0)
    cached = load_file(paths[0])["spectrogram"].astype(np.float32).T / LEVELS
    np.testing.assert_allclose(batch.audio[0, 0], cached[:, 200:242], atol=1e-6)
    rate = params.roll_frame_rate(float(notes["offset"].max()))
    there = piano_roll(notes, 42, first=round(200 * DEFAULT.frame_rate / rate))
    here = piano_roll(notes, 42, first=200)
    assert (expected - there).abs().mean() < (expected - here).abs().mean()


# ---- audio beside a snippet


STRETCHED = Augmentation(
    stretch=0.25, mismatch=0, shift=0, cents=0, equalizer=0, gain=0, noise=0, reverb=0, telephone=0
)


@pytest.mark.parametrize("sampling", ["random", "grid"])
@pytest.mark.parametrize("augmentation", [None, STRETCHED])
def test_a_margin_is_more_audio_on_either_side(paths, sampling, augmentation):
    plain, wide = (
        next(PairSource(paths, DEFAULT, augmentation, 2, sampling, margin=m).batches(12, 1, 0))
        for m in (0, 9)
    )
    assert plain.audio.shape == (12, 1, 92, 42) and wide.audio.shape == (12, 1, 92, 42 + 18)
    assert torch.equal(plain.rolls, wide.rolls)
    torch.testing.assert_close(wide.audio[..., 9:-9], plain.audio, atol=1e-3, rtol=0)


@pytest.mark.parametrize("first", [0, 5, 200])
def test_a_margin_is_what_sounds_beside_the_snippet(paths, first, monkeypatch):
    source = PairSource(paths[:1], DEFAULT, None, margin=9)
    monkeypatch.setattr(source, "_place", lambda *_: float(first))
    audio = next(source.batches(1, 1, 0)).audio[0, 0]
    cached = load_file(paths[0])["spectrogram"].astype(np.float32).T / LEVELS
    padded = np.pad(cached, ((0, 0), (9, 0)))  # nothing sounds before the beginning
    np.testing.assert_allclose(audio, padded[:, first : first + 60], atol=1e-6)


def test_contrastive_snippets_have_the_margin_too(paths):
    source = PairSource(paths, DEFAULT, None, sampling="grid", contrast=True, margin=9)
    batch = next(source.batches(4, 1, 0))
    assert batch.contrast.audio.shape == batch.audio.shape == (4, 1, 92, 60)


# ---- the report's grid of snippets


def identities(rolls: torch.Tensor) -> list[bytes]:
    return [roll.numpy().tobytes() for roll in rolls]


def test_a_sweep_shows_every_snippet_of_the_grid_once(paths):
    source = PairSource(paths, DEFAULT, None, sampling="grid")
    frames = int(21 * DEFAULT.frame_rate) + 1
    assert 4 * (frames // 42) - 8 <= source.labels <= 4 * (frames // 42)
    size = 6
    batches = list(source.batches(size, source.labels // size, 0))
    seen = [name for batch in batches for name in identities(batch.audio)]
    assert len(set(seen)) == len(seen) == source.labels // size * size
    first = {identities(batch.audio)[0] for batch in batches}
    again = [identities(b.audio)[0] for b in source.batches(size, source.labels // size, 1)]
    assert set(again) != first, "another seed, another order"


def test_contrastive_snippets_lie_outside_their_batch(paths):
    source = PairSource(paths, DEFAULT, None, sampling="grid", contrast=True)
    for batch in source.batches(8, 10, 0):
        assert batch.contrast is not None and batch.contrast.audio.shape == batch.audio.shape
        assert not set(identities(batch.audio)) & set(identities(batch.contrast.audio))
        assert len(set(identities(batch.contrast.audio))) == 8


def test_a_small_set_is_swept_for_contrast(paths):
    source = PairSource(paths[:1], DEFAULT, None, sampling="grid", contrast=True)
    size = source.labels // 2
    for batch in source.batches(size, 3, 0):
        pairs = zip(identities(batch.audio), identities(batch.contrast.audio), strict=True)
        assert all(one != other for one, other in pairs)


def test_contrast_from_anywhere_does_not_overlap_the_batch(paths):
    source = PairSource(paths, DEFAULT, None, 1, contrast=True)
    rng = np.random.default_rng(0)
    for places, others in source._anywhere(4, 20, rng):
        assert len(others) == 4
        for rendering, first in zip(others.rendering, others.first, strict=True):
            near = np.abs(places.first - first) < DEFAULT.snippet
            assert not (near & (places.rendering == rendering)).any()


def test_a_grid_needs_two_snippets(tmp_path, monkeypatch):
    notes = np.zeros(3, NOTE_DTYPE)
    notes["onset"], notes["offset"], notes["pitch"] = [0, 0.5, 1], [0.4, 0.9, 1.4], 60
    monkeypatch.setattr(corpus, "_sound", lambda job: (job.notes, torch.zeros(92, 80)))
    make_features(Job(tmp_path / "x", notes, Recipe("font.sf2"), DEFAULT))
    with pytest.raises(MmidError, match="too few snippets"):
        PairSource([tmp_path / "x"], DEFAULT, None, sampling="grid")


# ---- what a transcriber of harmonics learns from


@pytest.fixture
def mixed(tmp_path, monkeypatch, draw_notes) -> list[Path]:
    """Return two mixtures in which every note is the bin of its pitch."""
    made = []
    for number, known in enumerate(("known", "unknown")):
        notes = draw_notes(number, 120, 19.0)
        notes["pitch"] = notes["pitch"].clip(30, 100)
        bands = torch.zeros(HALVES, BINS, 430)
        roll = piano_roll(notes, 430)[0, LOWEST_PITCH:]
        bands[:, 1 : 3 * len(roll) : 3] = roll[: BINS // 3]
        arrays = feature_arrays(notes, bands.flatten(0, 1))
        arrays["melody"] = (np.arange(len(notes)) % 3 == 0).astype(np.uint8)
        whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        made.append(tmp_path / f"mixed {number}")
        save_file(whole, made[-1], {"kind": ["song", "band"][number], "melody": known})
    return made


def test_targets_come_with_snippets_that_lie_on_frames(mixed):
    batch = next(PairSource(mixed, FINE, None, 1, targets=True).batches(16, 1, 0))
    assert batch.targets.shape == (16, 4, 88, HALVES * FINE.snippet)
    onset, sustain, _, melody = batch.targets.unbind(1)
    bright = half_frames(batch.audio[:, 0])[:, 1 : 3 * 88 : 3] > 0.9  # whole frames
    assert bright.sum() > 500 and sustain[bright].mean() > 0.95
    assert sustain[half_frames(batch.audio[:, 0])[:, 1 : 3 * 88 : 3] == 0].mean() < 0.01
    assert onset.max() > 0.6 and (melody <= sustain).all() and melody.sum() / sustain.sum() > 0.1
    assert 0 < batch.melody_known.sum() < 16
    assert next(PairSource(mixed, FINE, None, 1).batches(2, 1, 0)).targets is None


def test_notes_move_with_a_snippet_that_is_transposed(mixed):
    effects = Augmentation.only(["semitones"])
    batch = next(PairSource(mixed, FINE, effects, 1, targets=True).batches(32, 1, 0))
    own = half_frames(batch.audio[:, 0])[:, 1 : 3 * 88 : 3]
    bright = own > 0.9
    assert batch.targets[:, 1][bright].mean() > 0.95
    rolls = batch.rolls[:, 0, LOWEST_PITCH : LOWEST_PITCH + 88].repeat_interleave(HALVES, -1)
    assert rolls[bright].mean() > 0.9
    plain = PairSource(mixed, FINE, Augmentation.only([]), 1, targets=True)
    assert not torch.equal(next(plain.batches(32, 1, 0)).targets, batch.targets)


def test_clips_are_whole_renderings_so_many_of_a_kind(mixed):
    source = PairSource([*mixed, *mixed], FINE, None, 1, targets=True)
    clips = list(source.clips(1, 100))
    assert [clip.kind for clip in clips] == ["song", "band"]
    for clip, path in zip(clips, mixed, strict=True):
        assert clip.bands.shape == (FINE.bands, 100)
        written = notes_of(path)
        written = written[written["onset"] < 100 / FINE.frame_rate]
        np.testing.assert_allclose(clip.notes["onset"], written["onset"], atol=1e-4)
        assert np.array_equal(clip.notes["pitch"], written["pitch"])
    assert len(list(source.clips(9, 100))) == 4
