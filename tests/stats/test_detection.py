"""The logistic curve of detection: against scikit-learn, on separated regions, and how often its interval is right."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from bench.errors import UsageError
from bench.stats.detection import fit

TRUTH = (-6.0, 1.5)
"""Intercept and slope; nine of ten are found from a size of exp((log 9 + 6) / 1.5)."""
NINE_OF_TEN = float(np.exp((np.log(9) - TRUTH[0]) / TRUTH[1]))


def drawn(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    sizes = np.exp(rng.uniform(1, 8, count))
    return sizes, rng.random(count) < 1 / (1 + np.exp(-(TRUTH[0] + TRUTH[1] * np.log(sizes))))


def test_of_very_many_regions_it_is_plain_logistic_regression() -> None:
    sizes, found = drawn(20_000, 0)
    ours = fit(sizes, found)
    theirs = LogisticRegression(C=1e12, tol=1e-10, max_iter=1000).fit(np.log(sizes)[:, None], found)
    assert ours.intercept == pytest.approx(float(theirs.intercept_[0]), abs=5e-3)
    assert ours.slope == pytest.approx(float(theirs.coef_[0, 0]), abs=2e-3)
    assert ours.size_found() == pytest.approx(NINE_OF_TEN, rel=0.05)
    assert (ours.regions, ours.found) == (20_000, int(found.sum()))


def test_the_penalty_is_firths() -> None:
    # two sizes, two groups: Firth's estimate adds half a success and half a failure to each
    sizes = np.repeat([1.0, np.e], [10, 10])
    found = np.array([1] * 2 + [0] * 8 + [1] * 10, dtype=bool)
    ours = fit(sizes, found)
    assert ours.probability([1.0, np.e]) == pytest.approx([2.5 / 11, 10.5 / 11], abs=1e-6)


def test_regions_that_size_tells_apart_have_a_curve_all_the_same() -> None:
    sizes = np.array([1.0, 2, 3, 4, 10, 20, 30, 40])
    ours = fit(sizes, sizes > 5)
    found = ours.size_found()
    assert found is not None and 4 < found < 40 and 0 < ours.slope < 100
    low, high = ours.band(sizes)
    assert (low <= ours.probability(sizes)).all() and (ours.probability(sizes) <= high).all()


@pytest.mark.parametrize("count", [60, 200])
def test_the_interval_has_the_true_size_as_often_as_it_says(count: int) -> None:
    inside = []
    for seed in range(400):
        interval = fit(*drawn(count, seed)).size_interval()
        inside.append(interval is None or interval[0] <= NINE_OF_TEN <= interval[1])
    assert np.mean(inside) >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / 400)


def test_where_size_does_not_matter_no_size_is_told() -> None:
    rng = np.random.default_rng(1)
    sizes = np.exp(rng.uniform(1, 8, 200))
    assert fit(sizes, rng.random(200) < 0.5).size_interval() is None
    falling = fit(sizes, sizes < 50)
    assert falling.size_found() is None and falling.size_interval() is None


@pytest.mark.parametrize("sizes", [[], [3.0, 3.0], [1.0, 0.0]])
def test_what_has_no_curve_is_refused(sizes: list[float]) -> None:
    with pytest.raises(UsageError, match="expected positive ones, at least two different"):
        fit(sizes, [True] * len(sizes))
