"""Textures that methods paint defects with, drawn on the device from an auxiliary dataset or generated."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from bench.loading.pixel_cache import PixelCache
from bench.machine.progress import Progress
from bench.plan.texture_source import Textures
from bench.run.device_pixels import DevicePixels

CELLS = (4, 16, 64)
"""Squares a side of the grids of random colours whose mean a generated texture is."""


class Draw:
    """Draws textures of one size on one device.

    Args:
        textures: where from.
        side: of the textures in pixels.
        device: where they are wanted.
    """

    def __init__(self, textures: Textures, side: int, device: torch.device) -> None:
        self._textures, self._side, self._device = textures, side, device
        self._pixels: DevicePixels | None = None
        if textures.dataset is not None:
            self._cache = PixelCache(textures.dataset, textures.hashes, side, side)
            self._pixels = DevicePixels(self._cache, device)

    def decode(self, progress: Progress) -> None:
        """Read every texture once, so that a broken file costs no training; raises as `PixelCache.decode`."""
        samples = self._textures.samples
        if samples:
            with progress.phase("decode", len(samples)) as advance:
                self._cache.decode(samples, lambda done: advance(done, ""))

    def __call__(self, count: int, random: Generator) -> Tensor:
        """Return `count` textures that `random` chooses, float32 [count, 3, S, S] in [0, 1]."""
        if self._pixels is None:
            return generated(count, self._side, random, self._device)
        samples = self._textures.samples
        rows = torch.randint(len(samples), (count,), generator=random, device=self._device).tolist()
        found = self._pixels.batch([samples[row] for row in rows])
        return found.permute(0, 3, 1, 2).float().div_(255).contiguous()


def generated(count: int, side: int, random: Generator, device: torch.device) -> Tensor:
    """Return random textures, float32 [count, 3, side, side] in [0, 1]: the mean of coarse and fine coloured squares.

    Whole numbers up to the last step: the same draws give the same bits on every machine.
    """
    total = torch.zeros(count, 3, side, side, dtype=torch.int32, device=device)
    for cells in CELLS:
        grid = torch.randint(256, (count, 3, cells, cells), generator=random, device=device, dtype=torch.int32)
        place = torch.arange(side, device=device) * cells // side
        total += grid.index_select(2, place).index_select(3, place)
    return (total // len(CELLS)).float() / 255
