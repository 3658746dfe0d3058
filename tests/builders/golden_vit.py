"""A stand-in for a frozen ViT by formula: eight blocks' outputs, on which official classes were run once."""

from __future__ import annotations

from golden_values import waves
from torch import Tensor

from bench.api import EncoderInfo

DIM, PREFIX, GRID = 16, 3, (4, 4)
TOKENS = PREFIX + GRID[0] * GRID[1]
INFO = EncoderInfo("waves", "vit", DIM, 8, 2, 2, PREFIX, GRID, 8, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
"""A class token, two registers, 4 x 4 patches; two heads."""


def blocks() -> dict[int, Tensor]:
    """Outputs of eight blocks, float32 [2, 19, 16] each: x <- 0.9 x + waves, from waves."""
    found, x = {}, waves(2, TOKENS, DIM)
    for index in range(8):
        x = 0.9 * x + waves(2, TOKENS, DIM, shift=0.4 * (index + 1))
        found[index] = x
    return found
