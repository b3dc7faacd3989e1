"""Recordings to spectrograms, notes to piano rolls, on one frame grid.

Conventions: a spectrogram is ``[bands, frames]``, a roll ``[channels, pitches, frames]``, both
float32; batches come first. Frame ``i`` is centred on second ``i / frame_rate``. Row 0 is the
lowest band or MIDI pitch 0. The same functions serve training, indexing and querying.
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

from mmid.audio import MAX_SECONDS, stream_audio
from mmid.log_frequency import bin_frequencies, half_frame_magnitudes
from mmid.params import CONCERT_A, DEFAULT, FAMILIES, FeatureParams

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
    from mmid._torchaudio import functional

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


def roll_frame_count(seconds: float, params: FeatureParams = DEFAULT) -> int:
    """Return how many frames the roll of a piece that lasts so long has."""
    return int(seconds * params.roll_frame_rate(seconds)) + 1


def _band_magnitudes(padded: Tensor, params: FeatureParams) -> Tensor:
    if params.scale == "fine":
        return half_frame_magnitudes(padded)
    from mmid._torchaudio import functional

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


def draw_rolls(
    owner: Tensor,
    onset: Tensor,
    offset: Tensor,
    pitch: Tensor,
    count: int,
    frames: int,
    params: FeatureParams = DEFAULT,
    program: Tensor | None = None,
) -> Tensor:
    """Draw a batch of piano rolls from notes given in frames.

    A frame of the sounding channel holds the share of its hop that the note sounds, so onsets
    keep their place between frames; an onset falls on its two nearest frames in proportion.

    Parameters
    ----------
    owner : Tensor [notes] int64
        The roll each note belongs to, 0 to ``count - 1``.
    onset, offset : Tensor [notes] float32
        Frame coordinates from the roll's first frame centre; may lie outside the roll.
    pitch : Tensor [notes] int64
        MIDI pitch.
    count, frames : int
        Rolls, and frames of each.
    program : Tensor [notes] int64, optional
        General MIDI program; needed where instrument families have channels of their own.

    Returns
    -------
    Tensor [count, channels, pitches, frames] float32
        Values 0 to 1.
    """
    layers = params.layers
    if program is not None and layers > 1:
        owner = owner * layers + program * FAMILIES // 128
    else:
        owner = owner * layers
    row = owner * params.pitches + pitch
    rows = count * layers * params.pitches
    sounding = torch.zeros(rows, frames + 2, device=onset.device)
    _add_steps(sounding, row, onset + 0.5, 1.0)
    _add_steps(sounding, row, offset + 0.5, -1.0)
    channels = [sounding[:, :frames].cumsum(-1)]
    if params.onsets:
        inside = (onset > -1) & (onset < frames)
        attacks = torch.zeros(rows, frames + 2, device=onset.device)
        _add_split(attacks, row[inside], onset[inside] + 1, 1.0)
        channels.append(attacks[:, 1 : frames + 1])
    rolls = torch.stack(channels).clamp(0, 1)
    rolls = rolls.view(len(channels), count, layers, params.pitches, frames).transpose(0, 1)
    return rolls.reshape(count, params.roll_channels, params.pitches, frames)


def _add_steps(target: Tensor, row: Tensor, place: Tensor, height: float) -> None:
    """Add the differences of a step whose edge lies at a fractional column."""
    _add_split(target, row, place.clamp(0, target.shape[1] - 2), height)


def _add_split(target: Tensor, row: Tensor, place: Tensor, weight: float) -> None:
    column = place.floor().long()
    share = place - column
    flat = target.view(-1)
    flat.index_add_(0, row * target.shape[1] + column, weight * (1 - share))
    flat.index_add_(0, row * target.shape[1] + column + 1, weight * share)


def piano_roll(
    notes: np.ndarray,
    frames: int,
    params: FeatureParams = DEFAULT,
    *,
    first: int = 0,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Draw the roll of a note array.

    Parameters
    ----------
    notes : np.ndarray [n] of mmid.midi.NOTE_DTYPE
        The whole piece's, times in seconds.
    frames, first : int
        How many frames to draw, from which.

    Returns
    -------
    Tensor [channels, pitches, frames] float32
    """
    rate = params.roll_frame_rate(float(notes["offset"].max(initial=0)))
    onset = torch.from_numpy(notes["onset"] * rate - first).float()
    offset = torch.from_numpy(notes["offset"] * rate - first).float()
    near = (offset > -2) & (onset < frames + 2)
    pitch, program = (
        torch.from_numpy(notes[name].astype(np.int64))[near].to(device)
        for name in ("pitch", "program")
    )
    owner = torch.zeros_like(pitch)
    sides = onset[near].to(device), offset[near].to(device)
    return draw_rolls(owner, *sides, pitch, 1, frames, params, program)[0]


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
    index = below[:, None].expand(-1, spectrograms.shape[1], -1)
    above = (index + 1).clamp_max(last)
    return torch.lerp(spectrograms.gather(2, index), spectrograms.gather(2, above), share)
