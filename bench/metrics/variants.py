"""Approximations that published tables were computed with, each equal to what the named code returns.

They are for putting a number beside a published one. They move with the range of the scores, so one outlier changes
them, and they have no value on cases where the exact metric does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bench.metrics.ranks import Undefined, require
from bench.metrics.regions import Regions

_CHUNK = 1 << 14  # sorted within the first-level cache


def uniform_thresholds(scores: npt.NDArray[Any], steps: int) -> npt.NDArray[np.float64]:
    """Return thresholds from the lowest score up to one step below the highest: float64, about `steps` of them.

    The range is divided in the scores' own float type and walked with numpy.arange, as the published code does;
    rounding of the step can therefore add a last threshold just below the highest score.

    Raises:
        Undefined: the scores are constant, or their range or step is not a finite positive number.
    """
    dtype = scores.dtype if scores.dtype.kind == "f" else np.dtype(np.float64)
    low, high = scores.min().astype(dtype), scores.max().astype(dtype)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        step = (high - low) / dtype.type(steps)
    if not np.isfinite(step) or step <= 0:
        raise Undefined(f"no {steps} uniform thresholds fit between the scores {low} and {high}")
    return np.arange(low, high, step).astype(np.float64, copy=False)


def aupro_grid(
    scores: npt.NDArray[Any],
    positive: npt.NDArray[np.bool_],
    regions: Regions,
    limit: float,
    steps: int = 200,
) -> float:
    """Return AUPRO by the rule of RD4AD's `compute_pro`, all images of a class pooled as in Dinomaly.

    The rule is score > threshold. Of the curve, the points with FPR < `limit` are kept and their FPR is divided by the
    largest one kept (not by the limit); there is no origin and no interpolation; trapezoids.

    Args:
        scores: real [M], pixels of all images in C order.
        positive: bool [M].
        regions: as `find_regions` returns.
        limit: false-positive rate in (0, 1].
        steps: number of thresholds.

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
    # a positive pixel counts 1 / area at each threshold it exceeds, which are the first ones
    exceeded = np.searchsorted(thresholds, chosen, side="left")
    weights = 1 / regions.areas[regions.index]
    covered = np.bincount(exceeded, weights=weights, minlength=len(thresholds) + 1)
    overlap = np.cumsum(covered[::-1])[::-1][1:] / len(regions.areas)
    kept = fpr < limit
    fpr, overlap = fpr[kept], overlap[kept]
    if len(fpr) < 2 or fpr.max() == 0:
        raise Undefined(f"no two points of the {steps}-threshold curve lie between FPR 0 and {limit:g}")
    fpr = fpr / fpr.max()
    return float(np.sum((fpr[:-1] - fpr[1:]) * (overlap[:-1] + overlap[1:])) / 2)


def _count_above(scores: npt.NDArray[Any], thresholds: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return how many scores exceed each threshold; sorting a cached piece beats looking each score up."""
    return len(scores) - np.searchsorted(np.sort(scores), thresholds, side="right").astype(np.int64, copy=False)
