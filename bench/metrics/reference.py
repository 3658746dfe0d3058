"""The definitions, written to be believed rather than to be fast: what the tests compare the engine with.

Nothing here shares code with the engine. AUROC and AP are scikit-learn's; F1-max, AUPRO and the grid variant walk
over every threshold; regions come from a flood fill. Minutes on real maps, fine on a few thousand pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import auc, average_precision_score, roc_auc_score

Array = npt.NDArray[Any]
Bools = npt.NDArray[np.bool_]


def dense_ranks(scores: Array) -> npt.NDArray[np.float64]:
    """Return each score's rank among the distinct scores, same shape.

    scikit-learn refuses infinities and compares in floating point; on ranks it sees every dtype exactly.
    """
    return np.unique(scores, return_inverse=True)[1].reshape(scores.shape).astype(np.float64)


def auroc(scores: Array, positive: Bools) -> float | None:
    """Return scikit-learn's area under the ROC curve; None unless both classes are there."""
    if positive.all() or not positive.any():
        return None
    return float(roc_auc_score(positive.ravel(), dense_ranks(scores).ravel()))


def average_precision(scores: Array, positive: Bools) -> float | None:
    """Return scikit-learn's average precision; None without positives."""
    if not positive.any():
        return None
    return float(average_precision_score(positive.ravel(), dense_ranks(scores).ravel()))


def f1_max(scores: Array, positive: Bools) -> float | None:
    """Return the best F1 over every distinct score as threshold; None without positives."""
    if not positive.any():
        return None
    best = 0.0
    for threshold in np.unique(scores):
        predicted = scores >= threshold
        true_positives = int((predicted & positive).sum())
        best = max(best, 2 * true_positives / (int(predicted.sum()) + int(positive.sum())))
    return best


def flood_regions(masks: Bools) -> list[Bools]:
    """Return each 8-connected region of each image as a mask over all images, bool [N, H, W]."""
    unseen = {(int(n), int(y), int(x)) for n, y, x in np.argwhere(masks)}
    regions = []
    while unseen:
        region = np.zeros(masks.shape, dtype=np.bool_)
        edge = [unseen.pop()]
        while edge:
            n, y, x = edge.pop()
            region[n, y, x] = True
            around = {(n, y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & unseen
            unseen -= around
            edge.extend(around)
        regions.append(region)
    return regions


def aupro(maps: Array, masks: Bools, limit: float) -> float | None:
    """Return the area under (FPR, mean region coverage) up to `limit`, over `limit`; None unless both classes exist."""
    if masks.all() or not masks.any():
        return None
    regions = flood_regions(masks)
    fpr, overlap = [0.0], [0.0]
    for threshold in np.unique(maps)[::-1]:
        predicted = maps >= threshold
        fpr.append(float(predicted[~masks].mean()))
        overlap.append(float(np.mean([predicted[region].mean() for region in regions])))
    area = 0.0
    for left, right, low, high in zip(fpr[:-1], fpr[1:], overlap[:-1], overlap[1:], strict=True):
        end = min(right, limit)
        if end > left:
            at_end = low + (high - low) * (end - left) / (right - left)
            area += (end - left) * (low + at_end) / 2
    return area / limit


def aupro_grid(maps: Array, masks: Bools, limit: float, steps: int = 200) -> float | None:
    """Return AUPRO over uniform thresholds, one at a time (RD4AD's rule, images pooled); None where that breaks."""
    if masks.all() or not masks.any():
        return None
    values = maps if maps.dtype.kind == "f" else maps.astype(np.float64)
    values = values.astype(np.float32) if values.dtype.itemsize == 2 else values
    with np.errstate(all="ignore"):
        step = (values.max() - values.min()) / values.dtype.type(steps)
    if not (np.isfinite(step) and step > 0):
        return None
    regions = flood_regions(masks)
    fpr, overlap = [], []
    for threshold in np.arange(values.min(), values.max(), step):
        predicted = values > threshold
        rate = float(predicted[~masks].mean())
        if rate < limit:
            fpr.append(rate)
            overlap.append(float(np.mean([predicted[region].mean() for region in regions])))
    if len(fpr) < 2 or max(fpr) == 0:
        return None
    return float(auc(np.array(fpr) / max(fpr), overlap))


def evaluate(
    maps: Array, masks: Bools, image_scores: Array, labels: Bools, limit: float = 0.3
) -> Mapping[str, float | None]:
    """Return the seven metrics and the 200-threshold AUPRO of one class, by metric id.

    Args:
        maps: real [N, H, W] without NaN.
        masks: bool [N, H, W].
        image_scores: real [N] without NaN.
        labels: bool [N].
        limit: false-positive rate of AUPRO; the ids of other limits than 0.3 carry it too.
    """
    values: dict[str, float | None] = {}
    for level, scores, positive in (("image", image_scores, labels), ("pixel", maps, masks)):
        values[f"{level}/auroc"] = auroc(scores, positive)
        values[f"{level}/ap"] = average_precision(scores, positive)
        values[f"{level}/f1max"] = f1_max(scores, positive)
    suffix = repr(limit).removesuffix(".0")
    values[f"pixel/aupro@{suffix}"] = aupro(maps, masks, limit)
    values[f"pixel/aupro@{suffix}:grid200"] = aupro_grid(maps, masks, limit)
    return values
