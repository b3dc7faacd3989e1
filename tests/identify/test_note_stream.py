"""`mmid.identify.note_stream`: long music, transcribed stretch by stretch onto a tape."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmid.identify.identifier import Identifier
from mmid.identify.note_stream import AROUND, Tape, cut_stretches, transcribe_stretches
from mmid.index.build import build_index
from mmid.index.folder import LibraryIndex
from mmid.model.transcriber import PITCHES
from mmid.music.grid import DEFAULT

RATE = DEFAULT.frame_rate


def stretches(*lengths):
    numbers = torch.arange(sum(lengths)).float().expand(2, PITCHES, -1)
    return iter(torch.split(numbers, lengths, -1))


def test_a_tape_is_wound_on_as_far_as_needed():
    drawn = []
    tape = Tape(drawn.append(len(drawn)) or part for part in stretches(10, 10, 5))
    assert tape.between(3, 8)[0, 0].tolist() == [3, 4, 5, 6, 7] and len(drawn) == 1
    assert tape.between(8, 12)[0, 0].tolist() == [8, 9, 10, 11] and tape.end == 20
    assert tape.between(23, 40)[0, 0].tolist() == [23, 24] and tape.end == 25
    assert tape.between(30, 40).shape[-1] == 0


def test_a_tape_forgets():
    tape = Tape(stretches(10, 10, 5))
    tape.between(0, 12)
    tape.forget(7)
    assert tape.first == 7 and tape.between(7, 9)[0, 0].tolist() == [7, 8]
    tape.forget(3)
    assert tape.first == 7
    assert tape.between(19, 22)[0, 0].tolist() == [19, 20, 21]
    tape.forget(100)
    assert tape.first == tape.end == 25


@pytest.mark.parametrize("block", [700, 65_536, 10**6])
@pytest.mark.parametrize("seconds", [0.5, 3.7, 9.0])
def test_stretches_lie_end_to_end(block, seconds):
    hop, frames = DEFAULT.hop, 40
    samples = np.arange(int(seconds * DEFAULT.sample_rate), dtype=np.float32)
    blocks = (samples[i : i + block] for i in range(0, len(samples), block))
    done = 0
    for cut, before in cut_stretches(blocks, frames, DEFAULT):
        begin = done * hop
        assert cut[before * hop] == begin, "its first frame follows the last one's"
        assert before == (AROUND if done else 0)
        after = len(cut) - (before + frames) * hop
        assert after >= 0 or begin + frames * hop > len(samples) - AROUND * hop
        done += min(frames, len(cut) // hop + 1 - before)
    assert done == len(samples) // hop + 1


def test_music_is_transcribed_in_stretches(tmp_path, transcribing_model, pieces, play, write_wav):
    build_index(tmp_path / "index", pieces, transcribing_model)
    identifier = Identifier(
        transcribing_model, LibraryIndex(tmp_path / "index", transcribing_model)
    )
    notes = np.concatenate([pieces[0].midi.notes] * 4)
    for turn, side in [(t, s) for t in range(4) for s in ("onset", "offset")]:
        notes[side][turn * 40 : turn * 40 + 40] += turn * 18.0
    path = write_wav(tmp_path / "long.wav", play(notes, 70.0))
    found = list(transcribe_stretches(identifier.model.encoders, path))
    assert len(found) == 3 and sum(part.shape[-1] for part in found) == int(70 * RATE) + 1
    short = list(transcribe_stretches(identifier.model.encoders, path, 10.0, 5.0))
    assert [part.shape[-1] for part in short] == [int(5 * RATE) + 1]
