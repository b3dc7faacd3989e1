"""Renderings of pieces and recordings beside them, kept as features on disk.

Conventions: a rendering is one file of the cache: the spectrogram as bytes ``[frames, bands]`` and
the notes that sound in it, in its own time; of a mixture also its kind, which notes are the
melody's, and whether that is known. About 8 MB an hour of music, 50 MB in fine bands.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from multiprocessing import parent_process
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from mmid.errors import AudioError, MmidError, label
from mmid.music.duplicates import drop_duplicates, split_library
from mmid.music.folders import BadFile
from mmid.music.formats import AUDIO_SUFFIXES
from mmid.music.grid import FeatureParams
from mmid.music.library import Piece, read_library
from mmid.music.mixing.mixture import (
    MixtureRecipe,
    complete_ones,
    draw_mixture_recipe,
    render_recipe,
)
from mmid.music.mixing.scores import Score, read_tracks
from mmid.music.notes import last_offset
from mmid.music.pairs import ALIGNED_WITHIN
from mmid.music.performance import Recipe, draw_recipe, performed
from mmid.music.spectrogram import recording_spectrogram, spectrogram
from mmid.music.synthesizer import Synthesizer
from mmid.options import Performance
from mmid.system.files import written_whole
from mmid.system.processes import parallel

LEVELS = 200
"""Steps of the stored spectrogram a unit of compressed magnitude."""

CACHE_FORMAT = 2

MIXTURE_FORMAT = 1
"""To be raised when the recipes of mixtures give other sound than before."""

EXCERPTS: dict[Performance, float] = {"varied": 90.0, "plain": 90.0, "mixed": 15.0}
"""Longest part of a piece that is rendered where nothing else is said, seconds."""

Source: TypeAlias = Recipe | MixtureRecipe | Path
"""What is rendered of a piece, or the recording of it."""


@dataclass(frozen=True)
class Job:
    """One file of the cache to make: a rendering of a piece, or its recording.

    Parameters
    ----------
    target : Path
    notes : np.ndarray [n] of mmid.music.notes.NOTE_DTYPE
    source : Recipe, MixtureRecipe or Path
    params : FeatureParams
    midi : Path, optional
        The piece's file; mixtures need its tracks.
    """

    target: Path
    notes: np.ndarray
    source: Source
    params: FeatureParams
    midi: Path | None = None


@lru_cache(maxsize=16)
def _synthesizer(soundfont: str, sample_rate: int) -> Synthesizer:
    return Synthesizer(Path(soundfont), sample_rate)


@lru_cache(maxsize=4)
def _score(midi: Path) -> Score:
    return read_tracks(midi)


def _contents(job: Job) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the arrays of a cache file, and what else is known of a mixture."""
    if isinstance(job.source, MixtureRecipe):
        return _mixture_contents(job, job.source)
    notes, bands = _sound(job)
    return feature_arrays(notes, bands), {}


