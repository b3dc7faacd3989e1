"""Tables that narrow terminals can show, too, and values as their text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape
from rich.measure import Measurement, measure_renderables
from rich.table import Table
from rich.text import Text

from mmid.errors import label

WIDEST = 10_000
"""Columns; no table needs more."""

NARROWEST = 20
"""Columns of a name that is folded; narrower ones cannot be read."""

PLAIN: dict[str, Any] = {
    "box": SIMPLE_HEAD,
    "padding": (0, 1, 0, 0),
    "pad_edge": False,
    "show_edge": False,
    "title_justify": "left",
}
"""How tables look: a rule below the heading, and two spaces between columns."""


class FittingTable(Table):
    """A plain table that gives each cell a line where the console is too narrow for its columns.

    Names, in columns that overflow by folding, go on in a new line before it comes to that.
    """

    def __init__(self, *headers: str, **options: Any) -> None:
        super().__init__(*headers, **{**PLAIN, **options})

    def add_name_column(self, header: str = "") -> None:
        """Add a column of names, which may be folded."""
        self.add_column(header, overflow="fold")

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render it: as a table where no word but names has to be cut, else cell by cell."""
        if self._needed(console, options) <= options.max_width or not self.show_header:
            yield from super().__rich_console__(console, options)
        else:
            yield from self._lines(console)

    def _needed(self, console: Console, options: ConsoleOptions) -> int:
        """Return how narrow it can be."""
        wide = options.update(width=WIDEST)
        needed = super().__rich_measure__(console, wide).minimum
        for column in self.columns:
            if column.overflow == "fold":
                longest = measure_renderables(console, wide, [column.header, *column.cells]).minimum
                needed -= max(0, longest - NARROWEST)
        return needed

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """Take no more room than there is."""
        measured = super().__rich_measure__(console, options)
        return measured.with_maximum(options.max_width)

    def _lines(self, console: Console) -> Iterable[Text]:
        render = console.render_str
        if self.title:
            yield Text.assemble(render(str(self.title)), style="table.title")
        names = [render(str(column.header)) for column in self.columns]
        cells = zip(*(column.cells for column in self.columns), strict=True)
        for row, values in zip(self.rows, cells, strict=True):
            style = console.get_style(row.style or "none")
            for name, value in zip(names, map(str, values), strict=True):
                if value:
                    yield Text.assemble(name, ": " if name else "", render(value), style=style)
            yield Text()


def clock(seconds: float | None) -> str:
    """Return seconds as minutes and seconds.

    Examples
    --------
    >>> clock(75.25), clock(59.97)
    ('1:15.2', '1:00.0')
    """
    if seconds is None:
        return ""
    minutes, tenths = divmod(round(10 * seconds), 600)
    return f"{minutes}:{tenths / 10:04.1f}"


def in_cents(tuning: int, sign: str = "") -> str:
    """Return a tuning in words; a sign of "+" shows that of one above concert pitch, too.

    Examples
    --------
    >>> in_cents(-1), in_cents(20, sign="+")
    ('-1 cent', '+20 cents')
    """
    return f"{tuning:{sign}d} cent{'' if abs(tuning) == 1 else 's'}"


def info_table(facts: dict[str, Any]) -> Table:
    """Return names and values, one a row; names within names are put together."""
    table = Table(show_header=False, box=None)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _flat(facts):
        if name == "bytes":
            name, value = "size", f"{value / 1e6:.1f} MB"
        elif isinstance(value, float):
            value = f"{value:.2f}"
        elif isinstance(value, (tuple, list)):
            apart = "\n" if any(isinstance(part, str) for part in value) else ", "
            value = apart.join(label(str(part)) for part in value)
        else:
            value = label(str(value))
        table.add_row(escape(label(name)), escape(value))
    return table


def _flat(facts: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in facts.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{name} ")
        else:
            yield above + name, value
