"""What answers become: lines for programs, tables for people.

Conventions: a sink of text is given what prints it, since the library itself prints nothing. More
sinks are in `mmid.output.pictures`, `mmid.output.playlist`, `mmid.output.sidecar` and
`mmid.output.aligned_midi`; these here do without PyTorch.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable

from rich.console import RenderableType

from mmid.identify.batch import Answered, Sink
from mmid.output.answers import ANSWER_COLUMNS, answer_heading, answer_line, flat_answer
from mmid.output.verdict import VERDICTS, answer_view, verdict
from mmid.system.console import ProgressCallback


def csv_row(cells: Iterable[object]) -> str:
    """Return cells as a line of CSV, without its end."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(cells)
    return line.getvalue()


class JsonLines(Sink):
    """A sink that prints an answer as one JSON object on one line, with its file's whole path.

    Parameters
    ----------
    write : callable
        Prints a line.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    def take(self, answered: Answered) -> None:
        """Print an answer, or why there is none."""
        path = os.path.abspath(answered.answer.query)
        self._write(json.dumps({**answered.answer.to_dict(), "path": path}, allow_nan=False))


class CsvRows(Sink):
    """A sink that prints a header, and a row for the first match of each file.

    Parameters
    ----------
    write : callable
        Prints a line.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        write(csv_row(ANSWER_COLUMNS))

    def take(self, answered: Answered) -> None:
        """Print an answer's row, which says why there is none where it failed."""
        self._write(csv_row(flat_answer(answered.answer).values()))


class Tables(Sink):
    """A sink that shows the verdict on each file and its matches as a table.

    Parameters
    ----------
    show : callable
        Prints a Rich renderable.
    all_rows : bool
        Show matches with a confidence of 0 %, too.
    """

    def __init__(self, show: Callable[[RenderableType], None], *, all_rows: bool = False) -> None:
        self._show, self._all_rows = show, all_rows

    def take(self, answered: Answered) -> None:
        """Show an answer, if there is one."""
        if answered.answer.error is None:
            self._show(answer_view(answered.answer, all_rows=self._all_rows))


class Lines(Sink):
    """A sink that shows a line for the first match of each file, under one heading, and totals.

    Parameters
    ----------
    show : callable
        Prints a Rich renderable.
    """

    def __init__(self, show: Callable[[RenderableType], None]) -> None:
        self._show = show
        self._verdicts: Counter[str] = Counter()
        show(answer_heading())

    def take(self, answered: Answered) -> None:
        """Show an answer, or that there is none."""
        self._show(answer_line(answered.answer))
        self._verdicts[verdict(answered.answer)] += 1

    def close(self) -> None:
        """Show how many there were of each verdict."""
        self._show("\n" + ", ".join(f"{self._verdicts[one]} {one}" for one in VERDICTS))


class Count(Sink):
    """A sink that counts the answers, and reports the count.

    Parameters
    ----------
    advance : callable
        Shows progress.
    total : int
        How many answers there will be.
    """

    def __init__(self, advance: ProgressCallback, total: int) -> None:
        self._advance, self._total, self.left = advance, total, total
        self._tell_all()

    def _tell_all(self) -> None:
        self._advance("Querying", self._total - self.left, self._total)

    def take(self, answered: Answered) -> None:
        """Count an answer."""
        self.left -= 1
        self._tell_all()
