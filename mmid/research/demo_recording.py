"""How the recording of the packaged demo was made, from one of its tunes.

Conventions: audio is mono float32 at full scale 1; times in seconds. The recording comes from
``python -m mmid.research.demo_recording TARGET SOUNDFONT``, with MuseScore_General_Lite.sf3 (MIT
licence; Debian: ``apt-get install fluidsynth musescore-general-soundfont-small``). Every draw is
seeded, so one machine makes the same file again.
"""

from __future__ import annotations

import math
import sys
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np

from mmid.music.acoustics import convolved, decaying_noise, pink_noise
from mmid.music.audio_writer import write_audio
from mmid.music.midi import read_midi
from mmid.music.performance import Recipe, performed
from mmid.music.synthesizer import Synthesizer

RECORDED_TUNE = "swallowtail-jig"
RECORDED_SECONDS = 15.0
RECORDED_TEMPO = 0.88
RECORDED_PROGRAMS = {73: 40, 24: 0}  # flute to violin, guitar to grand piano

SAMPLE_RATE = 48_000  # Opus's own
BIT_RATE = 48_000
LOOSENESS, PEDAL = 0.015, 0.15
ROOM_SECONDS = 0.5  # to 60 dB down
ROOM_ENERGY = 0.5  # of the direct sound's
NOISE_DECIBELS = -20.0  # of the music's
NOISE_FROM = 40.0  # Hz
PEAK = 0.7
SEED = 7


def make_recording(target: Path, soundfont: Path) -> None:
    """Make the demo's recording: the middle of a tune, played slower and elsewhere.

    Another tempo and other instruments than the MIDI file's, notes a little off the beat, a room
    and its noise; encoded as mono Opus.

    Parameters
    ----------
    target : Path
        The .ogg file to write.
    soundfont : Path
        An .sf2 or .sf3 file.

    Raises
    ------
    RenderError
        If fluidsynth is missing or refuses the soundfont.
    """
    rng = np.random.default_rng(SEED)
    music = add_room(render_dry(soundfont), rng)
    sound = music + background_noise(len(music), rng) * _rms(music) * 10 ** (NOISE_DECIBELS / 20)
    sound *= np.float32(PEAK / np.abs(sound).max())
    write_audio(target, [sound], SAMPLE_RATE, "ogg", BIT_RATE)


def render_dry(soundfont: Path) -> np.ndarray:
    """Play the recorded excerpt, without room or noise.

    Returns
    -------
    np.ndarray [samples] float32
        `RECORDED_SECONDS` at `SAMPLE_RATE`.
    """
    tunes = files("mmid") / "assets" / "demo" / "library"
    with as_file(tunes / f"{RECORDED_TUNE}.mid") as path:
        tune = read_midi(path)
    notes = tune.notes
    notes["program"] = [RECORDED_PROGRAMS[int(program)] for program in notes["program"]]
    span = RECORDED_SECONDS * RECORDED_TEMPO
    recipe = Recipe(
        soundfont=str(soundfont),
        tempo=RECORDED_TEMPO,
        start=(tune.seconds - span) / 2,
        seconds=span,
        looseness=LOOSENESS,
        pedal=PEDAL,
        seed=SEED,
    )
    _, played = performed(notes, recipe)
    with Synthesizer(soundfont, SAMPLE_RATE) as synthesizer:
        return synthesizer.render(played)[: round(RECORDED_SECONDS * SAMPLE_RATE)]


def add_room(sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Play a sound at `SAMPLE_RATE` in a room: the direct sound, then noise that dies away."""
    time = np.arange(int(1.2 * ROOM_SECONDS * SAMPLE_RATE)) / SAMPLE_RATE
    room = decaying_noise(time, ROOM_SECONDS, ROOM_ENERGY, rng)
    room[0] = 1.0
    return convolved(sound, room).astype(np.float32)


def background_noise(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Draw pink noise from `NOISE_FROM` on: float32 ``[samples]``, of root mean square 1."""
    noise = pink_noise(samples, rng, math.ceil(NOISE_FROM * samples / SAMPLE_RATE))
    return (noise / _rms(noise)).astype(np.float32)


def _rms(sound: np.ndarray) -> np.float32:
    return np.float32(np.sqrt(np.mean(np.square(sound, dtype=np.float64))))


if __name__ == "__main__":
    make_recording(Path(sys.argv[1]), Path(sys.argv[2]))
