"""Tables that narrow terminals can show, too."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

WIDEST = 10_000
"""Columns; no table needs more."""


class FittingTable(Table):
    """A table that gives each cell a line where the console is too narrow for its columns."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render it: as a table where no word has to be cut, else cell by cell."""
        needed = super().__rich_measure__(console, options.update(width=WIDEST)).minimum
        if needed <= options.max_width or not self.show_header:
            yield from super().__rich_console__(console, options)
        else:
            yield from self._lines(console)

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
