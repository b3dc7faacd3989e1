"""Unit vectors in a byte a coordinate, as indexes keep them.

Conventions: packed vectors are int8 ``[n, embedding]``: a unit vector times `INT8_SCALE`.
"""

from __future__ import annotations

import numpy as np

INT8_SCALE = 127
"""Steps from 0 to 1; a cosine is off by about 0.003, which changes no answer (docs/scale.md)."""


def pack(vectors: np.ndarray) -> np.ndarray:
    """Round unit vectors to a byte a coordinate.

    Examples
    --------
    >>> pack(np.array([[0.6, -0.8]]))
    array([[  76, -102]], dtype=int8)
    """
    return np.clip(
        np.rint(np.asarray(vectors, np.float32) * INT8_SCALE), -INT8_SCALE, INT8_SCALE
    ).astype(np.int8)


def unpack(packed: np.ndarray) -> np.ndarray:
    """Return vectors that were packed, float32."""
    return np.asarray(packed, np.float32) / np.float32(INT8_SCALE)
