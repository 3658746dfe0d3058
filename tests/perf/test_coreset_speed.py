"""Seconds that PatchCore's coreset takes, beside a pass through all points for each choice.

Run with: pytest tests/perf/test_coreset_speed.py --benchmark-enable
"""

from __future__ import annotations

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from bench.methods._coreset import covering

POINTS, CHOSEN, DIM = 50_000, 500, 128
FEW = 5_000


@pytest.fixture(scope="module")
def points(timed: bool) -> Tensor:
    """Groups of unequal spread, as patches of a few objects and their background are."""
    drawn = torch.Generator().manual_seed(0)
    count = POINTS if timed else FEW
    group = torch.randint(300, (count,), generator=drawn)
    centres, spread = torch.randn(300, DIM, generator=drawn), torch.rand(300, generator=drawn)
    return centres[group] + spread[group, None] * torch.randn(count, DIM, generator=drawn)


def one_by_one(points: Tensor, count: int) -> Tensor:
    last, nearest = torch.randint(len(points), (1,)), torch.full((len(points),), torch.inf)
    squares, chosen = points.square().sum(dim=1), []
    for _ in range(count):
        chosen.append(last)
        nearest = torch.minimum(nearest, squares + squares[last] - 2.0 * (points @ points[last].squeeze(0)))
        nearest[last] = -torch.inf
        last = nearest.argmax(keepdim=True)
    return torch.cat(chosen)


@pytest.mark.parametrize("search", [covering, one_by_one], ids=["covering", "one_by_one"])
def test_coreset(benchmark: BenchmarkFixture, points: Tensor, search: object) -> None:
    def work() -> Tensor:
        torch.manual_seed(0)
        return search(points, CHOSEN)  # type: ignore[operator]

    found = benchmark(work)
    assert len(set(found.tolist())) == CHOSEN


def test_both_cover_alike(points: Tensor) -> None:
    some, farthest = points[:FEW], []
    for search in (covering, one_by_one):
        torch.manual_seed(0)
        farthest.append(float(torch.cdist(some, some[search(some, CHOSEN)]).amin(dim=1).max()))
    assert farthest[0] == pytest.approx(farthest[1], rel=1e-3)
