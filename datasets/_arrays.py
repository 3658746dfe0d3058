"""Reader of sets that keep many small images in one file (CIFAR, Fashion-MNIST).

`Sample.image` is the file and `Sample.member` the image's row in it. A file is decoded when the first of its images is
asked for, and its array then stays with the dataset: 184 MB for CIFAR-10 or CIFAR-100, 55 MB for Fashion-MNIST.
"""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from bench.api import Finding, Sample
from bench.errors import DatasetError

from ._base import FileDataset

Images = npt.NDArray[np.uint8]
"""uint8 [N, H, W] or [N, H, W, 3]."""


@dataclass(frozen=True, slots=True)
class ArrayFile:
    """One file of images that belongs to the dataset."""

    split: Literal["train", "test"]
    name: str
    """Between class and row in the ids of its samples."""
    path: Path


class ArrayDataset(FileDataset):
    """Base of sets whose images lie many to a file."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._decoded: dict[Path, Images | DatasetError] = {}
        self._decoding = threading.Lock()

    @abstractmethod
    def parts(self) -> Sequence[ArrayFile]:
        """Return the files that make up the dataset, whether they are there or not, ordered by name."""

    @abstractmethod
    def labels(self, part: ArrayFile) -> Sequence[int]:
        """Return each image's place in the card's list of classes. Raises DatasetError naming the file."""

    @abstractmethod
    def decode(self, path: Path) -> Images:
        """Return all images of a file. Raises DatasetError naming the file."""

    def inspect(self) -> tuple[tuple[Sample, ...], tuple[Finding, ...]]:
        """See `FileDataset.inspect`; reads labels and no pixels."""
        classes = self.card.classes
        groups: list[list[Sample]] = [[] for _ in classes]
        findings = []
        for part in self.parts():
            try:
                labels = self.labels(part)
                strange = sorted(set(labels) - set(range(len(classes))))
                if strange:
                    raise DatasetError(f"{part.path}: label {strange[0]}. Expected 0 to {len(classes) - 1}")
            except DatasetError as error:
                findings.append(self._finding(part.path, error))
                continue
            for row, label in enumerate(labels):
                cls = classes[label]
                name = f"{cls}/{part.name}/{row:05}"
                groups[label].append(Sample(name, cls, part.split, 0, "good", part.path, member=str(row)))
        return tuple(sample for group in groups for sample in group), tuple(findings)

    def read_image(self, sample: Sample) -> Image.Image:
        """Return the image in mode RGB at its native size. Raises DatasetError naming the file."""
        images = self._images(sample.image)
        row = int(sample.member)
        if row >= len(images):
            raise DatasetError(f"{sample.image}: no image {row}. Expected more than the {len(images)} that are there")
        return Image.fromarray(images[row]).convert("RGB")

    def read_mask(self, sample: Sample) -> npt.NDArray[np.bool_]:
        """Return a mask that marks nothing; of an image that a setting calls anomalous there is none."""
        if sample.label:
            return super().read_mask(sample)
        image = self.read_image(sample)
        return np.zeros((image.height, image.width), dtype=np.bool_)

    def _images(self, path: Path) -> Images:
        # one thread decodes and the others wait; a broken file is not tried again for each of its images
        with self._decoding:
            held = self._decoded.get(path)
            if held is None:
                try:
                    held = self.decode(path)
                except DatasetError as error:
                    held = error
                self._decoded[path] = held
        if isinstance(held, DatasetError):
            raise DatasetError(str(held))
        return held

    def _finding(self, path: Path, error: DatasetError) -> Finding:
        kind = "unreadable" if path.exists() else "layout"
        return Finding("", kind, path.relative_to(self.root).as_posix(), str(error))
