"""Formulas of the site: a ``math`` block is LaTeX, and becomes MathML, shown without a script."""

from __future__ import annotations

from typing import Any

import latex2mathml.converter


def on_config(config: Any) -> Any:
    """Let fenced blocks named ``math`` be formulas."""
    fences = config.mdx_configs.setdefault("pymdownx.superfences", {})
    fences.setdefault("custom_fences", []).append(
        {"name": "math", "class": "math", "format": formula}
    )
    return config


def formula(source: str, *_: object, **__: object) -> str:
    """Return a block of LaTeX as MathML."""
    return latex2mathml.converter.convert(source, display="block")
