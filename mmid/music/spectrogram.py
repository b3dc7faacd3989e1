"""Recordings to spectrograms, on one frame grid with piano rolls.

Conventions: a spectrogram is ``[bands, frames]`` float32; batches come first. Frame ``i`` is
centred on second ``i / frame_rate``; row 0 is the lowest band. The same functions serve training,
indexing and querying.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from functools import lru_cache
from importlib import resources

import numpy as np
import torch
from torch import Tensor

from mmid.music.audio import MAX_SECONDS, stream_audio
from mmid.music.grid import CONCERT_A, DEFAULT, FeatureParams
from mmid.music.log_frequency import bin_frequencies, half_frame_magnitudes

LOUD_QUANTILE = 0.95
"""A recording's level is this quantile, over frames, of its loudest band."""

SILENCE = 1e-5
"""Levels below this (full scale is 1) count as silence and are not amplified."""

BANDS_PER_OCTAVE = 16


def design_filterbank(params: FeatureParams = DEFAULT) -> np.ndarray:
    """Design overlapping triangular bands, logarithmic where the STFT resolves them, or mel.

    Logarithmic centres lie 16 to the octave around 440 Hz, rounded to STFT bins with duplicates
    dropped: for the default grid that gives the 92 bands of Dorfer et al. [1]_ and of madmom.

    Parameters
    ----------
    params : FeatureParams
        The grid.

    Returns
    -------
    np.ndarray [bands, bins] float32
        Weights with peak 1.

    References
    ----------
    .. [1] M. Dorfer, A. Arzt, G. Widmer, "Learning audio-sheet music correspondences for score
       identification and offline alignment", ISMIR 2017.
    """
    if params.scale == "mel":
        return _mel_filterbank(params)
    octaves = np.log2(np.array([params.low, params.high]) / CONCERT_A) * BANDS_PER_OCTAVE
    centres = CONCERT_A * 2 ** (np.arange(np.ceil(octaves[0]), octaves[1]) / BANDS_PER_OCTAVE)
    edges = np.unique(np.round(centres * params.window / params.sample_rate).astype(int))
    if len(edges) != params.bands + 2:
        raise ValueError(f"{params.low} to {params.high} Hz gives {len(edges) - 2} bands")
    rising, falling = edges[:-2, None], edges[2:, None]
    peak, bins = edges[1:-1, None], np.arange(params.bins)[None]
    slopes = np.minimum((bins - rising) / (peak - rising), (falling - bins) / (falling - peak))
    weights: np.ndarray = np.clip(slopes, 0, 1).astype(np.float32)
    return weights


def _mel_filterbank(params: FeatureParams) -> np.ndarray:
    from mmid.music._torchaudio import functional

    span = (params.low, params.high, params.bands, params.sample_rate)
    weights: np.ndarray = functional.melscale_fbanks(params.bins, *span).T.contiguous().numpy()
    return weights


def band_centres(params: FeatureParams = DEFAULT) -> np.ndarray:
    """Return the centre of every band, Hz; rising, once for each of `FeatureParams.halves`."""
    if params.scale == "fine":
        return np.tile(bin_frequencies(), params.halves)
    peaks = design_filterbank(params).argmax(1)
    return np.asarray(peaks * params.sample_rate / params.window)


