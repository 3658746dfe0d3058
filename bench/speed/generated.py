"""Images of a workload: a few generated files, each standing for many images that are decoded one by one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from bench.api import Card, Counts, Dataset, Sample
from bench.encoders import catalog, weights
from bench.loading.hashes import sha256
from bench.plan.task import Task
from bench.speed.gratings import grating

FILES = 16
"""Distinct image files; every image beyond them is decoded from one of these, and kept as an image of its own."""


class Generated(Dataset):
    """Images without meaning: gratings under noise; a square for a defect's mask."""

    card = Card(
        name="generated",
        title="generated",
        kind="industrial",
        classes=(),
        counts={},
        masks="pixel",
        licence="none needed",
        citation="none",
        source="bench speed makes it",
    )

    @classmethod
    def locate(cls, data_root: Path | None) -> Path:
        """Return the folder as given."""
        return data_root or Path()

    def samples(self) -> tuple[Sample, ...]:
        """Return nothing: a task of generated images is made by `Files.task`."""
        return ()


@dataclass(frozen=True)
class Files:
    """Image and mask files in a folder, with their hashes."""

    folder: Path
    images: tuple[Path, ...]
    mask: Path
    hashes: Mapping[Path, str]

    @property
    def mean_bytes(self) -> int:
        """Return the mean length of an image file."""
        return sum(path.stat().st_size for path in self.images) // len(self.images)

    def task(self, counts: Mapping[str, Counts]) -> Task:
        """Return a task of so many images a class, in setting multi."""
        return Task(
            name="generated",
            dataset=Generated(self.folder),
            setting="multi",
            classes=tuple(counts),
            train=self._samples(counts, "train"),
            test=self._samples(counts, "test"),
            hashes=self.hashes,
            classes_known=len(counts),
        )

    def _samples(self, counts: Mapping[str, Counts], split: str) -> tuple[Sample, ...]:
        found: list[Sample] = []
        for cls, one in counts.items():
            kinds = [(0, one.train)] if split == "train" else [(0, one.good), (1, one.bad)]
            for label, count in kinds:
                for number in range(count):
                    name = f"{cls}/{split}/{'bad' if label else 'good'}/{number:05}"
                    found.append(
                        Sample(
                            id=name,
                            cls=cls,
                            split="train" if split == "train" else "test",
                            label=label,
                            defect="square" if label else "good",
                            image=self.images[len(found) % len(self.images)],
                            # a name of its own keeps the pixel cache from taking two images of a file for one
                            member=name,
                            masks=(self.mask,) if label else (),
                        )
                    )
        return tuple(found)


def files(folder: Path, side: int, suffix: str = ".png", count: int = FILES) -> Files:
    """Write `count` images of `side` x `side` pixels, PNG or JPEG, and a mask.

    The pixels are the same on every machine; how long a file is, and what JPEG keeps of them, is the installed
    encoder's. Files are compressed as real ones are, since their decoding is timed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    images = []
    for number in range(count):
        images.append(folder / f"{number:03}{suffix}")
        Image.fromarray(grating(number, side)).save(images[-1], compress_level=3, quality=95)
    mask = np.zeros((side, side), np.uint8)
    mask[side // 4 : side // 2, side // 4 : side // 2] = 255
    path = folder / "mask.png"
    Image.fromarray(mask).save(path)
    return Files(folder, tuple(images), path, {one: sha256(one) for one in (*images, path)})


def weights_file(name: str, given: Path | None, folder: Path) -> tuple[Path, bool]:
    """Return a file of weights for an encoder, and whether they are random: speed does not depend on their values.

    Args:
        name: encoder by catalogue name.
        given: folder of weights that the user named.
        folder: where a file of random weights goes if there are none at hand.
    """
    found = weights.at_hand(name, given)
    if found is not None:
        return found, False
    path = folder / f"{name}.safetensors"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            state = catalog.create(name).state_dict()
        save_file({key: value.contiguous() for key, value in state.items()}, path)
    return path, True


def one_class(train: int, test: int) -> dict[str, Counts]:
    """Return one class of so many images, half of the test images defective."""
    return {"generated": Counts(train=train, good=test - test // 2, bad=test // 2)}


def dealt(counts: Mapping[str, Counts], most: int) -> dict[str, Counts]:
    """Return the first classes that together have at least `most` test images, or all."""
    kept: dict[str, Counts] = {}
    for cls, one in counts.items():
        if sum(known.good + known.bad for known in kept.values()) >= most:
            break
        kept[cls] = one
    return kept
