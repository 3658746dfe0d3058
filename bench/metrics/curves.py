"""ROC, precision-recall and overlap curves for plots: a few hundred points with the area of the full curve.

A full curve has a vertex at each distinct score of a positive, millions of them. The path is cut into pieces of equal
length |dx| + |dy|; of each piece the first and the last vertex stay, and the vertices between them become one point,
placed so that the area under the piece is kept. So the area of a thinned curve is the metric, to rounding, and no point
of either curve is further from the other than `Curve.distance`, in |dx| + |dy|.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.errors import UsageError
from bench.metrics.ranks import Ranks, require
from bench.metrics.regions import Regions

Floats = npt.NDArray[np.float64]

POINTS = 400
"""Default for the highest number of points of a thinned curve."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A curve as straight lines between points."""

    x: Floats
    """[K], ascending, repeats where the curve is vertical."""
    y: Floats
    """[K]."""
    distance: float
    """No point of the full curve is further than this from this one, and the other way round, in |dx| + |dy|.
    For precision-recall: the width in recall over which precision is averaged."""

    @property
    def area(self) -> float:
        """Area under the lines: the metric itself (AUROC, AP; for the overlap curve AUPRO times its limit)."""
        return float(np.sum(np.diff(self.x) * (self.y[1:] + self.y[:-1])) / 2)


def roc_curve(ranks: Ranks, points: int = POINTS) -> Curve:
    """Return (false-positive rate, true-positive rate) from (0, 0) to (1, 1), thinned; its area is AUROC.

    Raises:
        Undefined: no positive or no negative.
    """
    require(ranks.positives, ranks.negatives, ranks.unit)
    gain = np.full(len(ranks.hits), 1 / ranks.positives)
    return _thin(*_path(ranks, gain), points)


def pro_curve(ranks: Ranks, regions: Regions, limit: float = 0.3, points: int = POINTS) -> Curve:
    """Return (false-positive rate, mean region overlap) from (0, 0) to FPR `limit`, thinned; area / limit is AUPRO.

    Args:
        ranks: of the anomalous pixels.
        regions: of the same masks.
        limit: false-positive rate in (0, 1] at which the curve is cut, by interpolation.
        points: highest number of points returned, at least 16.

    Raises:
        Undefined: no anomalous or no normal pixel.
    """
    require(ranks.positives, ranks.negatives, ranks.unit)
    areas = regions.areas[regions.index[ranks.order]]
    x, y = _path(ranks, 1 / (areas * len(regions.areas)))
    end = int(np.searchsorted(x, limit, side="right"))
    if end < len(x):
        share = (limit - x[end - 1]) / (x[end] - x[end - 1])
        x = np.append(x[:end], limit)
        y = np.append(y[:end], y[end - 1] + share * (y[end] - y[end - 1]))
    return _thin(x, y, points)


