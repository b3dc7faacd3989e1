"""Training pairs: random snippets of cached renderings and the rolls that match them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mmid.errors import MmidError
from mmid.music.grid import FeatureParams
from mmid.music.notes import NOTE_DTYPE, PITCHES
from mmid.music.piano_roll import draw_rolls
from mmid.music.spectrogram import resample_frames
from mmid.options import Sampling
from mmid.training.augmentation import HISTORY, Augmentation, roughen
from mmid.training.corpus import LEVELS
from mmid.training.note_targets import draw_targets


class _Rendering:
    """A cache file: notes in memory, the spectrogram mapped."""

    def __init__(self, path: Path, params: FeatureParams) -> None:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size))
        self.bands = self._map(path, 8 + size, header["spectrogram"], np.uint8)
        times = self._map(path, 8 + size, header["times"], np.float32)
        frames = times * params.roll_frame_rate(float(times.max(initial=0)))
        self.onset, self.offset = np.array(frames[:, 0]), np.array(frames[:, 1])
        self.pitch = np.array(self._map(path, 8 + size, header["pitches"], np.uint8))
        self.program = np.array(self._map(path, 8 + size, header["programs"], np.uint8))
        self.melody = np.zeros(len(self.pitch), bool)
        if "melody" in header:
            self.melody = self._map(path, 8 + size, header["melody"], np.uint8) > 0
        facts = header.get("__metadata__", {})
        self.kind, self.melody_known = facts.get("kind", ""), facts.get("melody") == "known"
        self.longest = float((self.offset - self.onset).max(initial=0))

    @staticmethod
    def _map(path: Path, base: int, entry: dict[str, Any], dtype: type) -> np.ndarray:
        shape = tuple(entry["shape"])
        if 0 in shape:
            return np.zeros(shape, dtype)
        return np.memmap(path, dtype, "r", base + entry["data_offsets"][0], shape)

    def __len__(self) -> int:
        return len(self.bands)

    def notes_between(self, first: float, last: float) -> slice:
        earliest = first - max(self.longest, 1.0)  # an onset shows in the frame after it, too
        low, high = np.searchsorted(self.onset, [earliest, last])
        return slice(int(low), int(high))

    def is_rich(self, first: float, last: float, onsets: int) -> bool:
        low, high = np.searchsorted(self.onset, [first, last])
        return bool(high - low >= onsets)


@dataclass(frozen=True)
class Batch:
    """Matching snippets: spectrograms ``[b, 1, bands, frames]``, rolls ``[b, c, 128, frames]``.

    The spectrograms may reach farther than the rolls, by the same number of frames on either side.
    ``contrast`` holds as many pairs of other snippets, ``targets`` what a transcriber of harmonics
    is to give, as `draw_targets` draws it, where they are wanted; ``melody_known`` ``[b]`` says
    whose melody is right.
    """

    audio: Tensor
    rolls: Tensor
    layers: int = 1
    contrast: Batch | None = None
    targets: Tensor | None = None
    melody_known: Tensor | None = None

    def repeats(self, threshold: float = 0.98) -> Tensor:
        """Return ``[b, b]`` bool: the pairs of rolls that are nearly the same (by cosine)."""
        unit = torch.nn.functional.normalize(self.rolls[:, : self.layers].flatten(1), dim=1)
        return unit @ unit.T > threshold


@dataclass(frozen=True, eq=False)
class Clip:
    """A rendering as it is.

    Parameters
    ----------
    kind : str
        Of a mixture; empty otherwise.
    bands : Tensor [bands, frames] float32
        As `mmid.music.spectrogram` gives them.
    notes : np.ndarray [n] of mmid.music.notes.NOTE_DTYPE
        Those that begin in it, times in seconds.
    """

    kind: str
    bands: Tensor
    notes: np.ndarray


NEAREST = 2.0
"""Overlapping snippets of a batch begin at least so many frames apart, at most half a snippet."""

TRANSPOSED = 0.6
"""Share of snippets that may be in another key, where that is an effect."""

MIN_ONSETS = 2
"""A snippet with fewer onsets says too little to learn from."""


@dataclass(frozen=True, eq=False)
class _Places:
    """Where snippets lie: rendering, first frame, step between frames and semitones of each."""

    rendering: np.ndarray
    first: np.ndarray
    ratio: np.ndarray
    semitones: np.ndarray

    def __len__(self) -> int:
        return len(self.first)

    def take(self, part: slice | np.ndarray) -> _Places:
        parts = (self.rendering, self.first, self.ratio, self.semitones)
        return _Places(*(array[part] for array in parts))


class _Notes(NamedTuple):
    """The notes of a batch's snippets: whose each is, its times in frames, and the rest of it."""

    owner: np.ndarray
    onset: np.ndarray
    offset: np.ndarray
    pitch: np.ndarray
    program: np.ndarray
    melody: np.ndarray


