"""Reference definitions of the named variants, a threshold at a time.

Like `reference`, nothing here shares code with the engine. A rule returns None where the code that it writes down
raises, divides by zero or returns NaN.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.metrics.reference import flood_regions

Array = npt.NDArray[Any]
Bools = npt.NDArray[np.bool_]
_EPSILON = 1e-8


def curve_on_a_grid(maps: Array, masks: Bools, steps: int, limit: float) -> tuple[Array, Array] | None:
    """Return (false-positive rates below the limit, mean overlaps) at uniform thresholds; None without two points."""
    values = _floats(maps)
    if masks.all() or not masks.any():
        return None
    with np.errstate(all="ignore"):
        step = (values.max() - values.min()) / values.dtype.type(steps)
    if not (np.isfinite(step) and step > 0):
        return None
    regions = flood_regions(masks)
    thresholds = np.arange(values.min(), values.max(), step)
    points = [(float((values[~masks] > t).mean()), _overlap(values, regions, t)) for t in thresholds]
    kept = np.array([point for point in points if point[0] < limit])
    return (kept[:, 0], kept[:, 1]) if len(kept) >= 2 and kept[:, 0].max() > 0 else None


def aupro_grid(maps: Array, masks: Bools, limit: float, steps: int, *, rescale: bool) -> float | None:
    """Return RD4AD's `compute_pro`, or with `rescale` ADer's `cal_pro_score`, on pooled images."""
    found = curve_on_a_grid(maps, masks, steps, limit)
    if found is None or (rescale and found[0].max() == found[0].min()):
        return None
    fpr, overlap = found
    low = fpr.min() if rescale else 0.0
    return _trapezoids(((fpr - low) / (fpr.max() - low))[::-1], overlap[::-1])


def aupro_per_image(maps: Array, masks: Bools, labels: Bools, limit: float, steps: int) -> float | None:
    """Return the mean over anomalous images of `aupro_grid` on each alone."""
    found = [aupro_grid(maps[i][None], masks[i][None], limit, steps, rescale=False) for i in np.flatnonzero(labels)]
    known = [value for value in found if value is not None]
    return float(np.mean(known)) if known and len(known) == len(found) else None


def aupro_at_ranks(maps: Array, masks: Bools, limit: float, count: int) -> float | None:
    """Return MVTec 3D-AD's: thresholds at equal ranks of the normal pixels, whose rates come from the rank."""
    if masks.all() or not masks.any():
        return None
    normal = sorted(maps[~masks].tolist())
    regions = flood_regions(masks)
    points = [(1.0, 1.0)]
    for place in np.linspace(0, len(normal) - 1, count).astype(int).tolist():
        points.append((1 - (place + 1) / len(normal), _overlap(maps, regions, normal[place])))
    return _cut(points[::-1], limit) / limit


def scaled_thresholds(maps: Array, low: float, high: float, step: float) -> tuple[Array, Array] | None:
    """Return (maps scaled to [0, 1] over the class, thresholds `low` to `high`); None where they cannot be scaled."""
    values = _floats(maps)
    if values.size == 0:
        return None
    with np.errstate(all="ignore"):
        width = values.max() - values.min()
    if not (np.isfinite(width) and width > 0):
        return None
    return (values - values.min()) / width, np.arange(low, high + 1e-3, step).astype(values.dtype)


def counts_on_a_grid(maps: Array, masks: Bools, low: float, high: float, step: float) -> list[tuple[int, int]] | None:
    """Return (true positives, predicted pixels) of each of ADer's thresholds on scaled maps."""
    found = scaled_thresholds(maps, low, high, step)
    if found is None or not masks.any():
        return None
    return [(int(((found[0] > t) & masks).sum()), int((found[0] > t).sum())) for t in found[1]]


def f1(hits: int, predicted: int, positives: int) -> float:
    """Return ADer's F1, with 1e-8 in each of three denominators."""
    precision, recall = hits / (predicted + _EPSILON), hits / (positives + _EPSILON)
    return 2 * precision * recall / (precision + recall + _EPSILON)


def accuracy(hits: int, predicted: int, positives: int) -> float:
    """Return ADer's `Acc`: the share of the anomalous pixels that is found."""
    return hits / (positives + _EPSILON)


