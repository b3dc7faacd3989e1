"""The shared space seen from outside: where sound lies in it and where notes do.

Conventions: matching snippets begin at the same frame of a recording and of its piece's roll, so
the recordings must keep the score's time, as those of ``mmid render`` do. Embeddings are unit
vectors ``[snippets, embedding]``, row ``i`` of both modalities from the same music.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmid.errors import MmidError, label
from mmid.model.checkpoint import Checkpoint
from mmid.model.encoders import cut, embed_positions
from mmid.music.grid import FeatureParams
from mmid.music.library import Piece
from mmid.music.pairs import ALIGNED_WITHIN, Pair
from mmid.music.piano_roll import piano_roll
from mmid.music.spectrogram import frame_count, recording_spectrogram
from mmid.output.figures import Panel, Series, save_figure, train_extra
from mmid.system.console import ProgressCallback, quiet

COMPONENTS = 3
PIANO = slice(21, 109)
"""The pitches a snippet's picture shows."""

SPRITE = 64
"""Pixels of a side of a snippet's picture, fewer where a sheet of so many would be too large."""

SHEET = 8_192
"""Most pixels of a side of the sheet of pictures that TensorBoard's projector takes."""

MODALITIES = ("audio", "MIDI")
FIGURE_NAME = "space.png"


def aligned_spectrogram(recording: Pair, params: FeatureParams) -> Tensor:
    """Return the spectrogram of a recording that keeps its score's time.

    Returns
    -------
    Tensor [bands, frames] float32

    Raises
    ------
    AudioError
        If the recording cannot be read.
    MmidError
        If it does not last about as long as its score.
    """
    bands = recording_spectrogram(recording.audio, params)
    seconds, written = bands.shape[1] / params.frame_rate, recording.score.midi.seconds
    if abs(seconds - written) > ALIGNED_WITHIN:
        raise MmidError(
            f"{label(recording.audio)}: lasts {seconds:.1f} s, its score {written:.1f} s; it must"
            " keep the score's time, as recordings made by mmid render do"
        )
    return bands


@dataclass(frozen=True, eq=False)
class SnippetPairs:
    """Matching snippets and where the model puts them.

    Parameters
    ----------
    pieces : tuple of str
        The recording each is from.
    seconds : tuple of float
        Where in it each begins.
    audio, rolls : Tensor [n, embedding] float32
        Unit vectors, on the CPU.
    pictures : Tensor [2 n, side, side] float32
        What is seen of each, 0 to 1: spectrograms, then rolls; low pitches at the bottom.
    """

    pieces: tuple[str, ...]
    seconds: tuple[float, ...]
    audio: Tensor
    rolls: Tensor
    pictures: Tensor


def draw_snippets(
    recordings: Sequence[Pair],
    model: Checkpoint,
    count: int,
    *,
    seed: int = 0,
    progress: ProgressCallback = quiet,
) -> SnippetPairs:
    """Draw matching snippets with at least one onset at random, and embed both sides.

    Parameters
    ----------
    recordings : sequence of Pair
    model : Checkpoint
    count : int
        At least 2; drawn without replacement from the positions of all recordings.
    seed : int
    progress : callable
        Called with ``(what, done, total)``.

    Raises
    ------
    MmidError
        If the recordings hold fewer snippets, or one cannot be used.
    """
    positions = _draw_positions(recordings, model, count, seed)
    side = sprite_side(2 * count)
    parts = []
    for done, (number, frames) in enumerate(positions.items(), 1):
        parts.append(_embed_recording(recordings[number], frames, model, side))
        progress("Embedding", done, len(positions))
    audio, rolls, seen, keys = (torch.cat(part) for part in zip(*parts, strict=True))
    at = [
        (recordings[number].name, frame) for number, frames in positions.items() for frame in frames
    ]
    rate = model.encoders.config.features.frame_rate
    return SnippetPairs(
        tuple(name for name, _ in at),
        tuple(frame / rate for _, frame in at),
        audio,
        rolls,
        torch.cat([seen, keys]),
    )


