"""Canonical correlation analysis of a trained model's embeddings.

Conventions: it is fitted to plain training pairs and kept with the weights, as the last, linear
step of both pathways.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mmid.model.encoders import Encoders
from mmid.model.pathways import Projected
from mmid.training.snippet_pairs import PairSource

PAIRS, SIZE = 5_000, 250
"""Training pairs the projection is fitted to, and how many are embedded at once."""

RIDGE = 1e-3
"""Variance added in every direction, so that those without any do no harm."""


def canonical_projections(audio: Tensor, roll: Tensor) -> tuple[Tensor, Tensor]:
    """Return the matrices that take both sides to their canonical components.

    Components are scaled by their correlation: what the sides do not share counts for nothing.

    Parameters
    ----------
    audio, roll : Tensor [pairs, embedding] float32
        Matching rows.

    Returns
    -------
    Tensor, Tensor [embedding, embedding]
        To apply to the centred sides.

    References
    ----------
    .. [1] H. Hotelling, "Relations between two sets of variates", Biometrika 28, 1936.
    .. [2] M. Dorfer, J. Schlueter, A. Vall, F. Korzeniowski, G. Widmer, "End-to-end cross-modality
       retrieval with CCA projections and pairwise ranking loss", IJMIR 7, 2018.
    """
    sound, read = (side.double() - side.double().mean(0) for side in (audio, roll))
    whiten = [_inverse_root(side.T @ side / len(side)) for side in (sound, read)]
    left, correlation, right = torch.linalg.svd(
        whiten[0] @ (sound.T @ read / len(sound)) @ whiten[1]
    )
    return (
        (whiten[0] @ left * correlation).float(),
        (whiten[1] @ right.T * correlation).float(),
    )


def _inverse_root(covariance: Tensor) -> Tensor:
    ridge = RIDGE * torch.eye(len(covariance), dtype=covariance.dtype)
    variance, axes = torch.linalg.eigh(covariance + ridge)
    root: Tensor = axes @ torch.diag(variance.rsqrt()) @ axes.T
    return root


@torch.inference_mode()
def fit_projection(encoders: Encoders, source: PairSource) -> None:
    """Fit a model's projection to training pairs.

    Parameters
    ----------
    encoders : Encoders
        Built with ``cca``.
    source : PairSource
        Plain pairs of the training set.
    """
    encoders.eval()
    projected = encoders.audio, encoders.roll
    for side in projected:
        assert isinstance(side, Projected)
        side.project(torch.zeros_like(side.mean), torch.eye(len(side.mean)))
    batches = list(source.batches(SIZE, PAIRS // SIZE, seed=0))
    device = encoders.device
    sound = torch.cat([encoders.embed_audio(batch.audio.to(device)) for batch in batches]).cpu()
    read = torch.cat([encoders.embed_rolls(batch.rolls.to(device)) for batch in batches]).cpu()
    matrices = canonical_projections(sound, read)
    for side, embedded, matrix in zip(projected, (sound, read), matrices, strict=True):
        assert isinstance(side, Projected)
        side.project(embedded.mean(0), matrix)
