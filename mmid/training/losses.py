"""Losses over a batch of matching audio and roll embeddings."""

from __future__ import annotations

import torch
from torch import Tensor


def info_nce(audio: Tensor, roll: Tensor, scale: Tensor, ignore: Tensor | None = None) -> Tensor:
    """Symmetric InfoNCE: each snippet picks its partner among the batch, in both directions.

    Parameters
    ----------
    audio, roll : Tensor [batch, embedding]
        Unit vectors; row ``i`` of one matches row ``i`` of the other.
    scale : Tensor []
        Inverse temperature.
    ignore : Tensor [batch, batch] bool, optional
        Pairs that are no negatives, such as repeats of the same bars. The diagonal is kept.

    Returns
    -------
    Tensor []
        Mean cross-entropy, nats.

    References
    ----------
    .. [1] A. van den Oord, Y. Li, O. Vinyals, "Representation learning with contrastive
       predictive coding", 2018; symmetric as in A. Radford et al., "Learning transferable visual
       models from natural language supervision", ICML 2021.
    """
    logits = scale * audio @ roll.T
    if ignore is not None:
        apart = ~torch.eye(len(logits), dtype=torch.bool, device=logits.device)
        logits = logits.masked_fill(ignore & apart, float("-inf"))
    target = torch.arange(len(logits), device=logits.device)
    one_way = torch.nn.functional.cross_entropy(logits, target)
    return (one_way + torch.nn.functional.cross_entropy(logits.T, target)) / 2


def pairwise_ranking(
    anchor: Tensor, match: Tensor, margin: float, ignore: Tensor | None = None
) -> Tensor:
    """Pairwise ranking loss of Dorfer et al.: a match is nearer than any other of the batch.

    Parameters
    ----------
    anchor, match : Tensor [batch, embedding]
        Unit vectors; row ``i`` of one matches row ``i`` of the other.
    margin : float
        By how much cosine the match is to be nearer.
    ignore : Tensor [batch, batch] bool, optional
        Pairs that are no negatives.

    Returns
    -------
    Tensor []
        Mean of ``max(0, margin - cos(anchor, match) + cos(anchor, other))``.

    References
    ----------
    .. [1] R. Kiros, R. Salakhutdinov, R. Zemel, "Unifying visual-semantic embeddings with
       multimodal neural language models", 2014.
    .. [2] M. Dorfer, A. Arzt, G. Widmer, "Learning audio-sheet music correspondences for score
       identification and offline alignment", ISMIR 2017.
    """
    scores = anchor @ match.T
    negative = ~torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    if ignore is not None:
        negative &= ~ignore
    return (margin - scores.diag()[:, None] + scores).clamp_min(0)[negative].mean()


def triplet_ranking(anchor: Tensor, match: Tensor, other: Tensor, margin: float) -> Tensor:
    """Pairwise ranking loss with one contrastive snippet an anchor, as in the 2020 report.

    Parameters
    ----------
    anchor, match, other : Tensor [batch, embedding]
        Unit vectors, row by row: the snippet, its partner and one that is not.
    margin : float

    Returns
    -------
    Tensor []
    """
    apart = (anchor * other).sum(1) - (anchor * match).sum(1)
    return (margin + apart).clamp_min(0).mean()
