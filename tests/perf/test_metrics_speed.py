"""Seconds for classes of 256 x 256 maps with 2 to 3 percent anomalous pixels; `make speed` compares with other code.

Run with: pytest tests/perf --benchmark-enable
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from perf.speed import Class, bench, bench_in_chunks, exact_aupro, make_class, scikit_learn
from pytest_benchmark.fixture import BenchmarkFixture

from bench.metrics import SEVEN, evaluate_class
from bench.metrics.regions import find_marked


@pytest.fixture(scope="module")
def classes(timed: bool) -> dict[int, Class]:
    """MVTec AD's usual size of a class, and a large one; a part of them where no times are taken."""
    return {images: make_class(images if timed else images // 10) for images in (83, 400)}


@pytest.mark.parametrize("images", [83, 400])
def test_the_seven_metrics(benchmark: BenchmarkFixture, classes: dict[int, Class], images: int) -> None:
    given = classes[images]
    assert 0.02 < given.masks.mean() < 0.03
    scores: Any = benchmark(bench, given)
    assert all(0.2 < scores[metric] <= 1 for metric in SEVEN)


def test_the_seven_metrics_in_chunks(benchmark: BenchmarkFixture, classes: dict[int, Class]) -> None:
    scores: Any = benchmark(bench_in_chunks, classes[400])
    assert dict(scores) == dict(bench(classes[400]))


@pytest.mark.parametrize("dtype", ["float16", "float64", "uint8", "int64"])
def test_other_dtypes(benchmark: BenchmarkFixture, classes: dict[int, Class], dtype: str) -> None:
    given = classes[83]
    # float64 that is not float32 is sorted
    maps = (given.maps * (np.pi if dtype == "float64" else 20)).astype(dtype)
    scores: Any = benchmark(evaluate_class, maps, given.masks, metrics=SEVEN[3:])
    assert all(abs(scores[metric] - bench(given)[metric]) < 0.02 for metric in SEVEN[3:])


def test_grid_of_200_thresholds(benchmark: BenchmarkFixture, classes: dict[int, Class]) -> None:
    given = classes[83]
    scores: Any = benchmark(evaluate_class, given.maps, given.masks, metrics=["pixel/aupro@0.3:grid200"])
    assert 0.2 < scores["pixel/aupro@0.3:grid200"] <= 1


def test_regions(benchmark: BenchmarkFixture, classes: dict[int, Class]) -> None:
    marked = benchmark(find_marked, classes[400].masks)
    assert len(marked.where) == classes[400].masks.sum()


def test_the_slow_engines_of_the_comparison_agree() -> None:
    given = make_class(6)
    expected = bench(given)
    for engine in (scikit_learn, exact_aupro):
        found = engine(given)
        assert found == {metric: pytest.approx(expected[metric], abs=1e-9) for metric in found}
