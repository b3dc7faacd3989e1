"""`mmid.training.corpus`: renderings and recordings as features on disk."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file
from synth import SOUNDFONT, needs_fluidsynth

from mmid.errors import MmidError, RenderError
from mmid.music.grid import DEFAULT, FINE, FeatureParams
from mmid.music.library import read_library
from mmid.music.midi import write_midi
from mmid.music.mixing.ensembles import ENSEMBLES
from mmid.music.mixing.mixture import MixtureRecipe
from mmid.music.notes import NOTE_DTYPE
from mmid.music.pairs import ALIGNED_WITHIN
from mmid.music.performance import Recipe, draw_recipe, performed
from mmid.music.piano_roll import piano_roll
from mmid.music.spectrogram import frame_count
from mmid.training import corpus
from mmid.training.corpus import (
    LEVELS,
    Job,
    cache_key,
    fill_cache,
    make_features,
    plan_jobs,
    prepare_corpus,
    recording_beside,
)

PLAIN = Recipe("font.sf2")
OTHER = {
    "soundfont": "other.sf2",
    "tempo": 1.1,
    "transpose": 1,
    "programs": 1,
    "dynamics": 3.0,
    "start": 1.0,
    "seconds": 9.0,
    "looseness": 0.01,
    "pedal": 0.1,
    "reverb": True,
    "seed": 1,
}


def how(excerpt: float) -> dict:
    """Return how to plan the jobs of a test."""
    return {"performance": "varied", "excerpt": excerpt, "seed": 0}


def listed(path: Path) -> list[str]:
    return sorted(file.name for file in path.iterdir())


# ---- recipes


def test_a_plain_recipe_leaves_the_notes_alone(draw_notes):
    notes = draw_notes(0)
    written, played = performed(notes, PLAIN)
    assert np.array_equal(written, notes)
    assert np.array_equal(played["onset"], notes["onset"])
    assert (played["velocity"] >= 25).all()


def test_tempo_scales_time(draw_notes):
    notes = draw_notes(0)
    written, played = performed(notes, replace(PLAIN, tempo=1.25))
    np.testing.assert_allclose(written["onset"], notes["onset"] / 1.25, rtol=1e-6)
    np.testing.assert_allclose(written["offset"], notes["offset"] / 1.25, rtol=1e-6)
    np.testing.assert_allclose(played["onset"], written["onset"])


def test_transposition_stays_on_the_piano():
    notes = np.zeros(3, NOTE_DTYPE)
    notes["onset"], notes["offset"] = [0, 1, 2], [1, 2, 3]
    notes["pitch"] = [60, 107, 22]
    assert performed(notes, replace(PLAIN, transpose=3))[0]["pitch"].tolist() == [63, 107, 25]
    assert performed(notes, replace(PLAIN, transpose=-3))[0]["pitch"].tolist() == [57, 104, 22]


def test_an_excerpt_begins_at_zero(draw_notes):
    notes = draw_notes(0)
    written, played = performed(notes, replace(PLAIN, start=5.0, seconds=6.0, tempo=2.0))
    inside = (notes["onset"] >= 5) & (notes["onset"] < 11)
    assert len(written) == len(played) == inside.sum() > 5
    np.testing.assert_allclose(written["onset"], (notes["onset"][inside] - 5) / 2, atol=1e-6)
    assert written["onset"].max() < 3


def test_players_are_loose_and_the_roll_is_not(draw_notes):
    notes = draw_notes(0)
    loose = replace(PLAIN, looseness=0.02, pedal=0.5, seed=7)
    written, played = performed(notes, loose)
    assert np.array_equal(written["onset"], notes["onset"])
    late = played["onset"] - written["onset"]
    assert 0.01 < late.std() < 0.04 and (played["onset"] >= 0).all()
    assert (played["offset"] >= played["onset"] + 0.5).all()
    assert np.array_equal(played, performed(notes, loose)[1])
    assert not np.array_equal(played, performed(notes, replace(loose, seed=8))[1])


def test_instruments_are_replaced_one_for_one(draw_notes):
    notes = draw_notes(0)
    written, _ = performed(notes, replace(PLAIN, programs=5))
    pairs = set(zip(notes["program"].tolist(), written["program"].tolist(), strict=True))
    assert len(pairs) == len(set(notes["program"])) and written["program"].max() < 88


def test_recipes_are_drawn_within_bounds():
    rng = np.random.default_rng(0)
    drawn = [draw_recipe(rng, Path("font.sf2"), 300.0, 90.0) for _ in range(300)]
    assert all(0.75 <= recipe.tempo <= 1.33 for recipe in drawn)
    assert all(0 <= recipe.start <= 210 and recipe.seconds == 90 for recipe in drawn)
    assert {recipe.transpose for recipe in drawn} == set(range(-5, 7))
    short = draw_recipe(rng, Path("font.sf2"), 30.0, 90.0)
    assert short.start == 0


# ---- the cache


def test_the_key_changes_with_recipe_piece_and_grid(pieces):
    piece = pieces[0]
    key = cache_key(piece, PLAIN, DEFAULT)
    assert key == cache_key(piece, replace(PLAIN, soundfont="/elsewhere/font.sf2"), DEFAULT)
    others = [cache_key(pieces[1], PLAIN, DEFAULT), cache_key(piece, PLAIN, FeatureParams(hop=512))]
    for field in fields(Recipe):
        others.append(cache_key(piece, replace(PLAIN, **{field.name: OTHER[field.name]}), DEFAULT))
    assert len({key, *others}) == 1 + len(others)


def test_the_key_of_a_mixture_changes_with_its_recipe(pieces):
    recipe = MixtureRecipe(("a/one.sf2", "two.sf2"), 10.0)
    key = cache_key(pieces[0], recipe, FINE)
    elsewhere = replace(recipe, soundfonts=("one.sf2", "b/two.sf2"))
    assert key == cache_key(pieces[0], elsewhere, FINE)
    other = {"soundfonts": ("one.sf2",), "seconds": 9.0, "transpose": 1, "seed": 1}
    assert set(other) == {field.name for field in fields(MixtureRecipe)}
    keys = [cache_key(pieces[0], replace(recipe, **{n: v}), FINE) for n, v in other.items()]
    assert len({key, *keys, cache_key(pieces[1], recipe, FINE)}) == 2 + len(other)


def test_mixtures_are_planned_the_same_again_and_more_of_them_after_the_first(pieces):
    def planned(copies: int) -> list[Job]:
        fonts = [Path("a.sf2"), Path("b.sf2")]
        how = {"performance": "mixed", "excerpt": 10.0, "seed": 0}
        return plan_jobs([(pieces[0], copies)], fonts, Path("c"), FINE, **how)

    jobs = planned(60)
    assert [job.target for job in planned(20)] == [job.target for job in jobs[:20]]
    assert all(job.midi == pieces[0].path for job in jobs)
    assert len({job.source.seed for job in jobs}) == 60
    assert {job.source.transpose for job in jobs} > {-5, 0, 6}
    assert all(job.source.soundfonts == ("a.sf2", "b.sf2") for job in jobs)


def test_the_key_of_a_recording_changes_with_its_file(pieces, tmp_path, write_wav):
    path = write_wav(tmp_path / "a.wav", np.zeros(100))
    key = cache_key(pieces[0], path, DEFAULT)
    write_wav(path, np.zeros(200))
    assert cache_key(pieces[0], path, DEFAULT) != key


@pytest.fixture
def hummed(monkeypatch, play):
    """Replace the synthesiser by decaying sines, so that no fluidsynth is needed."""

    class Sines:
        def render(self, notes, **_how):
            return play(notes, float(notes["offset"].max(initial=0)) + 1.5)

    monkeypatch.setattr(corpus, "_synthesizer", lambda *_: Sines())


def test_only_workers_give_up_their_threads(tmp_path, draw_notes, hummed):
    torch.set_num_threads(2)
    try:
        make_features(Job(tmp_path / "x.safetensors", draw_notes(0), PLAIN, DEFAULT))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_a_cache_file_holds_the_sound_and_its_notes(tmp_path, draw_notes, hummed):
    notes, target = draw_notes(0), tmp_path / "x.safetensors"
    assert make_features(Job(target, notes, replace(PLAIN, tempo=1.1), DEFAULT)) is None
    arrays = load_file(target)
    seconds = notes["offset"].max() / 1.1 + 1.5
    assert arrays["spectrogram"].shape == (int(seconds * DEFAULT.frame_rate) + 1, 92)
    assert arrays["spectrogram"].dtype == np.uint8
    assert LEVELS * 0.9 < arrays["spectrogram"].max() <= 255
    np.testing.assert_allclose(arrays["times"][:, 0], notes["onset"] / 1.1, rtol=1e-5)
    assert np.array_equal(arrays["pitches"], notes["pitch"])
    assert np.array_equal(arrays["programs"], notes["program"])
    assert listed(tmp_path) == ["x.safetensors"]


def test_an_excerpt_without_notes_is_a_file_too(tmp_path, draw_notes, hummed):
    job = Job(tmp_path / "x.safetensors", draw_notes(0), replace(PLAIN, start=1e3), DEFAULT)
    assert make_features(job) is None
    assert load_file(job.target)["times"].shape == (0, 2)


def test_features_are_written_whole_or_not_at_all(tmp_path, draw_notes, hummed, monkeypatch):
    def interrupt(*_args):
        raise KeyboardInterrupt

    job = Job(tmp_path / "x.safetensors", draw_notes(0), PLAIN, DEFAULT)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", interrupt)
        with pytest.raises(KeyboardInterrupt):
            make_features(job)
    assert listed(tmp_path) == []


def test_a_failed_rendering_is_a_reason_and_leaves_nothing(tmp_path, draw_notes, monkeypatch):
    def refuse(*_args):
        raise RenderError("no such soundfont")

    monkeypatch.setattr(corpus, "_synthesizer", refuse)
    job = Job(tmp_path / "x.safetensors", draw_notes(0), PLAIN, DEFAULT)
    assert fill_cache([job], 1) == ["no such soundfont"]
    assert listed(tmp_path) == []


def test_an_hour_of_busy_music_takes_at_most_8_mb(tmp_path, draw_notes, monkeypatch):
    notes = draw_notes(0, 12 * 600, 600.0)  # twelve notes a second for ten minutes
    bands = torch.rand(92, frame_count(600.0))
    monkeypatch.setattr(corpus, "_sound", lambda job: (job.notes, bands))
    job = Job(tmp_path / "x.safetensors", notes, PLAIN, DEFAULT)
    assert make_features(job) is None
    assert job.target.stat().st_size * 6 < 8e6


def test_what_the_cache_holds_is_not_made_again(tmp_path, pieces, hummed):
    cache = tmp_path / "c"

    def plan():
        return plan_jobs(
            [(piece, 2) for piece in pieces],
            [SOUNDFONT],
            cache,
            DEFAULT,
            performance="varied",
            excerpt=9,
            seed=0,
        )

    told = []
    assert fill_cache(plan(), 1, lambda *progress: told.append(progress)) == []
    assert len(listed(cache)) == 12 and told[-1] == (12, 12)
    made = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    (gone := next(iter(made))).unlink()
    told.clear()
    fill_cache(plan(), 1, lambda *progress: told.append(progress))
    assert told == [(1, 1)]
    made.pop(gone)
    assert all(path.stat().st_mtime_ns == time for path, time in made.items())


# ---- recordings beside MIDI files


def test_a_recording_beside_its_midi_is_used(midi_folder, tmp_path, write_wav, play):
    pieces, _ = read_library([midi_folder], jobs=1)
    piece = next(piece for piece in pieces if piece.name == "piece 2.mid")
    assert recording_beside(piece) is None
    path = write_wav(midi_folder / "piece 2.wav", play(piece.midi.notes))
    assert recording_beside(piece) == path
    jobs = plan_jobs(
        [(p, 1) for p in pieces],
        [],
        tmp_path / "c",
        DEFAULT,
        performance="varied",
        excerpt=90,
        seed=0,
    )
    assert [job.source for job in jobs] == [path]
    assert fill_cache(jobs, 1) == []
    arrays = load_file(jobs[0].target)
    np.testing.assert_allclose(arrays["times"][:, 0], piece.midi.notes["onset"])
    assert len(arrays["spectrogram"]) == pytest.approx(frame_count(piece.midi.seconds), abs=1)


@pytest.mark.parametrize("extra", [ALIGNED_WITHIN + 1, -ALIGNED_WITHIN - 1])
def test_a_recording_of_another_length_is_no_pair(pieces, tmp_path, write_wav, play, extra):
    piece = pieces[0]
    samples = play(piece.midi.notes, piece.midi.seconds + extra)
    path = write_wav(tmp_path / "long\n.wav", samples)
    job = Job(tmp_path / "x.safetensors", piece.midi.notes, path, DEFAULT)
    fault = make_features(job)
    assert fault is not None and "\n" not in fault
    assert f"the MIDI file beside it {piece.midi.seconds:.1f} s: not a pair" in fault
    assert not job.target.exists()


@pytest.mark.parametrize("extra", [ALIGNED_WITHIN - 0.5, 0.5 - ALIGNED_WITHIN])
def test_a_recording_may_ring_on_a_little(pieces, tmp_path, write_wav, play, extra):
    piece = pieces[0]
    path = write_wav(tmp_path / "a.wav", play(piece.midi.notes, piece.midi.seconds + extra))
    assert make_features(Job(tmp_path / "x", piece.midi.notes, path, DEFAULT)) is None


def test_an_unreadable_recording_is_reported_and_the_rest_goes_on(
    midi_folder, tmp_path, hummed, write_wav
):
    (midi_folder / "piece 0.ogg").write_bytes(b"no sound in here")
    pieces, _ = read_library([midi_folder], jobs=1)
    jobs = plan_jobs(
        [(piece, 1) for piece in pieces],
        [SOUNDFONT],
        tmp_path / "c",
        DEFAULT,
        performance="varied",
        excerpt=90,
        seed=0,
    )
    assert len(jobs) == 7
    faults = fill_cache(jobs, 1)
    assert len(faults) == 1 and "piece 0.ogg" in faults[0]
    assert len(listed(tmp_path / "c")) == 6


def test_plain_performances_are_as_written(pieces, tmp_path):
    fonts = [Path("a.sf2"), Path("b.sf2")]
    plan = plan_jobs(
        [(p, 2) for p in pieces], fonts, tmp_path, DEFAULT, performance="plain", excerpt=90, seed=0
    )
    for job in plan:
        written, played = performed(job.notes, job.source)
        assert np.array_equal(written, job.notes)
        assert np.array_equal(played["velocity"], job.notes["velocity"])
        np.testing.assert_allclose(played["onset"], job.notes["onset"])
    used = [job.source.soundfont for job in plan]
    assert all({*pair} == {"a.sf2", "b.sf2"} for pair in zip(used[::2], used[1::2], strict=True))


def test_parameters_of_the_roll_share_the_cache(pieces):
    recipe = Recipe("font.sf2")
    key = cache_key(pieces[0], recipe, DEFAULT)
    for other in (FeatureParams(snippet=21), FeatureParams(unstacked=True, roll_rate="adaptive")):
        assert cache_key(pieces[0], recipe, other) == key
    assert cache_key(pieces[0], recipe, FeatureParams(scale="mel")) != key


# ---- a corpus


@pytest.fixture
def many(tmp_path, draw_notes) -> Path:
    folder = tmp_path / "many"
    folder.mkdir()
    for seed in range(24):
        write_midi(draw_notes(100 + seed, 30, 8.0), folder / f"{seed}.mid")
    return folder


def test_a_corpus_is_split_by_piece_and_says_what_it_is(many, tmp_path, draw_notes, hummed):
    (many / "broken.mid").write_bytes(b"no")
    extra = tmp_path / "extra"
    extra.mkdir()
    write_midi(draw_notes(999, 30, 8.0), extra / "new.mid")
    for path in many.glob("?.mid"):
        (extra / path.name).write_bytes(path.read_bytes())
    found = prepare_corpus(
        [many], [extra], [SOUNDFONT], tmp_path / "c", DEFAULT, copies=2, excerpt=5, workers=1
    )
    facts = found.facts
    assert facts["valid_pieces"] >= 1 and facts["test_pieces"] >= 3
    assert facts["soundfonts"] == ["TimGM6mb.sf2"] and facts["renderings"] == len(found.train)
    assert len(found.valid) == 2 * facts["valid_pieces"]
    assert not set(found.train) & set(found.valid)
    assert all(path.is_file() for path in found.train + found.valid)
    assert len(found.faults) == 1 and found.faults[0].startswith("broken.mid: ")
    again = prepare_corpus(
        [many], [extra], [SOUNDFONT], tmp_path / "c", DEFAULT, copies=2, excerpt=5, workers=1
    )
    assert again == found


def test_a_soundfont_held_back_renders_validation_and_nothing_else(many, tmp_path, monkeypatch):
    planned = []

    def fill(jobs, *_args):
        planned.extend(jobs)
        for job in jobs:
            job.target.parent.mkdir(exist_ok=True)
            job.target.touch()
        return []

    monkeypatch.setattr(corpus, "fill_cache", fill)
    fonts = [tmp_path / "a.sf2", tmp_path / "b.sf2"]
    made = prepare_corpus(
        *([many], [], fonts, tmp_path / "c", FINE),
        validation_soundfonts=fonts[1:],
        performance="mixed",
        workers=1,
    )
    names = {job.target: {Path(font).name for font in job.source.soundfonts} for job in planned}
    assert all(names[path] == {"a.sf2"} for path in made.train)
    assert all(names[path] == {"b.sf2"} for path in made.valid) and made.valid
    assert made.facts["soundfonts"] == ["a.sf2"]
    assert made.facts["validation_soundfonts"] == ["b.sf2"]


def test_too_few_pieces_are_an_error(tmp_path, draw_notes, hummed):
    write_midi(draw_notes(0), tmp_path / "only.mid")
    with pytest.raises(MmidError, match="1 pieces are too few"):
        prepare_corpus([tmp_path], [], [SOUNDFONT], tmp_path / "c", DEFAULT, workers=1)


# ---- with the real synthesiser


@needs_fluidsynth
def test_rendered_onsets_fall_on_the_rolls_frames(tmp_path):
    rng = np.random.default_rng(0)
    onsets = np.cumsum(rng.uniform(0.6, 1.0, 70))
    onsets = onsets[onsets < 58]
    notes = np.zeros(len(onsets), NOTE_DTYPE)
    notes["onset"], notes["offset"] = onsets, onsets + 0.25
    notes["pitch"], notes["velocity"] = rng.integers(55, 80, len(onsets)), 100
    job = Job(tmp_path / "x.safetensors", notes, Recipe(str(SOUNDFONT), tempo=1.1), DEFAULT)
    assert make_features(job) is None
    arrays = load_file(job.target)
    times = arrays["times"][:, 0]
    written, _ = performed(notes, job.source)
    roll = piano_roll(written, len(arrays["spectrogram"]))[1].sum(0)
    flux = np.maximum(np.diff(arrays["spectrogram"].astype(int), axis=0, prepend=0), 0).sum(1)
    far = 0
    for onset in times:
        near = round(float(onset) * DEFAULT.frame_rate)
        span = slice(max(0, near - 4), near + 5)
        heard, read = int(flux[span].argmax()), int(roll[span].argmax())
        far = max(far, abs(heard - read))
    assert far <= 1


@needs_fluidsynth
def test_a_rendering_hardly_depends_on_the_one_before(tmp_path, draw_notes):
    recipe = Recipe(str(SOUNDFONT), looseness=0.01, reverb=True)
    jobs = [
        Job(tmp_path / name, draw_notes(seed), recipe, DEFAULT)
        for name, seed in (("a", 0), ("b", 1), ("c", 0))
    ]
    assert [make_features(job) for job in jobs] == [None] * 3
    first, third = (load_file(tmp_path / name)["spectrogram"] for name in "ac")
    # fluidsynth starts notes on its blocks of 3 ms, which go on from rendering to rendering
    assert np.abs(first.astype(int) - third.astype(int)).mean() < 0.01 * LEVELS
    assert not np.array_equal(first[:100], load_file(tmp_path / "b")["spectrogram"][:100])


@needs_fluidsynth
def test_a_mixture_keeps_its_kind_and_its_melody(tmp_path, draw_notes):
    notes = draw_notes(0, 200, 40.0)
    notes["program"] = 0
    write_midi(notes, tmp_path / "x.mid")
    kinds = set()
    for seed in range(3):
        recipe = MixtureRecipe((str(SOUNDFONT),), 5.0, seed=seed)
        job = Job(tmp_path / f"{seed}", np.zeros(0), recipe, FINE, tmp_path / "x.mid")
        assert make_features(job) is None
        arrays = load_file(job.target)
        assert len(arrays["spectrogram"]) == frame_count(5.0) and arrays["spectrogram"].max() > 150
        assert len(arrays["melody"]) == len(arrays["pitches"]) == len(arrays["times"]) > 5
        assert set(np.unique(arrays["melody"])) <= {0, 1} and arrays["melody"].any()
        with safe_open(job.target, "np") as file:
            facts = file.metadata()
        assert facts["melody"] == "known"
        kinds.add(facts["kind"])
    assert kinds <= set(ENSEMBLES) and len(kinds) > 1


@needs_fluidsynth
def test_a_piece_with_few_notes_is_no_mixture(tmp_path, draw_notes):
    write_midi(draw_notes(0, 2, 3.0), tmp_path / "x.mid")
    recipe = MixtureRecipe((str(SOUNDFONT),), 5.0)
    job = Job(tmp_path / "made", np.zeros(0), recipe, FINE, tmp_path / "x.mid")
    assert make_features(job) == "x.mid: a mixture needs more notes"
    assert not job.target.exists()
