"""Threshold grids: the rules that look at a few thresholds where the exact metrics look at every score.

Uniform grids span the range of the scores, so one outlier moves every threshold; equal-rank grids split ties. All
rules here count score > threshold, as the code that they reproduce does, and have no value on cases where that code
raises or returns NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.metrics.ranks import Undefined, require
from bench.metrics.regions import Regions, find_regions

Array = npt.NDArray[Any]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

_CHUNK = 1 << 14  # sorted within the first-level cache
_EPSILON = 1e-8


def uniform_thresholds(scores: Array, steps: int) -> Floats:
    """Return thresholds from the lowest score up to one step below the highest: float64, about `steps` of them.

    The range is divided in the scores' own float type and walked with numpy.arange, which is what the published code
    does under NumPy 2 and later; rounding of the step can therefore add a last threshold just below the highest score.
    Under the NumPy that Dinomaly states (1.18.4) the same code divides float32 scores in float64 and compares them with
    thresholds rounded to float32, which moves AUPRO by 1e-8 on real maps and by up to 8e-5 on tiny ones.

    Raises:
        Undefined: the scores are constant, or their range or step is not a finite positive number.
    """
    low, high, width = _span(scores)
    with np.errstate(under="ignore"):
        step = width / width.dtype.type(steps)
    if not np.isfinite(step) or step <= 0:
        raise Undefined(f"no {steps} uniform thresholds fit between the scores {low} and {high}")
    return np.arange(low, high, step).astype(np.float64, copy=False)


def aupro_grid(
    scores: Array,
    positive: Bools,
    regions: Regions,
    limit: float,
    *,
    steps: int = 200,
    rescale: bool = False,
) -> float:
    """Return AUPRO on uniform thresholds by RD4AD's rule (`compute_pro`) or ADer's (`cal_pro_score`), images pooled.

    Of the curve, the points with FPR < `limit` are kept; their FPR is divided by the largest one kept (RD4AD), or moved
    and scaled so that it runs from 0 to 1 (ADer, `rescale`); neither divides by the limit. There is no origin and no
    interpolation; trapezoids.

    Args:
        scores: real [M], pixels of all images in C order.
        positive: bool [M].
        regions: as `find_regions` returns.
        limit: false-positive rate in (0, 1].
        steps: number of thresholds.
        rescale: ADer's rule instead of RD4AD's.

    Raises:
        Undefined: no anomalous or no normal pixel, no usable grid, or no two points between FPR 0 and the limit.
    """
    chosen = scores[positive]
    negatives = len(scores) - len(chosen)
    require(len(chosen), negatives, "pixel")
    thresholds = uniform_thresholds(scores, steps)
    exceeding = np.zeros(len(thresholds), dtype=np.int64)
    for start in range(0, len(scores), _CHUNK):
        exceeding += _count_above(scores[start : start + _CHUNK], thresholds)
    fpr = (exceeding - _count_above(chosen, thresholds)) / negatives
    overlap = mean_overlap(chosen, regions, thresholds)
    kept = fpr < limit
    fpr, overlap = fpr[kept], overlap[kept]
    if len(fpr) < 2 or fpr.max() == 0 or (rescale and fpr.max() == fpr.min()):
        raise Undefined(f"no two points of the {steps}-threshold curve lie between FPR 0 and {limit:g}")
    lowest = fpr.min() if rescale else 0.0
    fpr = (fpr - lowest) / (fpr.max() - lowest)
    return float(np.sum((fpr[:-1] - fpr[1:]) * (overlap[:-1] + overlap[1:])) / 2)


def aupro_grid_per_image(maps: Array, masks: Bools, labels: Bools, limit: float, *, steps: int = 200) -> float:
    """Return RD4AD's own number: `aupro_grid` of each anomalous image by itself, averaged over these images.

    Each image has its own range of scores and its own false-positive rate; normal images are never looked at.

    Args:
        maps: real [N, H, W].
        masks: bool [N, H, W].
        labels: bool [N], True = anomalous; these images are averaged.
        limit: false-positive rate in (0, 1].
        steps: number of thresholds an image.

    Raises:
        Undefined: no anomalous image, or the rule has no value on one of them; the reason names the first.
    """
    require(int(labels.sum()), None, "image")
    values = []
    for image in np.flatnonzero(labels):
        mask = masks[image]
        try:
            regions = find_regions(mask[None])
            values.append(aupro_grid(maps[image].ravel(), mask.ravel(), regions, limit, steps=steps))
        except Undefined as why:
            raise Undefined(f"anomalous image {image}: {why}") from None
    return float(np.mean(values))


def aupro_equal_ranks(
    scores: Array, positive: Bools, regions: Regions, limit: float, *, thresholds: int = 100
) -> float:
    """Return AUPRO by MVTec 3D-AD's rule: thresholds at equal ranks among the normal pixels' sorted scores.

    The k-th of n sorted normal scores stands for FPR 1 - (k + 1) / n whatever its ties; (1, 1) is added, the curve is
    cut at the limit by interpolation, and the area divided by the limit. Scores are compared as float64.

    Args:
        scores: real [M], pixels of all images in C order.
        positive: bool [M].
        regions: as `find_regions` returns.
        limit: false-positive rate in (0, 1].
        thresholds: number of ranks, lowest and highest included.

    Raises:
        Undefined: no anomalous or no normal pixel.
    """
    normal = scores[~positive]
    require(len(scores) - len(normal), len(normal), "pixel")
    places = np.linspace(0, len(normal) - 1, num=thresholds, dtype=int)
    # a copy of its own already, so it is partitioned where it lies
    normal.partition(np.unique(places))
    at_ranks = normal[places].astype(np.float64)
    fpr = np.concatenate(([1.0], 1.0 - (places + 1) / len(normal)))[::-1]
    overlap = np.concatenate(([1.0], mean_overlap(scores[positive], regions, at_ranks)))[::-1]
    return area_up_to(fpr, overlap, limit) / limit


@dataclass(frozen=True, slots=True)
class ScaledCounts:
    """What exceeds each of ADer's thresholds on scores scaled to [0, 1]; arrays are int64 [T]."""

    hits: npt.NDArray[np.int64]
    """Anomalous pixels."""
    predicted: npt.NDArray[np.int64]
    """All pixels."""
    positives: int

    def f1(self) -> Floats:
        """Return F1 at each threshold; precision, recall and F1 each carry 1e-8 in the denominator."""
        precision, recall = self.hits / (self.predicted + _EPSILON), self.accuracy()
        return 2 * precision * recall / (precision + recall + _EPSILON)

    def accuracy(self) -> Floats:
        """Return what ADer calls `Acc`: the share of the anomalous pixels that exceed the threshold."""
        return self.hits / (self.positives + _EPSILON)

    def iou(self) -> Floats:
        """Return intersection over union at each threshold."""
        return self.hits / (self.predicted + self.positives - self.hits + _EPSILON)


