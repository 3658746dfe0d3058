"""DeLong against its definition by loops, a permutation of the same pairs, and simulation."""

from __future__ import annotations

from itertools import product

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import UsageError
from bench.stats import delong, mean_difference

Floats = npt.NDArray[np.float64]


def by_loops(labels: npt.NDArray[np.bool_], first: Floats, second: Floats) -> tuple[float, float, float]:
    """Both AUROCs and the variance of their difference, from the definition's kernel, pair by pair."""

    def kernel(up: float, down: float) -> float:
        return 1.0 if up > down else 0.5 if up == down else 0.0

    rows, columns, aurocs = [], [], []
    for scores in (first, second):
        ups, downs = scores[labels], scores[~labels]
        grid = np.array([[kernel(up, down) for down in downs] for up in ups])
        rows.append(grid.mean(axis=1))
        columns.append(grid.mean(axis=0))
        aurocs.append(grid.mean())
    s10, s01 = np.cov(np.array(rows)), np.cov(np.array(columns))
    total = s10 / labels.sum() + s01 / (~labels).sum()
    contrast = np.array([1, -1])
    return aurocs[0], aurocs[1], float(contrast @ total @ contrast)


@given(seed=st.integers(0, 2**32 - 1), levels=st.sampled_from([2, 5, 1000]))
@settings(max_examples=60, deadline=None)
def test_equals_the_definition_with_and_without_ties(seed: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.arange(23) % 3 == 0
    first, second = (rng.integers(0, levels, 23) + labels * levels * 0.3 for _ in range(2))
    found = delong(labels, first, second)
    auroc_first, auroc_second, variance = by_loops(labels, first, second)
    assert found.first == pytest.approx(auroc_first, abs=1e-12)
    assert found.second == pytest.approx(auroc_second, abs=1e-12)
    assert found.variance == pytest.approx(variance, abs=1e-12)


def test_a_case_small_enough_for_paper() -> None:
    # first ranks all right; second has one of four pairs wrong: AUROC 3/4, placements (1, 1/2) and (1/2, 1)
    found = delong([0, 0, 1, 1], [1, 2, 3, 4], [1, 3, 2, 4])
    assert (found.first, found.second, found.value) == (1.0, 0.75, 0.25)
    assert found.variance == pytest.approx(0.125 / 2 + 0.125 / 2)
    assert found.p == pytest.approx(0.4795, abs=1e-4)


def test_auroc_is_that_of_the_metrics() -> None:
    from bench.metrics import evaluate_class

    rng = np.random.default_rng(3)
    labels = rng.random(60) < 0.4
    scores = rng.normal(size=60).round(1) + labels
    found = delong(labels, scores, -scores)
    expected = evaluate_class(None, None, scores, labels, metrics=["image/auroc"])["image/auroc"]
    assert found.first == pytest.approx(expected, abs=1e-12)
    assert found.second == pytest.approx(1 - found.first, abs=1e-12)


def test_equal_rankings_have_no_p_value() -> None:
    scores = np.array([0.1, 0.4, 0.35, 0.8, 0.2, 0.9])
    found = delong([0, 0, 1, 1, 0, 1], scores, np.exp(scores))
    assert found.value == 0 and found.p is None and found.interval() is None


def test_the_interval_holds_the_true_difference_as_often_as_it_says() -> None:
    # two methods that see the same signal in the images with noise of their own; normal scores have a known AUROC
    from scipy.stats import norm

    rng = np.random.default_rng(11)
    labels = np.arange(120) < 60
    spreads = (1.0, 1.8)
    truth = np.subtract(*(float(norm.cdf(1.5 / np.sqrt(2 * (1 + spread**2)))) for spread in spreads))
    inside = 0
    for _ in range(600):
        shared = rng.normal(size=120) + 1.5 * labels
        first, second = (shared + spread * rng.normal(size=120) for spread in spreads)
        low, high = delong(labels, first, second).interval() or (0, 0)
        inside += low <= truth <= high
    # binomial: 0.95 of 600 has a standard deviation of 0.9 %
    assert 0.92 <= inside / 600 <= 0.98


def test_the_mean_over_classes_adds_variances() -> None:
    rng = np.random.default_rng(5)
    classes = [delong(np.arange(20) < 9, rng.normal(size=20), rng.normal(size=20)) for _ in range(4)]
    found = mean_difference(classes)
    assert found.value == pytest.approx(np.mean([one.value for one in classes]))
    assert found.variance == pytest.approx(sum(one.variance for one in classes) / 16)
    with pytest.raises(UsageError, match="no class"):
        mean_difference([])


@pytest.mark.parametrize(
    ("labels", "first", "second", "word"),
    [
        ([0, 0, 1, 1], [1, 2, 3], [1, 2, 3, 4], "4 labels with 3"),
        ([0, 0, 1, 1], [1, 2, float("nan"), 4], [1, 2, 3, 4], "NaN"),
        ([0, 0, 0, 1], [1, 2, 3, 4], [1, 2, 3, 4], "1 anomalous and 3 normal"),
    ],
)
def test_what_cannot_be_compared_is_refused(labels: list, first: list, second: list, word: str) -> None:
    with pytest.raises(UsageError, match=word):
        delong(labels, first, second)


def test_a_level_outside_its_range_is_refused() -> None:
    found = delong([0, 0, 1, 1], [1, 2, 3, 4], [1, 3, 2, 4])
    for level in product((0.0, 1.0, 95.0)):
        with pytest.raises(UsageError, match="level"):
            found.interval(*level)
