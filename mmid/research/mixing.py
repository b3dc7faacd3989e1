"""An excerpt of a score as a kind of music: roles, players, gains, and what a recording adds.

Conventions: audio is mono float32 at `SAMPLE_RATE` and full scale 1; times in seconds; gains in dB;
every draw comes from the generator given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from mmid.evaluation.degradations import coded, convolved, decaying_noise, pink_noise
from mmid.music.audio import resample_audio
from mmid.music.drums import groove
from mmid.music.notes import NOTE_DTYPE, clipped, shifted, sounding, sped_up
from mmid.music.singing import sing
from mmid.music.synthesizer import Synthesizer
from mmid.research.mixed_scores import Score, draw_excerpt

SAMPLE_RATE = 22_050

PIANOS, GUITARS = (0, 0, 0, 0, 1, 2, 3, 4, 5, 6), (24, 24, 25, 25, 26, 27, 28, 29, 30)
ORGANS, BASSES = (16, 17, 18, 19, 20), (32, 33, 33, 34, 35, 36, 38, 43, 58)
STRINGS, BRASS = (40, 41, 42, 43, 48, 49, 50, 51), (56, 57, 58, 59, 60, 61, 62)
REEDS, PIPES = (64, 65, 66, 67, 68, 69, 70, 71), (72, 73, 74, 75, 78, 79)
CHOIRS, LEADS = (52, 53, 54), (80, 81, 82, 84, 87)
FOLK = (73, 73, 72, 74, 75, 78, 79, 110, 110, 40, 40, 21, 22, 23, 105, 25, 24, 46, 71, 68, 15)
"""General MIDI programs, those named twice drawn twice as often."""

BALANCE = (-12.0, 12.0)
"""Melody against what accompanies it, dB; other gains are beside it, too."""

DRUM_GAIN = (-9.0, 3.0)
"""Drums against the rest of the mixture, dB."""


@dataclass(frozen=True)
class Role:
    """Who plays some of the notes.

    Parameters
    ----------
    part : {"all", "tracks", "melody", "rest", "bass"}
        All notes; those of each track but the melody's by other players; the melody; what is not
        the melody; or a line of roots below the rest, made up.
    programs : tuple of int
        To draw from.
    gain : tuple of float
        dB, from and to.
    chance : float
        That it is there.
    sung : float
        Chance that a singer does it.
    players : int
        At most, detuned and apart.
    """

    part: str
    programs: tuple[int, ...]
    gain: tuple[float, float] = (0.0, 0.0)
    chance: float = 1.0
    sung: float = 0.0
    players: int = 1


@dataclass(frozen=True)
class Ensemble:
    """What a kind of music is played by: roles, the chance of drums, and the longest room."""

    roles: tuple[Role, ...]
    drums: float = 0.0
    room: float = 1.8


ORCHESTRA = STRINGS + BRASS + REEDS + PIPES

ENSEMBLES = {
    "piano": Ensemble((Role("all", PIANOS),)),
    "folk": Ensemble(
        (
            Role("melody", FOLK),
            Role("melody", FOLK, (-4, 4), chance=0.35),
            Role("rest", GUITARS[:5] + PIANOS[:3] + (21, 46), (-14, 0), chance=0.35),
        ),
        drums=0.12,
    ),
    "choir": Ensemble(
        (
            Role("melody", CHOIRS, (-3, 6), sung=0.5, players=6),
            Role("tracks", CHOIRS, (-4, 4), sung=0.5, players=6),
            Role("all", ORGANS, (-15, -3), chance=0.3),
        ),
        room=3.0,
    ),
    "orchestra": Ensemble(
        (
            Role("melody", ORCHESTRA, (-4, 8), players=8),
            Role("melody", ORCHESTRA, (-8, 2), chance=0.4),
            Role("tracks", ORCHESTRA, (-6, 4), players=8),
        ),
        drums=0.25,
        room=3.0,
    ),
    "band": Ensemble(
        (
            Role("melody", GUITARS[5:] + LEADS + REEDS[:4] + BRASS[:2] + (4, 18, 40, 73), BALANCE),
            Role("rest", PIANOS + GUITARS + ORGANS + (48, 50, 61, 81)),
            Role("bass", BASSES, (-6, 4), chance=0.8),
        ),
        drums=0.95,
        room=3.0,
    ),
    "song": Ensemble(
        (
            Role("melody", (*CHOIRS, 65, 40, 73, 71, 66), BALANCE, sung=0.8, players=3),
            Role("rest", PIANOS + GUITARS + ORGANS + (48, 50, 89)),
            Role("rest", (*STRINGS[4:], 89, 27), (-15, -3), chance=0.3),
            Role("bass", BASSES, (-6, 3), chance=0.55),
        ),
        drums=0.65,
    ),
}

LEAD_IN = 1.2
"""Played before the clip begins, so that notes sound on into it, seconds."""

LOOSENESS = 0.02
APART, DETUNED = 0.02, 0.006
"""Players of a section: how far before or after the beat at most, and how much that wanders."""

SECTION, TUNED, TUNING = 0.6, 0.3, 50.0
"""Shares of sections among roles that can be, and of clips in tune; the others' cents at most."""