def _embed_recording(
    recording: Pair, frames: Sequence[int], model: Checkpoint, side: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the embeddings of both sides of a recording's snippets, and pictures of both."""
    params = model.encoders.config.features
    bands, roll = _both_sides(recording, params)
    sound, written = (cut(whole, frames, params.snippet) for whole in (bands, roll))
    return (
        *embed_positions(model.encoders, bands[0], roll, frames),
        _picture(sound[:, 0], side),
        _picture(written[:, : params.layers, PIANO].amax(1), side),
    )


def _draw_positions(
    recordings: Sequence[Pair], model: Checkpoint, count: int, seed: int
) -> dict[int, list[int]]:
    """Draw the first frames of snippets, by recording, in order."""
    config = model.encoders.config
    everywhere = [
        (number, int(frame))
        for number, recording in enumerate(recordings)
        for frame in _onset_positions(recording.score, config.features, config.roll.stride)
    ]
    if len(everywhere) < count:
        raise MmidError(
            f"{len(recordings)} recordings hold {len(everywhere)} snippets, fewer than"
            f" --pairs {count}"
        )
    chosen = np.random.default_rng(seed).permutation(len(everywhere))[:count]
    positions: dict[int, list[int]] = {}
    for number, frame in sorted(everywhere[i] for i in chosen):
        positions.setdefault(number, []).append(frame)
    return positions


def _onset_positions(piece: Piece, params: FeatureParams, stride: int) -> np.ndarray:
    """Return the first frames of the snippets of a piece that hold an onset."""
    last = frame_count(piece.midi.seconds, params) - params.snippet
    starts = np.arange(0, max(last, -1) + 1, stride)
    onsets = np.sort(piece.midi.notes["onset"]) * params.roll_frame_rate(piece.midi.seconds)
    first, after = np.searchsorted(onsets, starts), np.searchsorted(onsets, starts + params.snippet)
    with_onset: np.ndarray = starts[after > first]
    return with_onset


def _both_sides(recording: Pair, params: FeatureParams) -> tuple[Tensor, Tensor]:
    """Return a recording's spectrogram and its score's roll, equally long, channels first."""
    frames = frame_count(recording.score.midi.seconds, params)
    bands = aligned_spectrogram(recording, params)[:, :frames]
    short = torch.nn.functional.pad(bands, (0, frames - bands.shape[1]))
    return short[None], piano_roll(recording.score.midi.notes, frames, params)


def _picture(snippets: Tensor, side: int) -> Tensor:
    """Scale ``[n, rows, frames]`` to squares, the lowest row at the bottom."""
    squares = torch.nn.functional.adaptive_max_pool2d(snippets.flip(1).float(), side)
    return squares.clamp(0, 1)


def sprite_side(count: int) -> int:
    """Return the side of each of so many square pictures on one square sheet, pixels.

    Examples
    --------
    >>> sprite_side(1_000), sprite_side(40_000)
    (64, 40)
    """
    columns = int(np.ceil(np.sqrt(count)))
    return max(1, min(SPRITE, SHEET // columns))


@dataclass(frozen=True)
class SpaceReport:
    """How the two modalities lie to each other.

    Parameters
    ----------
    pairs : int
        Matching snippets looked at.
    gap : float
        Modality gap: Euclidean distance of the modalities' centroids, 0 to 2.
    matching, random : float
        Mean cosine of matching snippets, and of all others of different modality.
    shares : tuple of float
        Shares of the variance, of both modalities together, that the first three principal
        components hold.
    """

    pairs: int
    gap: float
    matching: float
    random: float
    shares: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-ready names and values."""
        return asdict(self)


def measure_space(audio: np.ndarray, rolls: np.ndarray) -> SpaceReport:
    """Measure the modality gap and what goes with it.

    Parameters
    ----------
    audio, rolls : np.ndarray [n, embedding]
        Unit vectors, row ``i`` of both from the same music; n is at least 2.

    References
    ----------
    .. [1] W. Liang, Y. Zhang, Y. Kwon, S. Yeung, J. Zou, "Mind the gap: understanding the modality
       gap in multi-modal contrastive representation learning", NeurIPS 2022.
    """
    count = len(audio)
    matching = float((audio * rolls).sum())
    everything = float(audio.sum(0) @ rolls.sum(0))
    return SpaceReport(
        count,
        float(np.linalg.norm(audio.mean(0) - rolls.mean(0))),
        matching / count,
        (everything - matching) / (count * (count - 1)),
        tuple(project(np.concatenate([audio, rolls]))[1].tolist()),
    )


def project(points: np.ndarray, components: int = COMPONENTS) -> tuple[np.ndarray, np.ndarray]:
    """Project points onto their principal components.

    A component's sign is such that its largest weight is positive.

    Parameters
    ----------
    points : np.ndarray [n, dimensions]
    components : int
        At most the dimensions.

    Returns
    -------
    positions : np.ndarray [n, components] float64
        About the points' mean.
    shares : np.ndarray [components] float64
        Share of the variance each holds.
    """
    centred = points.astype(np.float64) - points.mean(0, dtype=np.float64)
    _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    largest = np.take_along_axis(axes, np.abs(axes).argmax(1)[:, None], 1)
    kept = (axes * np.sign(largest))[:components]
    variance = sizes**2
    return centred @ kept.T, variance[:components] / max(variance.sum(), 1e-12)


def save_space(pairs: SnippetPairs, folder: Path) -> Path:
    """Write a figure of both modalities and what TensorBoard's projector shows of them.

    The figure holds the first three principal components, like figure 7 of the 2020 report.
    ``tensorboard --logdir FOLDER`` shows every snippet's picture, piece and place.

    Parameters
    ----------
    pairs : SnippetPairs
    folder : Path
        Made where missing.

    Returns
    -------
    Path
        The figure.

    Raises
    ------
    MmidError
        If the folder is not empty or cannot be made, or the ``train`` extra is missing.
    """
    claim_folder(folder)
    draw_space(pairs.audio.numpy(), pairs.rolls.numpy(), folder / FIGURE_NAME)
    _save_projector(pairs, folder)
    return folder / FIGURE_NAME


def claim_folder(folder: Path) -> Path:
    """Make a folder, or make sure that it is empty; return it.

    Raises
    ------
    MmidError
        If it holds anything, or is no folder and cannot be one.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        used = any(folder.iterdir())
    except OSError as error:
        raise MmidError(f"{folder}: cannot be made a folder ({error.strerror})") from error
    if used:
        raise MmidError(f"{folder}: not empty; give another --out, or delete it")
    return folder


def draw_space(audio: np.ndarray, rolls: np.ndarray, path: Path) -> None:
    """Draw both modalities on their joint principal components: 1 and 2, 3 and 2.

    Parameters
    ----------
    audio, rolls : np.ndarray [n, embedding]
        Unit vectors.
    path : Path
        The .png or .svg file to write.
    """
    positions, shares = project(np.concatenate([audio, rolls]))
    sides = dict(zip(MODALITIES, (positions[: len(audio)], positions[len(audio) :]), strict=True))
    gap = float(np.linalg.norm(audio.mean(0) - rolls.mean(0)))

    def axis(number: int) -> str:
        return f"component {number + 1} ({shares[number]:.0%} of the variance)"

    panels = [
        Panel(
            f"{len(audio)} pairs of snippets, modality gap {gap:.3f}",
            axis(along),
            axis(up),
            [
                Series(name, at[:, along].tolist(), at[:, up].tolist(), "points")
                for name, at in sides.items()
            ],
        )
        for along, up in ((0, 1), (2, 1))
    ]
    save_figure(panels, path)


def _save_projector(pairs: SnippetPairs, folder: Path) -> None:
    with train_extra("the projector's data"):
        import PIL  # noqa: F401
        from torch.utils.tensorboard import SummaryWriter
    metadata = [
        [modality, label(piece), f"{second:.2f}"]
        for modality in MODALITIES
        for piece, second in zip(pairs.pieces, pairs.seconds, strict=True)
    ]
    with SummaryWriter(folder) as writer:
        writer.add_embedding(
            torch.cat([pairs.audio, pairs.rolls]),
            metadata=metadata,
            metadata_header=["modality", "piece", "seconds"],
            label_img=pairs.pictures[:, None],
            tag="snippets",
        )
