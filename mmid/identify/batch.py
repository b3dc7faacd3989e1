"""Many recordings or MIDI files, one answer each, whatever becomes of the others.

Conventions: answers come in the order of the files, and each goes to every sink and is then let
go, so that memory does not grow with their number.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from mmid.errors import MmidError, label
from mmid.identify.answer import Identification
from mmid.music.folders import BadFile
from mmid.system.forks import in_forks
from mmid.system.processes import stops_put_off
from mmid.system.threads import in_threads

if TYPE_CHECKING:  # answers of a server are handed out without PyTorch
    from mmid.identify.identifier import Identifier
    from mmid.identify.search import SearchResult
    from mmid.model.embedding import Query

_File: TypeAlias = Path | BadFile


@dataclass(frozen=True, eq=False)
class Answered:
    """An answer with what it was found from.

    Parameters
    ----------
    answer : Identification
    query : Query or None
        As it was read; None of a file that failed.
    result : SearchResult or None
        What the library has near it; None of a file that failed.
    at : tuple of (float, float) or None
        Where in its file it lies, seconds; None where that is the span all files are result about.
    """

    answer: Identification
    query: Query | None = None
    result: SearchResult | None = None
    at: tuple[float, float] | None = None


class Sink(ABC):
    """Something made of answers: lines, a picture each, a playlist of all.

    Attributes
    ----------
    explains : bool
        Whether it takes what an answer was found from, beside the answer.
    """

    explains = False

    def prepare(self, answered: Answered) -> None:  # noqa: B027
        """Do slow work, where it may be stopped; what raises `MmidError` is done again to take."""

    @abstractmethod
    def take(self, answered: Answered) -> None:
        """Have an answer; raise `MmidError` if nothing can be made of it."""

    def close(self) -> None:  # noqa: B027
        """Finish, after the last answer or when interrupted."""


def answer_files(
    identifier: Identifier,
    files: Sequence[Path | BadFile],
    start: float = 0.0,
    duration: float | None = None,
    jobs: int = 1,
    *,
    explained: bool = True,
) -> Generator[Answered, None, None]:
    """Identify recordings and MIDI files; one that fails says so in its answer.

    Parameters
    ----------
    identifier : Identifier
    files : sequence of Path or BadFile
        From `mmid.cli.inputs.find_inputs`, for instance.
    start, duration : float
        The span of each, seconds; to the end by default.
    jobs : int
        Files to identify at once. Even one has a thread of its own, so that Ctrl-C works whatever
        it is at. Close the generator to begin no more files.
    explained : bool
        Whether to give, with each answer, what it was found from: threads, which divide the cores,
        have it. Otherwise several files are identified in forks of this process where it can fork,
        one core each, which takes half the time.

    Yields
    ------
    Answered
        In the order of the files.
    """
    answer = partial(_answer, identifier, start, duration)
    if explained or jobs == 1 or not identifier.forkable:
        yield from in_threads(answer, files, jobs)
    else:
        yield from in_forks(partial(_alone, answer), files, jobs, _unanswered)


def _alone(answer: Callable[[_File], Answered], file: _File) -> Answered:
    """Return an answer without what it was found from, which is much to send."""
    return Answered(answer(file).answer)


def _unanswered(file: _File, error: MmidError) -> Answered:
    path = file.path if isinstance(file, BadFile) else file
    return _failed(path, f"{label(path)}: {error}")


def _failed(path: Path, error: str) -> Answered:
    return Answered(Identification(os.fspath(path), 0.0, False, (), error=error))


def _answer(identifier: Identifier, start: float, duration: float | None, file: _File) -> Answered:
    import torch

    path, error = (file.path, file.reason) if isinstance(file, BadFile) else (file, None)
    if error is None:
        try:
            query = identifier.open(path, start, duration)
            result = identifier.search(query)
            answer = identifier.answer(result, os.fspath(path))
            return Answered(answer, query, result)
        except MmidError as failure:
            error = str(failure)
        except (MemoryError, torch.OutOfMemoryError):
            error = f"{label(path)}: takes more memory than there is; query a span of it"
    return _failed(path, error)


def hand_out(
    answers: Iterable[Answered], sinks: Sequence[Sink], report: Callable[[str], None]
) -> int:
    """Give answers to sinks, and close them in the end; what fails does not stop the rest.

    Parameters
    ----------
    answers : iterable of Answered
    sinks : sequence of Sink
        Closed as well when the answers break off.
    report : callable
        Called with a line that says why a file, or its answer, could not be processed.

    Returns
    -------
    int
        How many files failed.

    Raises
    ------
    MmidError
        If a sink cannot be closed.
    """
    failed = 0
    with ExitStack() as closing:
        for sink in sinks:
            closing.callback(sink.close)
        for answered in answers:
            for sink in sinks:
                with suppress(MmidError):
                    sink.prepare(answered)
            with stops_put_off():  # so that all sinks have an answer or none
                failures = _take(answered, sinks)
            failed += bool(failures)
            for failure in failures:
                report(failure)
    return failed


def _take(answered: Answered, sinks: Sequence[Sink]) -> list[str]:
    failures = [answered.answer.error] if answered.answer.error is not None else []
    for sink in sinks:
        try:
            sink.take(answered)
        except MmidError as error:
            failures.append(str(error))
    return failures
