"""MIDI notes to sound with fluidsynth and a soundfont.

Conventions: audio is float32 at full scale 1, mono unless stereo is asked for; times in seconds.
Needs the ``train`` extra and the fluidsynth library (Debian: ``apt-get install fluidsynth``).
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from threading import Lock
from types import TracebackType

import numpy as np

from mmid.errors import RenderError, label
from mmid.music.fluidsynth_library import load_fluidsynth, logged
from mmid.music.notes import last_offset

SOUNDFONT_FOLDERS = ("/usr/share/sounds/sf2", "/usr/share/sounds/sf3", "/usr/share/soundfonts")
"""Where distributions install soundfonts; SF2_PATH adds more."""

MIDI_CHANNELS = [channel for channel in range(64) if channel % 16 != 9]
"""Channels for melodic programs; every sixteenth is the drum kit's."""

DRUM_CHANNELS, DRUM_BANK = (9, 25, 41, 57), 128
"""Channels for drum kits, and where soundfonts keep these."""

RELEASE_SECONDS = 1.5
"""Sound rendered after the last note ends."""


def find_soundfonts() -> list[Path]:
    """Return the installed soundfonts, each once, by name."""
    folders = [*os.environ.get("SF2_PATH", "").split(os.pathsep), *SOUNDFONT_FOLDERS]
    found = {
        path.resolve() for folder in folders if folder for path in Path(folder).glob("*.sf[23]")
    }
    return sorted(found, key=lambda path: path.name)


def find_soundfont(name: str) -> Path:
    """Return the soundfont of a path, or the installed one whose name starts so.

    Raises
    ------
    RenderError
        If there is none, with those installed.
    """
    if Path(name).is_file():
        return Path(name)
    installed = find_soundfonts()
    for path in installed:
        if path.name.lower().startswith(name.lower()):
            return path
    known = ", ".join(path.name for path in installed) or "none installed"
    raise RenderError(f"no soundfont {name!r} (installed: {known}); give a path to an .sf2 file")


def pick_soundfonts(names: Sequence[str] | None) -> list[Path]:
    """Return the named soundfonts, or all those installed.

    Raises
    ------
    RenderError
        If one is missing, or none is installed.
    """
    if names:
        return [find_soundfont(name) for name in names]
    installed = find_soundfonts()
    if not installed:
        raise RenderError("no soundfont installed: give one with --soundfont FILE.sf2")
    return installed


class Synthesizer:
    """A soundfont loaded once, to render many note arrays, one after the other in any thread.

    Parameters
    ----------
    soundfont : Path
        An .sf2 or .sf3 file.
    sample_rate : int
        Of the audio to give, Hz.

    Raises
    ------
    RenderError
        If fluidsynth is missing or refuses the soundfont.
    """

    def __init__(self, soundfont: Path, sample_rate: int) -> None:
        fluidsynth = load_fluidsynth()
        settings = {
            "synth.reverb.active": 0,
            "synth.chorus.active": 0,
            "synth.midi-channels": 64,
        }
        self.sample_rate, self._soundfont = sample_rate, soundfont
        self._playing = Lock()
        self._synth = fluidsynth.Synth(gain=0.3, samplerate=float(sample_rate), **settings)
        self.close = weakref.finalize(self, self._synth.delete)
        with logged() as said:
            self._font = self._synth.sfload(str(soundfont))
        if self._font < 0:
            self.close()
            why = f": {said[0]}" if said else ""
            raise RenderError(f"{label(soundfont)}: fluidsynth cannot load this soundfont{why}")

    def __enter__(self) -> Synthesizer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Callable[..., Synthesizer], tuple[Path, int]]:
        """Arrive in another process as the one there that has this soundfont."""
        return _loaded, (self._soundfont, self.sample_rate)

    def is_complete(self) -> bool:
        """Return whether the soundfont has all instruments of General MIDI; some add to others."""
        return all(self._synth.sfpreset_name(self._font, 0, program) for program in range(128))

    def render(
        self,
        notes: np.ndarray,
        *,
        reverb: bool = False,
        stereo: bool = False,
        drums: bool = False,
    ) -> np.ndarray:
        """Play a note array.

        Parameters
        ----------
        notes : np.ndarray [n] of mmid.music.notes.NOTE_DTYPE
        reverb : bool
            Whether fluidsynth adds its room.
        stereo : bool
            Whether to keep the two channels; their mean otherwise.
        drums : bool
            Whether pitches name drums and programs kits; the standard kit plays for missing ones.

        Returns
        -------
        np.ndarray [samples] or [samples, 2] float32
            From second 0 to `RELEASE_SECONDS` after the last note.
        """
        with self._playing:
            return self._rendered(notes, reverb, stereo, drums)

    def _rendered(self, notes: np.ndarray, reverb: bool, stereo: bool, drums: bool) -> np.ndarray:
        self._synth.setting("synth.reverb.active", int(reverb))
        channels = self._assign_drums(notes) if drums else self._assign_channels(notes)
        end = last_offset(notes) + RELEASE_SECONDS
        samples = int(end * self.sample_rate)
        audio = np.zeros((samples, 2) if stereo else samples, np.float32)
        done = 0
        for sample, sounding, note in _events(notes, self.sample_rate):
            if sample > done:
                audio[done:sample] = self._play(sample - done, stereo)
                done = sample
            channel, pitch = channels[int(note["program"])], int(note["pitch"])
            if sounding:
                self._synth.noteon(channel, pitch, max(1, int(note["velocity"])))
            else:
                self._synth.noteoff(channel, pitch)
        audio[done:] = self._play(samples - done, stereo)
        self._synth.system_reset()
        return audio

    def _assign_channels(self, notes: np.ndarray) -> dict[int, int]:
        programs = np.unique(notes["program"])[: len(MIDI_CHANNELS)]
        channels = dict(zip(map(int, programs), MIDI_CHANNELS, strict=False))
        for program, channel in channels.items():
            self._synth.program_select(channel, self._font, 0, program)
        return {program: channels.get(program, 0) for program in range(128)}

    def _assign_drums(self, notes: np.ndarray) -> dict[int, int]:
        kits = np.unique(notes["program"])[: len(DRUM_CHANNELS)]
        channels = dict(zip(map(int, kits), DRUM_CHANNELS, strict=False))
        for kit, channel in channels.items():
            there = self._synth.sfpreset_name(self._font, DRUM_BANK, kit)
            self._synth.program_select(channel, self._font, DRUM_BANK, kit if there else 0)
        return {kit: channels.get(kit, DRUM_CHANNELS[0]) for kit in range(128)}

    def _play(self, samples: int, stereo: bool) -> np.ndarray:
        played = np.asarray(self._synth.get_samples(samples), np.float32).reshape(-1, 2)
        kept: np.ndarray = (played if stereo else played.mean(1)) / 32_768
        return kept


@cache
def _loaded(soundfont: Path, sample_rate: int) -> Synthesizer:
    return Synthesizer(soundfont, sample_rate)


def _events(notes: np.ndarray, sample_rate: int) -> list[tuple[int, bool, np.void]]:
    """List note ends and onsets in playing order, ends first where they coincide."""
    starts = (notes["onset"] * float(sample_rate)).astype(np.int64)
    ends = np.maximum((notes["offset"] * float(sample_rate)).astype(np.int64), starts + 1)
    events = [(int(s), True, note) for s, note in zip(starts, notes, strict=True)]
    events += [(int(e), False, note) for e, note in zip(ends, notes, strict=True)]
    return sorted(events, key=lambda event: event[:2])
