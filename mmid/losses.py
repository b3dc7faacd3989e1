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
