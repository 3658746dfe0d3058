"""Reader of CIFAR's Python version: pickles of Python 2 with the keys `data` and, by set, one or two lists of labels.

`data` is uint8 [N, 3072]: a row holds the 1,024 red values of an image, then the green and the blue ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from bench.api import Finding, Sample
from bench.errors import DatasetError
from bench.loading.pickles import read_plain

from ._arrays import ArrayDataset, ArrayFile, Images
from ._listing import is_file

SIDE = 32


class Cifar(ArrayDataset):
    """Base of CIFAR-10 and CIFAR-100; a subclass says which files and which keys."""

    files: ClassVar[tuple[tuple[str, str], ...]]
    """File name and name of the part, `test` or one that begins with `train`; ordered by the latter."""
    labels_key: ClassVar[str]
    held: ClassVar[str]
    """What the folder holds, in words."""
    meta: ClassVar[tuple[str, str]]
    """File with the class names, and their key in it."""

    @classmethod
    def is_at(cls, folder: Path) -> bool:
        """Return whether one of the pickles is there."""
        return any(is_file(folder / file) for file, _ in cls.files)

    @classmethod
    def layout(cls) -> str:
        """See `FileDataset.layout`."""
        return cls.held

    def parts(self) -> Sequence[ArrayFile]:
        """See `ArrayDataset.parts`."""
        return [ArrayFile("test" if name == "test" else "train", name, self.root / file) for file, name in self.files]

    def labels(self, part: ArrayFile) -> Sequence[int]:
        """See `ArrayDataset.labels`."""
        content = _content(part.path)
        labels = _entry(content, self.labels_key)
        if not isinstance(labels, list) or not all(type(label) is int for label in labels):
            raise DatasetError(f"{part.path}: no list of numbers '{self.labels_key}'. Expected the Python version")
        images = _pixels(content, part.path)
        if len(images) != len(labels):
            raise DatasetError(f"{part.path}: {len(labels)} labels for {len(images)} images. Expected one an image")
        return labels

    def decode(self, path: Path) -> Images:
        """Return uint8 [N, 32, 32, 3]."""
        planes = _pixels(_content(path), path).reshape(-1, 3, SIDE, SIDE)
        return np.ascontiguousarray(planes.transpose(0, 2, 3, 1))

    def inspect(self) -> tuple[tuple[Sample, ...], tuple[Finding, ...]]:
        """See `FileDataset.inspect`; compares the names of the classes, too, where the file with them is there."""
        samples, findings = super().inspect()
        file, key = self.meta
        path = self.root / file
        if path.exists():
            try:
                self._check_names(path, key)
            except DatasetError as error:
                findings = (*findings, self._finding(path, error))
        return samples, findings

    def _check_names(self, path: Path, key: str) -> None:
        names = _entry(_content(path), key)
        told = [name.decode("utf-8", "replace") if isinstance(name, bytes) else name for name in names or ()]
        if told != list(self.card.classes):
            listed = ", ".join(map(str, told)) or "nothing"
            raise DatasetError(f"{path}: '{key}' is {listed}. Expected {', '.join(self.card.classes)}, in this order")


def _content(path: Path) -> dict[Any, Any]:
    content = read_plain(path)
    if not isinstance(content, dict):
        raise DatasetError(
            f"{path}: holds a {type(content).__name__}. Expected the dictionary of CIFAR's Python version"
        )
    return content


def _entry(content: dict[Any, Any], key: str) -> Any:
    """Return an entry under its name as bytes (as distributed) or as text (packed again with Python 3)."""
    return content.get(key.encode(), content.get(key))


def _pixels(content: dict[Any, Any], path: Path) -> Images:
    data = _entry(content, "data")
    if not isinstance(data, np.ndarray) or data.ndim != 2 or data.shape[1] != 3 * SIDE * SIDE:
        found = f"of shape {data.shape}" if isinstance(data, np.ndarray) else "missing or no array"
        raise DatasetError(f"{path}: 'data' is {found}. Expected N x {3 * SIDE * SIDE} uint8 values")
    return data
