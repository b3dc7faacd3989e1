"""What speaks for a match and against it, in words.

Conventions: only figures that are known are spoken of; shares are 0 to 1.
"""

from __future__ import annotations

from mmid.errors import label
from mmid.identify.answer import Identification, Match

AGREES = 0.5
"""From this share on, what of a melody or of the score's notes agrees speaks for it."""

IN_HARMONY = 0.7
"""From here on, harmonies agree."""

EXPLAINS = 0.25
"""From this share on, what its notes explain of those transcribed speaks for it."""

VOTED = 0.1
"""From this share on, the votes of snippets do."""

NEARLY = 0.9
"""Other music fits nearly as well that has so much of a match's votes and notes explained."""


def reasons(answer: Identification) -> str:
    """Return what speaks for the first match and against it; nothing where no figure does.

    Examples
    --------
    >>> from mmid.model.evidence import Figures
    >>> found = Figures(votes=0.02, explained=0.1, melody=0.7)
    >>> match = Match("a.mid", 0.3, 0.02, 0.1, 0.3, 0.4, 1.0, 9.0, 1.0, 2, figures=found)
    >>> reasons(Identification("q.wav", 30.0, False, (match,), reason="not_confident"))
    "the melody agrees for 21 of 30 s; but other notes don't, and few snippets vote for it"
    """
    best = answer.matches[0]
    said = (_listed(_for(best, answer.seconds)), ", and ".join(_against(answer)))
    return "; but ".join(filter(None, said))


def _listed(clauses: list[str]) -> str:
    """Join clauses as a sentence does: with commas, and the last with an "and"."""
    return " and ".join(filter(None, (", ".join(clauses[:-1]), *clauses[-1:])))


def _for(match: Match, seconds: float) -> list[str]:
    """Return what speaks for a match of a query that is so long."""
    figures, said = match.figures, []
    if _melody_agrees(match):
        agreeing = (figures.melody or 0.0) * seconds
        said.append(f"the melody agrees for {agreeing:.0f} of {seconds:.0f} s")
    if (figures.harmony or 0.0) >= IN_HARMONY:
        said.append("the harmony agrees")
    if (match.explained or 0.0) >= EXPLAINS:
        said.append(f"its notes explain {match.explained:.0%} of those transcribed")
    if (figures.claimed or 0.0) >= AGREES:
        said.append(f"{figures.claimed:.0%} of its notes there were transcribed")
    if match.votes >= VOTED:
        said.append(f"{match.votes:.0%} of the snippets vote for it")
    return said


def _against(answer: Identification) -> list[str]:
    """Return what speaks against the first match of an answer."""
    match, said = answer.matches[0], []
    claimed = match.figures.claimed
    if match.explained is not None and match.explained < EXPLAINS:
        share = f"{max(match.explained, 0.0):.0%}"
        only = f"its notes explain only {share} of those transcribed"
        said.append("other notes don't" if _melody_agrees(match) else only)
    if claimed is not None and claimed < AGREES:
        said.append(f"only {max(claimed, 0.0):.0%} of its notes there were transcribed")
    if match.votes < VOTED:
        said.append("few snippets vote for it")
    if answer.matches[1:] and _fit(answer.matches[1]) >= NEARLY * _fit(match):
        said.append(f"{label(answer.matches[1].piece)} fits nearly as well")
    return said


def _melody_agrees(match: Match) -> bool:
    return (match.figures.melody or 0.0) >= AGREES


def _fit(match: Match) -> float:
    return match.votes + max(match.explained or 0.0, 0.0)