def iou(hits: int, predicted: int, positives: int) -> float:
    """Return ADer's intersection over union."""
    return hits / (predicted + positives - hits + _EPSILON)


def adeval(maps: Array, masks: Bools, count: int, *, accumulator: bool) -> tuple[Array, Array, Array] | None:
    """Return ADEval's (normal, anomalous, region-weighted) counts at each edge, the highest first, and last in total.

    Args:
        maps: real [N, H, W].
        masks: bool [N, H, W].
        count: number of strips.
        accumulator: the rule of `EvalAccumulatorCuda`, which counts pixels at the highest score twice.
    """
    if masks.all() or not masks.any():
        return None
    low, high = maps.min(), maps.max()
    with np.errstate(all="ignore"):
        width = float(high) - float(low)
        spans = np.isfinite([np.float32(width * count), np.float32(low), np.float32(high)]).all()
    if not spans or width <= 0:
        return None
    if accumulator:
        values = _floats(maps)
        kind = values.dtype.type
        strip = np.minimum(np.floor((values - kind(low)) * kind(count) / (kind(high) - kind(low))), count - 1)
        top = (maps == high).astype(int)
        counted = [*((strip >= edge) + top for edge in range(count, -1, -1)), 1 + top]
    else:
        edges = np.linspace(0, 1, count + 1, dtype=np.float32) * np.float32(width) + np.float32(low)
        counted = [*(maps >= edge for edge in edges[::-1]), np.ones_like(masks)]
    regions = [(region, float(np.float32(1 / region.sum()))) for region in flood_regions(masks)]
    rows = [
        (one[~masks].sum(), one[masks].sum(), sum(weight * one[region].sum() for region, weight in regions))
        for one in counted
    ]
    alarms, hits, covered = (np.array(column, dtype=np.float64) for column in zip(*rows, strict=True))
    return alarms, hits, covered


def adeval_auroc(maps: Array, masks: Bools, count: int, *, accumulator: bool) -> float | None:
    """Return the trapezoids under ADEval's ROC points."""
    found = adeval(maps, masks, count, accumulator=accumulator)
    if found is None:
        return None
    alarms, hits, _ = found
    return _trapezoids(alarms[:-1] / alarms[-1], hits[:-1] / hits[-1])


def adeval_ap(maps: Array, masks: Bools, count: int, *, accumulator: bool) -> float | None:
    """Return the trapezoids under ADEval's precision-recall points."""
    found = adeval(maps, masks, count, accumulator=accumulator)
    if found is None:
        return None
    alarms, hits, _ = found
    precision = np.divide(hits, hits + alarms, out=np.ones_like(hits), where=hits + alarms > 0)
    return _trapezoids(hits[:-1] / hits[-1], precision[:-1])


def adeval_aupro(maps: Array, masks: Bools, limit: float, count: int, *, accumulator: bool) -> float | None:
    """Return the trapezoids under ADEval's overlap points up to the limit."""
    found = adeval(maps, masks, count, accumulator=accumulator)
    if found is None:
        return None
    alarms, _, covered = found
    fpr, overlap = alarms[:-1] / alarms[-1], covered[:-1] / covered[-1]
    below = int((fpr <= limit).sum())
    if below in (0, len(fpr)) or overlap[below] == 0:
        return None
    return _cut(list(zip(fpr.tolist(), overlap.tolist(), strict=True)), limit) / limit


def _floats(maps: Array) -> Array:
    if maps.dtype.kind != "f":
        return maps.astype(np.float64)
    return maps.astype(np.float32) if maps.dtype.itemsize == 2 else maps


def _overlap(maps: Array, regions: list[Bools], threshold: float) -> float:
    return float(np.mean([(maps[region] > threshold).mean() for region in regions]))


def _trapezoids(x: Array, y: Array) -> float:
    points = pairwise(zip(x.tolist(), y.tolist(), strict=True))
    return math.fsum((x1 - x0) * (y0 + y1) / 2 for (x0, y0), (x1, y1) in points)


def _cut(points: list[tuple[float, float]], limit: float) -> float:
    """Return the area under straight lines from the first point to the limit."""
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        end = min(x1, limit)
        if end > x0:
            area += (end - x0) * (2 * y0 + (y1 - y0) * (end - x0) / (x1 - x0)) / 2
    return area
