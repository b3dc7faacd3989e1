"""`mmid.identify.rolls`: stretches of scores, drawn with the pitches they hold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mmid.identify.rolls import Rolls, draw_spans
from mmid.identify.voting import Candidate
from mmid.model.transcriber import LOWEST, PITCHES
from mmid.music.grid import DEFAULT
from mmid.music.notes import NOTE_DTYPE
from mmid.music.piano_roll import draw_rolls

pytestmark = pytest.mark.numerical

FRAMES = 60


@pytest.fixture(scope="module")
def library(draw_notes) -> list[np.ndarray]:
    """Return the notes of three pieces, of which the last has none."""
    return [draw_notes(seed, 40, 6.0) for seed in range(2)] + [np.zeros(0, NOTE_DTYPE)]


def drawn(library: list[np.ndarray], *spans: tuple[int, int, float, float]) -> Rolls:
    """Draw spans: a piece, a key, the first frame and the step."""
    placed = [
        (Candidate(piece, 0.0, 1.0, 0.0, key), first, step) for piece, key, first, step in spans
    ]
    return draw_spans(placed, FRAMES, lambda one: library[one.piece], DEFAULT)


SPANS = [(0, 0, 0.0, 1.0), (1, 3, 20.5, 1.2), (2, 0, 0.0, 1.0), (0, -30, -10.0, 0.7)]


def test_rolls_are_those_of_training(library):
    whole = drawn(library, (0, 0, 0.0, 1.0)).whole()
    notes = library[0]
    onset, offset = (
        torch.from_numpy(notes[side] * DEFAULT.frame_rate).float() for side in ("onset", "offset")
    )
    pitch, owner = torch.from_numpy(notes["pitch"].astype(np.int64)), torch.zeros(len(notes)).long()
    plain = replace(DEFAULT, onsets=True)
    wanted = draw_rolls(owner, onset, offset, pitch, 1, FRAMES, plain)[0]
    assert torch.allclose(whole[0], wanted[:, LOWEST : LOWEST + PITCHES].flatten(0, 1), atol=1e-5)


def test_stretches_are_drawn_alone_or_together_alike(library):
    together = drawn(library, *SPANS).whole()
    assert together.shape == (4, 2 * PITCHES, FRAMES) and not together[2].any()
    for number, span in enumerate(SPANS):
        assert torch.equal(drawn(library, span).whole()[0], together[number])


def test_gains_are_those_of_whole_rolls(library):
    rolls = drawn(library, *SPANS)
    values = torch.randn(2 * PITCHES, 25, generator=torch.Generator().manual_seed(0))
    wanted = values.T @ rolls.whole()
    assert rolls.values.shape[1] < 2 * PITCHES
    assert torch.allclose(rolls.gains(values), wanted, atol=1e-4)
    memory = torch.full((4, 25, FRAMES), torch.nan)
    assert rolls.gains(values, memory) is memory
    assert torch.allclose(memory, wanted, atol=1e-4)
    assert torch.allclose(rolls.gains(values, torch.empty(0)), wanted, atol=1e-4)


def test_frames_are_read_along_paths(library):
    rolls = drawn(library, *SPANS)
    path = torch.randint(0, FRAMES, (4, 9), generator=torch.Generator().manual_seed(1))
    read = rolls.along(path).whole()
    for number in range(4):
        assert torch.equal(read[number], rolls.whole()[number][:, path[number]])
