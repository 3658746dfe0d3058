from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench.metrics import buckets, pieces, regions


@pytest.fixture(scope="module", params=["sorting", "counting"])
def engine(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test runs on both ways of ranking; the second in several pieces and rounds, as large data are."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "counting":
            patch.setattr(buckets, "_WORTH", 0)
            patch.setattr(buckets, "ROUND", 60)
            patch.setattr(regions, "_WORTH", 0)
            patch.setattr(regions, "PIECE", 50)
            patch.setattr(pieces, "PIECE", 20)
        yield
