"""Scores as they may be played: tempo, key, instruments and looseness drawn at random."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmid.music.notes import NOTE_DTYPE, shifted, sped_up

MELODIC_PROGRAMS = 88
"""General MIDI programs below this hold a pitch; those above are pads and effects."""

PIANO_PROGRAMS = 6


@dataclass(frozen=True)
class Recipe:
    """How a rendering differs from its file.

    Parameters
    ----------
    soundfont : str
        Path of the .sf2 or .sf3 file.
    tempo : float
        Speed against the file.
    transpose : int
        Semitones.
    programs : int or None
        Seed of the instruments that replace the file's; None keeps the file's.
    start, seconds : float
        The excerpt of the file that is rendered.
    looseness : float
        Standard deviation of each note's onset in the sound, seconds.
    pedal : float
        How much longer each note sounds than it is written, seconds.
    reverb : bool
        Whether the synthesiser adds its room.
    dynamics : float
        Standard deviation of each note's change of velocity.
    seed : int
        Of looseness and dynamics.
    """

    soundfont: str
    tempo: float = 1.0
    transpose: int = 0
    programs: int | None = None
    start: float = 0.0
    seconds: float = float("inf")
    looseness: float = 0.0
    pedal: float = 0.0
    reverb: bool = False
    dynamics: float = 12.0
    seed: int = 0


def draw_recipe(
    rng: np.random.Generator, soundfont: Path, seconds: float, excerpt: float
) -> Recipe:
    """Draw a rendering as varied as performances are.

    Parameters
    ----------
    rng : np.random.Generator
    soundfont : Path
    seconds : float
        Length of the piece.
    excerpt : float
        Longest part to render, seconds.
    """
    return Recipe(
        soundfont=str(soundfont),
        tempo=float(np.exp(rng.uniform(np.log(0.75), np.log(1.33)))),
        transpose=int(rng.integers(-5, 7)) if rng.random() < 0.5 else 0,
        programs=int(rng.integers(2**31)) if rng.random() < 0.75 else None,
        start=float(rng.uniform(0, max(0.0, seconds - excerpt))),
        seconds=excerpt,
        looseness=float(rng.uniform(0, 0.02)) if rng.random() < 0.5 else 0.0,
        pedal=float(rng.uniform(0, 1.0)) if rng.random() < 0.4 else 0.0,
        reverb=bool(rng.random() < 0.4),
        seed=int(rng.integers(2**31)),
    )


def _draw_programs(programs: np.ndarray, seed: int) -> np.ndarray:
    """Replace each instrument by another: a piano, or any that holds a pitch."""
    rng = np.random.default_rng(seed)
    limit = PIANO_PROGRAMS if rng.random() < 0.35 else MELODIC_PROGRAMS
    chosen: np.ndarray = rng.integers(0, limit, 128).astype(np.uint8)[programs]
    return chosen


def performed(notes: np.ndarray, recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """Apply a recipe to a note array.

    Returns
    -------
    written, played : np.ndarray of NOTE_DTYPE
        The notes in the rendering's time, as the roll shows them and as the synthesiser plays
        them.
    """
    inside = (notes["onset"] >= recipe.start) & (notes["onset"] < recipe.start + recipe.seconds)
    written = sped_up(shifted(notes[inside].astype(NOTE_DTYPE), -recipe.start), recipe.tempo)
    pitch = written["pitch"].astype(int) + recipe.transpose
    written["pitch"] = np.where((pitch >= 21) & (pitch <= 108), pitch, written["pitch"])
    if recipe.programs is not None:
        written["program"] = _draw_programs(written["program"], recipe.programs)
    played = written.copy()
    rng = np.random.default_rng(recipe.seed)
    late = rng.normal(0, recipe.looseness, len(played)) if recipe.looseness else 0.0
    played["onset"] = np.maximum(0, played["onset"] + late)
    played["offset"] = np.maximum(played["offset"] + late, played["onset"] + 0.03) + recipe.pedal
    dynamics = rng.normal(0, recipe.dynamics, len(played))
    played["velocity"] = np.clip(played["velocity"] + dynamics, 25, 127).astype(np.uint8)
    return written, played
