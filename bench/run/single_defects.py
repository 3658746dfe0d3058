"""Defects annotated one by one, at the evaluation size, with the area that suffices to find each (sPRO)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.api import by_class
from bench.loading.masks import to_evaluation
from bench.metrics import Defect, parse
from bench.plan.task import Task
from bench.protocol import Protocol


@dataclass(frozen=True, slots=True)
class Packed:
    """A defect of a class, its mask kept as bits."""

    image: int
    """Index of the image among the class's test images."""
    bits: npt.NDArray[np.uint8]
    """uint8 [S*S/8]."""
    saturation: float

    def unpacked(self, size: int) -> Defect:
        """Return the defect with its mask, bool [size, size]."""
        mask = np.unpackbits(self.bits, count=size * size).reshape(size, size).astype(np.bool_)
        return Defect(self.image, mask, self.saturation)


PackedDefects = Mapping[str, Sequence[Packed]]
"""Class -> its defects; a class whose defects are not annotated one by one is not there."""


def read_defects(task: Task, protocol: Protocol, input_size: int, metrics: Sequence[str]) -> PackedDefects:
    """Read every single defect, where a metric needs them and the dataset has them.

    A defect keeps the share of its area that suffices to find it, at least one pixel; one that vanishes at the
    evaluation size is left out.

    Raises:
        DatasetError: a mask or the file of saturation areas cannot be read or does not fit.
    """
    if all(parse(metric).needs != "defects" for metric in metrics):
        return {}
    found: dict[str, list[Packed]] = {}
    for cls, samples in by_class(task.test).items():
        for place, sample in enumerate(samples):
            given = task.dataset.read_defects(sample) if sample.label else None
            if given is None:
                continue
            own = found.setdefault(cls, [])
            for defect in given:
                mask = to_evaluation(defect.mask, protocol, input_size)
                area = int(mask.sum())
                if area:
                    enough = defect.saturation / int(defect.mask.sum()) * area
                    own.append(Packed(place, np.packbits(mask), min(max(1.0, enough), float(area))))
    return found
