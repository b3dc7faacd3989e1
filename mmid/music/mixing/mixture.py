"""An excerpt of a score as a kind of music: its players, their levels and their notes.

Conventions: audio is mono float32 at `SAMPLE_RATE` and full scale 1; times in seconds; gains in dB;
every draw comes from the generator given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmid.errors import RenderError
from mmid.music.additive import synthesize
from mmid.music.drums import groove
from mmid.music.mixing.arranging import (
    adorned,
    bass_line,
    loosened,
    merged,
    octave_higher,
    strummed,
)
from mmid.music.mixing.ensembles import AS_WRITTEN, ENSEMBLES, Ensemble, Role, draw_kind
from mmid.music.mixing.recording import SAMPLE_RATE, TUNING, at_level, factor, loudness, off_pitch
from mmid.music.mixing.recording import recorded as as_recorded
from mmid.music.mixing.scores import Score, draw_excerpt
from mmid.music.notes import shifted, sounding, sped_up
from mmid.music.singing import sing
from mmid.music.synthesizer import Synthesizer

DRUM_GAIN = (-9.0, 3.0)
"""Drums against the rest of the mixture, dB."""

OWN_DRUMS = 0.5
"""Chance that the drums are the file's, where it has some."""

LEAD_IN = 1.2
"""Played before the clip begins, so that notes sound on into it, seconds."""

LEVEL, SILENT = 0.08, 1e-4
"""Of a player before gains, and of one whom nobody hears: none of their notes are kept."""

APART, DETUNED = 0.02, 0.006
"""Players of a section: how far before or after the beat at most, and how much that wanders."""

SECTION = 0.6
"""Share of sections among roles that can be."""

ADDITIVE = 0.1
"""Share of what no soundfont plays."""

FEW_TRACKS = 3
"""Of so few tracks, an orchestra's players take an octave each."""


@dataclass(frozen=True, eq=False)
class Mixture:
    """A clip and its notes.

    Parameters
    ----------
    audio : np.ndarray [samples] float32
        At `SAMPLE_RATE`.
    notes : np.ndarray [n] of mmid.music.mixing.scores.SCORE_DTYPE
        What sounds in it, drums aside, in its time; those that sound on from before begin before
        second 0.
    """

    audio: np.ndarray
    notes: np.ndarray


