"""What queries with clips came to: the figures of an evaluation, one row a clip length.

Conventions: shares are 0 to 1, times in seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, replace
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from mmid.errors import MmidError, label
from mmid.evaluation.calibration import Bin, Verdicts, auroc, brier, reliability, sum_verdicts
from mmid.evaluation.intervals import mean_interval
from mmid.model.confidence import fit_confidence
from mmid.model.evidence import Evidence
from mmid.options import Verdict
from mmid.system.tables import FittingTable

MMID = "mmid"
"""The name that mmid has among the baselines."""


@dataclass(frozen=True)
class ClipResult:
    """One clip and how it fared.

    Parameters
    ----------
    source : str
    start, seconds : float
        Where in the recording or score the clip lies.
    rank : int or None
        Of the first right match; None if there is none.
    matched : bool
        Whether the first match was confident enough.
    answer : str
        The name of the first match.
    confidence, votes : float
        Of the first match.
    position_error : float or None
        Seconds between the start reported and the nearest right one, where both are known: the true
        one, or where the same bars are repeated.
    evidence : Evidence
        Of the first match.
    absent_confidence : float or None
    absent_evidence : Evidence or None
        Of the first match once everything right is taken out of the library.
    piece : str
        One of the SHA-256 that are right: the same for every clip of the piece.
    kind : str
        Of music, where the list of pairs says it.
    verdict, absent_verdict : {"found", "perhaps", "absent"} or None
        What the answer comes to, and what it comes to with everything right taken out.
    """

    source: str
    start: float
    seconds: float
    rank: int | None
    matched: bool
    answer: str
    confidence: float
    votes: float
    position_error: float | None
    evidence: Evidence
    absent_confidence: float | None = None
    absent_evidence: Evidence | None = None
    piece: str = ""
    kind: str = ""
    verdict: Verdict | None = None
    absent_verdict: Verdict | None = None


@dataclass(frozen=True)
class ClipScores:
    """The clips of one length, summed up.

    Parameters
    ----------
    seconds : float or None
        Clip length; None is the whole recording or score.
    clips : int
    top1, top5, mrr : float
    matched : float
        Share of clips whose first match was confident enough.
    median_position_error, position_error_95 : float or None
        Seconds, over the right answers.
    auroc : float or None
        How well confidence separates clips whose match is there from the same clips without it.
    falsely_matched : float or None
        Share of clips without their match that are matched all the same.
    false_accepts : float or None
        The same at the confidence that accepts 95 % of the clips whose match is there.
    results : tuple of ClipResult
    system : str
        What answered: mmid, or a baseline, which has scores but no confidence and matches nothing.
    top1_interval : tuple of float or None
        95 % bootstrap interval of `top1`, over pieces.
    lead, lead_interval : float or None, tuple of float or None
        Of a baseline: by how much mmid's `top1` on the same clips is higher, and its interval.
    kind : str
        Of music that these clips are; nothing where they are of all kinds.
    kinds : tuple of ClipScores
        Of those of all kinds: the same figures of each kind, without the clips.
    verdicts, absent_verdicts : Verdicts or None
        What mmid's answers come to; and with everything right taken out of the library.
    brier : float or None
        Brier score of mmid's confidences, those without the right pieces among them.
    reliability : tuple of Bin
        The same confidences in bins, with how many answers of each are right.
    """

    seconds: float | None
    clips: int
    top1: float
    top5: float
    mrr: float
    matched: float
    median_position_error: float | None
    position_error_95: float | None
    auroc: float | None
    falsely_matched: float | None
    false_accepts: float | None
    results: tuple[ClipResult, ...]
    system: str = MMID
    top1_interval: tuple[float, float] | None = None
    lead: float | None = None
    lead_interval: tuple[float, float] | None = None
    kind: str = ""
    kinds: tuple[ClipScores, ...] = ()
    verdicts: Verdicts | None = None
    absent_verdicts: Verdicts | None = None
    brier: float | None = None
    reliability: tuple[Bin, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the scores and every clip as JSON-ready names and values."""
        return asdict(self)