IN_A_ROOM, NOISY, CODED = 0.65, 0.45, 0.25
BIT_RATES = (48_000, 64_000, 96_000, 128_000)
PEAK = 0.8


@dataclass(frozen=True, eq=False)
class Mixture:
    """A clip and its notes.

    Parameters
    ----------
    audio : np.ndarray [samples] float32
        At `SAMPLE_RATE`.
    notes : np.ndarray [n] of NOTE_DTYPE
        What sounds in it, drums aside, in its time.
    """

    audio: np.ndarray
    notes: np.ndarray


def mix(
    score: Score,
    kind: str,
    synthesizers: Sequence[Synthesizer],
    seconds: float,
    rng: np.random.Generator,
) -> Mixture | None:
    """Render an excerpt of a score as a kind of music.

    Parameters
    ----------
    score : Score
    kind : str
        A key of `ENSEMBLES`.
    synthesizers : sequence of Synthesizer
        At `SAMPLE_RATE`; each role is played by one of them.
    seconds : float
        Of the clip.
    rng : np.random.Generator

    Returns
    -------
    Mixture or None
        None if no excerpt has enough melody.
    """
    ensemble = ENSEMBLES[kind]
    length = LEAD_IN + seconds * 2 ** (TUNING / 1_200) + 0.1
    excerpt = draw_excerpt(score, length, rng)
    if excerpt is None:
        return None
    mixer = _Mixer(synthesizers, length, rng)
    for role in ensemble.roles:
        if rng.random() < role.chance:
            for notes in _parts(excerpt, role.part):
                mixer.add(notes, role)
    if rng.random() < ensemble.drums:
        mixer.add_drums(excerpt.beats)
    audio, speed = _off_pitch(mixer.audio, rng)
    begin, samples = int(LEAD_IN * SAMPLE_RATE), int(seconds * SAMPLE_RATE)
    audio = np.pad(audio, (0, samples))[begin : begin + samples]
    played = shifted(sped_up(merged(np.concatenate(mixer.notes)), speed), -LEAD_IN)
    notes = clipped(sounding(played, 0, seconds), 0, seconds)
    return Mixture(_recorded(audio, ensemble.room, rng), notes)


def _parts(score: Score, part: str) -> list[np.ndarray]:
    """Return the notes of each player or section that a role stands for."""
    rest = score.notes[~score.melody]
    if part == "tracks":
        tracks = score.tracks[~score.melody]
        return [rest[tracks == track] for track in np.unique(tracks)]
    if part == "bass":
        return [bass_line(rest, score.beats)]
    return [{"all": score.notes, "melody": score.notes[score.melody], "rest": rest}[part]]


def bass_line(notes: np.ndarray, beats: np.ndarray) -> np.ndarray:
    """Make up a bass: on each beat the lowest note that sounds, between E1 and B2."""
    rows = []
    for beat, following in pairwise(beats):
        sounds = sounding(notes, beat + 0.05, beat + 0.06)
        if len(sounds) and beat >= 0:
            pitch = 28 + (int(sounds["pitch"].min()) - 28) % 12
            rows.append((beat, following - 0.03, pitch + 12 * (pitch < 36), 90, BASSES[0]))
    return np.array(rows, NOTE_DTYPE)


