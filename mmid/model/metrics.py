"""Retrieval measures: rank, recall@k, mean reciprocal rank.

Conventions: rank 1 is best. A score matrix has a row a query and a column a candidate.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

RECALL_AT = (1, 5, 25)


@dataclass(frozen=True)
class Retrieval:
    """How well queries found their partners.

    Parameters
    ----------
    queries : int
    recall : dict of int to float
        Share of queries whose partner ranks within k.
    mrr : float
        Mean reciprocal rank.
    median_rank : float
    """

    queries: int
    recall: dict[int, float]
    mrr: float
    median_rank: float

    def to_dict(self) -> dict[str, Any]:
        """Return the measures as JSON-ready names and values."""
        return asdict(self)


def ranks(scores: Tensor, right: Tensor | None = None) -> Tensor:
    """Rank each query's best right answer; ties count against it.

    Parameters
    ----------
    scores : Tensor [queries, candidates]
    right : Tensor [queries, candidates] bool, optional
        Right answers; by default candidate ``i`` for query ``i``.

    Returns
    -------
    Tensor [queries] int64
        From 1.

    Examples
    --------
    >>> ranks(torch.tensor([[0.9, 0.1], [0.8, 0.3]])).tolist()
    [1, 2]
    """
    if right is None:
        right = torch.eye(*scores.shape, dtype=torch.bool, device=scores.device)
    best = scores.masked_fill(~right, float("-inf")).amax(1, keepdim=True)
    return 1 + ((scores >= best) & ~right).sum(1)


def summarize(rank: Tensor) -> Retrieval:
    """Condense ranks.

    Examples
    --------
    >>> summarize(torch.tensor([1, 2, 1, 30])).recall
    {1: 0.5, 5: 0.75, 25: 0.75}
    """
    placed = rank.cpu().double()  # which Apple's GPUs lack
    return Retrieval(
        len(rank),
        {k: (placed <= k).double().mean().item() for k in RECALL_AT},
        placed.reciprocal().mean().item(),
        placed.quantile(0.5).item(),
    )
