"""ADEval's histogram approximation: pixels counted in equal-width strips of the score range.

ADEval 1.1.0 holds two implementations that differ in where strips begin and in how often the highest score counts. The
functions on NumPy arrays cut at float32 edges; the accumulator on CUDA (ADer, INP-Former) computes each pixel's strip
in the scores' own precision and counts pixels at the highest score once in the last strip and once beyond it. Both join
the strips' points by straight lines, also under the precision-recall curve, which is therefore no average precision.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.metrics.grids import area_up_to
from bench.metrics.ranks import Undefined, require
from bench.metrics.regions import Regions

Array = npt.NDArray[Any]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

_CHUNK = 1 << 14  # sorted within the first-level cache


@dataclass(frozen=True, slots=True)
class Strips:
    """Pixels at or above each of the S + 1 edges of S strips, by descending edge: the points of all curves.

    Arrays are float64 [S + 1] and ascend. What counts twice in ADEval counts twice here.
    """

    hits: Floats
    """Anomalous pixels."""
    covered: Floats
    """Anomalous pixels, each worth 1 / area of its region in float32."""
    alarms: Floats
    """Normal pixels."""
    positives: float
    negatives: float
    weight: float
    """Totals of the three, whether or not they lie above the lowest edge."""

    def auroc(self) -> float:
        """Return the area under the strips' ROC points, which need not reach (0, 0) and (1, 1)."""
        return _area(self.alarms / self.negatives, self.hits / self.positives)

    def ap(self) -> float:
        """Return the area under the strips' precision-recall points; precision is 1 where nothing is predicted."""
        predicted = self.hits + self.alarms
        precision = np.divide(self.hits, predicted, out=np.ones_like(predicted), where=predicted > 0)
        return _area(self.hits / self.positives, precision)

    def aupro(self, limit: float) -> float:
        """Return the area under the strips' overlap points from the first FPR to `limit`, over `limit`.

        Raises:
            Undefined: the points do not lie on both sides of the limit, or no region is found on either side of it.
        """
        fpr, overlap = self.alarms / self.negatives, self.covered / self.weight
        below = int(np.count_nonzero(fpr <= limit))
        if below in (0, len(fpr)):
            raise Undefined(f"all {len(fpr)} points of the strips lie on one side of FPR {limit:g}")
        if overlap[below] == 0:
            raise Undefined(f"nothing of any region is found at FPR {limit:g}, where ADEval divides by what is found")
        return area_up_to(fpr, overlap, limit) / limit


def strips(scores: Array, positive: Bools, regions: Regions, count: int, *, accumulator: bool = False) -> Strips:
    """Return what ADEval's `count` strips between the lowest and the highest score hold.

    Args:
        scores: real [M], pixels of all images in C order.
        positive: bool [M].
        regions: as `find_regions` returns.
        count: number of strips.
        accumulator: the rule of `EvalAccumulatorCuda` instead of that of the functions on NumPy arrays.

    Raises:
        Undefined: no anomalous or no normal pixel; constant scores, or a range that is not finite.
    """
    chosen = scores[positive]
    require(len(chosen), len(scores) - len(chosen), "pixel")
    low, high = scores.min(), scores.max()
    with np.errstate(over="ignore", invalid="ignore"):
        width = float(high) - float(low)
        # ADEval holds edges in float32 and the accumulator multiplies by the count, so they overflow there too
        finite = bool(np.isfinite([np.float32(width * count), np.float32(low), np.float32(high)]).all())
    if not finite or width <= 0:
        raise Undefined(f"no {count} strips fit between the scores {low} and {high}")
    below, beyond = _accumulator_rule(low, high, count) if accumulator else _edge_rule(low, width, count)

    weights = (1.0 / regions.areas).astype(np.float32).astype(np.float64)[regions.index]
    everything = np.zeros(count + 1, dtype=np.int64)
    for start in range(0, len(scores), _CHUNK):
        everything += below(scores[start : start + _CHUNK])
    order = np.argsort(chosen)
    sums = np.concatenate(([0.0], np.cumsum(weights[order])))
    positives_below = below(chosen[order])
    top, top_positives, top_weight = beyond(scores), beyond(chosen), beyond(chosen, weights)
    positives = len(chosen) + top_positives
    negatives = len(scores) + top - positives
    weight = float(sums[-1]) + top_weight
    return Strips(
        hits=(positives - positives_below)[::-1].astype(np.float64),
        covered=(weight - sums[positives_below])[::-1],
        alarms=(negatives - (everything - positives_below))[::-1].astype(np.float64),
        positives=float(positives),
        negatives=float(negatives),
        weight=weight,
    )


Below = Callable[[Array], npt.NDArray[np.int64]]
Beyond = Callable[..., Any]


def _edge_rule(low: Any, width: float, count: int) -> tuple[Below, Beyond]:
    """Strips of ADEval's NumPy functions: a pixel is below an edge when its score is below the float32 edge."""
    edges = np.linspace(0.0, 1.0, num=count + 1, dtype=np.float32) * np.float32(width) + np.float32(low)

    def below(scores: Array) -> npt.NDArray[np.int64]:
        return np.searchsorted(np.sort(scores), edges, side="left").astype(np.int64, copy=False)

    return below, lambda scores, weights=None: 0


def _accumulator_rule(low: Any, high: Any, count: int) -> tuple[Below, Beyond]:
    """Strips of ADEval's CUDA accumulator: torch.histc, plus once more whatever reaches the highest score."""
    dtype = low.dtype if low.dtype.kind == "f" else np.dtype(np.float64)
    first, last = low.astype(dtype), high.astype(dtype)

    def below(scores: Array) -> npt.NDArray[np.int64]:
        with np.errstate(over="ignore", invalid="ignore"):
            strip = ((scores.astype(dtype, copy=False) - first) * dtype.type(count) / (last - first)).astype(np.int64)
        held = np.bincount(np.minimum(strip, count - 1), minlength=count)
        return np.concatenate(([0], np.cumsum(held)))

    def beyond(scores: Array, weights: Floats | None = None) -> Any:
        top = scores == high
        return int(np.count_nonzero(top)) if weights is None else float(weights[top].sum())

    return below, beyond


def _area(x: Floats, y: Floats) -> float:
    return float(np.sum(np.diff(x) * (y[1:] + y[:-1])) / 2)
