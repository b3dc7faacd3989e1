"""`mmid.training.note_targets` by hand and against a loop over half frames."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmid.model.harmonic import EDGE_REACH, OUTPUTS
from mmid.model.transcriber import LOWEST, PITCHES
from mmid.training.note_targets import OUTPUT_WEIGHTS, draw_targets, target_loss

FRAMES = 24


def drawn(*notes: tuple[float, float, int, bool]) -> dict[str, np.ndarray]:
    """Return each output's targets of one snippet."""
    onset, offset, pitch, melody = (np.array(column) for column in zip(*notes, strict=True))
    owner = np.zeros(len(notes), int)
    targets = draw_targets(owner, onset, offset, pitch, melody, 1, FRAMES)
    assert targets.shape == (1, len(OUTPUTS), PITCHES, FRAMES) and targets.dtype == torch.float32
    return dict(zip(OUTPUTS, targets[0].numpy(), strict=True))


def test_a_note_is_two_triangles_and_what_lies_between():
    found = drawn((5.25, 9.0, 60, True), (5.0, 7.0, 72, False))
    row = 60 - LOWEST
    np.testing.assert_allclose(found["onset"][row, 4:8], [1 / 6, 5 / 6, 0.5, 0], atol=1e-6)
    np.testing.assert_allclose(found["offset"][row, 7:12], [0, 1 / 3, 1, 1 / 3, 0], atol=1e-6)
    assert np.flatnonzero(found["sustain"][row]).tolist() == [5, 6, 7, 8]
    assert np.array_equal(found["melody"][row], found["sustain"][row])
    assert not found["melody"][72 - LOWEST].any() and found["sustain"][72 - LOWEST].sum() == 2
    assert not np.delete(found["onset"], [row, 72 - LOWEST], 0).any()


def test_many_notes_are_those_of_a_loop():
    rng = np.random.default_rng(0)
    onset = rng.uniform(-10, FRAMES + 5, 300)
    notes = [
        (start, start + rng.uniform(0.1, 9), int(rng.integers(15, 115)), bool(rng.random() < 0.3))
        for start in onset
    ]
    expected = {name: np.zeros((PITCHES, FRAMES)) for name in OUTPUTS}
    for start, end, pitch, melody in notes:
        if not LOWEST <= pitch < LOWEST + PITCHES:
            continue
        for frame in range(FRAMES):
            for name, edge in (("onset", start), ("offset", end)):
                near = max(0.0, 1 - abs(frame - edge) / EDGE_REACH)
                cell = expected[name][pitch - LOWEST, frame]
                expected[name][pitch - LOWEST, frame] = max(cell, near)
            first = round(start)
            if first <= frame < max(round(end), first + 1):
                expected["sustain"][pitch - LOWEST, frame] = 1
                expected["melody"][pitch - LOWEST, frame] += melody
    found = drawn(*notes)
    for name in OUTPUTS:
        np.testing.assert_allclose(found[name], expected[name].clip(0, 1), atol=1e-6)


@pytest.mark.parametrize("output", range(len(OUTPUTS)))
def test_a_melody_counts_only_where_it_is_known(output):
    torch.manual_seed(0)
    log_odds = torch.randn(2, len(OUTPUTS), PITCHES, 6)
    targets = (torch.rand_like(log_odds) < 0.1).float()
    known = torch.tensor([True, False])
    loss = target_loss(log_odds, targets, known)
    for row in range(2):
        other = log_odds.clone()
        other[row, output] += 1
        counts = OUTPUTS[output] != "melody" or bool(known[row])
        assert (target_loss(other, targets, known) != loss) == counts
    assert target_loss(20 * (2 * targets - 1), targets, known) < 1e-6 < OUTPUT_WEIGHTS[output]
