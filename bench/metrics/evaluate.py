"""One class in, its metrics out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.metrics.ids import Level, MetricId, parse_all
from bench.metrics.inputs import ClassInputs, check
from bench.metrics.ranks import Ranks, Undefined, auroc, average_precision, f1_max, rank
from bench.metrics.regions import Regions, aupro, find_regions
from bench.metrics.variants import aupro_grid
from bench.protocol import SEVEN


class Scores(Mapping[str, float | None]):
    """Metric id -> fraction in [0, 1], or None where the metric is undefined and `reasons` says why."""

    def __init__(self, values: Mapping[str, float | None], reasons: Mapping[str, str]) -> None:
        self._values = dict(values)
        self.reasons: dict[str, str] = dict(reasons)
        """Metric id -> why it has no value; exactly the ids whose value is None."""

    def __getitem__(self, metric: str) -> float | None:
        return self._values[metric]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Scores({self._values!r}, reasons={self.reasons!r})"


def evaluate_class(
    maps: npt.ArrayLike | None,
    masks: npt.ArrayLike | None,
    image_scores: npt.ArrayLike | None = None,
    labels: npt.ArrayLike | None = None,
    *,
    metrics: Iterable[str] | None = None,
) -> Scores:
    """Return the metrics of one class, pooled over its test images, good images included. Exact unless named otherwise.

    Only the order of the scores counts, in the dtype they come in. Every distinct score is a threshold, ties enter
    together, -0.0 equals +0.0, infinities rank as tied extremes. Regions are 8-connected.

    Args:
        maps: float16, float32, float64 or integer [N, H, W], any range, higher = more anomalous; None without maps.
        masks: bool or integer 0/1 [N, H, W], 1 = anomalous; None where the dataset has none.
        image_scores: the same dtypes, [N], one score an image; None without them.
        labels: bool or integer 0/1 [N], 1 = anomalous; None takes "the mask has an anomalous pixel".
        metrics: metric ids (see bench.metrics.ids); None stands for the field's seven.

    Returns:
        A value for each metric asked for. Undefined ones are None with a reason, never 0: AUROC and AUPRO without
        both kinds of pixels (images), AP and F1-max without an anomalous one, and whatever lacks its input. Without
        a normal pixel (image) AP and F1-max are 1.

    Raises:
        UsageError: unknown metric id; wrong dtype, shape or number of images; masks or labels other than 0 and 1.
        ScoreError: a score is NaN; the message names the image.
    """
    wanted = parse_all(metrics)
    given = check(maps, masks, image_scores, labels)
    values: dict[str, float | None] = {}
    reasons: dict[str, str] = {}
    levels: dict[Level, _Level] = {"image": _Level("image", given), "pixel": _Level("pixel", given)}
    for metric in wanted:
        name = str(metric)
        try:
            values[name] = levels[metric.level].value(metric)
        except Undefined as why:
            values[name] = None
            reasons[name] = str(why)
    return Scores(values, reasons)


def mad(scores: Mapping[str, float | None]) -> float | None:
    """Return mAD, the unweighted mean of the field's seven metrics; None unless all seven have a value."""
    values = [scores.get(metric) for metric in SEVEN]
    numbers = [value for value in values if value is not None]
    return math.fsum(numbers) / len(SEVEN) if len(numbers) == len(SEVEN) else None


class _Level:
    """The image or the pixel side of a class: ranked once, when the first metric asks."""

    def __init__(self, level: Level, given: ClassInputs) -> None:
        self._level = level
        self._given = given

    def value(self, metric: MetricId) -> float:
        match metric.metric, metric.variant:
            case "auroc", None:
                return auroc(self._ranks)
            case "ap", None:
                return average_precision(self._ranks)
            case "f1max", None:
                return f1_max(self._ranks)
            case "aupro", None if metric.limit is not None:
                return aupro(self._ranks, self._regions, metric.limit)
            case "aupro", "grid200" if metric.limit is not None:
                return aupro_grid(*self._flat, self._regions, metric.limit, steps=200)
        raise AssertionError(f"{metric} is parsed but not computed")

    @cached_property
    def _flat(self) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        if self._level == "image":
            if self._given.image_scores is None or self._given.labels is None:
                raise Undefined("no image scores given")
            return self._given.image_scores, self._given.labels
        if self._given.maps is None:
            raise Undefined("no maps given")
        if self._given.masks is None:
            raise Undefined("no masks given")
        return self._given.maps.ravel(), self._given.masks.ravel()

    @cached_property
    def _ranks(self) -> Ranks:
        return rank(*self._flat, self._level)

    @cached_property
    def _regions(self) -> Regions:
        if self._given.masks is None:
            raise Undefined("no masks given")
        return find_regions(self._given.masks)