def pr_curve(ranks: Ranks, points: int = POINTS) -> Curve:
    """Return (recall, precision) as steps of equal width in recall; its area is average precision.

    Precision jumps up and down between neighbouring scores, so each step shows its mean over the step's width (or over
    a wider tie). Up to `points` / 2 - 1 distinct scores of positives are drawn as they are.

    Raises:
        Undefined: no positive.
    """
    require(ranks.positives, None, ranks.unit)
    first = _first_of_ties(ranks)[::-1]
    hits = ranks.hits[first]
    precision = hits / (hits + ranks.at_least[first])
    gain = np.diff(hits, prepend=0)
    _check_points(points)
    steps = points // 2 - 1
    if len(hits) > steps:
        # a step ends with the last score inside its width; ties are never cut
        ends = np.flatnonzero(np.diff(hits * steps // ranks.positives, append=steps + 1))
        starts = np.concatenate(([0], ends[:-1] + 1))
        area = np.add.reduceat(gain * precision, starts)
        gain = np.add.reduceat(gain, starts)
        precision = area / gain
    recall = np.cumsum(gain) / ranks.positives
    x = np.stack([np.concatenate(([0.0], recall[:-1])), recall], axis=1).ravel()
    return Curve(x, np.repeat(precision, 2), distance=float(gain.max() / ranks.positives))


@dataclass(frozen=True, slots=True)
class BestF1:
    """The threshold at which F1 is highest; predict an anomaly where score >= threshold."""

    threshold: float
    """A score of a positive; the highest of them where several reach the same F1."""
    f1: float
    precision: float
    recall: float


def best_f1(ranks: Ranks, positive_scores: npt.NDArray[np.generic]) -> BestF1:
    """Return the optimal-F1 threshold and what it reaches; `f1` is F1-max.

    Args:
        ranks: of the positives.
        positive_scores: the positives' scores [P], in the order in which they were ranked: `maps[masks]`.

    Raises:
        Undefined: no positive.
    """
    require(ranks.positives, None, ranks.unit)
    predicted = ranks.hits + ranks.at_least
    f1 = 2 * ranks.hits / (predicted + ranks.positives)
    place = len(f1) - 1 - int(np.argmax(f1[::-1]))
    hits = int(ranks.hits[place])
    return BestF1(
        threshold=float(positive_scores[ranks.order[place]]),
        f1=float(f1[place]),
        precision=hits / int(predicted[place]),
        recall=hits / ranks.positives,
    )


def _first_of_ties(ranks: Ranks) -> npt.NDArray[np.intp]:
    """Return the index of the first positive of each distinct score, scores ascending; hits tell ties apart."""
    return np.flatnonzero(np.diff(ranks.hits, prepend=ranks.positives + 1))


def _path(ranks: Ranks, gain: Floats) -> tuple[Floats, Floats]:
    """Return the vertices from (0, 0) to (1, 1): each distinct score is one straight line, FPR from G / N to E / N."""
    first = _first_of_ties(ranks)
    steps = np.add.reduceat(gain, first)[::-1]
    high = np.cumsum(steps)
    high /= high[-1]
    low = np.concatenate(([0.0], high[:-1]))
    x = np.stack([ranks.above[first][::-1], ranks.at_least[first][::-1]], axis=1).ravel() / ranks.negatives
    y = np.stack([low, high], axis=1).ravel()
    return np.concatenate(([0.0], x, [1.0])), np.concatenate(([0.0], y, [1.0]))


def _check_points(points: int) -> None:
    if points < 16:
        raise UsageError(f"points is {points}, expected at least 16 for a curve that can still be read")


def _thin(x: Floats, y: Floats, points: int) -> Curve:
    """Thin a path that ascends in x and y to at most `points` points, at least 16, keeping its area and its ends."""
    _check_points(points)
    if len(x) <= points:
        return Curve(x, y, distance=0.0)
    # three points a piece; the end of the path is a piece of its own
    pieces = points // 3 - 1
    length = (x[-1] - x[0]) + (y[-1] - y[0])
    piece = np.minimum(((x - x[0] + y - y[0]) / length * pieces).astype(np.int64), pieces)
    first = np.flatnonzero(np.diff(piece, prepend=-1))
    last = np.append(first[1:] - 1, len(x) - 1)
    strips = np.concatenate((np.diff(x) * (y[1:] + y[:-1]) / 2, [0.0]))
    sums = np.concatenate(([0.0], np.cumsum(strips)))
    width, height = x[last] - x[first], y[last] - y[first]
    box = width * height
    # share of the piece's box that lies under the curve; a point on the other diagonal of the box keeps it
    share = np.divide(sums[last] - sums[first] - width * y[first], box, out=np.full(len(box), 0.5), where=box > 0)
    share = np.clip(share, 0, 1)
    middle_x, middle_y = x[first] + (1 - share) * width, y[first] + share * height
    thin_x = np.stack([x[first], middle_x, x[last]], axis=1).ravel()
    thin_y = np.stack([y[first], middle_y, y[last]], axis=1).ravel()
    new = np.concatenate(([True], (np.diff(thin_x) != 0) | (np.diff(thin_y) != 0)))
    return Curve(thin_x[new], thin_y[new], distance=float(length / pieces))
