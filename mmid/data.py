"""Training pairs: random snippets of cached renderings and the rolls that match them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmid.augment import HISTORY, Augmentation, roughen
from mmid.corpus import LEVELS
from mmid.errors import MmidError
from mmid.features import draw_rolls, resample_frames
from mmid.params import FeatureParams


class _Rendering:
    """A cache file: notes in memory, the spectrogram mapped."""

    def __init__(self, path: Path, params: FeatureParams) -> None:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size))
        self.bands = self._map(path, 8 + size, header["spectrogram"], np.uint8)
        times = self._map(path, 8 + size, header["times"], np.float32) * params.frame_rate
        self.onset, self.offset = np.array(times[:, 0]), np.array(times[:, 1])
        self.pitch = np.array(self._map(path, 8 + size, header["pitches"], np.uint8))
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
    """Matching snippets: spectrograms ``[b, 1, bands, frames]``, rolls ``[b, c, 128, frames]``."""

    audio: Tensor
    rolls: Tensor

    def repeats(self, threshold: float = 0.98) -> Tensor:
        """Return ``[b, b]`` bool: the pairs of rolls that are nearly the same (by cosine)."""
        unit = torch.nn.functional.normalize(self.rolls[:, 0].flatten(1), dim=1)
        return unit @ unit.T > threshold


NEAR_FRAMES = (2.0, 21.0)
"""How far apart overlapping snippets of a batch begin; teaches the place as well as the music."""

MIN_ONSETS = 2
"""A snippet with fewer onsets says too little to learn from."""


class PairSource:
    """Random batches of matching snippets from cache files.

    Parameters
    ----------
    paths : sequence of Path
        Cache files.
    params : FeatureParams
    augmentation : Augmentation or None
        None gives plain, exactly aligned snippets.
    neighbours : int
        Snippets a batch takes from one rendering: its hardest negatives.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        params: FeatureParams,
        augmentation: Augmentation | None,
        neighbours: int = 4,
    ) -> None:
        renderings = [_Rendering(path, params) for path in paths]
        self._renderings = [r for r in renderings if len(r) > params.snippet + 8]
        if not self._renderings:
            raise MmidError("no piece is long enough to train on")
        self._params, self._augmentation, self._neighbours = params, augmentation, neighbours
        weight = np.sqrt([len(r) for r in self._renderings])
        self._cumulative = np.cumsum(weight / weight.sum())

    @property
    def hours(self) -> float:
        """Length of all renderings."""
        return sum(map(len, self._renderings)) / self._params.frame_rate / 3600

    def batches(self, size: int, count: int, seed: int | Sequence[int]) -> Iterator[Batch]:
        """Draw batches, the same ones for the same seed."""
        rng = np.random.default_rng(seed)
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        for _ in range(count):
            yield self._batch(size, rng, generator)

    def _batch(self, size: int, rng: np.random.Generator, generator: torch.Generator) -> Batch:
        stretch = self._augmentation.stretch if self._augmentation else 0.0
        ratio = np.exp(rng.uniform(-1, 1, size) * np.log1p(stretch))
        drawn = np.searchsorted(self._cumulative, rng.random(-(-size // self._neighbours)))
        chosen = np.minimum(drawn, len(self._renderings) - 1).repeat(self._neighbours)[:size]
        first = np.array([self._place(i, r, rng) for i, r in zip(chosen, ratio, strict=True)])
        if self._augmentation and self._neighbours > 1:
            self._draw_near(chosen, first, ratio, rng)
        rolls = self._rolls(chosen, first, ratio)
        return Batch(self._spectrograms(chosen, first, ratio, rng, generator)[:, None], rolls)

    def _draw_near(
        self, chosen: np.ndarray, first: np.ndarray, ratio: np.ndarray, rng: np.random.Generator
    ) -> None:
        """Move every second snippet close to the one before it: overlapping, hence hard to tell."""
        near = np.flatnonzero(chosen[1:] == chosen[:-1])[::2] + 1
        away = rng.uniform(*NEAR_FRAMES, len(near)) * rng.choice([-1, 1], len(near))
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

    def _rolls(self, chosen: np.ndarray, first: np.ndarray, ratio: np.ndarray) -> Tensor:
        frames, parts = self._params.snippet, []
        for row, (i, start, step) in enumerate(zip(chosen, first, ratio, strict=True)):
            rendering = self._renderings[i]
            near = rendering.notes_between(start, start + (frames + 2) * step)
            onset = (rendering.onset[near] - start) / step
            offset = (rendering.offset[near] - start) / step
            owners = np.full(len(onset), row)
            parts.append((owners, onset, offset, rendering.pitch[near]))
        whose, onset, offset, pitch = (np.concatenate(p) for p in zip(*parts, strict=True))
        return draw_rolls(
            torch.from_numpy(whose).long(),
            torch.from_numpy(onset).float(),
            torch.from_numpy(offset).float(),
            torch.from_numpy(pitch).long(),
            len(chosen),
            frames,
            self._params,
        )

    def _spectrograms(
        self,
        chosen: np.ndarray,
        first: np.ndarray,
        ratio: np.ndarray,
        rng: np.random.Generator,
        generator: torch.Generator,
    ) -> Tensor:
        frames, a = self._params.snippet, self._augmentation
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
            batch = roughen(batch, a, self._params, generator)
        place = torch.from_numpy(first - begin).float()
        return resample_frames(batch, place, torch.from_numpy(ratio).float(), frames)
