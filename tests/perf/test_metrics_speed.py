"""Seconds for a class of MVTec AD's usual size: 83 maps of 256x256 with 2-3 percent anomalous pixels.

Run with: pytest tests/perf --benchmark-enable
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.metrics import SEVEN, evaluate_class

Class = tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_], npt.NDArray[np.float32]]


@pytest.fixture(scope="module")
def bottle() -> Class:
    rng = np.random.default_rng(0)
    coarse = rng.gamma(2.0, size=(83, 33, 33)).astype(np.float32)
    # bilinear between coarse cells: few ties and a smooth map, as an upsampled anomaly map has
    grid = np.linspace(0, 32, 256, dtype=np.float32)[:, None]
    hat = np.maximum(1 - np.abs(grid - np.arange(33, dtype=np.float32)), 0)
    maps = hat @ coarse @ hat.T
    masks = np.zeros(maps.shape, dtype=np.bool_)
    for image in range(63):
        for y, x in rng.integers(0, 226, (3, 2)):
            masks[image, y : y + 27, x : x + 27] = True
    maps[masks] += 2
    return maps, masks, maps.max(axis=(1, 2))


@pytest.mark.parametrize("metrics", [SEVEN, ("pixel/aupro@0.3:grid200",)], ids=["seven", "grid200"])
def test_a_class_of_83_maps(benchmark: BenchmarkFixture, bottle: Class, metrics: tuple[str, ...]) -> None:
    maps, masks, image_scores = bottle
    assert 0.02 < masks.mean() < 0.03
    scores: Any = benchmark(evaluate_class, maps, masks, image_scores, metrics=metrics)
    assert all(0.2 < scores[metric] <= 1 for metric in metrics)
