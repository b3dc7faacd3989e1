"""Servers that tests ask."""

from __future__ import annotations

HERE = "http://127.0.0.1:8765"
