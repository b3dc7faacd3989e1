"""What timelines become: lines for programs, tables for people, sections of a page.

Conventions: as in `mmid.output.sinks`, what prints is given. Cue sheets are in
`mmid.output.cue_sheet`.
"""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from rich.console import RenderableType

from mmid.errors import MmidError
from mmid.identify.answer import Identification
from mmid.identify.batch import Answered
from mmid.identify.identifier import Identifier
from mmid.identify.timeline import Played, Timeline
from mmid.output.answers import TIMELINE_COLUMNS, flat_timeline, timeline_table
from mmid.output.page.media import CLIP_SECONDS
from mmid.output.page.page import Page
from mmid.output.sinks import csv_row


class TimelineSink(ABC):
    """Something made of timelines."""

    @abstractmethod
    def take(self, timeline: Timeline) -> None:
        """Have a timeline; raise `MmidError` if nothing can be made of it."""

    def close(self) -> None:  # noqa: B027
        """Finish, after the last one or when interrupted."""


class TimelineText(TimelineSink):
    """A sink that prints timelines.

    Parameters
    ----------
    lines : callable
        Gives what is printed of a timeline, one by one.
    write : callable
        Prints it.
    """

    def __init__(
        self, lines: Callable[[Timeline], Iterable[Any]], write: Callable[[Any], None]
    ) -> None:
        self._lines, self._write = lines, write

    def take(self, timeline: Timeline) -> None:
        """Print a timeline."""
        for line in self._lines(timeline):
            self._write(line)


def json_timelines(write: Callable[[str], None]) -> TimelineText:
    """Return a sink that prints a JSON object a recording, with the recording's whole path."""

    def lines(timeline: Timeline) -> Iterator[str]:
        whole = {**timeline.to_dict(), "path": os.path.abspath(timeline.query)}
        yield json.dumps(whole, allow_nan=False)

    return TimelineText(lines, write)


def csv_timelines(write: Callable[[str], None]) -> TimelineText:
    """Return a sink that prints a header, and a row a piece played; one at least a recording."""
    write(csv_row(TIMELINE_COLUMNS))
    return TimelineText(lambda one: (csv_row(r.values()) for r in flat_timeline(one)), write)


def table_timelines(show: Callable[[RenderableType], None]) -> TimelineText:
    """Return a sink that shows a table a recording, where it could be read."""
    return TimelineText(lambda one: [timeline_table(one)] if one.error is None else [], show)


class TimelinePage(TimelineSink):
    """A sink that adds each piece played to a page, as if it had been a query of its own.

    Parameters
    ----------
    page : Page
    identifier : Identifier
        That followed.
    start : float
        Where in each recording its timeline begins, seconds.
    """

    def __init__(self, page: Page, identifier: Identifier, start: float = 0.0) -> None:
        self._page, self._identifier, self._start = page, identifier, start

    def take(self, timeline: Timeline) -> None:
        """Add the pieces of a recording, or that it holds none."""
        for one in timeline.played:
            self._page.take(self._section(timeline.query, one))
        if not timeline.played:
            none = Identification(timeline.query, timeline.seconds, False, (), error=timeline.error)
            self._page.take(Answered(none))

    def _section(self, name: str, one: Played) -> Answered:
        """Return a piece with what its first minute shows of it, if that shows it."""
        identifier, seconds = self._identifier, one.end - one.start
        at = self._start + one.start, self._start + one.end
        plain = Identification(name, seconds, True, (one.match,))
        try:
            query = identifier.open(name, at[0], min(seconds, CLIP_SECONDS))
            result = identifier.search(query)
            found = identifier.decide(result, name)
        except MmidError:
            return Answered(plain, at=at)
        if one.match.piece not in {match.piece for match in found.matches}:
            return Answered(plain, at=at)
        shown = replace(found, matched=True, matches=(one.match,), reason=None)
        return Answered(answer=shown, query=query, result=result, at=at)

    def close(self) -> None:
        """Write the page."""
        self._page.close()


def hand_out_timelines(
    timelines: Iterable[Timeline], sinks: Sequence[TimelineSink], report: Callable[[str], None]
) -> int:
    """Give timelines to sinks, and close them in the end; what fails does not stop the rest.

    Parameters
    ----------
    timelines : iterable of Timeline
    sinks : sequence of TimelineSink
        Closed as well when the timelines break off.
    report : callable
        Called with a line that says why a recording, or its timeline, could not be processed.

    Returns
    -------
    int
        How many recordings failed.
    """
    failed = 0
    with ExitStack() as closing:
        for sink in sinks:
            closing.callback(sink.close)
        for timeline in timelines:
            failures = [] if timeline.error is None else [timeline.error]
            failures += [why for sink in sinks if (why := _refused(sink, timeline))]
            failed += bool(failures)
            for why in failures:
                report(why)
    return failed


def _refused(sink: TimelineSink, timeline: Timeline) -> str | None:
    """Give a timeline to a sink; return why nothing could be made of it, if so."""
    try:
        sink.take(timeline)
    except MmidError as error:
        return str(error)
    return None