def scaled_counts(scores: Array, positive: Bools, low: float, high: float, step: float) -> ScaledCounts:
    """Return what exceeds the thresholds `low`, `low + step`, ..., `high` of the scores scaled over the class.

    Thresholds are compared in the scores' own float type, as NumPy before 2.0 does, which ADer was written for.

    Args:
        scores: real [M], pixels of all images.
        positive: bool [M].
        low: first threshold, in [0, 1].
        high: last threshold.
        step: between thresholds.

    Raises:
        Undefined: no anomalous pixel, or scores whose range is 0 or not finite.
    """
    chosen = scores[positive]
    require(len(chosen), None, "pixel")
    first, last, width = _span(scores)
    if not np.isfinite(width) or width <= 0:
        raise Undefined(f"scores between {first} and {last} cannot be scaled to [0, 1]")
    thresholds = np.arange(low, high + 1e-3, step).astype(width.dtype)
    predicted = np.zeros(len(thresholds), dtype=np.int64)
    for start in range(0, len(scores), _CHUNK):
        predicted += _count_above((scores[start : start + _CHUNK] - first) / width, thresholds)
    return ScaledCounts(_count_above((chosen - first) / width, thresholds), predicted, len(chosen))


def mean_overlap(chosen: Array, regions: Regions, thresholds: Floats) -> Floats:
    """Return the mean over regions of the share of pixels above each of the ascending `thresholds`: float64 [T].

    Args:
        chosen: scores of the anomalous pixels, [P], in the order of `regions.index`.
        regions: as `find_regions` returns.
        thresholds: float64 [T], ascending, repeats allowed.
    """
    # a pixel counts 1 / area at each threshold it exceeds, which are the first ones
    exceeded = np.searchsorted(thresholds, chosen, side="left")
    weights = 1 / regions.areas[regions.index]
    covered = np.bincount(exceeded, weights=weights, minlength=len(thresholds) + 1)
    overlap: Floats = np.cumsum(covered[::-1])[::-1][1:] / len(regions.areas)
    return overlap


def area_up_to(x: Floats, y: Floats, limit: float) -> float:
    """Return the area under straight lines through (x, y), x ascending, from the first x to `limit` or the last."""
    end = int(np.searchsorted(x, limit, side="right"))
    area = float(np.sum(np.diff(x[:end]) * (y[1:end] + y[: end - 1])) / 2)
    if end == len(x) or x[end - 1] == limit:
        return area
    rest = limit - x[end - 1]
    at_limit = y[end - 1] + (y[end] - y[end - 1]) * rest / (x[end] - x[end - 1])
    return float(area + rest * (y[end - 1] + at_limit) / 2)


def _span(scores: Array) -> tuple[Any, Any, Any]:
    """Return the lowest score, the highest and their distance, in the scores' own float type (float64 for integers)."""
    dtype = scores.dtype if scores.dtype.kind == "f" else np.dtype(np.float64)
    low, high = scores.min().astype(dtype), scores.max().astype(dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        return low, high, high - low


def _count_above(scores: Array, thresholds: Array) -> npt.NDArray[np.int64]:
    """Return how many scores exceed each threshold; sorting a cached piece beats looking each score up."""
    return len(scores) - np.searchsorted(np.sort(scores), thresholds, side="right").astype(np.int64, copy=False)
