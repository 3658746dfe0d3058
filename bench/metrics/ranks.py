"""AUROC, average precision and F1-max from the ranks of the positives alone.

Every distinct score t is a threshold with the rule s >= t, so tied scores enter together. A threshold that only
negatives hit lies on a flat piece of the ROC curve, adds nothing to average precision and can only lower F1. What all
metrics need is therefore, for each positive, how many negatives score higher (G) and how many at least as high (E):
positives are a few percent of the pixels, and nothing else has to be looked at one by one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bench.errors import UsageError
from bench.metrics.inputs import binary, numbers
from bench.metrics.pieces import ArrayPieces, Pieces
from bench.metrics.workers import each, spans, thread_count

Array = npt.NDArray[Any]
Unit = Literal["image", "pixel", "object"]

_BATCH = 1 << 20
BLOCK = 1 << 16
"""Positives in one NumPy expression: what it makes on the way stays in the cache, and threads share the blocks."""


class Undefined(Exception):
    """A metric has no value on these data; the text is the reason that goes beside the missing number."""


class NanScore(ValueError):
    """A score is NaN; who knows the images turns this into a ScoreError that names one."""

    def __init__(self) -> None:
        super().__init__("a score is NaN, expected numbers only")


@dataclass(frozen=True, slots=True)
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


def require(positives: int, negatives: int | None, unit: Unit) -> None:
    """Raise Undefined without any positive, or without any negative; `negatives` None means that none are needed."""
    if positives == 0:
        raise Undefined(f"no anomalous {unit}")
    if negatives == 0:
        raise Undefined(f"no normal {unit}")


def rank(scores: npt.ArrayLike, positive: npt.ArrayLike, unit: Unit) -> Ranks:
    """Rank the positives among the negatives.

    Args:
        scores: any real dtype of up to 64 bits [M].
        positive: bool, or 0 and 1 (or 255) of any real dtype [M].
        unit: what a score belongs to.

    Raises:
        UsageError: another dtype or shape, or values that are masked out.
        NanScore: a score is NaN.
    """
    given = numbers("scores", scores, 1, "[M]")
    marked, _ = binary("positive", positive, 1, "[M]")
    if len(given) != len(marked):
        raise UsageError(f"found {len(given)} scores and {len(marked)} marks, expected one of each")
    return rank_pieces(given[marked], ArrayPieces(given), unit)


def rank_pieces(chosen: Array, pieces: Pieces, unit: Unit) -> Ranks:
    """Rank positives among all scores, in the way that is fastest for these; all ways give the same integers.

    Scores are compared in their own dtype: float64 and int64 are not narrowed, -0.0 equals +0.0, infinities are
    ordinary extremes.

    Args:
        chosen: scores of the positives [P], any real dtype.
        pieces: all scores, those of the positives too, in the same dtype.
        unit: what a score belongs to.

    Raises:
        NanScore: a score is NaN.
    """
    from bench.metrics.buckets import rank_by_counting  # made of the classes above

    return rank_by_counting(chosen, pieces, unit) or rank_by_sorting(chosen, pieces, unit)


def rank_by_sorting(chosen: Array, pieces: Pieces, unit: Unit) -> Ranks:
    """Do what `rank_pieces` does by sorting all scores but those below every positive: for little data, and float64."""
    order = np.argsort(chosen, kind="stable")
    ascending = chosen[order]
    count = len(ascending)
    starts = np.flatnonzero(np.concatenate(([True], ascending[1:] != ascending[:-1]))) if count else np.zeros(0, int)
    ties = np.diff(starts, append=count)
    distinct = ascending[starts]
    hits = count - starts
    threads = min(thread_count(), max(1, len(pieces.sizes)))

    def passed(thread: int) -> npt.NDArray[np.int64]:
        """Return how many scores of every so many pieces are above, and at least, each distinct positive score."""
        found = np.zeros((2, len(distinct)), dtype=np.int64)
        waiting: list[Array] = []
        mine = range(thread, len(pieces.sizes), threads)
        for number in mine:
            scores = pieces.read(number)
            if scores.dtype.kind == "f" and np.isnan(scores.max()):
                raise NanScore
            # scores below every positive are counted by no threshold that matters: leave them out of the sort
            waiting.append(scores[scores >= distinct[0]] if count else scores[:0])
            if number == mine[-1] or sum(map(len, waiting)) >= max(_BATCH, 2 * count):
                batch = np.concatenate(waiting)
                batch.sort(kind="stable" if batch.dtype.itemsize <= 2 else None)  # a radix sort for 16 bits
                found[0] += len(batch) - np.searchsorted(batch, distinct, side="right")
                found[1] += len(batch) - np.searchsorted(batch, distinct, side="left")
                waiting = []
        return found

    above, at_least = np.stack(each(passed, range(threads))).sum(axis=0)
    return Ranks(
        order=order,
        above=np.repeat(above - (hits - ties), ties),
        at_least=np.repeat(at_least - hits, ties),
        hits=np.repeat(hits, ties).astype(np.int64, copy=False),
        positives=count,
        negatives=sum(pieces.sizes) - count,
        unit=unit,
    )


def auroc(ranks: Ranks) -> float:
    """Return P(s+ > s-) + P(s+ = s-) / 2, in [0, 1]; equals scikit-learn's roc_auc_score.

    Raises:
        Undefined: no positive or no negative.
    """
    require(ranks.positives, ranks.negatives, ranks.unit)
    # all in integers: twice the number of pairs in the right order, ties counted once
    passed = sum(each(lambda part: int(np.sum(ranks.at_least[part] + ranks.above[part])), _blocks(ranks)))
    pairs = 2 * ranks.positives * ranks.negatives
    return (pairs - passed) / pairs


def average_precision(ranks: Ranks) -> float:
    """Return the sum over thresholds of recall gain times precision, in (0, 1]; scikit-learn's definition.

    It is a step sum, not the trapezoid under the precision-recall curve. Without negatives it is 1.

    Raises:
        Undefined: no positive.
    """
    require(ranks.positives, None, ranks.unit)

    def precision(part: slice) -> float:
        return float(np.sum(ranks.hits[part] / (ranks.hits[part] + ranks.at_least[part])))

    return sum(each(precision, _blocks(ranks))) / ranks.positives


def f1_max(ranks: Ranks) -> float:
    """Return the highest F1 = 2TP / (TP + FP + P) over all thresholds, in (0, 1]; no grid and no epsilon.

    Raises:
        Undefined: no positive.
    """
    require(ranks.positives, None, ranks.unit)

    def best(part: slice) -> float:
        hits = ranks.hits[part]
        return float(np.max(2 * hits / (hits + ranks.at_least[part] + ranks.positives)))

    return max(each(best, _blocks(ranks)))


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
    # by ascending score hits fall, so the last that suffices has the highest threshold
    place = int(np.searchsorted(-ranks.hits, -needed, side="right")) - 1
    return int(ranks.at_least[place]) / ranks.negatives


def _blocks(ranks: Ranks) -> list[slice]:
    return spans(ranks.positives, BLOCK)
