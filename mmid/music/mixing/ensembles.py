"""Who plays what in each kind of music, and which kinds suit a score.

Conventions: gains in dB; programs are General MIDI's, those named twice drawn twice as often.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmid.music.mixing.scores import Score

PIANOS, GUITARS = (0, 0, 0, 0, 1, 2, 3, 4, 5, 6), (24, 24, 25, 25, 26, 27, 28, 29, 30)
ORGANS, BASSES = (16, 17, 18, 19, 20), (32, 33, 33, 34, 35, 36, 38, 43, 58)
STRINGS, BRASS = (40, 41, 42, 43, 48, 49, 50, 51), (56, 57, 58, 59, 60, 61, 62)
REEDS, PIPES = (64, 65, 66, 67, 68, 69, 70, 71), (72, 73, 74, 75, 78, 79)
CHOIRS, LEADS = (52, 53, 54), (80, 81, 82, 84, 87)
FOLK = (73, 73, 72, 74, 75, 78, 79, 110, 110, 40, 40, 21, 22, 23, 105, 25, 24, 46, 71, 68, 15)

BALANCE = (-12.0, 12.0)
"""Melody against what accompanies it, dB; other gains are beside it, too."""


@dataclass(frozen=True)
class Role:
    """Who plays some of the notes.

    Parameters
    ----------
    part : {"all", "tracks", "melody", "rest", "bass"}
        All notes; those of each track but the melody's by other players; the melody; what is not
        the melody; or a line of roots below the rest, made up.
    programs : tuple of int
        To draw from; the file's own if there is none.
    gain : tuple of float
        dB, from and to.
    chance : float
        That it is there.
    sung : float
        Chance that a singer does it.
    players : int
        At most, detuned and apart.
    octave : float
        Chance that it plays an octave higher.
    strummed : float
        Chance that long chords are struck again on beats.
    adorned : float
        Chance of grace notes.
    pedal : float
        Chance that notes sound on for up to a second.
    """

    part: str
    programs: tuple[int, ...]
    gain: tuple[float, float] = (0.0, 0.0)
    chance: float = 1.0
    sung: float = 0.0
    players: int = 1
    octave: float = 0.0
    strummed: float = 0.0
    adorned: float = 0.0
    pedal: float = 0.0


@dataclass(frozen=True)
class Ensemble:
    """What a kind of music is played by.

    Parameters
    ----------
    roles : tuple of Role
    drums : float
        Chance of drums: a file's own in half of the cases, a groove where it has none.
    room : float
        Its longest reverberation, seconds.
    as_written : float
        Chance that the instruments of a file with drums play their own parts instead.
    """

    roles: tuple[Role, ...]
    drums: float = 0.0
    room: float = 1.8
    as_written: float = 0.0


ORCHESTRA = STRINGS + BRASS + REEDS + PIPES

ENSEMBLES = {
    "piano": Ensemble((Role("all", PIANOS, pedal=0.5),)),
    "folk": Ensemble(
        (
            Role("melody", FOLK, adorned=0.25),
            Role("melody", FOLK, (-4, 4), chance=0.35, octave=0.25, adorned=0.25),
            Role("rest", GUITARS[:5] + PIANOS[:3] + (21, 46), (-14, 0), chance=0.35, strummed=0.7),
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
            Role("melody", ORCHESTRA, (-8, 2), chance=0.4, octave=0.5),
            Role("tracks", ORCHESTRA, (-6, 4), players=8, strummed=0.2),
        ),
        drums=0.25,
        room=3.0,
    ),
    "band": Ensemble(
        (
            Role("melody", GUITARS[5:] + LEADS + REEDS[:4] + BRASS[:2] + (4, 18, 40, 73), BALANCE),
            Role("rest", PIANOS + GUITARS + ORGANS + (48, 50, 61, 81), strummed=0.7),
            Role("bass", BASSES, (-6, 4), chance=0.8),
        ),
        drums=0.95,
        room=3.0,
        as_written=0.6,
    ),
    "song": Ensemble(
        (
            Role("melody", (*CHOIRS, 65, 40, 73, 71, 66), BALANCE, sung=0.8, players=3),
            Role("rest", PIANOS + GUITARS + ORGANS + (48, 50, 89), strummed=0.4, pedal=0.2),
            Role("rest", (*STRINGS[4:], 89, 27), (-15, -3), chance=0.3),
            Role("bass", BASSES, (-6, 3), chance=0.55),
        ),
        drums=0.65,
    ),
}

AS_WRITTEN = (Role("all", ()), Role("melody", GUITARS + LEADS, (-8, 4), chance=0.2))
"""A band plays what its file says, its melody now and then doubled."""


def draw_kind(score: Score, rng: np.random.Generator) -> str:
    """Draw a kind of music, one that suits the score more often than others."""
    chances = dict.fromkeys(ENSEMBLES, 1.0)
    tracks = len(np.unique(score.notes["track"]))
    if len(score.drums):
        chances |= {"band": 4.0, "song": 2.0, "piano": 0.5, "folk": 0.2, "choir": 0.2}
    elif tracks > 2 and score.melody_known:
        chances |= {"choir": 2.0, "orchestra": 2.0, "song": 2.0}
    elif _is_tune(score):
        chances |= {"folk": 4.0, "band": 0.5, "piano": 0.5}
    elif not score.notes["program"].any():  # for a piano
        chances |= {"piano": 2.0, "folk": 0.5}
    weights = np.array(list(chances.values()))
    return str(rng.choice(list(chances), p=weights / weights.sum()))


def _is_tune(score: Score) -> bool:
    """Return whether there is a melody alone, or over long chords."""
    melody = score.notes["melody"]
    lasting = score.notes["offset"] - score.notes["onset"]
    if melody.mean() > 0.9 or not melody.any():
        return bool(melody.any())
    return bool(np.median(lasting[~melody]) > 2.5 * np.median(lasting[melody]))
