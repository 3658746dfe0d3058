"""Textures that methods paint defects with: an auxiliary dataset where one is at hand, else generated ones."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from torch import Generator, Tensor

from bench.api import Dataset, Sample
from bench.errors import DatasetError
from bench.loading.hashes import content_hashes
from bench.loading.pixel_cache import PixelCache
from bench.registry import DATASETS
from bench.run.device_pixels import DevicePixels
from bench.run.progress import Progress
from bench.run.task import data_root, data_roots

CELLS = (4, 16, 64)
"""Squares a side of the grids of random colours whose mean a generated texture is."""


@dataclass(frozen=True)
class Textures:
    """A source of textures, as a cell is planned with it."""

    name: str = "generated"
    """Of the auxiliary dataset."""
    dataset: Dataset | None = field(default=None, repr=False)
    """None for generated textures."""
    samples: tuple[Sample, ...] = field(default=(), repr=False)
    hashes: Mapping[Path, str] = field(default_factory=dict, repr=False)

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over ids and the bytes of every image; of generated ones their name and version."""
        if self.dataset is None:
            return f"{self.name} 1"
        lines = hashlib.sha256()
        for sample in self.samples:
            lines.update(f"{sample.id}\t{self.hashes[sample.image]}\n".encode())
        return lines.hexdigest()[:16]

    @property
    def note(self) -> str:
        """What a reader of the scores has to know of them."""
        if self.dataset is None:
            return f"painted with generated textures: none of {', '.join(sources())} was at hand"
        return f"painted with textures of {self.name}: {len(self.samples):,} images ({self.fingerprint})"


def sources() -> list[str]:
    """Return the registered datasets that are sources of textures."""
    return [name for name in DATASETS.names() if DATASETS.load(name).card.kind == "auxiliary"]


def find(given: Sequence[str], progress: Progress) -> Textures:
    """Return the first auxiliary dataset that lies below the data roots, else generated textures.

    Args:
        given: `--data-root` options.
        progress: told of the hashing.

    Raises:
        UsageError, DatasetError: the root given for an auxiliary dataset by its name is not one, or it is incomplete.
    """
    for name in sources():
        root, kind = data_root(name, given), DATASETS.load(name)
        if root is None:
            continue
        try:
            dataset = kind(kind.locate(root))
        except DatasetError:
            if name in data_roots(given):
                raise
            continue
        samples = dataset.samples()
        files = dict.fromkeys(sample.image for sample in samples)
        with progress.phase("hash", len(files)) as advance:
            hashes = content_hashes(files, lambda done: advance(done, ""))
        return Textures(name, dataset, samples, hashes)
    return Textures()


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