def sum_up(
    length: float | None, results: Sequence[ClipResult], min_confidence: float
) -> ClipScores:
    """Return the figures of clips of one length.

    Parameters
    ----------
    length : float or None
        Seconds; None is the whole source.
    results : sequence of ClipResult
    min_confidence : float
        The confidence at which a first match counts as found.
    """
    errors = [r.position_error for r in results if r.position_error is not None]
    count = max(1, len(results))
    area, falsely, accepts = _rejection(results, min_confidence)
    return ClipScores(
        length,
        len(results),
        sum(r.rank == 1 for r in results) / count,
        sum(r.rank is not None and r.rank <= 5 for r in results) / count,
        sum(1 / r.rank for r in results if r.rank) / count,
        sum(r.matched for r in results) / count,
        float(np.median(errors)) if errors else None,
        float(np.quantile(errors, 0.95)) if errors else None,
        area,
        falsely,
        accepts,
        tuple(results),
        top1_interval=mean_interval([r.rank == 1 for r in results], [r.piece for r in results]),
        **_believed(results),
    )


def _believed(results: Sequence[ClipResult]) -> dict[str, Any]:
    """Return the figures on verdicts and confidences, of answers that have them."""
    judged = [(r.verdict, r.confidence, r.rank == 1) for r in results if r.verdict]
    absent = [
        (r.absent_verdict, r.absent_confidence or 0.0, False) for r in results if r.absent_verdict
    ]
    if not judged:
        return {}
    verdicts, _, right = zip(*judged, strict=True)
    _, sure, good = zip(*judged, *absent, strict=True)
    gone = [verdict for verdict, _, _ in absent]
    return {
        "verdicts": sum_verdicts(verdicts, right),
        "absent_verdicts": sum_verdicts(gone, [False] * len(gone)) if gone else None,
        "brier": brier(sure, good),
        "reliability": reliability(sure, good),
    }


def compare(scores: ClipScores, mmid: ClipScores, name: str) -> ClipScores:
    """Name a baseline's scores, and say how far mmid is ahead on the same clips."""
    both = zip(mmid.results, scores.results, strict=True)
    leads = [(ours.rank == 1) - (theirs.rank == 1) for ours, theirs in both]
    pieces = [clip.piece for clip in scores.results]
    return replace(
        scores,
        falsely_matched=None,
        verdicts=None,
        absent_verdicts=None,
        brier=None,
        reliability=(),
        system=name,
        lead=mmid.top1 - scores.top1,
        lead_interval=mean_interval(leads, pieces),
    )


TRUE_ACCEPTS = 0.95


def _rejection(
    results: Sequence[ClipResult], min_confidence: float
) -> tuple[float, float, float] | tuple[None, None, None]:
    """Return AUROC, absent clips matched, and those accepted where 95 % of the others are."""
    absent = np.array([r.absent_confidence for r in results if r.absent_confidence is not None])
    if not len(absent):
        return None, None, None
    present = np.array([r.confidence for r in results])
    threshold = np.quantile(present, 1 - TRUE_ACCEPTS, method="lower")
    return (
        auroc(present, absent),
        float(np.mean(absent >= min_confidence)),
        float(np.mean(absent >= threshold)),
    )


