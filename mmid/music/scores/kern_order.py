"""Sections and repeats of kern, so that verovio plays them in the order in which they are played.

verovio plays no order where a file lists several, and fails on a repeat that ends without having
begun behind another one.
"""

from __future__ import annotations

import re

_ORDER = re.compile(r"(?m)^\*>\[")
_OTHER_ORDER = re.compile(r"(?m)^\*>[^\t\n\[]+\[.*\n")  # as in *>norep[A,B]
_LABEL = re.compile(r"(?m)^\*>.*\n")
_BAR, _ENDS, _BEGINS = "=", ":|", "|:"
_END = re.compile(r":\|!?(?=[\t\r]|$)")


def played_in_order(text: str) -> str:
    """Leave the order in which sections are played as written; without any, that of the repeats."""
    if _ORDER.search(text):
        return _OTHER_ORDER.sub("", text)
    return _begun(_LABEL.sub("", text))


def _begun(text: str) -> str:
    """Begin the repeats that end behind another one without having begun."""
    lines = text.split("\n")
    before = None
    for place, line in enumerate(lines):
        if not line.startswith(_BAR):
            continue
        if _ENDS in line and before is not None:
            lines[before] = _END.sub(":|!|:", lines[before])
        if _BEGINS in line:
            before = None
        elif _ENDS in line:
            before = place
    return "\n".join(lines)
