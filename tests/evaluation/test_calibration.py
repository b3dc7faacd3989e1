"""`mmid.evaluation.calibration`: whether confidences can be believed."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest

from mmid.evaluation.calibration import (
    auroc,
    brier,
    reliability,
    reliability_table,
    sum_verdicts,
)


def test_verdicts_are_shares_that_sum_to_one():
    verdicts = ["found", "found", "perhaps", "perhaps", "perhaps", "absent", "absent", "found"]
    right = [True, False, True, True, False, True, False, True]
    shares = sum_verdicts(verdicts, right)
    assert astuple(shares) == (0.25, 0.125, 0.25, 0.125, 0.25) and sum(astuple(shares)) == 1


def test_a_brier_score_is_a_squared_error():
    assert brier([1.0, 0.0], [True, False]) == 0
    assert brier([0.5] * 4, [True, False] * 2) == 0.25
    assert brier([0.9, 0.2], [False, True]) == pytest.approx((0.81 + 0.64) / 2)


def test_reliability_sorts_every_answer_into_a_bin():
    sure = np.random.default_rng(0).random(5_000)
    right = np.random.default_rng(1).random(5_000) < sure
    bins = reliability([*sure, 1.0, 0.0], [*right, True, False])
    assert sum(one.answers for one in bins) == 5_002 and len(bins) == 10
    for one in bins:
        assert one.low <= one.confidence <= one.high
        assert abs(one.right - one.confidence) < 0.08, "what is drawn from them can be believed"
    assert len(reliability([0.31, 0.35], [True, True])) == 1, "empty bins are left out"
    assert reliability_table(bins).row_count == 10


def test_auroc_counts_ties_as_half():
    assert auroc([0.9, 0.8], [0.1, 0.2]) == 1 and auroc([0.1], [0.9]) == 0
    assert auroc([0.5], [0.5]) == 0.5 and auroc([0.9, 0.1], [0.5]) == 0.5
