"""Thresholds of normal scores, against NumPy on all of them at once."""

from __future__ import annotations

import numpy as np
import pytest

from bench.metrics.thresholds import QUANTILES, RULES, Normals


@pytest.mark.parametrize("count", [1, 2, 7, 19, 20, 21, 100, 180, 1000, 4096, 70_001])
@pytest.mark.parametrize("kind", [np.float32, np.float64, np.uint8])
def test_parts_give_what_all_scores_give(count: int, kind: type) -> None:
    rng = np.random.default_rng(count)
    scores = (rng.normal(100, 20, count)).clip(0, 255).astype(kind)
    normals = Normals(count)
    for part in np.array_split(scores, [count // 3, count // 2]):
        normals.add(part)
    found = normals.thresholds()
    for rule, share in QUANTILES.items():
        # by the definition, since NumPy multiplies floats: the lowest score that so many do not exceed
        rank = -(-share.numerator * count // share.denominator)
        assert found[rule] == np.sort(scores)[rank - 1]
        assert int((scores <= found[rule]).sum()) * share.denominator >= share.numerator * count
        assert np.quantile(scores, float(share) - 1e-12, method="inverted_cdf") == found[rule]
    assert found["max"] == scores.max()
    if count == 1:
        assert set(RULES) - set(found) == {"mean+3sd"}
    else:
        wanted = scores.astype(np.float64).mean() + 3 * scores.astype(np.float64).std(ddof=1)
        assert found["mean+3sd"] == pytest.approx(wanted, rel=1e-9)


def test_maps_that_rise_and_fall_keep_their_spread() -> None:
    parts = [np.full((2, 8, 8), level, np.float32) for level in (1e4, -1e4, 1e4)]
    normals = Normals(6 * 64)
    for part in parts:
        normals.add(part)
    every = np.concatenate([part.ravel() for part in parts]).astype(np.float64)
    assert normals.thresholds()["mean+3sd"] == pytest.approx(every.mean() + 3 * every.std(ddof=1), rel=1e-12)


def test_scores_that_are_missing_are_noticed() -> None:
    normals = Normals(3)
    normals.add(np.ones(2))
    with pytest.raises(ValueError, match="2 scores, expected 3"):
        normals.thresholds()
    with pytest.raises(ValueError, match="expected 0, at least one"):
        Normals(0).thresholds()
