"""Coreset of a memory: a share of its vectors that covers the rest, chosen greedily; PatchCore's, paper section 3.2."""

from __future__ import annotations

import torch
from torch import Tensor

POOL = 1024
"""Points that the coreset search keeps up to date with every choice: few enough for a processor's cache."""


def coreset(candidates: Tensor, share: float, projection: int) -> Tensor:
    """Return a share of the candidates [N, dim], at least one, that covers them.

    Args:
        candidates: float32.
        share: of them that is kept.
        projection: dimensions of the random projection in which distances are taken; from torch's global generator.
    """
    mixing = torch.randn(candidates.shape[1], projection) / projection**0.5
    count = max(1, round(share * len(candidates)))
    return candidates[covering(candidates @ mixing.to(candidates.device), count)]


def covering(points: Tensor, count: int) -> Tensor:
    """Return int64 [count]: rows of points [N, d] that cover the others, greedily.

    From one random point on, always the point farthest from all chosen ones.

    A distance to the chosen ones never grows, so those last computed bound the true ones from above. Only the `POOL`
    farthest are kept up to date with each choice; while one of them is at least as far as any point outside can be, it
    is the farthest of all. The others learn of all new choices at once, as one matrix product instead of a pass
    through memory for each.
    """
    squares = points.square().sum(dim=1)
    nearest = torch.full_like(squares, torch.inf)
    chosen = torch.randint(len(points), (1,)).to(points.device)
    known = 0
    while True:
        new = points[chosen[known:]].T
        for start in range(0, len(points), POOL):
            rows = slice(start, start + POOL)
            apart = torch.addmm(squares[chosen[known:]], points[rows], new, alpha=-2.0).amin(dim=1)
            torch.minimum(nearest[rows], apart.add_(squares[rows]), out=nearest[rows])
        # never again, also where every other point is as near
        nearest[chosen] = -torch.inf
        known = len(chosen)
        if known == count:
            return chosen
        chosen = torch.cat([chosen, _farthest(points, squares, nearest, count - known)])


def _farthest(points: Tensor, squares: Tensor, nearest: Tensor, most: int) -> Tensor:
    """Return int64 [1 to most]: the next choices of the greedy search, as far as the pool alone can tell.

    Args:
        points: [N, d].
        squares: their squared lengths [N].
        nearest: squared distance of each to the nearest chosen point [N]; -inf for these themselves.
        most: choices wanted.
    """
    values, pool = nearest.topk(min(POOL + 1, len(points)))
    outside = float(values[-1]) if len(points) > POOL else -torch.inf
    values, pool = values[:POOL].clone(), pool[:POOL]
    points, squares = points[pool], squares[pool]
    found: list[Tensor] = []
    while len(found) < most:
        farthest, place = values.max(dim=0)
        if found and float(farthest) < outside:
            break
        found.append(pool[place])
        apart = torch.addmv(squares, points, points[place], alpha=-2.0).add_(squares[place])
        torch.minimum(values, apart, out=values)
        values[place] = -torch.inf
    return torch.stack(found)
