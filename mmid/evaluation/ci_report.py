"""An evaluation as continuous integration reads it: JUnit's XML and GitHub's annotations.

Conventions: a clip passes if its first answer is right, however confident. Nothing here depends on
the time or the machine: the same scores give the same text. Names are shown as `mmid.errors.label`
shows them, for XML has no place for control characters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

from mmid.errors import label
from mmid.evaluation.scores import ClipResult, ClipScores, length_name
from mmid.system.outputs import written_target

Level = Literal["error", "warning", "notice"]
"""What GitHub shows an annotation as."""


def junit_report(results: Sequence[ClipScores]) -> ElementTree.ElementTree[ElementTree.Element]:
    """Return the results as a JUnit report.

    Parameters
    ----------
    results : sequence of ClipScores
        Of mmid, one a clip length.

    Returns
    -------
    ElementTree
        A testsuite a clip length, a testcase a clip; a wrong first answer is a failure. The class
        of a testcase is its recording.
    """
    root = ElementTree.Element("testsuites", name="mmid eval pieces")
    for scores in results:
        wrong = sum(clip.rank != 1 for clip in scores.results)
        facts = {"name": length_name(scores.seconds), "tests": str(scores.clips)}
        facts |= {"failures": str(wrong), "errors": "0", "skipped": "0"}
        suite = ElementTree.SubElement(root, "testsuite", facts)
        seen: Counter[str] = Counter()
        for clip in scores.results:
            seen[clip.source] += 1
            suite.append(_case(clip, seen[clip.source]))
    ElementTree.indent(root)
    return ElementTree.ElementTree(root)


def _case(clip: ClipResult, number: int) -> ElementTree.Element:
    name = f"clip {number}, {clip.seconds:.2f} s from {clip.start:.2f} s on"
    case = ElementTree.Element("testcase", classname=label(clip.source), name=name)
    if clip.rank != 1:
        message = {"type": "wrong answer", "message": _answered(clip)}
        ElementTree.SubElement(case, "failure", message).text = _where_right(clip)
    return case


def _answered(clip: ClipResult) -> str:
    if not clip.answer:
        return "no answer"
    return f"answered {label(clip.answer)}, confidence {clip.confidence:.0%}"


def _where_right(clip: ClipResult) -> str:
    if clip.rank is None:
        return "the right piece is not among the answers"
    return f"the right piece is answer {clip.rank}"


def write_junit(results: Sequence[ClipScores], path: Path) -> None:
    """Write `junit_report` to a file, whole or not at all.

    Raises
    ------
    MmidError
        If it cannot be written.
    """
    with written_target(path) as part:
        junit_report(results).write(part, encoding="utf-8", xml_declaration=True)


def github_annotations(results: Sequence[ClipScores], least: float | None = None) -> list[str]:
    """Return the results as workflow commands of GitHub Actions.

    Parameters
    ----------
    results : sequence of ClipScores
        Of mmid, one a clip length.
    least : float or None
        Share of right first answers that every length must reach.

    Returns
    -------
    list of str
        A line a length, an error where it falls short and else a notice; then a warning for every
        wrong first answer.

    References
    ----------
    .. [1] GitHub Docs, "Workflow commands for GitHub Actions".
    """
    lines = [_verdict(scores, least) for scores in results]
    for scores in results:
        for clip in scores.results:
            if clip.rank != 1:
                title = f"{clip.source}, {length_name(scores.seconds)} from {clip.start:.2f} s on"
                lines.append(_command("warning", title, f"{_answered(clip)}; {_where_right(clip)}"))
    return lines


def _verdict(scores: ClipScores, least: float | None) -> str:
    short = least is not None and scores.top1 < least
    right = sum(clip.rank == 1 for clip in scores.results)
    text = f"top-1 {scores.top1:.1%}, {right} of {scores.clips} clips"
    if least is not None:
        text += f"; {'less than' if short else 'at least'} the {least:.1%} required"
    return _command("error" if short else "notice", f"mmid, {length_name(scores.seconds)}", text)


def _command(level: Level, title: str, message: str) -> str:
    """Return one workflow command.

    Examples
    --------
    >>> _command("notice", "a: b, c", "100%")
    '::notice title=a%3A b%2C c::100%25'
    """
    title = _escape(label(title)).replace(":", "%3A").replace(",", "%2C")
    return f"::{level} title={title}::{_escape(message)}"


def _escape(text: str) -> str:
    """Escape as GitHub does what a message must not hold as it is."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
