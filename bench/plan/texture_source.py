"""Texture source of methods that paint defects: an auxiliary dataset where one is at hand, else generated ones."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from bench.api import Dataset, Sample
from bench.data_roots import data_root, data_roots
from bench.errors import DatasetError
from bench.loading.hashes import content_hashes
from bench.machine.progress import Progress
from bench.registry import DATASETS


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
            return f"textures are generated: none of {', '.join(sources())} was at hand"
        return f"textures are those of {self.name}: {len(self.samples):,} images ({self.fingerprint})"


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
