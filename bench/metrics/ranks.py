"""AUROC, average precision and F1-max from the ranks of the positives alone.

Every distinct score t is a threshold with the rule s >= t, so tied scores enter together. A threshold that only
negatives hit lies on a flat piece of the ROC curve, adds nothing to average precision and can only lower F1. What all
metrics need is therefore, for each positive, how many negatives score higher (G) and how many at least as high (E):
positives are a few percent of the pixels, and nothing else has to be looked at one by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Unit = Literal["image", "pixel"]


class Undefined(Exception):
    """A metric has no value on these data; the text is the reason that goes beside the missing number."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """Where the positives stand among the negatives. Arrays are [P], by ascending score."""

    order: npt.NDArray[np.intp]
    """Index of each positive in the order in which positives were given."""
    above: npt.NDArray[np.int64]
    """G: negatives with a higher score."""
    at_least: npt.NDArray[np.int64]
    """E: negatives with a score at least as high, so false positives at this positive's threshold."""
    hits: npt.NDArray[np.int64]
    """Positives with a score at least as high, so true positives at this positive's threshold."""
    positives: int
    negatives: int
    unit: Unit


def require(positives: int, negatives: int | None, unit: Unit) -> None:
    """Raise Undefined without any positive, or without any negative; `negatives` None means that none are needed."""
    if positives == 0:
        raise Undefined(f"no anomalous {unit}")
    if negatives == 0:
        raise Undefined(f"no normal {unit}")


def rank(scores: npt.NDArray[Any], positive: npt.NDArray[np.bool_], unit: Unit) -> Ranks:
    """Rank the positives of `scores` (any real dtype [M], no NaN) marked by `positive` (bool [M]).

    Scores are compared in their own dtype: float64 and int64 are not narrowed, -0.0 equals +0.0, infinities are
    ordinary extremes.
    """
    chosen = scores[positive]
    order = np.argsort(chosen)
    ascending = chosen[order]
    count = len(ascending)
    total = len(scores) - count
    if count == 0:
        none = np.zeros(0, dtype=np.int64)
        return Ranks(order, none, none, none, 0, total, unit)
    # negatives below every positive are counted by no threshold that matters: leave them out of the sort
    negatives = scores[~positive & (scores >= ascending[0])]
    negatives.sort(kind="stable" if negatives.dtype.itemsize <= 2 else None)  # stable is a radix sort for 16 bits
    starts = np.flatnonzero(np.concatenate(([True], ascending[1:] != ascending[:-1])))
    ties = np.diff(starts, append=count)
    distinct = ascending[starts]
    above = len(negatives) - np.searchsorted(negatives, distinct, side="right")
    at_least = len(negatives) - np.searchsorted(negatives, distinct, side="left")
    return Ranks(
        order=order,
        above=np.repeat(above, ties).astype(np.int64, copy=False),
        at_least=np.repeat(at_least, ties).astype(np.int64, copy=False),
        hits=np.repeat(count - starts, ties).astype(np.int64, copy=False),
        positives=count,
        negatives=total,
        unit=unit,
    )


def auroc(ranks: Ranks) -> float:
    """Return P(s+ > s-) + P(s+ = s-) / 2, in [0, 1]; equals scikit-learn's roc_auc_score.

    Raises:
        Undefined: no positive or no negative.
    """
    require(ranks.positives, ranks.negatives, ranks.unit)
    # all in integers: twice the number of pairs in the right order, ties counted once
    twice = int(np.sum(2 * ranks.negatives - ranks.at_least - ranks.above, dtype=np.int64))
    return twice / (2 * ranks.positives * ranks.negatives)


def average_precision(ranks: Ranks) -> float:
    """Return the sum over thresholds of recall gain times precision, in (0, 1]; scikit-learn's definition.

    It is a step sum, not the trapezoid under the precision-recall curve. Without negatives it is 1.

    Raises:
        Undefined: no positive.
    """
    require(ranks.positives, None, ranks.unit)
    return float(np.mean(ranks.hits / (ranks.hits + ranks.at_least)))


def f1_max(ranks: Ranks) -> float:
    """Return the highest F1 = 2TP / (TP + FP + P) over all thresholds, in (0, 1]; no grid and no epsilon.

    Raises:
        Undefined: no positive.
    """
    require(ranks.positives, None, ranks.unit)
    return float(np.max(2 * ranks.hits / (ranks.hits + ranks.at_least + ranks.positives)))
