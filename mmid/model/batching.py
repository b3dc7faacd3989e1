"""Work on a GPU in smaller parts, where its memory does not do for the whole."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mmid.errors import MmidError
from mmid.system.console import LOG


def in_parts(run: Callable[[int, int], Tensor], count: int, first: int = 0) -> list[Tensor]:
    """Run a function over a range: at once, or by halves where the device is out of memory.

    Parameters
    ----------
    run : callable
        ``run(first, count)`` gives the results of so many items from one on.
    count, first : int
        The range.

    Returns
    -------
    list of Tensor
        Results of the parts, in order.

    Raises
    ------
    MmidError
        If one item is too much.
    """
    try:
        return [run(first, count)]
    except torch.OutOfMemoryError:
        if count == 1:
            raise MmidError("the device is out of memory; try --device cpu") from None
    LOG.debug("out of memory on the device: %d at once instead of %d", count // 2, count)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    half = count // 2
    return [*in_parts(run, half, first), *in_parts(run, count - half, first + half)]