def shift_bands(
    magnitudes: Tensor, semitones: Tensor | float, params: FeatureParams = DEFAULT
) -> Tensor:
    """Transpose spectrograms by reading between their bands.

    Parameters
    ----------
    magnitudes : Tensor [batch, bands, frames]
        Linear.
    semitones : Tensor [batch] or float
        Upwards, for each or for all.

    Returns
    -------
    Tensor [batch, bands, frames]
    """
    halves, (batch, bands, frames) = params.halves, magnitudes.shape
    octaves = torch.log2(torch.from_numpy(band_centres(params)[: bands // halves]).float())
    target = octaves - torch.as_tensor(semitones).reshape(-1, 1) / 12
    if halves > 1:  # each by itself
        target = target.expand(batch, -1).repeat_interleave(halves, 0)
        magnitudes = magnitudes.reshape(batch * halves, bands // halves, frames)
    above = torch.searchsorted(octaves, target).clamp(1, len(octaves) - 1)
    low, high = octaves[above - 1], octaves[above]
    share = ((target - low) / (high - low)).clamp(0, 1)[..., None].to(magnitudes.device)
    above = above[..., None].expand(len(magnitudes), -1, frames)
    above = above.to(magnitudes.device)
    shifted = torch.lerp(magnitudes.gather(1, above - 1), magnitudes.gather(1, above), share)
    return shifted.reshape(batch, bands, frames)


@lru_cache
def filterbank(params: FeatureParams = DEFAULT) -> Tensor:
    """Return the frozen weights of the default grid, or design those of another.

    Returns
    -------
    Tensor [bands, bins] float32
    """
    if params.spectrogram_values != DEFAULT.spectrogram_values:
        return torch.from_numpy(design_filterbank(params))
    with resources.files("mmid").joinpath("assets/filterbank.npz").open("rb") as file:
        return torch.from_numpy(np.load(file, allow_pickle=False)["weights"])


def frame_count(seconds: float, params: FeatureParams = DEFAULT) -> int:
    """Return how many frames of sound cover a time from 0: the last centre is not after its end."""
    return int(seconds * params.frame_rate) + 1


def _band_magnitudes(padded: Tensor, params: FeatureParams) -> Tensor:
    if params.scale == "fine":
        return half_frame_magnitudes(padded)
    from mmid.music._torchaudio import functional

    window = torch.hann_window(params.window, device=padded.device)
    magnitude = functional.spectrogram(
        padded, 0, window, params.window, params.hop, params.window, 1.0, False, center=False
    )
    bands: Tensor = filterbank(params).to(padded.device) @ magnitude * (2 / window.sum())
    return bands


def _centred_blocks(blocks: Iterable[np.ndarray], params: FeatureParams) -> Iterator[Tensor]:
    """Cut a stream of samples so that consecutive STFTs of the cuts give the whole's frames."""
    edge = np.zeros(params.window // 2, np.float32)
    kept = edge
    for block in blocks:
        kept = np.concatenate([kept, block])
        frames = (len(kept) - params.window) // params.hop + 1
        if frames > 0:
            yield torch.from_numpy(kept[: (frames - 1) * params.hop + params.window])
            kept = kept[frames * params.hop :]
    kept = np.concatenate([kept, edge])
    if len(kept) >= params.window:
        yield torch.from_numpy(kept)


def compress(magnitudes: Tensor, params: FeatureParams = DEFAULT) -> Tensor:
    """Level a recording's band magnitudes and compress them logarithmically.

    The level is set by the recording's loud passages, so a file's gain does not matter.

    Parameters
    ----------
    magnitudes : Tensor [..., bands, frames]
        Linear band magnitudes.

    Returns
    -------
    Tensor [..., bands, frames] float32
        About 0 to 1.
    """
    loudest = magnitudes.amax(-2)
    kept = loudest[..., :: max(1, loudest.shape[-1] // 100_000)]
    level = kept.quantile(LOUD_QUANTILE, dim=-1)[..., None, None].clamp_min(SILENCE)
    return log_compress(magnitudes / level, params)


def log_compress(relative: Tensor, params: FeatureParams = DEFAULT) -> Tensor:
    """Compress levelled magnitudes: ``log(1 + c x) / log(1 + c)``."""
    return torch.log1p(params.compression * relative) / math.log1p(params.compression)


def log_expand(compressed: Tensor, params: FeatureParams = DEFAULT) -> Tensor:
    """Undo `log_compress`."""
    return torch.expm1(compressed * math.log1p(params.compression)) / params.compression


def spectrogram(samples: Tensor, params: FeatureParams = DEFAULT) -> Tensor:
    """Return the levelled log spectrogram of audio at the grid's rate.

    Parameters
    ----------
    samples : Tensor [..., n] float32
        Mono audio at ``params.sample_rate``, on any device.

    Returns
    -------
    Tensor [..., bands, n // hop + 1] float32
    """
    half = params.window // 2
    padded = torch.nn.functional.pad(samples, (half, half))
    return compress(_band_magnitudes(padded, params), params)


def recording_spectrogram(
    path: str | os.PathLike[str],
    params: FeatureParams = DEFAULT,
    *,
    start: float = 0.0,
    duration: float | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Decode a recording and return its spectrogram, holding no more audio than a block.

    Parameters
    ----------
    path : path
        A file PyAV opens.
    start, duration : float
        The span to decode, seconds.

    Returns
    -------
    Tensor [bands, frames] float32

    Raises
    ------
    AudioError
        If the file cannot be decoded or the span holds no audio, or more than `MAX_SECONDS`.
    """
    stream = stream_audio(path, params.sample_rate, start, duration, max_seconds=MAX_SECONDS)
    return stream_spectrogram(stream, params, device)


def stream_spectrogram(
    blocks: Iterable[np.ndarray],
    params: FeatureParams = DEFAULT,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Return the spectrogram of sound that comes in blocks.

    Parameters
    ----------
    blocks : iterable of np.ndarray [n] float32
        Mono samples at ``params.sample_rate``, one after another; at least one in all.
    params : FeatureParams
    device : torch.device or str

    Returns
    -------
    Tensor [bands, frames] float32
    """
    parts = [_band_magnitudes(b.to(device), params) for b in _centred_blocks(blocks, params)]
    return compress(torch.cat(parts, dim=-1), params)


def resample_frames(spectrograms: Tensor, first: Tensor, ratio: Tensor, frames: int) -> Tensor:
    """Read frames at fractional places by linear interpolation.

    Parameters
    ----------
    spectrograms : Tensor [batch, bands, n] float32
    first, ratio : Tensor [batch]
        Place of the first frame to read, and the step between frames.
    frames : int
        How many to read; places beyond an end repeat the end's frame.

    Returns
    -------
    Tensor [batch, bands, frames] float32
    """
    last = spectrograms.shape[-1] - 1
    place = first[:, None] + ratio[:, None] * torch.arange(frames, device=first.device)
    place = place.clamp(0, last)
    below = place.floor().long().clamp_max(max(last - 1, 0))
    share = (place - below)[:, None]
    if len(spectrograms) == 1:  # in a third of the time
        one, other = below[0], (below[0] + 1).clamp_max(last)
        lower, upper = spectrograms.index_select(2, one), spectrograms.index_select(2, other)
    else:
        index = below[:, None].expand(-1, spectrograms.shape[1], -1)
        lower = spectrograms.gather(2, index)
        upper = spectrograms.gather(2, (index + 1).clamp_max(last))
    return torch.lerp(lower, upper, share)
