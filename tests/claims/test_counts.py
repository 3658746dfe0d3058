"""What a test set's counts allow: no ranking falls outside of it, and what is near to its edge exists."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from bench.claims.counts import PrintedInterval, TestSet


def printed(share: float, places: int = 1) -> PrintedInterval:
    value = Decimal(str(round(100 * share, places)))
    return PrintedInterval.of(value, Decimal(1).scaleb(-places))


def f1_max(truth: np.ndarray, scores: np.ndarray) -> float:
    precision, recall, _ = precision_recall_curve(truth, scores)
    return float(np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12)))


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_every_ranking_lies_within_what_its_counts_allow(data: st.DataObject) -> None:
    normal, anomalous = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 12))
    levels = data.draw(st.integers(1, 60))
    scores = np.array(data.draw(st.lists(st.integers(0, levels), min_size=24, max_size=24)))[: normal + anomalous]
    truth = np.arange(normal + anomalous) >= normal
    test, places = TestSet(normal, anomalous), data.draw(st.integers(0, 4))
    auroc, ap, f1 = roc_auc_score(truth, scores), average_precision_score(truth, scores), f1_max(truth, scores)
    assert f1 >= float(test.all_called) - 1e-12
    assert test.auroc_steps(printed(auroc, places), ties=True)
    reached = list(test.confusions(printed(f1, places)))
    assert any(printed(auroc, places).meets(*test.auroc_at(*at)) for at in reached)
    low, high = test.ap_beside(printed(auroc, places), ties=True)
    assert low <= ap <= high
    if len(set(scores.tolist())) == len(scores):
        assert test.auroc_steps(printed(auroc, places), ties=False)
        low, high = test.ap_beside(printed(auroc, places), ties=False)
        assert low <= ap <= high


def test_bounds_of_ap_are_nearly_reached_by_some_ranking() -> None:
    normal, anomalous = 5, 4
    test = TestSet(normal, anomalous)
    by_auroc: dict[Fraction, list[float]] = {}
    for places in combinations(range(normal + anomalous), anomalous):
        truth = np.isin(np.arange(normal + anomalous), places)
        scores = -np.arange(normal + anomalous)
        auroc = Fraction(round(roc_auc_score(truth, scores) * test.pairs), test.pairs)
        by_auroc.setdefault(auroc, []).append(float(average_precision_score(truth, scores)))
    slacks = []
    for auroc, found in by_auroc.items():
        low, high = test.ap_beside(PrintedInterval(auroc, auroc), ties=False)
        assert low <= min(found) and max(found) <= high
        slacks += [min(found) - low, high - max(found)]
    assert np.mean(slacks) < 0.03


@pytest.mark.parametrize(
    ("normal", "anomalous", "value", "below", "above"),
    [(40, 70, "97.3", "97.22", "97.81"), (12, 30, "99.2", "98.36", "100.00"), (33, 84, "98.4", "98.25", "98.80")],
)
def test_f1_that_is_no_ratio_of_the_counts(normal: int, anomalous: int, value: str, below: str, above: str) -> None:
    test = TestSet(normal, anomalous)
    interval = PrintedInterval.of(Decimal(value), Decimal("0.1"))
    ratios = {
        Fraction(2 * found, anomalous + found + false) for found in range(anomalous + 1) for false in range(normal + 1)
    }
    assert not any(interval.low <= ratio <= interval.high for ratio in ratios)
    assert not list(test.confusions(interval))
    near = [f"{100 * float(one):.2f}" for one in test.nearest_f1(Decimal(value))]
    assert near == [below, above]


def test_confusions_are_all_that_there_are() -> None:
    test, interval = TestSet(7, 9), PrintedInterval.of(Decimal("80"), Decimal("1"))
    direct = {
        (found, false)
        for found in range(1, 10)
        for false in range(8)
        if interval.low <= Fraction(2 * found, 9 + found + false) <= interval.high
    }
    assert set(test.confusions(interval)) == direct


def test_a_perfect_f1_is_a_perfect_auroc() -> None:
    test = TestSet(20, 63)
    reached = list(test.confusions(PrintedInterval.of(Decimal("100"), Decimal("0.1"))))
    assert reached == [(63, 0)]
    assert not printed(0.997).meets(*test.auroc_at(63, 0))
    assert printed(1.0).meets(*test.auroc_at(63, 0))