def complete_ones(synthesizers: Sequence[Synthesizer]) -> list[Synthesizer]:
    """Return the synthesizers that have every instrument, as a mixture may need any.

    Raises
    ------
    RenderError
        If none has.
    """
    complete = [synthesizer for synthesizer in synthesizers if synthesizer.is_complete()]
    if not complete:
        raise RenderError("no soundfont given has all instruments of General MIDI")
    return complete


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
        None if no excerpt has enough melody, or nothing sounds.
    """
    ensemble = ENSEMBLES[kind]
    length = LEAD_IN + seconds * 2 ** (TUNING / 1_200) + 0.1
    excerpt = draw_excerpt(score, length, rng)
    if excerpt is None:
        return None
    mixer = _Mixer(synthesizers, length, rng)
    mixer.play(excerpt, ensemble)
    if not mixer.notes:
        return None
    audio, speed = off_pitch(mixer.audio, rng)
    begin, samples = int(LEAD_IN * SAMPLE_RATE), int(seconds * SAMPLE_RATE)
    audio = np.pad(audio, (0, samples))[begin : begin + samples]
    played = shifted(sped_up(merged(np.concatenate(mixer.notes)), speed), -LEAD_IN)
    return Mixture(as_recorded(audio, ensemble.room, rng), sounding(played, 0, seconds))


def _parts(score: Score, part: str) -> list[np.ndarray]:
    """Return the notes of each player or section that a role stands for."""
    melody = score.notes["melody"]
    rest = score.notes[~melody]
    if part == "tracks":
        tracks = rest["track"].astype(int)
        if len(np.unique(tracks)) <= FEW_TRACKS:
            tracks = tracks * 16 + rest["pitch"] // 12
        return [rest[tracks == track] for track in np.unique(tracks)]
    if part == "bass":
        return [bass_line(rest, score.beats)]
    return [{"all": score.notes, "melody": score.notes[melody], "rest": rest}[part]]


class _Mixer:
    """What has been played so far: its sound, and its notes but the drums'."""

    def __init__(
        self, synthesizers: Sequence[Synthesizer], seconds: float, rng: np.random.Generator
    ) -> None:
        self._synthesizers, self._seconds, self._rng = synthesizers, seconds, rng
        self.audio = np.zeros(int(seconds * SAMPLE_RATE), np.float32)
        self.notes: list[np.ndarray] = []

    def play(self, score: Score, ensemble: Ensemble) -> None:
        """Let an ensemble play a score."""
        rng = self._rng
        written = len(score.drums) and rng.random() < ensemble.as_written
        for role in AS_WRITTEN if written else ensemble.roles:
            if rng.random() < role.chance:
                for notes in _parts(score, role.part):
                    self._add(notes, role, score.beats)
        if not self.notes:  # all had nothing to play
            self._add(score.notes, Role("all", ensemble.roles[0].programs), score.beats)
        if rng.random() < ensemble.drums:
            own = len(score.drums) and (written or rng.random() < OWN_DRUMS)
            self._add_drums(score.drums if own else groove(score.beats, rng))

    def _add(self, notes: np.ndarray, role: Role, beats: np.ndarray) -> None:
        """Let a role play notes, if there are any."""
        if not len(notes):
            return
        rng, played = self._rng, self._arranged(notes, role, beats)
        if role.programs:
            played["program"] = rng.choice(role.programs)
        if rng.random() < role.sung:
            sound = sing(played, self._seconds, SAMPLE_RATE, rng)
        else:
            sound = self._sound(played, role)
        if role.players > 1 and rng.random() < SECTION:
            sound = section(sound, int(rng.integers(2, role.players + 1)), SAMPLE_RATE, rng)
        if loudness(sound) > SILENT:
            self.audio += at_level(sound, LEVEL * factor(rng.uniform(*role.gain)))
            self.notes.append(played)

    def _arranged(self, notes: np.ndarray, role: Role, beats: np.ndarray) -> np.ndarray:
        rng = self._rng
        if rng.random() < role.strummed:
            notes = strummed(notes, beats, rng)
        if rng.random() < role.adorned:
            notes = adorned(notes, rng)
        if rng.random() < role.octave:
            notes = octave_higher(notes)
        return loosened(notes, rng)

    def _sound(self, notes: np.ndarray, role: Role) -> np.ndarray:
        rng, held = self._rng, notes.copy()
        if rng.random() < role.pedal:
            held["offset"] += rng.uniform(0.1, 1.0)
        if rng.random() < ADDITIVE:
            return synthesize(held, self._seconds, SAMPLE_RATE, rng)
        return self._render(held)

    def _add_drums(self, strokes: np.ndarray) -> None:
        """Let drums play along, in no list of notes."""
        if len(strokes):
            level = loudness(self.audio) * factor(self._rng.uniform(*DRUM_GAIN))
            self.audio += at_level(self._render(strokes, drums=True), level)

    def _render(self, notes: np.ndarray, drums: bool = False) -> np.ndarray:
        synthesizer = self._synthesizers[int(self._rng.integers(len(self._synthesizers)))]
        sound = synthesizer.render(notes, drums=drums)
        size = len(self.audio)
        return np.pad(sound, (0, max(0, size - len(sound))))[:size]


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


HIGHEST_UP, LOWEST_DOWN = 6, -5
"""Semitones that a recipe may transpose by."""


@dataclass(frozen=True)
class MixtureRecipe:
    """A mixture of a score to render; what it does not say is drawn from the seed.

    Parameters
    ----------
    soundfonts : tuple of str
        Paths of the .sf2 or .sf3 files that play.
    seconds : float
    transpose : int
        Semitones.
    seed : int
    """

    soundfonts: tuple[str, ...]
    seconds: float
    transpose: int = 0
    seed: int = 0


def draw_mixture_recipe(
    rng: np.random.Generator, soundfonts: Sequence[Path], seconds: float
) -> MixtureRecipe:
    """Draw a mixture of so many seconds, in half of the cases in another key."""
    moves = rng.random() < 0.5
    semitones = int(rng.integers(LOWEST_DOWN, HIGHEST_UP + 1)) if moves else 0
    fonts = tuple(map(str, soundfonts))
    return MixtureRecipe(fonts, seconds, semitones, int(rng.integers(2**31)))


def render_recipe(
    score: Score, recipe: MixtureRecipe, synthesizers: Sequence[Synthesizer]
) -> tuple[str, Mixture | None]:
    """Render a recipe, as a kind of music that suits the score.

    Parameters
    ----------
    score : Score
    recipe : MixtureRecipe
    synthesizers : sequence of Synthesizer
        Of its soundfonts.

    Returns
    -------
    kind : str
    mixture : Mixture or None
        As `mix` gives it.
    """
    rng = np.random.default_rng(recipe.seed)
    kind = draw_kind(score, rng)
    moved = score.transposed(recipe.transpose)
    return kind, mix(moved, kind, synthesizers, recipe.seconds, rng)
