"""The packaged demo: a small library of tunes, and a recording of one of them to identify.

Conventions: audio is mono float32 at full scale 1; times in seconds. The recording comes from
``python -m mmid.demo TARGET SOUNDFONT``, the packaged one with MuseScore_General_Lite.sf3 (MIT
licence; Debian: ``apt-get install fluidsynth musescore-general-soundfont-small``). Every draw is
seeded, so one machine makes the same file again.
"""

from __future__ import annotations

import sys
import tempfile
from importlib.resources import files
from pathlib import Path

import numpy as np

from mmid.abc import read_abc
from mmid.corpus import Recipe, performed
from mmid.errors import MmidError
from mmid.midi import read_midi
from mmid.render import Synthesizer
from mmid.tune import CHORD_PROGRAM, MELODY_PROGRAM, Tune, write_midi

RECORDED_TUNE = "swallowtail-jig"
RECORDED_SECONDS = 15.0
RECORDED_TEMPO = 0.88
RECORDED_PROGRAMS = {MELODY_PROGRAM: 40, CHORD_PROGRAM: 0}  # violin and grand piano

SAMPLE_RATE = 48_000  # Opus's own
BIT_RATE = 48_000
LOOSENESS, PEDAL = 0.015, 0.15
ROOM_SECONDS = 0.5  # to 60 dB down
ROOM_ENERGY = 0.5  # of the direct sound's
NOISE_DECIBELS = -20.0  # of the music's
NOISE_FROM = 40.0  # Hz
PEAK = 0.7
SEED = 7


def read_library() -> list[Tune]:
    """Read the packaged demo library of public-domain tunes."""
    asset = files("mmid").joinpath("assets", "demo", "tunes.abc")
    return read_abc(asset.read_text(encoding="utf-8"))


def write_library(folder: Path) -> list[Path]:
    """Write every packaged tune as a MIDI file named after it, such as ``greensleeves.mid``.

    Parameters
    ----------
    folder : Path
        Where to write; made if missing.

    Returns
    -------
    list[Path]
        The files, in the library's order.

    Raises
    ------
    MmidError
        A file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for tune in read_library():
        path = folder / f"{tune.slug}.mid"
        write_midi(tune, path)
        paths.append(path)
    return paths


def prepare_demo(folder: Path) -> tuple[Path, Path]:
    """Lay out the demo's library of MIDI files and its recording.

    Parameters
    ----------
    folder : Path
        Where to write; made if missing.

    Returns
    -------
    library : Path
        Folder of the MIDI files.
    recording : Path
        About 15 s of one of the tunes, `RECORDED_TUNE`.

    Raises
    ------
    MmidError
        The folder cannot be written to.
    """
    library, recording = folder / "library", folder / "recording.ogg"
    try:
        write_library(library)
        asset = files("mmid").joinpath("assets", "demo", recording.name)
        recording.write_bytes(asset.read_bytes())
    except OSError as error:
        raise MmidError(f"cannot prepare the demo in {folder}: {error}") from error
    return library, recording


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
    (tune,) = (tune for tune in read_library() if tune.slug == RECORDED_TUNE)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "tune.mid")
        write_midi(tune, path)
        notes = read_midi(path).notes
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
