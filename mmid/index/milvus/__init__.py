"""The index of a library on a Milvus server."""

from __future__ import annotations

SCHEME = "milvus:"
"""What the address of such an index begins with."""
