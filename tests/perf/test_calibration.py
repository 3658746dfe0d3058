"""The unit that `bench check --speed` measures all other benchmarks in: fixed work, of NumPy alone."""

from __future__ import annotations

import numpy as np
from pytest_benchmark.fixture import BenchmarkFixture


def test_calibration(benchmark: BenchmarkFixture) -> None:
    values = np.random.default_rng(0).random(1 << 20, dtype=np.float32)

    def work() -> float:
        # a sort and a running sum, the two kinds of work that metrics are made of: comparisons, and memory in a row
        return float(np.cumsum(np.sort(values), dtype=np.float64)[-1])

    assert 0.4 < benchmark(work) / len(values) < 0.6