def _mixture_contents(
    job: Job, recipe: MixtureRecipe
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    assert job.midi is not None
    score, rate = _score(job.midi), job.params.sample_rate
    synthesizers = complete_ones([_synthesizer(font, rate) for font in recipe.soundfonts])
    kind, mixture = render_recipe(score, recipe, synthesizers)
    if mixture is None:
        raise MmidError(f"{label(job.midi.name)}: a mixture needs more notes")
    bands = spectrogram(torch.from_numpy(mixture.audio), job.params)
    melody = mixture.notes["melody"].astype(np.uint8)
    known = "known" if score.melody_known else "unknown"
    return feature_arrays(mixture.notes, bands) | {"melody": melody}, {
        "kind": kind,
        "melody": known,
    }


def feature_arrays(notes: np.ndarray, bands: Tensor) -> dict[str, np.ndarray]:
    """Return what a file of the cache holds of notes that sound, and of their spectrogram.

    Parameters
    ----------
    notes : np.ndarray [n] of mmid.music.notes.NOTE_DTYPE
        In the rendering's time.
    bands : Tensor [bands, frames] float32
    """
    return {
        "spectrogram": (bands.T * LEVELS).round().clamp(0, 255).byte().numpy(),
        "times": np.stack([notes["onset"], notes["offset"]], 1).astype(np.float32),
        "pitches": notes["pitch"],
        "programs": notes["program"],
    }


def _sound(job: Job) -> tuple[np.ndarray, Tensor]:
    if isinstance(job.source, Path):
        bands = recording_spectrogram(job.source, job.params)
        sounding = bands.shape[1] / job.params.frame_rate
        written_seconds = last_offset(job.notes)
        if abs(sounding - written_seconds) > ALIGNED_WITHIN:
            raise AudioError(
                f"{label(job.source)}: lasts {sounding:.1f} s, the MIDI file beside it"
                f" {written_seconds:.1f} s: not a pair"
            )
        return job.notes, bands
    recipe = job.source
    assert isinstance(recipe, Recipe)
    written, played = performed(job.notes, recipe)
    synthesizer = _synthesizer(recipe.soundfont, job.params.sample_rate)
    return written, spectrogram(
        torch.from_numpy(synthesizer.render(played, reverb=recipe.reverb)), job.params
    )


def make_features(job: Job) -> str | None:
    """Make one file of the cache, whole or not at all; return the reason if it failed."""
    if parent_process():  # a worker, one of many; training has all the cores
        torch.set_num_threads(1)
    try:
        arrays, facts = _contents(job)
    except MmidError as error:
        return str(error)
    write_features(job.target, arrays, facts)
    return None


def write_features(
    target: Path, arrays: dict[str, np.ndarray], facts: dict[str, str] | None = None
) -> None:
    """Write a file of the cache, whole or not at all.

    Parameters
    ----------
    target : Path
    arrays : dict of np.ndarray
        As `feature_arrays` gives them, with ``melody`` where that is known.
    facts : dict of str, optional
        What else is known of a mixture.
    """
    from safetensors.numpy import save_file

    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    with written_whole(target) as part:
        save_file(whole, part, facts or None)


def cache_key(piece: Piece, source: Source, params: FeatureParams) -> str:
    """Name the cache file of a piece and a recipe or recording."""
    if isinstance(source, Path):
        facts: Any = [str(source.resolve()), source.stat().st_size, source.stat().st_mtime_ns]
    elif isinstance(source, MixtureRecipe):
        fonts = [Path(font).name for font in source.soundfonts]
        facts = asdict(source) | {"soundfonts": fonts, "mixture": MIXTURE_FORMAT}
    else:
        facts = asdict(replace(source, soundfont=Path(source.soundfont).name))
    text = json.dumps(
        [CACHE_FORMAT, piece.digest, facts, params.spectrogram_values], sort_keys=True
    )
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def recording_beside(piece: Piece) -> Path | None:
    """Return the recording with the MIDI file's stem, if one lies beside it."""
    for suffix in AUDIO_SUFFIXES:
        path = piece.path.with_suffix(suffix)
        if path.is_file():
            return path
    return None


def plan_jobs(
    pieces: Sequence[tuple[Piece, int]],
    soundfonts: Sequence[Path],
    cache: Path,
    params: FeatureParams,
    *,
    performance: Performance,
    excerpt: float,
    seed: int,
) -> list[Job]:
    """Choose so many renderings of every piece, and its recording where there is one."""
    jobs = []
    for piece, copies in pieces:
        sources: list[Source] = []
        recording = recording_beside(piece)
        if recording:
            sources.append(recording)
        rng = np.random.default_rng([seed, int(piece.digest[:12], 16)])
        first = int(rng.integers(len(soundfonts))) if soundfonts else 0
        for copy in range(copies if soundfonts else 0):
            font = soundfonts[(first + copy) % len(soundfonts)]
            if performance == "mixed":
                sources.append(draw_mixture_recipe(rng, soundfonts, excerpt))
            elif performance == "varied":
                sources.append(draw_recipe(rng, font, piece.midi.seconds, excerpt))
            else:
                sources.append(Recipe(str(font), seconds=excerpt, dynamics=0.0))
        for source in sources:
            target = cache / f"{cache_key(piece, source, params)}.safetensors"
            jobs.append(Job(target, piece.midi.notes, source, params, piece.path))
    return jobs


def fill_cache(
    jobs: Sequence[Job], workers: int | None, progress: Callable[[int, int], None] | None = None
) -> list[str]:
    """Make the cache files that are missing; return the faults of those that failed."""
    missing = [job for job in jobs if not job.target.exists()]
    for folder in {job.target.parent for job in missing}:
        folder.mkdir(parents=True, exist_ok=True)
    faults = []
    for done, fault in enumerate(parallel(make_features, missing, workers), 1):
        if fault:
            faults.append(fault)
        if progress:
            progress(done, len(missing))
    return faults


@dataclass(frozen=True)
class Corpus:
    """Cache files to train and validate on, and where they came from.

    Parameters
    ----------
    train, valid : tuple of Path
    facts : dict
        JSON-ready: pieces, soundfonts, seed.
    faults : tuple of str
        Files left out, with the reason.
    """

    train: tuple[Path, ...]
    valid: tuple[Path, ...]
    facts: dict[str, Any]
    faults: tuple[str, ...]


Progress = Callable[[str, int, int], None]


def prepare_corpus(
    library: Sequence[Path],
    extra: Sequence[Path],
    soundfonts: Sequence[Path],
    cache: Path,
    params: FeatureParams,
    *,
    validation_soundfonts: Sequence[Path] = (),
    copies: int = 4,
    extra_copies: int = 1,
    performance: Performance = "varied",
    excerpt: float = 90.0,
    seed: int = 0,
    workers: int | None = None,
    progress: Progress = lambda what, done, total: None,
) -> Corpus:
    """Read, split and render what a training run needs; what the cache holds is not made again.

    Parameters
    ----------
    library : sequence of Path
        Folders that are split by piece; the test part is left alone.
    extra : sequence of Path
        Folders to train on as well, but for music the library validates or tests on.
    soundfonts : sequence of Path
    cache : Path
        Folder for the features.
    params : FeatureParams
    validation_soundfonts : sequence of Path
        What validation is rendered with instead; nothing to train on is.
    copies, extra_copies : int
        Renderings of each piece.
    performance : {"varied", "plain", "mixed"}
        How far a rendering may differ from the file.
    excerpt : float
        Longest part of a piece to render, seconds.
    seed : int
    workers : int, optional
    progress : callable
        Called with ``(what, done, total)``.

    Raises
    ------
    MmidError
        If a folder holds no MIDI, or nothing is left to train or validate on, or with.
    """
    fonts = _held_apart(soundfonts, validation_soundfonts)
    sides, more, bad = _read_pieces(library, extra, seed, workers, progress)
    chosen: dict[str, Any] = {"performance": performance, "excerpt": excerpt, "seed": seed}
    train = [(p, copies) for p in sides["train"]] + [(p, extra_copies) for p in more]
    valid = [(piece, copies) for piece in sides["valid"]]
    plans = [
        plan_jobs(some, own, cache, params, **chosen)
        for some, own in ((train, fonts), (valid, validation_soundfonts or fonts))
    ]
    faults = fill_cache(plans[0] + plans[1], workers, partial(progress, "Rendering"))
    made = _made(plans, sum(map(len, sides.values())))
    facts = _counted(sides, len(train)) | _font_names(fonts, validation_soundfonts) | chosen
    facts |= {"copies": [copies, extra_copies], "renderings": len(made[0])}
    return Corpus(made[0], made[1], facts, (*(file.reason for file in bad), *faults))


def _made(plans: Sequence[list[Job]], pieces: int) -> list[tuple[Path, ...]]:
    """Return the files that are there of each plan.

    Raises
    ------
    MmidError
        If one has none.
    """
    made = [tuple(job.target for job in jobs if job.target.exists()) for jobs in plans]
    if not all(made):
        raise MmidError(f"{pieces} pieces are too few: nothing to train or validate on")
    return made


def _counted(sides: dict[str, list[Piece]], train: int) -> dict[str, Any]:
    """Say how many pieces there are of each use."""
    valid, test = len(sides["valid"]), len(sides["test"])
    return {"train_pieces": train, "valid_pieces": valid, "test_pieces": test}


def _font_names(fonts: Sequence[Path], held: Sequence[Path]) -> dict[str, Any]:
    """Say what rendered, and what rendered validation if that was held back."""
    names = {"soundfonts": [path.name for path in fonts]}
    return names | ({"validation_soundfonts": [path.name for path in held]} if held else {})


def _held_apart(soundfonts: Sequence[Path], held: Sequence[Path]) -> list[Path]:
    """Return the soundfonts but those that are held back."""
    apart = {path.resolve() for path in held}
    fonts = [path for path in soundfonts if path.resolve() not in apart]
    if held and not fonts:
        raise MmidError("no soundfont is left to train with: validation has them all")
    return fonts


def _read_pieces(
    library: Sequence[Path],
    extra: Sequence[Path],
    seed: int,
    workers: int | None,
    progress: Progress,
) -> tuple[dict[str, list[Piece]], list[Piece], list[BadFile]]:
    """Read the library, split, the extra folders' pieces and what of both cannot be read."""
    pieces, bad = read_library(library, jobs=workers, progress=partial(progress, "Reading MIDI"))
    sides = split_library(pieces, seed)
    if not extra:
        return sides, [], bad
    reading = partial(progress, "Reading extra MIDI")
    more, worse = read_library(extra, jobs=workers, progress=reading)
    return sides, drop_duplicates(more, sides["valid"] + sides["test"]), bad + worse
