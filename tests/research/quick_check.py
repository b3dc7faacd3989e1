"""What has `mmid.research.gpu_check` run in little time: tiny models, and little music."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from tiny import HARMONIC_EAR, tiny_on_the_grid, tiny_transcriber

from mmid.music.audio import read_audio
from mmid.music.audio_writer import write_audio
from mmid.music.grid import DEFAULT
from mmid.music.midi import read_midi, write_midi
from mmid.music.notes import sounding
from mmid.research.gpu_check import Material, lay_out

TUNES, TUNE_SECONDS, RECORDED_SECONDS = 2, 15.0, 5.0


def lay_out_little(folder: Path, seconds: float, _: int | None = None) -> Material:
    """Lay out the beginnings of two tunes, and of the recording."""
    material, recording = lay_out(folder, seconds, TUNES), folder / "recording.wav"
    for tune in material.tunes:
        write_midi(sounding(read_midi(tune).notes, 0.0, TUNE_SECONDS), tune)
    rate = DEFAULT.sample_rate
    sound = read_audio(material.recording, rate, duration=RECORDED_SECONDS)
    write_audio(recording, [sound], rate, "wav")
    return replace(material, recording=recording)


QUICK: dict[str, Any] = {
    "mmid.training.experiment.Experiment.model": property(tiny_on_the_grid),
    "mmid.training.experiment.HarmonicConfig": lambda: HARMONIC_EAR,
    "mmid.training.tasks._packaged_transcriber": tiny_transcriber,
    "mmid.research.gpu_check.lay_out": lay_out_little,
    "mmid.research.gpu_check.SMALL": HARMONIC_EAR,
    "mmid.research.gpu_check.QUERIES": 1,
    "mmid.research.gpu_check.TONE_SECONDS": 8.0,
    "mmid.research.gpu_check.STEPS": 6,
    "mmid.research.gpu_check._timed": lambda run, amount: (run(), amount),
}
"""Names, and what to have in their place."""
