"""Files that players play: songs broken in every way of `fuzz.broken` are read, and it is said."""

from __future__ import annotations

import numpy as np
import pytest
from fuzz.broken import NOTES, WAYS, broken_song, count_notes

from mmid.music.midi import read_midi


@pytest.mark.parametrize("name", WAYS)
def test_a_broken_song_is_read_as_far_as_it_can_be(name, tmp_path):
    _, share, told = WAYS[name]
    for seed in range(6):
        path = tmp_path / "song.mid"
        path.write_bytes(broken_song(name, np.random.default_rng(seed)))
        midi = read_midi(path)
        assert count_notes(midi.notes) >= share * 2 * NOTES
        assert told is None or bool(midi.damage) == told
        assert midi.seconds < 300