def loosened(notes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return notes a little off the beat and of other velocities."""
    loose = notes.copy()
    late = rng.normal(0, rng.uniform(0, LOOSENESS), len(notes))
    loose["onset"] = (notes["onset"] + late).clip(0)
    loose["offset"] = np.maximum(notes["offset"] + late, loose["onset"] + 0.04)
    loose["velocity"] = (notes["velocity"] + rng.normal(0, 12, len(notes))).clip(25, 127)
    return loose


def merged(notes: np.ndarray) -> np.ndarray:
    """Make one note of those of a pitch whose onsets are within 50 ms; end others at the next."""
    kept: list[np.void] = []
    for note in np.sort(notes, order=["pitch", "onset"]):
        last = kept[-1] if kept and kept[-1]["pitch"] == note["pitch"] else None
        if last is not None and note["onset"] - last["onset"] < 0.05:
            last["offset"] = max(last["offset"], note["offset"])
            continue
        if last is not None:
            last["offset"] = min(last["offset"], note["onset"])
        kept.append(note.copy())
    return np.sort(np.array(kept, NOTE_DTYPE), order=["onset", "pitch"])


class _Mixer:
    """What has been played so far: its sound, and its notes but the drums'."""

    def __init__(
        self, synthesizers: Sequence[Synthesizer], seconds: float, rng: np.random.Generator
    ) -> None:
        self._synthesizers, self._seconds, self._rng = synthesizers, seconds, rng
        self.audio = np.zeros(int(seconds * SAMPLE_RATE), np.float32)
        self.notes: list[np.ndarray] = []

    def add(self, notes: np.ndarray, role: Role) -> None:
        """Let a role play notes, if there are any."""
        if not len(notes):
            return
        rng, played = self._rng, loosened(notes, self._rng)
        played["program"] = rng.choice(role.programs)
        if rng.random() < role.sung:
            sound = sing(played, self._seconds, SAMPLE_RATE, rng)
        else:
            sound = self._play(played)
        if role.players > 1 and rng.random() < SECTION:
            sound = section(sound, int(rng.integers(2, role.players + 1)), SAMPLE_RATE, rng)
        self.audio += _at_level(sound, 0.08 * _factor(rng.uniform(*role.gain)))
        self.notes.append(played)

    def add_drums(self, beats: np.ndarray) -> None:
        """Let drums play along, in no list of notes."""
        strokes = groove(beats, self._rng)
        if len(strokes):
            level = _loudness(self.audio) * _factor(self._rng.uniform(*DRUM_GAIN))
            self.audio += _at_level(self._play(strokes, drums=True), level)

    def _play(self, notes: np.ndarray, drums: bool = False) -> np.ndarray:
        synthesizer = self._synthesizers[int(self._rng.integers(len(self._synthesizers)))]
        sound = synthesizer.render(notes, drums=drums)
        size = len(self.audio)
        return np.pad(sound, (0, max(0, size - len(sound))))[:size]


def _loudness(sound: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(sound, dtype=np.float64))))


def _at_level(sound: np.ndarray, level: float) -> np.ndarray:
    return np.asarray(sound * (level / max(_loudness(sound), 1e-6)), np.float32)


def _factor(decibels: float) -> float:
    return float(10 ** (decibels / 20))


def section(
    sound: np.ndarray, players: int, sample_rate: int, rng: np.random.Generator
) -> np.ndarray:
    """Return the sound of several players: copies apart in time whose delays wander."""
    time = np.arange(len(sound)) / sample_rate
    knots = np.arange(0, time[-1] + 4, 2.0)
    total = np.zeros(len(sound))
    for _ in range(players):
        delay = rng.uniform(-APART, APART) + rng.normal(0, DETUNED, len(knots))
        moved = time - np.interp(time, knots, delay)
        total += rng.uniform(0.5, 1) * np.interp(moved, time, sound)
    return np.asarray(total / np.sqrt(players), np.float32)


def _off_pitch(audio: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Play at another speed, up to `TUNING` cents off; return that speed, too."""
    cents = 0.0 if rng.random() < TUNED else float(rng.normal(0, TUNING / 3))
    rate = round(SAMPLE_RATE * 2 ** (np.clip(cents, -TUNING, TUNING) / 1_200))
    return resample_audio(audio, rate, SAMPLE_RATE), rate / SAMPLE_RATE


def _recorded(audio: np.ndarray, longest_room: float, rng: np.random.Generator) -> np.ndarray:
    """Record a clip in a room, with noise, and keep it as mp3 or AAC, or without any of these."""
    if rng.random() < IN_A_ROOM:
        seconds = float(np.exp(rng.uniform(np.log(0.2), np.log(longest_room))))
        time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
        room = decaying_noise(time, seconds, _factor(rng.uniform(-16, 2)) ** 2, rng)
        room[0] += 1
        audio = convolved(audio, room)
    if rng.random() < NOISY:
        noise = pink_noise(len(audio), rng)
        audio = audio + _at_level(noise, _loudness(audio) * _factor(-rng.uniform(5, 50)))
    audio = np.asarray(audio * (PEAK / max(float(np.abs(audio).max()), 1e-6)), np.float32)
    if rng.random() < CODED:
        encoding, rate = ("mp3", "adts")[rng.integers(2)], int(rng.choice(BIT_RATES))
        audio = coded(audio, SAMPLE_RATE, encoding, rate)
    return audio
