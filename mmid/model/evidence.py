"""What speaks for a candidate, as named figures, and what each of them weighs.

Conventions: a figure that is not known is None and weighs nothing. Weights go by the names of the
figures: those of a name that is no figure are ignored, and a figure without a weight counts
nothing, so that models and figures may change apart from each other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

CAPPED_SECONDS = 30.0
"""Beyond this a query's length says no more: only so much of it is looked up and compared."""

CONSTANT = "constant"
"""The name of what weighs the same in every sum."""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What speaks for a candidate, and against it.

    Parameters
    ----------
    votes : float
        Its share of the votes cast by snippets.
    triples : float
        Share of the query's note triples that agree on it.
    tune : float
        The same of the triples of its melody.
    correlation : float
        How far that of its melody with what sounds exceeds that of other music.
    explained : float or None
        Share of the transcribed notes that its score explains.
    claimed : float or None
        Share of what its score holds there that was transcribed.
    melody, melody_claimed : float or None
        The same two of the melodies: of the query's that its own explains, and of its own that was
        transcribed.
    harmony : float or None
        How well the harmonies agree, octaves folded together.
    tempo_cost : float
        Octaves between its tempo and the score's, squared.
    key_cost : float
        1 where it is not in the file's key.
    notes : float or None
        Logarithm to base ten of one more than the notes that begin in its passage.
    """

    votes: float = 0.0
    triples: float = 0.0
    tune: float = 0.0
    correlation: float = 0.0
    explained: float | None = None
    claimed: float | None = None
    melody: float | None = None
    melody_claimed: float | None = None
    harmony: float | None = None
    tempo_cost: float = 0.0
    key_cost: float = 0.0
    notes: float | None = None

    def known(self) -> dict[str, float]:
        """Return the figures that are known, by name."""
        values = ((name, getattr(self, name)) for name in FIGURES)
        return {name: float(value) for name, value in values if value is not None}


FIGURES = tuple(field.name for field in fields(Figures))

NO_FIGURES = Figures()
"""Of a candidate about which nothing is known."""

FOR = (
    "votes",
    "triples",
    "tune",
    "correlation",
    "explained",
    "claimed",
    "melody",
    "melody_claimed",
    "harmony",
)
"""The more of these, the better."""

AGAINST = ("tempo_cost", "key_cost")
"""The less of these, the better."""


@dataclass(frozen=True, kw_only=True)
class Evidence(Figures):
    """What speaks for the first match: its own figures, and how it stands out.

    Parameters
    ----------
    lead : float
        How far its support, what candidates are ranked by, exceeds that of the next other music.
    above : float
        How far it exceeds that of the crowd: other music farther down.
    seconds : float
        Length of the query.
    snippets : int
        Size of the library: the larger, the likelier is a good match by chance.
    """

    lead: float
    above: float
    seconds: float
    snippets: int

    def terms(self) -> dict[str, float]:
        """Return what the confidence weighs, by name: lengths and sizes as their logarithms."""
        return {
            **self.known(),
            "lead": self.lead,
            "above": self.above,
            "seconds": math.log1p(min(self.seconds, CAPPED_SECONDS)),
            "snippets": math.log10(max(self.snippets, 1)),
        }


SURROUNDINGS = ("lead", "above", "seconds", "snippets")
"""What the confidence weighs beside the figures of the best candidate."""


def weigh(terms: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """Return the weighted sum of named values.

    Examples
    --------
    >>> weigh({"votes": 0.5, "notes": 2.0}, {"votes": 2.0, "constant": -0.25, "of old": 9.0})
    0.75
    """
    own = sum(weights.get(name, 0.0) * value for name, value in terms.items())
    return own + weights.get(CONSTANT, 0.0)


RANKING = {"votes": 2.0, "triples": 2.0, "explained": 1.0, "tempo_cost": -0.05}
"""What candidates are ranked by where the model does not say, as up to mmid-3: set by hand."""

CALIBRATION = {
    CONSTANT: -15.3,
    "votes": -0.8,
    "explained": 3.1,
    "lead": 2.8,
    "above": 4.2,
    "seconds": -0.6,
    "snippets": 1.9,
}
"""For models that bring no calibration of their own: that of mmid-2, rounded."""

VOTES_ALONE = {CONSTANT: -5.0, "lead": 8.0, "above": 4.0}
"""Where no notes are compared, as in an index of recordings: set by hand, not fitted."""


@dataclass(frozen=True)
class Weights:
    """What figures weigh; ranking and confidence belong together.

    Parameters
    ----------
    ranking, confidence : mapping of str to float
        Weights by name of `Figures`, and of `Evidence.terms`.
    """

    ranking: Mapping[str, float]
    confidence: Mapping[str, float]


DEFAULT_WEIGHTS = Weights(RANKING, CALIBRATION)
UNCOMPARED = Weights(RANKING, VOTES_ALONE)
"""Where no notes are compared."""


def weights_of(facts: Mapping[str, Any]) -> Weights:
    """Return the weights that a model brings, or those for models without.

    A confidence may be a list, as up to mmid-3: it is of the ranking of that time. One of another
    length is of figures that are no more. A ranking counts with a confidence fitted to it only.

    Parameters
    ----------
    facts : mapping
        Of a model's file: ``confidence`` and ``ranking``.

    Raises
    ------
    ValueError, TypeError
        If they are no finite numbers.
    """
    said = facts.get("confidence")
    if not isinstance(said, dict):
        listed = _finite(dict(enumerate(said or ())))
        fits = len(listed) == len(CALIBRATION)
        calibration = dict(zip(CALIBRATION, listed.values(), strict=True)) if fits else CALIBRATION
        return Weights(RANKING, calibration)
    return Weights(_finite(facts.get("ranking", RANKING)), _finite(said))


def _finite(weights: Mapping[Any, float]) -> dict[Any, float]:
    """Return weights, checked."""
    if not all(map(math.isfinite, weights.values())):
        raise ValueError("weights of a ranking or a confidence that are no numbers")
    return {name: float(value) for name, value in weights.items()}
