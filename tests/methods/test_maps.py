from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from scipy.ndimage import gaussian_filter

from bench.methods._losses import feature_loss
from bench.methods._maps import box_gaussian, gaussian, gaussian_5x5, upsampled_sum


def seeded(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("shape", [(2, 40, 40), (1, 20, 33), (3, 5, 7), (1, 1, 2)])
@pytest.mark.parametrize("sigma", [0.7, 4.0])
def test_gaussian_is_scipys(shape: tuple[int, int, int], sigma: float) -> None:
    # 5x7 and smaller maps are mirrored more than once by a kernel of radius 16
    maps = seeded(*shape)
    wanted = [gaussian_filter(one.numpy(), sigma) for one in maps]
    for found, expected in zip(gaussian(maps, sigma), wanted, strict=True):
        torch.testing.assert_close(found, torch.from_numpy(expected), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "smooth",
    [
        lambda maps: gaussian(maps, 4.0),
        lambda maps: gaussian_5x5(maps.unsqueeze(1), 4.0),
        lambda maps: box_gaussian(maps, 4.0, 33),
    ],
    ids=["gaussian", "gaussian_5x5", "box_gaussian"],
)
def test_smoothing_is_not_rounded_to_bfloat16_under_autocast(smooth: Callable[[torch.Tensor], torch.Tensor]) -> None:
    # 256 steps between two powers of two would make ties of nearly all pixels
    maps = seeded(2, 64, 64).abs().float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = smooth(maps)
        assert found.dtype == torch.float32
        assert smooth(maps.bfloat16()).unique().numel() > 4000
    torch.testing.assert_close(found, smooth(maps))


def test_constant_maps_stay_constant_up_to_the_border() -> None:
    torch.testing.assert_close(gaussian(torch.full((1, 30, 30), 0.3), 4.0), torch.full((1, 30, 30), 0.3))


def test_upsampled_sum_against_a_direct_computation() -> None:
    grids = [seeded(2, 4, 4), seeded(2, 2, 2, seed=1)]
    found = upsampled_sum(grids, 9)
    for b in range(2):
        for y in range(9):
            for x in range(9):
                value = 0.0
                for grid in grids:
                    last = grid.shape[1] - 1
                    v, u = y * last / 8, x * last / 8
                    top, left = min(int(v), last - 1), min(int(u), last - 1)
                    for row in (top, top + 1):
                        for column in (left, left + 1):
                            value += float(grid[b, row, column]) * (1 - abs(v - row)) * (1 - abs(u - column))
                assert found[b, y, x].item() == pytest.approx(value, abs=1e-12)


def test_losses_against_loops() -> None:
    target, output = seeded(2, 3, 2, 4), seeded(2, 3, 2, 4, seed=1)

    def cosine(p: torch.Tensor, q: torch.Tensor) -> float:
        return float(p @ q) / math.sqrt(float(p @ p) * float(q @ q))

    flat = sum(1 - cosine(target[b].reshape(-1), output[b].reshape(-1)) for b in range(2)) / 2
    points = [(b, y, x) for b in range(2) for y in range(2) for x in range(4)]
    point = sum(1 - cosine(target[b, :, y, x], output[b, :, y, x]) for b, y, x in points) / len(points)
    differences = (target - output).flatten().tolist()
    wanted = {
        "cosine_flat": flat,
        "cosine_point": point,
        "l1": sum(abs(value) for value in differences) / len(differences),
        "mse": sum(value**2 for value in differences) / len(differences),
    }
    for kind, value in wanted.items():
        assert feature_loss(kind, target, output).item() == pytest.approx(value, rel=1e-12)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["cosine_flat", "cosine_point", "l1", "mse"])
def test_targets_get_no_gradient(kind: str) -> None:
    target, output = seeded(2, 3, 2, 2).requires_grad_(), seeded(2, 3, 2, 2, seed=1).requires_grad_()
    feature_loss(kind, target, output).backward()  # type: ignore[arg-type]
    assert target.grad is None and output.grad is not None and output.grad.any()
