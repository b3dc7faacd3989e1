"""Tables in Markdown, and numbers as they stand there.

Conventions: shares are 0 to 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table.

    Examples
    --------
    >>> print(markdown(["clip", "right"], [["3 s", "90.0 %"]]))
    | clip | right |
    | --- | --- |
    | 3 s | 90.0 % |
    """
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def percent(share: float, digits: int = 1) -> str:
    """Return a share in percent.

    Examples
    --------
    >>> percent(0.9543), percent(0.9543, 0)
    ('95.4 %', '95 %')
    """
    return f"{100 * share:.{digits}f} %"


def whole_percents(interval: Sequence[float], sign: str = "") -> str:
    """Return an interval of shares in whole percent; with a sign of differences.

    Examples
    --------
    >>> whole_percents([0.821, 0.985]), whole_percents([-0.02, 0.11], "+")
    ('82 to 98', '-2 to +11')
    """
    return " to ".join(f"{round(100 * end):{sign}d}" for end in interval)
