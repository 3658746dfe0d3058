"""AUPRO on 200 uniform thresholds: the rule's own oddities, and the cases in which it has no value."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.metrics import evaluate_class, rules
from bench.metrics.grids import uniform_thresholds

GRID = "pixel/aupro@0.3:grid200"
EXACT = "pixel/aupro@0.3"


def smooth_case(seed: int, dtype: str = "float32") -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    maps = rng.gamma(2.0, size=(6, 16, 20))
    masks = np.zeros(maps.shape, dtype=np.bool_)
    for image in range(4):
        y, x = rng.integers(0, 12, 2)
        masks[image, y : y + 4, x : x + 6] = True
        masks[image, 15, 19] = True
    scaled = (maps + masks * 1.5) * (20 if np.dtype(dtype).kind in "iu" else 1)
    return scaled.astype(dtype), masks


@given(st.integers(0, 2**32 - 1), st.sampled_from(["float16", "float32", "float64", "uint8", "int32"]))
@settings(max_examples=40, deadline=None)
def test_equals_the_loop_over_thresholds(seed: int, dtype: str) -> None:
    maps, masks = smooth_case(seed, dtype)
    found = evaluate_class(maps, masks, metrics=[GRID])[GRID]
    assert found == pytest.approx(rules.aupro_grid(maps, masks, 0.3, 200, rescale=False), rel=0, abs=1e-12)


def test_more_pixels_than_one_piece() -> None:
    rng = np.random.default_rng(2)
    maps = rng.normal(size=(3, 90, 91)).astype(np.float32)
    masks = np.zeros(maps.shape, dtype=np.bool_)
    masks[0, 10:20, 10:20] = masks[2, 50:55, 3:60] = True
    found = evaluate_class(maps + masks, masks, metrics=[GRID])[GRID]
    assert found == pytest.approx(rules.aupro_grid(maps + masks, masks, 0.3, 200, rescale=False), rel=0, abs=1e-12)


def test_worked_by_hand() -> None:
    # scores 0..200, so step 1 and thresholds 0..199; FPR(t) = 1 - (t + 1) / 201 by the rule "greater than"
    maps = np.zeros((1, 1, 202))
    maps[0, 0, :201] = np.arange(201)
    maps[0, 0, 201] = 180
    masks = np.zeros(maps.shape, dtype=np.bool_)
    masks[0, 0, 201] = True
    # kept: FPR 60/201 down to 1/201; covered while t < 180, that is FPR >= 21/201; between 20 and 21 a slope
    area = (60 - 21) + 0.5
    assert evaluate_class(maps, masks, metrics=[GRID])[GRID] == pytest.approx(area / 60, abs=1e-12)


def test_an_outlier_moves_it_but_not_the_exact_value() -> None:
    maps, masks = smooth_case(5)
    outlier = maps.copy()
    flat = np.where(masks, -np.inf, maps).argmax()
    outlier.reshape(-1)[flat] = 40
    before, after = (evaluate_class(given, masks, metrics=[GRID, EXACT]) for given in (maps, outlier))
    assert after[EXACT] == pytest.approx(before[EXACT], abs=1e-4)
    assert abs(before[GRID] - after[GRID]) > 0.01  # type: ignore[operator]


@pytest.mark.parametrize(
    ("scores", "reason"),
    [
        ([1, 1, 1, 1], "no 200 uniform thresholds"),
        ([0, np.inf, 1, 2], "no 200 uniform thresholds"),
        ([0, 1, 2, 5e-324 + 2], "no two points"),
        ([-3e38, 3e38, 0, 0], "no 200 uniform thresholds"),
        ([0, 1e-45, 0, 1e-45], "no 200 uniform thresholds"),
    ],
)
def test_undefined_where_the_rule_breaks(scores: list[float], reason: str) -> None:
    maps = np.array([[scores]], dtype=np.float32)
    found = evaluate_class(maps, np.array([[[0, 0, 1, 1]]]), metrics=[GRID, EXACT])
    assert found[GRID] is None
    assert found.reasons[GRID].startswith(reason)
    assert found[EXACT] is not None


def test_undefined_without_both_kinds_of_pixels() -> None:
    maps = np.arange(4.0).reshape(1, 2, 2)
    assert evaluate_class(maps, np.zeros((1, 2, 2), int), metrics=[GRID]).reasons == {GRID: "no anomalous pixel"}
    assert evaluate_class(maps, np.ones((1, 2, 2), int), metrics=[GRID]).reasons == {GRID: "no normal pixel"}


def test_thresholds_run_from_the_lowest_score_to_a_step_below_the_highest() -> None:
    thresholds = uniform_thresholds(np.array([3.0, 1.0, 2.0]), 4)
    assert thresholds.tolist() == [1.0, 1.5, 2.0, 2.5]
    assert uniform_thresholds(np.array([0, 200], dtype=np.uint8), 200).tolist() == list(range(200))
