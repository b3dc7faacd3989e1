"""How the recording of the packaged demo was made, from one of its tunes.

Conventions: audio is mono float32 at full scale 1; times in seconds. The recording comes from
``python -m mmid.research.demo_recording TARGET SOUNDFONT``, with MuseScore_General_Lite.sf3 (MIT
licence; Debian: ``apt-get install fluidsynth musescore-general-soundfont-small``). Every draw is
seeded, so one machine makes the same file again.
"""

from __future__ import annotations

import sys
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np

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
    _encode(sound * np.float32(PEAK / np.abs(sound).max()), target)


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
    """Convolve a sound with a room: the direct sound, then noise that dies away.

    Parameters
    ----------
    sound : np.ndarray [samples] float32
        At `SAMPLE_RATE`.
    rng : np.random.Generator
        Draws the room.

    Returns
    -------
    np.ndarray [samples] float32
        As long as the sound.
    """
    time = np.arange(int(1.2 * ROOM_SECONDS * SAMPLE_RATE)) / SAMPLE_RATE
    room = rng.standard_normal(len(time)) * 10 ** (-3 * time / ROOM_SECONDS)
    room *= np.sqrt(ROOM_ENERGY / (room**2).sum())
    room[0] = 1.0
    size = len(sound) + len(room)
    heard = np.fft.irfft(np.fft.rfft(sound, size) * np.fft.rfft(room, size), size)
    return heard[: len(sound)].astype(np.float32)


def background_noise(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Draw pink noise, whose power falls with frequency as that of rooms and streets does.

    Returns
    -------
    np.ndarray [samples] float32
        Of root mean square 1.
    """
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    frequency = np.fft.rfftfreq(samples, 1 / SAMPLE_RATE)
    spectrum[frequency < NOISE_FROM] = 0
    noise = np.fft.irfft(spectrum / np.sqrt(np.maximum(frequency, NOISE_FROM)), samples)
    return (noise / _rms(noise)).astype(np.float32)


def _rms(sound: np.ndarray) -> np.float32:
    return np.float32(np.sqrt(np.mean(np.square(sound, dtype=np.float64))))


def _encode(sound: np.ndarray, target: Path) -> None:
    import av

    # Bit-exact: no random stream number in the file.
    with av.open(str(target), "w", format="ogg", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libopus", rate=SAMPLE_RATE, layout="mono")
        stream.bit_rate = BIT_RATE
        frame = av.AudioFrame.from_ndarray(sound[None].astype(np.float32), "flt", "mono")
        frame.sample_rate = SAMPLE_RATE
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


if __name__ == "__main__":
    make_recording(Path(sys.argv[1]), Path(sys.argv[2]))
