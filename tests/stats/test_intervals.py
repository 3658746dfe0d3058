"""Intervals over images and over seeds: what they hold, and how often they hold the truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from bench.errors import UsageError
from bench.stats import Images, resampled, spread
from bench.stats.intervals import Resampled, mean_of, mean_over_classes


def images(rng: np.random.Generator, anomalous: int, normal: int, shift: float) -> Images:
    labels = np.arange(anomalous + normal) < anomalous
    ids = tuple(f"{place:04}" for place in range(len(labels)))
    return Images(ids, labels, rng.normal(size=len(labels)) + shift * labels)


def test_the_interval_of_auroc_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(20)
    truth = float(norm.cdf(1.2 / np.sqrt(2)))
    inside = 0
    for _ in range(200):
        found = resampled("c", images(rng, 50, 50, 1.2), metrics=["image/auroc"], resamples=200)["image/auroc"]
        low, high = found.interval() or (0, 0)
        inside += low <= truth <= high
    # a percentile interval of a hundred images is a little short of its level
    assert 0.89 <= inside / 200 <= 0.98


def test_the_interval_of_a_mean_over_classes_holds_the_truth_too() -> None:
    rng = np.random.default_rng(21)
    shifts = {"a": 0.6, "b": 1.2, "c": 1.8}
    truth = float(np.mean([norm.cdf(shift / np.sqrt(2)) for shift in shifts.values()]))
    inside = 0
    widths = []
    for _ in range(100):
        classes = {
            cls: resampled(cls, images(rng, 40, 40, shift), metrics=["image/auroc"], resamples=200)
            for cls, shift in shifts.items()
        }
        low, high = mean_over_classes(classes)["image/auroc"].interval() or (0, 0)
        single = classes["b"]["image/auroc"].interval() or (0, 0)
        widths.append((high - low) / (single[1] - single[0]))
        inside += low <= truth <= high
    assert 0.87 <= inside / 100 <= 1
    assert np.mean(widths) < 0.8, "a mean over three classes is surer than one class"


def test_students_interval_over_seeds_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(22)
    inside = 0
    for _ in range(1000):
        low, high = spread(rng.normal(0.9, 0.01, 3).tolist()).interval() or (0, 0)
        inside += low <= 0.9 <= high
    assert 0.93 <= inside / 1000 <= 0.97


def test_two_methods_draw_the_same_images_whatever_their_order() -> None:
    rng = np.random.default_rng(23)
    first = images(rng, 20, 30, 1.0)
    turned = Images(first.ids[::-1], first.labels[::-1], first.scores[::-1])
    ours, theirs = (resampled("c", one, metrics=["image/auroc"])["image/auroc"] for one in (first, turned))
    assert np.array_equal(ours.samples, theirs.samples)
    other = resampled("d", first, metrics=["image/auroc"])["image/auroc"]
    assert not np.array_equal(ours.samples, other.samples)


def test_a_perfect_score_has_no_interval() -> None:
    one = Images(tuple("abcdef"), np.arange(6) < 3, np.array([3.0, 4, 5, 0, 1, 2]))
    assert resampled("c", one)["image/auroc"].value == 1
    assert resampled("c", one)["image/auroc"].interval() is None


def test_a_class_without_anomalies_has_no_metrics() -> None:
    one = Images(tuple("abc"), np.zeros(3, dtype=bool), np.arange(3.0))
    assert resampled("c", one) == {}


def test_a_mean_needs_every_class() -> None:
    half = Resampled(0.5, np.array([0.4, 0.6]))
    found = mean_over_classes({"a": {"x": half, "y": half}, "b": {"x": half}})
    assert set(found) == {"x"} and found["x"].value == 0.5
    assert mean_over_classes({}) == {}
    with pytest.raises(UsageError, match="equally many"):
        mean_of([half, Resampled(0.5, np.array([0.5]))])


def test_pixel_metrics_are_resampled_where_maps_are_given() -> None:
    rng = np.random.default_rng(24)
    masks = np.zeros((8, 6, 6), dtype=bool)
    masks[:4, 2:4, 2:4] = True
    maps = rng.random((8, 6, 6)) + 0.5 * masks
    one = Images(tuple("abcdefgh"), np.arange(8) < 4, maps.max(axis=(1, 2)))
    found = resampled("c", one, maps, masks, metrics=["pixel/auroc", "pixel/aupro@0.3"], resamples=50)
    low, high = found["pixel/aupro@0.3"].interval() or (1, 0)
    assert low <= found["pixel/aupro@0.3"].value <= high


def test_spread_over_seeds() -> None:
    found = spread([0.9, 0.92, 0.94])
    assert (found.mean, found.std, found.count) == (pytest.approx(0.92), pytest.approx(0.02), 3)
    low, high = found.interval() or (0, 0)
    assert (low + high) / 2 == pytest.approx(0.92) and high - low == pytest.approx(2 * 4.3027 * 0.02 / 3**0.5, rel=1e-4)
    assert spread([0.9]).std is None and spread([0.9]).interval() is None
    assert spread([0.9, 0.9]).interval() is None
    with pytest.raises(UsageError, match="at least one"):
        spread([])
    with pytest.raises(UsageError, match="level"):
        found.interval(95)
    with pytest.raises(UsageError, match="level"):
        Resampled(0.5, np.array([0.4, 0.6])).interval(0)
