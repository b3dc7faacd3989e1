"""What the packaged model finds: recordings by scores, scores by recordings, at any tempo."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from synth import SOUNDFONT, needs_fluidsynth

from mmid.evaluation.degradations import degrade_samples
from mmid.identify.identifier import Identifier
from mmid.identify.search_options import SearchOptions
from mmid.index.build import build_index
from mmid.index.folder import LibraryIndex
from mmid.model.embedding import (
    Score,
    Sound,
    as_query,
)
from mmid.model.loading import load_model
from mmid.music.grid import DEFAULT, FeatureParams
from mmid.music.library import Piece, Recording
from mmid.music.midi import write_midi
from mmid.music.notes import sounding
from mmid.music.performance import Recipe, performed
from mmid.music.spectrogram import spectrogram
from mmid.music.synthesizer import Synthesizer

pytestmark = pytest.mark.numerical

TEMPO = 0.8
RECORDED_SECONDS = 25.0
"""Of each tune, from its beginning."""


@cache
def grid() -> FeatureParams:
    return load_model().encoders.config.features


def sound_of(samples: np.ndarray) -> Sound:
    return Sound(spectrogram(torch.from_numpy(samples), grid()), grid())


@pytest.fixture(scope="module")
def tunes(demo_tunes):
    return demo_tunes[:10]


@pytest.fixture(scope="module")
def recordings(tunes):
    made = []
    with Synthesizer(SOUNDFONT, DEFAULT.sample_rate) as synthesizer:
        for tune in tunes:
            notes = sounding(tune.midi.notes, 0.0, RECORDED_SECONDS)
            _, played = performed(notes, Recipe(str(SOUNDFONT), tempo=TEMPO))
            bands = sound_of(synthesizer.render(played)).spectrogram.numpy()
            made.append(Recording(f"{tune.name}.wav", tune.path, tune.digest, bands))
    return made


@pytest.fixture(scope="module")
def open_over(tmp_path_factory):
    """Return a function that indexes tunes or recordings, and opens an identifier over them."""

    def over(items, **options):
        model, folder = load_model(), tmp_path_factory.mktemp("index")
        build_index(folder / "index", items, model)
        return Identifier(model, LibraryIndex(folder / "index", model), SearchOptions(**options))

    return over


@pytest.fixture(scope="module")
def over_scores(tunes, open_over):
    return open_over(tunes)


@pytest.fixture(scope="module")
def over_recordings(recordings, open_over):
    return open_over(recordings)


def check(identifier, query, name, *, start, end, ratio) -> bool:
    """Hold an answer to its name, by a margin, and its tempo; return whether it tells the place."""
    first, second, *_ = identifier.identify(query).matches
    assert first.piece == name
    assert first.votes > 1.3 * second.votes and first.confidence > 0.5
    assert first.tempo_ratio == pytest.approx(ratio, rel=0.07)
    return abs(first.start - start) < 1 and abs(first.end - end) < 1.5


@needs_fluidsynth
def test_scores_find_their_recordings(tunes, over_recordings):
    placed = 0
    for tune in tunes:
        score, name = as_query(tune, grid()).span(4.0, 10.0), f"{tune.name}.wav"
        placed += check(over_recordings, score, name, start=4 / TEMPO, end=14 / TEMPO, ratio=TEMPO)
    assert placed >= 7, "in seconds of the recording, but for repeats of the tune"


@needs_fluidsynth
def test_recordings_find_their_scores(tunes, recordings, over_scores):
    placed = 0
    for tune, recording in zip(tunes, recordings, strict=True):
        part = torch.from_numpy(recording.spectrogram[:, 108 : 108 + 269])  # 12.5 s from 5
        sound = Sound(part, grid())
        placed += check(over_scores, sound, tune.name, start=4, end=14, ratio=TEMPO)
    assert placed >= 7, "in seconds of the score, but for repeats of the tune"


@needs_fluidsynth
@pytest.mark.parametrize("how", ["flat", "sharp"])
def test_recordings_half_a_semitone_off_find_their_scores(tunes, over_scores, how):
    with Synthesizer(SOUNDFONT, DEFAULT.sample_rate) as synthesizer:
        for tune in tunes[:4]:
            played = degrade_samples(
                synthesizer.render(tune.midi.notes)[: 22_050 * 12], how, DEFAULT.sample_rate
            )
            answer = over_scores.identify(sound_of(played))
            assert answer.matches[0].piece == tune.name and answer.matched
            heard_off = answer.tuning + 100 * answer.matches[0].transpose
            assert heard_off == pytest.approx(-50 if how == "flat" else 50, abs=30)


@needs_fluidsynth
def test_scores_find_scores_and_recordings_find_recordings(
    tunes, recordings, over_scores, over_recordings
):
    for tune, recording in zip(tunes[:4], recordings[:4], strict=True):
        notes = tune.midi.notes.copy()
        notes["onset"] /= 1.25
        notes["offset"] /= 1.25
        quick = Score(notes, tune.midi.seconds / 1.25, grid()).span(4.0, 8.0)
        check(over_scores, quick, tune.name, start=5, end=15, ratio=1.25)
        with Synthesizer(SOUNDFONT, DEFAULT.sample_rate) as synthesizer:
            sound = sound_of(synthesizer.render(notes)[22_050 * 4 : 22_050 * 12])
        place = {"start": 5 / TEMPO, "end": 15 / TEMPO}
        check(over_recordings, sound, recording.name, **place, ratio=1.25 / TEMPO)


def hastened(tune: Piece, ratio: float) -> np.ndarray:
    notes = tune.midi.notes.copy()
    for side in ("onset", "offset"):
        notes[side] /= ratio
    return notes


def check_both_ways(sounds, tunes, open_over, ratio: float) -> None:
    """Find scores by parts of recordings, and those parts by the whole scores; at one tempo."""
    queries = [sound_of(sound[5 * 22_050 : 20 * 22_050]) for sound in sounds]
    parts = [
        Recording(tune.name, tune.path, tune.digest, one.spectrogram.numpy())
        for tune, one in zip(tunes, queries, strict=True)
    ]
    scores, recordings = (open_over(items, keys=(0,)) for items in (tunes, parts))
    for tune, one in zip(tunes, queries, strict=True):
        by_sound = scores.identify(one).matches[0]
        by_score = recordings.identify(as_query(tune, grid())).matches[0]
        for match in (by_sound, by_score):
            assert match.piece == tune.name
            assert match.tempo_ratio == pytest.approx(ratio, rel=0.05)
        assert by_score.end - by_score.start > 10, "most of it, at its own or a repeat's place"


@needs_fluidsynth
def test_parts_of_recordings_are_found_at_their_tempo_both_ways(tunes, open_over):
    with Synthesizer(SOUNDFONT, DEFAULT.sample_rate) as synthesizer:
        sounds = [synthesizer.render(hastened(tune, 1.15)) for tune in tunes[:4]]
    check_both_ways(sounds, tunes[:4], open_over, 1.15)


@pytest.mark.parametrize("ratio", [0.87, 1.15])
def test_parts_of_plain_tones_are_found_at_their_tempo_both_ways(tunes, open_over, play, ratio):
    check_both_ways([play(hastened(t, ratio)) for t in tunes[:2]], tunes[:2], open_over, ratio)


@needs_fluidsynth
def test_a_score_is_found_by_the_path_of_its_file(tmp_path, tunes, recordings, over_recordings):
    write_midi(tunes[1].midi.notes, tmp_path / "score.mid")
    answer = over_recordings.identify_file(tmp_path / "score.mid", start=4.0, duration=10.0)
    assert answer.query == str(tmp_path / "score.mid") and answer.matched
    assert answer.matches[0].piece == recordings[1].name