WHOLE = slice(None)
"""All of a batch."""


class PairSource:
    """Batches of matching snippets from cache files.

    Parameters
    ----------
    paths : sequence of Path
        Cache files.
    params : FeatureParams
    augmentation : Augmentation or None
        None gives plain, exactly aligned snippets.
    neighbours : int
        Snippets a batch takes from one rendering: its hardest negatives.
    sampling : {"random", "grid"}
        Snippets from random places, or each of the 2020 report's: end to end, all once a sweep.
    contrast : bool
        Whether each batch comes with as many snippets from elsewhere.
    margin : int
        Frames of audio beside each snippet.
    targets : bool
        Whether batches come with the targets of a transcriber of harmonics; they lie on frames.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        params: FeatureParams,
        augmentation: Augmentation | None,
        neighbours: int = 4,
        sampling: Sampling = "random",
        contrast: bool = False,
        margin: int = 0,
        targets: bool = False,
    ) -> None:
        renderings = [_Rendering(path, params) for path in paths]
        self._renderings = [r for r in renderings if len(r) > params.snippet + 8]
        if not self._renderings:
            raise MmidError("no piece is long enough to train on")
        self._params, self._augmentation, self._neighbours = params, augmentation, neighbours
        self._sampling, self._contrast, self._margin = sampling, contrast, margin
        self._targets = targets
        weight = np.sqrt([len(r) for r in self._renderings])
        self._cumulative = np.cumsum(weight / weight.sum())
        self._grid = self._lay_grid() if sampling == "grid" else np.zeros((0, 2), np.int64)
        if sampling == "grid" and len(self._grid) < 2:
            raise MmidError("too few snippets to train on")

    def _lay_grid(self) -> np.ndarray:
        """List rendering and first frame of the snippets that lie end to end and have an onset."""
        length = self._params.snippet
        return np.array(
            [
                (number, first)
                for number, rendering in enumerate(self._renderings)
                for first in range(0, len(rendering) - length + 1, length)
                if rendering.is_rich(first, first + length, 1)
            ]
        )

    @property
    def labels(self) -> int:
        """Snippets on the grid; 0 where they are drawn from random places."""
        return len(self._grid)

    @property
    def hours(self) -> float:
        """Length of all renderings."""
        return sum(map(len, self._renderings)) / self._params.frame_rate / 3600

    def clips(self, most: int, frames: int) -> Iterator[Clip]:
        """Yield renderings as they are: so many of each kind, and no more than the first frames."""
        seen: Counter[str] = Counter()
        for rendering in self._renderings:
            seen[rendering.kind] += 1
            if seen[rendering.kind] <= most:
                bands = torch.from_numpy(np.array(rendering.bands[:frames])).float().T / LEVELS
                yield Clip(rendering.kind, bands, self._begun(rendering, len(bands.T)))

    def _begun(self, rendering: _Rendering, frames: int) -> np.ndarray:
        """Return the notes of a rendering that begin in its first frames, times in seconds."""
        begun = (rendering.onset >= 0) & (rendering.onset < frames)
        notes = np.zeros(int(begun.sum()), NOTE_DTYPE)
        for name in ("onset", "offset"):
            notes[name] = getattr(rendering, name)[begun] / self._params.frame_rate
        notes["pitch"], notes["program"] = rendering.pitch[begun], rendering.program[begun]
        return notes

    def batches(
        self, size: int, count: int, seed: int | Sequence[int], part: slice = WHOLE
    ) -> Iterator[Batch]:
        """Draw batches, the same ones for the same seed, and make a part of each.

        Parameters
        ----------
        size, count : int
            Snippets a batch, and batches.
        seed : int or sequence of int
        part : slice
            Rows to make; other parts lie at the same places, roughened by other draws.
        """
        rng = np.random.default_rng(seed)
        seeds = np.random.default_rng([*np.atleast_1d(seed), part.start or 0])
        generator = torch.Generator().manual_seed(int(seeds.integers(2**62)))
        draw = self._on_grid if self._sampling == "grid" else self._anywhere
        for places, others in draw(size, count, rng):
            batch = self._batch(places.take(part), seeds, generator)
            contrast = self._batch(others.take(part), seeds, generator) if others else None
            yield replace(batch, contrast=contrast)

    def _batch(
        self, places: _Places, rng: np.random.Generator, generator: torch.Generator
    ) -> Batch:
        notes = self._notes(places)
        rolls = self._rolls(places, notes)
        audio = self._spectrograms(places, rng, generator)[:, None]
        batch = Batch(audio, rolls, self._params.layers)
        if not self._targets:
            return batch
        known = [self._renderings[i].melody_known for i in places.rendering]
        return replace(
            batch,
            targets=self._drawn_targets(len(places), notes),
            melody_known=torch.tensor(known),
        )

    def _on_grid(
        self, size: int, count: int, rng: np.random.Generator
    ) -> Iterator[tuple[_Places, _Places | None]]:
        """Sweep through the grid in random order, again and again.

        Contrastive labels are drawn outside the batch if the set is at least three times as
        large, else they are the batch's in the next place of the sweep.
        """
        size = min(size, len(self._grid))
        order, others = np.zeros(0, np.int64), None
        for _ in range(count):
            if len(order) < size:
                order = np.concatenate([order, rng.permutation(len(self._grid))])
            chosen, order = order[:size], order[size:]
            if self._contrast:
                outside = np.setdiff1d(np.arange(len(self._grid)), chosen)
                enough = len(self._grid) >= 3 * size
                elsewhere = rng.choice(outside, size, False) if enough else np.roll(chosen, 1)
                others = self._at(elsewhere, rng)
            yield self._at(chosen, rng), others

    def _at(self, labels: np.ndarray, rng: np.random.Generator) -> _Places:
        rendering, first = self._grid[labels].T
        ratio = self._ratios(len(labels), rng)
        return _Places(rendering, first.astype(float), ratio, self._semitones(len(labels), rng))

    def _anywhere(
        self, size: int, count: int, rng: np.random.Generator
    ) -> Iterator[tuple[_Places, _Places | None]]:
        for _ in range(count):
            places = self._draw_places(size, rng)
            others = self._draw_places(2 * size, rng) if self._contrast else None
            yield places, others and self._outside(others, places)

    def _outside(self, others: _Places, places: _Places) -> _Places:
        """Keep so many of the other snippets, those that overlap none of the batch first."""
        gap = np.abs(others.first[:, None] - places.first[None])
        near = (others.rendering[:, None] == places.rendering[None]) & (gap < self._params.snippet)
        kept = np.argsort(near.any(1), kind="stable")[: len(places)]
        return others.take(kept)

    def _ratios(self, size: int, rng: np.random.Generator) -> np.ndarray:
        stretch = self._augmentation.stretch if self._augmentation else 0.0
        return np.asarray(np.exp(rng.uniform(-1, 1, size) * np.log1p(stretch)))

    def _semitones(self, size: int, rng: np.random.Generator) -> np.ndarray:
        """Draw keys; some snippets stay in theirs."""
        widest = self._augmentation.semitones if self._augmentation else 0
        if not widest:
            return np.zeros(size, int)
        return rng.integers(-widest, widest + 1, size) * (rng.random(size) < TRANSPOSED)

    def _draw_places(self, size: int, rng: np.random.Generator) -> _Places:
        ratio = self._ratios(size, rng)
        drawn = np.searchsorted(self._cumulative, rng.random(-(-size // self._neighbours)))
        chosen = np.minimum(drawn, len(self._renderings) - 1).repeat(self._neighbours)[:size]
        first = np.array([self._place(i, r, rng) for i, r in zip(chosen, ratio, strict=True)])
        if self._augmentation and self._neighbours > 1:
            self._draw_near(chosen, first, ratio, rng)
        if self._targets:
            first = np.floor(first)  # reading between frames would blur their halves
        return _Places(chosen, first, ratio, self._semitones(size, rng))

    def _draw_near(
        self, chosen: np.ndarray, first: np.ndarray, ratio: np.ndarray, rng: np.random.Generator
    ) -> None:
        """Move every second snippet close to the one before it: overlapping, so hard to match."""
        near = np.flatnonzero(chosen[1:] == chosen[:-1])[::2] + 1
        farthest = self._params.snippet / 2
        away = rng.uniform(NEAREST, farthest, len(near)) * rng.choice([-1, 1], len(near))
        ratio[near] = ratio[near - 1]
        last = np.array([len(self._renderings[i]) for i in chosen[near]])
        last = np.maximum(last - self._params.snippet * ratio[near] - 1, 0)
        first[near] = np.clip(first[near - 1] + away * ratio[near], 0, last)

    def _place(self, chosen: int, ratio: float, rng: np.random.Generator) -> float:
        """Choose where a snippet begins: somewhere with notes, if a few tries find it."""
        rendering, span = self._renderings[chosen], self._params.snippet * ratio
        for _ in range(4):
            first = rng.uniform(0, max(1.0, len(rendering) - span - 1))
            if rendering.is_rich(first, first + span, MIN_ONSETS):
                break
        return float(first)

    def _notes(self, places: _Places) -> _Notes:
        """Gather the notes of snippets, in frames from each one's first."""
        frames, parts = self._params.snippet, []
        for row, (i, start, step) in enumerate(
            zip(places.rendering, places.first, places.ratio, strict=True)
        ):
            rendering = self._renderings[i]
            near = rendering.notes_between(start, start + (frames + 2) * step)
            onset = (rendering.onset[near] - start) / step
            offset = (rendering.offset[near] - start) / step
            pitch = rendering.pitch[near].astype(np.int64) + places.semitones[row]
            tones = pitch.clip(0, PITCHES - 1), rendering.program[near], rendering.melody[near]
            parts.append((np.full(len(onset), row), onset, offset, *tones))
        return _Notes(*(np.concatenate(p) for p in zip(*parts, strict=True)))

    def _rolls(self, places: _Places, notes: _Notes) -> Tensor:
        whose, pitch, program = (
            torch.from_numpy(part).long() for part in (notes.owner, notes.pitch, notes.program)
        )
        return draw_rolls(
            whose,
            torch.from_numpy(notes.onset).float(),
            torch.from_numpy(notes.offset).float(),
            pitch,
            len(places),
            self._params.snippet,
            self._params,
            program,
        )

    def _drawn_targets(self, count: int, notes: _Notes) -> Tensor:
        halves = self._params.halves
        frames = halves * self._params.snippet
        times = halves * notes.onset, halves * notes.offset
        return draw_targets(notes.owner, *times, notes.pitch, notes.melody, count, frames)

    def _spectrograms(
        self, places: _Places, rng: np.random.Generator, generator: torch.Generator
    ) -> Tensor:
        frames, a = self._params.snippet + 2 * self._margin, self._augmentation
        chosen, ratio = places.rendering, places.ratio
        first = places.first - ratio * self._margin
        if a:
            middle = first + ratio * frames / 2
            ratio = ratio * (1 + rng.uniform(-a.mismatch, a.mismatch, len(ratio)))
            first = middle - ratio * frames / 2 + rng.uniform(-a.shift, a.shift, len(ratio))
        begin = np.floor(first).astype(int) - HISTORY
        span = HISTORY + int(np.ceil(ratio.max() * frames)) + 2
        window = np.zeros((len(chosen), span, self._params.bands), np.uint8)
        for row, i, start in zip(window, chosen, begin, strict=True):
            bands = self._renderings[i].bands
            low, high = max(start, 0), min(start + span, len(bands))
            row[low - start : high - start] = bands[low:high]
        batch = torch.from_numpy(window).float().transpose(1, 2) / LEVELS
        if a:
            semitones = torch.from_numpy(places.semitones).float()
            batch = roughen(batch, a, self._params, generator, semitones)
        place = torch.from_numpy(first - begin).float()
        return resample_frames(batch, place, torch.from_numpy(ratio).float(), frames)
