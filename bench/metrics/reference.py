"""Reference definitions of the metrics, slow and plain: what the tests compare the engine with.

Nothing here shares code with the engine. AUROC and AP are scikit-learn's; all others walk over every threshold; regions
come from a flood fill. Minutes on real maps, fine on a few thousand pixels. Named variants are in `rules`.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from bench.metrics.spro import Defect

Array = npt.NDArray[Any]
Bools = npt.NDArray[np.bool_]


def dense_ranks(scores: Array) -> npt.NDArray[np.float64]:
    """Return each score's rank among the distinct scores, same shape.

    scikit-learn refuses infinities and compares in floating point; on ranks it sees every dtype exactly.
    """
    return np.unique(scores, return_inverse=True)[1].reshape(scores.shape).astype(np.float64)


def auroc(scores: Array, positive: Bools) -> float | None:
    """Return scikit-learn's area under the ROC curve; None unless both classes are there."""
    from sklearn.metrics import roc_auc_score

    if positive.all() or not positive.any():
        return None
    return float(roc_auc_score(positive.ravel(), dense_ranks(scores).ravel()))


def average_precision(scores: Array, positive: Bools) -> float | None:
    """Return scikit-learn's average precision; None without positives."""
    from sklearn.metrics import average_precision_score

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


def fpr_at_recall(scores: Array, positive: Bools, recall: float) -> float | None:
    """Return the lowest false-positive rate of any threshold with at least that recall; None unless both exist."""
    if positive.all() or not positive.any():
        return None
    rates = []
    for threshold in np.unique(scores):
        found = scores >= threshold
        # of the decimal number that was written, so that 19 of 20 are 0.95
        if Fraction(int((found & positive).sum()), int(positive.sum())) >= Fraction(repr(recall)):
            rates.append(float(found[~positive].mean()))
    return min(rates)


def iou_max(scores: Array, positive: Bools) -> float | None:
    """Return the best intersection over union over every distinct score as threshold; None without positives."""
    if not positive.any():
        return None
    found = [scores >= threshold for threshold in np.unique(scores)]
    return max(int((one & positive).sum()) / int((one | positive).sum()) for one in found)


def auspro(maps: Array, defects: Sequence[Defect], limit: float) -> float | None:
    """Return the area under (FPR, mean saturated overlap of the defects) up to `limit`, over `limit`.

    None without a defect, or without a pixel outside all of them.
    """
    background = np.ones(maps.shape, dtype=np.bool_)
    for defect in defects:
        background[defect.image] &= ~defect.mask
    if not defects or not background.any():
        return None
    points = [(0.0, 0.0)]
    for threshold in np.unique(maps)[::-1]:
        found = [int((maps[one.image][one.mask] >= threshold).sum()) / one.saturation for one in defects]
        points.append((float((maps[background] >= threshold).mean()), float(np.mean(np.minimum(found, 1)))))
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        end = min(x1, limit)
        if end > x0:
            area += (end - x0) * (2 * y0 + (y1 - y0) * (end - x0) / (x1 - x0)) / 2
    return area / limit


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
