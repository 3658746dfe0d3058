"""Rank metrics: AUROC, average precision and F1-max from the ranks of the positives alone.

Every distinct score t is a threshold with the rule s >= t, so tied scores enter together. A threshold that only
negatives hit lies on a flat piece of the ROC curve, adds nothing to average precision and can only lower F1. What all
metrics need is therefore, for each positive, how many negatives score higher (G) and how many at least as high (E):
positives are a few percent of the pixels, and nothing else has to be looked at one by one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bench.metrics.workers import each, spans

Array = npt.NDArray[Any]
Unit = Literal["image", "pixel", "object"]

BLOCK = 1 << 16
"""Positives in one NumPy expression: what it makes on the way stays in the cache, and threads share the blocks."""


class Undefined(Exception):
    """A metric has no value on these data; the text is the reason that goes beside the missing number."""


NO_MAPS = "no anomaly maps"
"""The reason beside pixel metrics of who gives image scores alone."""
NO_MAPS_BEFORE = "no maps given"
"""The same in older records."""
MISSING = {"maps": NO_MAPS, "masks": "no masks given"}
"""What pixel metrics are computed from -> the reason where it is not there."""


class NanScore(ValueError):
    """A score is NaN; who knows the images turns this into a ScoreError that names one."""

    def __init__(self) -> None:
        super().__init__("a score is NaN, expected numbers only")


@dataclass(frozen=True)
class Ranks:
    """Where the positives stand among the negatives. Arrays are [P], by ascending score."""

    order: npt.NDArray[np.signedinteger[Any]]
    """Index of each positive in the order in which positives were given; tied ones in that order."""
    above: npt.NDArray[np.int64]
    """G: negatives with a higher score."""
    at_least: npt.NDArray[np.int64]
    """E: negatives with a score at least as high, so false positives at this positive's threshold."""
    hits: npt.NDArray[np.int64]
    """Positives with a score at least as high, so true positives at this positive's threshold."""
    positives: int
    negatives: int
    unit: Unit

    def passed(self) -> int:
        """Return the sum over positives of G + E: twice the pairs in the wrong order, ties counted once."""
        return sum(each(lambda part: passed(self.above[part], self.at_least[part]), self._blocks()))

    def precision(self) -> float:
        """Return the sum over positives of the precision at their thresholds."""
        return sum(each(lambda part: precision(self.hits[part], self.at_least[part]), self._blocks()))

    def best_f1(self) -> float:
        """Return the highest F1 of the positives' thresholds."""
        return max(each(lambda part: highest_f1(self.hits[part], self.at_least[part], self.positives), self._blocks()))

    def alarms(self, hits: int) -> int:
        """Return the false positives at the highest threshold with at least so many true ones, 1 to `positives`."""
        # by ascending score hits fall, so the last that suffices has the highest threshold
        return int(self.at_least[int(np.searchsorted(-self.hits, -hits, side="right")) - 1])

    def worth(self, cut: float) -> Callable[[slice], npt.NDArray[np.float64]]:
        """Return what share of the area left of the cut each positive's ramp from G to E leaves under it, in [0, 1].

        Args:
            cut: false positives at which the curve ends.

        Returns:
            A function that gives the shares of some positives, in the order in which positives were given.
        """
        shares = np.empty(self.positives, dtype=np.float64)

        def fill(part: slice) -> None:
            above, at_least = self.above[part], self.at_least[part]
            with np.errstate(over="ignore"):  # a limit near the smallest float; what overflows is replaced below
                share = 1 - (above + at_least) / (2 * cut)
            # a pixel whose ramp the limit cuts keeps the triangle to the left of the cut
            inside = (above < cut) & (cut < at_least)
            room = cut - above[inside]
            share[inside] = (room / cut) * (room / (2 * (at_least[inside] - above[inside])))
            share[above >= cut] = 0
            # back in the order of the pixels, in which those of a region are close together
            shares[self.order[part]] = share

        each(fill, self._blocks())
        return lambda part: shares[part]

    def _blocks(self) -> list[slice]:
        return spans(self.positives, BLOCK)


def passed(above: npt.NDArray[np.int64], at_least: npt.NDArray[np.int64]) -> int:
    """Return the sum of G + E over some positives."""
    return int(np.sum(at_least + above))


def precision(hits: npt.NDArray[np.int64], at_least: npt.NDArray[np.int64]) -> float:
    """Return the sum of the precision at some positives' thresholds."""
    return float(np.sum(hits / (hits + at_least)))


def highest_f1(hits: npt.NDArray[np.int64], at_least: npt.NDArray[np.int64], positives: int) -> float:
    """Return the highest F1 = 2TP / (TP + FP + P) at some positives' thresholds."""
    return float(np.max(2 * hits / (hits + at_least + positives)))


def require(positives: int, negatives: int | None, unit: Unit) -> None:
    """Raise Undefined without any positive, or without any negative; `negatives` None means that none are needed."""
    if positives == 0:
        raise Undefined(f"no anomalous {unit}")
    if negatives == 0:
        raise Undefined(f"no normal {unit}")


def auroc(ranks: Ranks) -> float:
    """Return P(s+ > s-) + P(s+ = s-) / 2, in [0, 1]; equals scikit-learn's roc_auc_score.

    Raises:
        Undefined: no positive or no negative.
    """
    require(ranks.positives, ranks.negatives, ranks.unit)
    # all in integers
    pairs = 2 * ranks.positives * ranks.negatives
    return (pairs - ranks.passed()) / pairs


def average_precision(ranks: Ranks) -> float:
    """Return the sum over thresholds of recall gain times precision, in (0, 1]; scikit-learn's definition.

    It is a step sum, not the trapezoid under the precision-recall curve. Without negatives it is 1.

    Raises:
        Undefined: no positive.
    """
    require(ranks.positives, None, ranks.unit)
    return ranks.precision() / ranks.positives


def f1_max(ranks: Ranks) -> float:
    """Return the highest F1 = 2TP / (TP + FP + P) over all thresholds, in (0, 1]; no grid and no epsilon.

    Raises:
        Undefined: no positive.
    """
    require(ranks.positives, None, ranks.unit)
    return ranks.best_f1()


def fpr_at_recall(ranks: Ranks, recall: float) -> float:
    """Return the false-positive rate at the highest threshold that reaches `recall`, in [0, 1]; no interpolation.

    Args:
        ranks: of the positives.
        recall: share of the positives in (0, 1] that must score at least the threshold.

    Raises:
        Undefined: no positive or no negative.
    """
    require(ranks.positives, ranks.negatives, ranks.unit)
    # as written, not as stored in binary: 0.95 of 20 are 19
    needed = math.ceil(Fraction(repr(float(recall))) * ranks.positives)
    return ranks.alarms(needed) / ranks.negatives
