"""Pixels on the device: brought there, and kept there where they are wanted again and again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bench.api import Sample


class PixelSource(Protocol):
    """Where pixels come from: `bench.loading.pixel_cache.PixelCache`, or images that are decoded once."""

    crop: int
    """Side in pixels."""

    def batch(self, samples: Sequence[Sample], out: npt.NDArray[np.uint8]) -> object:
        """Fill `out`, uint8 [B, crop, crop, 3], in the order of `samples`."""


class DevicePixels:
    """Network inputs as uint8 on a device.

    Args:
        cache: decodes images, and may keep their pixels on disk.
        device: where pixels are wanted.
    """

    def __init__(self, cache: PixelSource, device: torch.device) -> None:
        self._cache = cache
        self._device = device
        self._rows: dict[str, int] = {}
        self._kept = torch.empty(0)
        self._there: list[bool] = []

    def keep(self, samples: Sequence[Sample], room: float) -> bool:
        """Have these images brought to the device once, when they are first asked for, and stay there.

        Args:
            samples: what will be asked for again and again.
            room: bytes that they may take; False is returned, and nothing kept, where they need more.
        """
        side = self._cache.crop
        if len(samples) * 3 * side * side > room:
            return False
        self._rows = {sample.id: row for row, sample in enumerate(samples)}
        self._kept = torch.empty(len(samples), side, side, 3, dtype=torch.uint8, device=self._device)
        self._there = [False] * len(samples)
        return True

    def batch(self, samples: Sequence[Sample]) -> Tensor:
        """Return uint8 [B, S, S, 3] in the order of `samples`; raises as `PixelCache.decode`.

        The caller does not wait for the copy to a CUDA device: it is ordered before whatever is done with the result.
        """
        rows = [self._rows.get(sample.id, -1) for sample in samples]
        kept = min(rows) >= 0
        if kept and all(self._there[row] for row in rows):
            return self._kept.index_select(0, self._index(rows))
        side = self._cache.crop
        read = torch.empty(len(samples), side, side, 3, dtype=torch.uint8, pin_memory=self._device.type == "cuda")
        self._cache.batch(samples, read.numpy())
        found = read.to(self._device, non_blocking=True)
        if kept:
            self._kept.index_copy_(0, self._index(rows), found)
            for row in rows:
                self._there[row] = True
        return found

    def _index(self, rows: list[int]) -> Tensor:
        return torch.tensor(rows).to(self._device, non_blocking=True)
