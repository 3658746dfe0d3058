from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def timed(request: pytest.FixtureRequest) -> bool:
    """Whether benchmarks take times. Where they do not, they are run once to see that they work, and need no size."""
    return bool(request.config.getoption("benchmark_enable"))
