"""Approximations that published tables were computed with, each equal to what the named code returns.

They are for putting a number beside a published one. They move with the range of the scores, so one outlier changes
them, and they have no value on cases where the exact metric does. `ids.VARIANTS` says what each one is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bench.metrics.grids import aupro_equal_ranks, aupro_grid, aupro_grid_per_image, f1_grid
from bench.metrics.histogram import Strips, strips
from bench.metrics.ids import MetricId
from bench.metrics.regions import Regions


class Variants:
    """The variants of one class's pixel metrics; strips that several of them share are counted once."""

    def __init__(
        self,
        maps: npt.NDArray[Any],
        masks: npt.NDArray[np.bool_],
        labels: npt.NDArray[np.bool_],
        regions: Regions,
    ) -> None:
        """Take checked inputs.

        Args:
            maps: float or integer [N, H, W] without NaN; steps between thresholds are finer than float16, so that
                its thresholds are those of float32.
            masks: bool [N, H, W].
            labels: bool [N], True = anomalous; only RD4AD's per-image rule looks at them.
            regions: of the masks.
        """
        maps = maps.astype(np.float32) if maps.dtype == np.float16 else maps
        self._maps, self._masks, self._labels, self._regions = maps, masks, labels, regions
        self._scores, self._positive = maps.ravel(), masks.ravel()
        self._strips: dict[str, Strips] = {}

    def value(self, metric: MetricId) -> float:
        """Return the value of a pixel metric that has a variant.

        Raises:
            Undefined: the rule has no value on these scores; the text says why.
        """
        pooled = self._scores, self._positive
        match metric.metric, metric.variant, metric.limit:
            case "f1max", "grid21", None:
                return f1_grid(*pooled, points=21)
            case "aupro", "grid200", float(limit):
                return aupro_grid(*pooled, self._regions, limit, steps=200)
            case "aupro", "grid100", float(limit):
                return aupro_grid(*pooled, self._regions, limit, steps=100, rescale=True)
            case "aupro", "image200", float(limit):
                return aupro_grid_per_image(self._maps, self._masks, self._labels, limit, steps=200)
            case "aupro", "ranks100", float(limit):
                return aupro_equal_ranks(*pooled, self._regions, limit, thresholds=100)
            case "auroc", "adeval" | "adeval200" | "adeval50" as rule, None:
                return self._counted(rule).auroc()
            case "ap", "adeval" | "adeval200" | "adeval50" as rule, None:
                return self._counted(rule).ap()
            case "aupro", "adeval" | "adeval200" | "adeval50" as rule, float(limit):
                return self._counted(rule).aupro(limit)
        raise AssertionError(f"{metric} is parsed but not computed")

    def _counted(self, rule: str) -> Strips:
        if rule not in self._strips:
            count, accumulator = {"adeval": (1000, False), "adeval200": (200, True), "adeval50": (50, True)}[rule]
            self._strips[rule] = strips(self._scores, self._positive, self._regions, count, accumulator=accumulator)
        return self._strips[rule]
