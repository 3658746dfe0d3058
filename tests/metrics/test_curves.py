"""Thinned curves keep the area and stay near the full curve; the best threshold does what it says."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import UsageError
from bench.metrics import evaluate_class
from bench.metrics.curves import POINTS, Curve, best_f1, pr_curve, pro_curve, roc_curve
from bench.metrics.ranking import rank
from bench.metrics.ranks import Ranks, Undefined
from bench.metrics.regions import find_regions

Maps = npt.NDArray[Any]


def case(seed: int, levels: int | None = None, shape: tuple[int, int, int] = (6, 40, 50)) -> tuple[Maps, Maps]:
    rng = np.random.default_rng(seed)
    masks = np.zeros(shape, dtype=np.bool_)
    for image in range(shape[0] - 2):
        y, x = rng.integers(0, 20, 2)
        masks[image, y : y + rng.integers(1, 19), x : x + rng.integers(1, 19)] = True
        masks[image, 39, 49] = True
    maps = rng.normal(size=shape) + masks * rng.uniform(-0.5, 2)
    return maps if levels is None else np.round(maps * levels), masks


def ranks_of(maps: Maps, masks: Maps) -> Ranks:
    return rank(maps.ravel(), masks.ravel(), "pixel")


def full_roc(maps: Maps, masks: Maps) -> npt.NDArray[np.float64]:
    points = [(0.0, 0.0)]
    for threshold in np.unique(maps)[::-1]:
        points.append((float((maps[~masks] >= threshold).mean()), float((maps[masks] >= threshold).mean())))
    return np.array(points)


def distance_to(curve: Curve, point: npt.NDArray[np.float64]) -> float:
    """Euclidean distance from a point to a polyline; never more than |dx| + |dy|."""
    start = np.stack([curve.x, curve.y], axis=1)
    along = np.diff(start, axis=0)
    length = np.maximum((along**2).sum(axis=1), 1e-300)
    share = np.clip(((point - start[:-1]) * along).sum(axis=1) / length, 0, 1)
    return float(np.linalg.norm(start[:-1] + share[:, None] * along - point, axis=1).min())


@given(seed=st.integers(0, 2**32 - 1), levels=st.sampled_from([None, 1, 5, 40]), points=st.integers(16, 500))
@settings(max_examples=40, deadline=None)
def test_the_area_is_the_metric(seed: int, levels: int | None, points: int) -> None:
    maps, masks = case(seed, levels)
    scores = evaluate_class(maps, masks, metrics=["pixel/auroc", "pixel/ap", "pixel/aupro@0.3", "pixel/aupro@1"])
    ranks, regions = ranks_of(maps, masks), find_regions(masks)
    found = {
        "pixel/auroc": (roc_curve(ranks, points), 1.0),
        "pixel/ap": (pr_curve(ranks, points), 1.0),
        "pixel/aupro@0.3": (pro_curve(ranks, regions, 0.3, points), 0.3),
        "pixel/aupro@1": (pro_curve(ranks, regions, 1.0, points), 1.0),
    }
    for metric, (curve, limit) in found.items():
        assert curve.area / limit == pytest.approx(scores[metric], rel=0, abs=1e-12), metric
        assert len(curve.x) == len(curve.y) <= points
        assert np.all(np.diff(curve.x) >= 0)
        assert curve.x[0] == 0 and curve.x[-1] == pytest.approx(limit, abs=1e-15)
        if metric != "pixel/ap":
            assert np.all(np.diff(curve.y) >= -1e-15) and curve.y[0] == 0 and curve.y[-1] <= 1


@pytest.mark.parametrize("levels", [None, 400])
@pytest.mark.parametrize("points", [16, 60, 300])
def test_no_point_is_further_than_stated(levels: int | None, points: int) -> None:
    maps, masks = case(8, levels)
    curve = roc_curve(ranks_of(maps, masks), points)
    assert 0 < curve.distance <= 2 / (points // 3 - 1)
    full = full_roc(maps, masks)
    assert max(distance_to(curve, point) for point in full[::7]) <= curve.distance
    whole = Curve(full[:, 0], full[:, 1], 0.0)
    assert max(distance_to(whole, point) for point in np.stack([curve.x, curve.y], axis=1)) <= curve.distance


def test_few_scores_are_drawn_as_they_are() -> None:
    maps, masks = case(3, 1)
    curve = roc_curve(ranks_of(maps, masks))
    assert curve.distance == 0 and len(curve.x) < POINTS
    assert max(distance_to(curve, point) for point in full_roc(maps, masks)) < 1e-12


def test_precision_is_drawn_score_by_score_where_there_are_few() -> None:
    ranks = rank(np.array([0.9, 0.8, 0.3, 0.1]), np.array([True, False, True, False]), "image")
    curve = pr_curve(ranks)
    assert curve.x.tolist() == [0, 0.5, 0.5, 1]
    assert curve.y.tolist() == pytest.approx([1, 1, 2 / 3, 2 / 3])


def test_a_pr_step_is_the_mean_over_its_recall() -> None:
    maps, masks = case(5)
    ranks = ranks_of(maps, masks)
    curve = pr_curve(ranks, points=42)
    assert len(curve.x) <= 42 and curve.distance <= 0.06
    hits = np.arange(1, ranks.positives + 1)
    precision = hits / (hits + ranks.at_least[::-1])
    recall = hits / ranks.positives
    for left, right, height in zip(curve.x[::2], curve.x[1::2], curve.y[::2], strict=True):
        inside = (recall > left + 1e-12) & (recall <= right + 1e-12)
        assert height == pytest.approx(precision[inside].mean(), abs=1e-12)


@given(seed=st.integers(0, 2**32 - 1), levels=st.sampled_from([None, 1, 5]))
@settings(max_examples=30, deadline=None)
def test_the_best_threshold_reaches_f1_max(seed: int, levels: int | None) -> None:
    maps, masks = case(seed, levels)
    best = best_f1(ranks_of(maps, masks), maps[masks])
    predicted = maps >= best.threshold
    hits = int((predicted & masks).sum())
    assert best.precision == hits / predicted.sum()
    assert best.recall == hits / masks.sum()
    assert best.f1 == pytest.approx(2 * hits / (predicted.sum() + masks.sum()), abs=1e-15)
    assert best.f1 == evaluate_class(maps, masks, metrics=["pixel/f1max"])["pixel/f1max"]


def test_of_equal_thresholds_the_highest_is_taken() -> None:
    # predicting one or all three: 2 * 1 / (1 + 2) = 2 * 2 / (4 + 2)
    scores, labels = np.array([0.9, 0.5, 0.4, 0.3]), np.array([True, False, False, True])
    best = best_f1(rank(scores, labels, "image"), scores[labels])
    assert (best.threshold, best.f1) == (0.9, pytest.approx(2 / 3))


def test_undefined_and_misuse() -> None:
    nothing = rank(np.zeros(3), np.zeros(3, dtype=bool), "image")
    everything = rank(np.zeros(3), np.ones(3, dtype=bool), "image")
    for call in (roc_curve, pr_curve):
        with pytest.raises(Undefined, match="no anomalous image"):
            call(nothing)
        with pytest.raises(UsageError, match="points is 3"):
            call(rank(np.arange(3.0), np.array([True, False, True]), "image"), 3)
    with pytest.raises(Undefined, match="no normal image"):
        roc_curve(everything)
    assert pr_curve(everything).area == 1
    with pytest.raises(Undefined, match="no anomalous image"):
        best_f1(nothing, np.zeros(0))
