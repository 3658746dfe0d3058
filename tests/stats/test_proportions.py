"""Intervals of false alarms: against SciPy's, and how often they cover the truth."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scipy import stats

from bench.metrics.thresholds import at_false_alarms, expected
from bench.stats.proportions import beyond, clopper_pearson


@pytest.mark.parametrize(("count", "of"), [(0, 1), (1, 1), (0, 12), (3, 20), (20, 20), (17, 4000)])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_it_is_scipys_exact_interval(count: int, of: int, level: float) -> None:
    found = stats.binomtest(count, of).proportion_ci(level, method="exact")
    assert clopper_pearson(count, of, level) == pytest.approx((found.low, found.high), abs=1e-12)


@cache
def covers(truth: float, of: int) -> list[bool]:
    """Whether the interval of each count has the truth in it."""
    return [low <= truth <= high for low, high in (clopper_pearson(count, of) for count in range(of + 1))]


def test_of_nothing_nothing_is_known() -> None:
    assert clopper_pearson(0, 0) == (0.0, 1.0)
    for wrong in ((-1, 3), (4, 3)):
        with pytest.raises(ValueError, match="expected a count up to its total"):
            clopper_pearson(*wrong)


@pytest.mark.parametrize("of", [5, 20, 60])
@pytest.mark.parametrize("truth", [0.01, 0.1, 0.5])
def test_it_covers_the_true_proportion_at_least_as_often_as_it_says(of: int, truth: float) -> None:
    drawn = np.random.default_rng(of).binomial(of, truth, 4000)
    inside = [covers(truth, of)[int(count)] for count in drawn]
    # three standard errors of the simulation
    assert np.mean(inside) >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / 4000)


def test_classes_of_different_rates_are_covered_too() -> None:
    rng, rates = np.random.default_rng(0), np.array([0.0, 0.02, 0.3, 0.6])
    drawn = rng.binomial(15, rates, (1500, 4)).sum(axis=1)
    inside = [covers(float(rates.mean()), 60)[int(count)] for count in drawn]
    assert np.mean(inside) >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / 1500)


@pytest.mark.parametrize(("images", "share"), [(19, 0.05), (30, 0.1), (60, 0.05)])
def test_a_threshold_lets_no_more_false_alarms_through_than_it_says(images: int, share: float) -> None:
    rng = np.random.default_rng(images)
    let, covered, told = [], [], []
    for _ in range(1500):
        scores = sorted(rng.lognormal(size=images).tolist())
        threshold = at_false_alarms(scores, share)
        assert threshold is not None
        above = sum(score > threshold for score in scores)
        truth = float(stats.lognorm.sf(threshold, 1.0))
        low, high = beyond(above, images)
        let.append(truth)
        covered.append(low <= truth <= high)
        told.append(expected(scores, threshold))
    error = 3 * np.std(let) / np.sqrt(1500)
    assert np.mean(let) <= share + error
    assert np.mean(let) == pytest.approx(np.mean(told), abs=error), "the highest rate within the share is used up"
    assert np.mean(covered) == pytest.approx(0.95, abs=3 * np.sqrt(0.95 * 0.05 / 1500))


def test_too_few_images_can_state_no_rate() -> None:
    assert at_false_alarms([1.0] * 18, 0.05) is None
    assert at_false_alarms(sorted(range(19)), 0.05) == 18
    assert at_false_alarms(list(range(39)), 0.05) == 37
    assert at_false_alarms(list(range(3)), 0.999) == 0