def calibrate(scores: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Fit the confidence to the results of `evaluate_pieces` with ``absent``.

    Parameters
    ----------
    scores : sequence of dict
        From `ClipScores.to_dict`, of any clip lengths.

    Returns
    -------
    dict of str to float
        For `mmid.model.confidence.confidence`, by the names of the figures.

    Raises
    ------
    MmidError
        If the results are of another kind, or were made without queries for absent pieces.
    """
    try:
        rows = [row for row in scores if row.get("system", MMID) == MMID]
        clips = [clip for row in rows for clip in row["results"]]
        if not clips:
            raise KeyError("results")
        present = [(Evidence(**c["evidence"]), c["rank"] == 1) for c in clips]
        absent = [(Evidence(**c["absent_evidence"]), False) for c in clips]
    except (AttributeError, KeyError, TypeError) as error:
        raise MmidError("not the results of mmid eval pieces --absent") from error
    answers, right = zip(*present + absent, strict=True)
    return fit_confidence(answers, right)


def length_name(seconds: float | None) -> str:
    """Return a clip length as mmid shows it.

    Examples
    --------
    >>> length_name(10.0), length_name(None)
    ('10 s', 'whole')
    """
    return "whole" if seconds is None else f"{seconds:g} s"


def clip_table(results: list[ClipScores]) -> Table:
    """Return how clips were identified as a table, one row a system and clip length."""
    return _clip_table(results, "")


def kind_table(results: list[ClipScores]) -> Table:
    """Return the same of each kind of music: one row a kind, system and clip length."""
    by_kind = zip(*(row.kinds for row in results), strict=True)
    return _clip_table([row for rows in by_kind for row in rows], "kind")


def _clip_table(results: list[ClipScores], first: str) -> Table:
    compared = any(row.lead is not None for row in results)
    asked_absent = any(row.auroc is not None for row in results)
    title = "within: 95 % bootstrap interval over pieces, in percent"
    table = FittingTable(title=title)
    columns = [first] * bool(first) + ["system"] * compared
    columns += ["clip", "clips", "top-1", "within", "top-5", "MRR", "matched", "start error"]
    columns += ["AUROC, absent", "matched, absent", "accepted at 95 %"] * asked_absent
    columns += ["mmid ahead", "within"] * compared
    for name in columns:
        table.add_column(name, no_wrap=" " not in name)
    for row in results:
        error, false = row.median_position_error, row.falsely_matched
        cells = (
            [escape(label(row.kind or "-"))] * bool(first)
            + [row.system] * compared
            + [
                length_name(row.seconds),
                str(row.clips),
                f"{row.top1:.1%}",
                _interval(row.top1_interval),
                f"{row.top5:.1%}",
                f"{row.mrr:.1%}",
                f"{row.matched:.1%}" if row.lead is None else "",
                "" if error is None else f"{error:.2f} / {row.position_error_95:.2f} s",
            ]
        )
        if asked_absent:
            cells += [f"{row.auroc:.3f}", "" if false is None else f"{false:.1%}"]
            cells.append(f"{row.false_accepts:.1%}")
        if row.lead is not None:
            cells += [f"{row.lead:+.1%}", _interval(row.lead_interval, "+")]
        table.add_row(*cells)
    return table


def verdict_table(results: Sequence[ClipScores]) -> Table:
    """Return what mmid's answers come to: a row a clip length, and below it one a kind."""
    rows = [row for whole in results for row in (whole, *whole.kinds) if row.verdicts]
    absent = any(row.absent_verdicts for row in rows)
    kinds = any(row.kind for row in rows)
    gone_too = "; and with all that is right taken out" * absent
    table = FittingTable(title=f"verdicts, right and wrong{gone_too}")
    columns = ["kind"] * kinds + ["clip", "found right", "found wrong", "perhaps right"]
    columns += ["perhaps wrong", "absent", *["gone: found", "gone: perhaps"] * absent, "Brier"]
    for name in columns:
        table.add_column(name, no_wrap=" " not in name)
    for row in rows:
        name = "all" if row.kinds else label(row.kind or "-")
        cells = [escape(name)] * kinds + [length_name(row.seconds)]
        cells += [f"{share:.1%}" for share in astuple(row.verdicts)]  # type: ignore[arg-type]
        gone = row.absent_verdicts
        if gone is not None:
            cells += [f"{gone.found_wrong:.1%}", f"{gone.perhaps_wrong:.1%}"]
        table.add_row(*cells, f"{row.brier:.3f}")
    return table


def _interval(interval: tuple[float, float] | None, sign: str = "") -> str:
    return "..".join(f"{100 * end:{sign}.0f}" for end in interval or ())


def recording_table(results: list[ClipScores]) -> Table:
    """Return the right answers of each recording or score, one column a clip length."""
    results = [row for row in results if row.lead is None]
    names = list(dict.fromkeys(clip.source for row in results for clip in row.results))
    lengths = [length_name(row.seconds) for row in results]
    table = FittingTable(title="right first answers")
    table.add_name_column("query")
    for length in lengths:
        table.add_column(length, justify="right")
    for name in names:
        cells = []
        for row in results:
            clips = [clip for clip in row.results if clip.source == name]
            cells.append(f"{sum(clip.rank == 1 for clip in clips)}/{len(clips)}")
        table.add_row(escape(label(name)), *cells)
    return table
