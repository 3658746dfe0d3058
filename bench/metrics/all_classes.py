"""Class-agnostic (pooled) metrics: all classes ranked together, as one threshold for all of them sees them.

A mean over classes lets each class have its own threshold. Here the images, and the pixels, of all classes are in one
ranking.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.errors import StoreError
from bench.metrics import Scores, evaluate_class, parse
from bench.metrics.accumulate import Accumulator, streams
from bench.metrics.ranks import NO_MAPS

MOST_BYTES = 8 << 30
"""Most that the maps of all classes may take, in memory and past the accumulator's buffer in a temporary file. MVTec AD
and VisA need 0.5 GiB as float32, Real-IAD 28 GiB."""


class AllClasses:
    """Takes one class after another; keeps image scores, and maps as long as pixel metrics can be computed.

    Args:
        metrics: ids of what is measured. Left out are objects, and what needs all maps or single defects at once.
        classes: how many there are, and how many of them have masks; pixels are pooled only where all have.
        images: number of test images of all classes.
        size: side of the maps.
    """

    def __init__(self, metrics: Sequence[str], *, classes: int, with_masks: int, images: int, size: int) -> None:
        wanted = [parse(metric) for metric in metrics]
        self._image_metrics = [str(metric) for metric in wanted if metric.level == "image"]
        self._pixel_metrics = [str(metric) for metric in wanted if metric.level == "pixel" and streams(metric)]
        self._scores: list[npt.NDArray[np.float64]] = []
        self._labels: list[int] = []
        self._pixels: Accumulator | None = Accumulator(self._pixel_metrics)
        self._why_not = ""
        self._numbers = images * size * size
        if with_masks < classes:
            self.leave_out("no masks" if not with_masks else f"no masks in {classes - with_masks} classes")

    def add(
        self,
        maps: npt.NDArray[Any] | None,
        masks: npt.NDArray[np.bool_] | None,
        image_scores: npt.NDArray[np.float64],
        labels: Sequence[int],
    ) -> None:
        """Add a class.

        Args:
            maps: any real dtype, the same for all classes, [N, S, S].
            masks: bool [N, S, S].
            image_scores: float64 [N].
            labels: 0 or 1, [N].
        """
        self._scores.append(image_scores)
        self._labels += labels
        if self._pixels is None:
            return
        if maps is None:
            self.leave_out(NO_MAPS)
            return
        if (need := self._numbers * maps.itemsize) > MOST_BYTES:
            self.leave_out(f"the maps take {need / 2**30:.0f} GiB, more than {MOST_BYTES / 2**30:.0f}")
            return
        try:
            self._pixels.update(maps, masks)
        except StoreError as error:
            # an extra score is no reason to lose the cell
            self.leave_out(str(error))

    def compute(self) -> Scores:
        """Return the exact metrics over all classes; pixel metrics may be None with a reason."""
        images = evaluate_class(None, None, np.concatenate(self._scores), self._labels, metrics=self._image_metrics)
        if self._pixels is None:
            pixels = Scores(dict.fromkeys(self._pixel_metrics), dict.fromkeys(self._pixel_metrics, self._why_not))
        else:
            pixels = self._pixels.compute()
        return Scores({**images, **pixels}, {**images.reasons, **pixels.reasons})

    def leave_out(self, why: str) -> None:
        """Have pixel metrics undefined for a reason."""
        self._pixels, self._why_not = None, why
