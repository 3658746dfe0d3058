"""Ranking scores: by sorting few, by counting millions; both ways give the same integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bench.errors import UsageError
from bench.metrics.buckets import rank_by_counting
from bench.metrics.inputs import binary, numbers
from bench.metrics.pieces import ArrayPieces, Pieces
from bench.metrics.ranks import NanScore, Ranks, Unit
from bench.metrics.workers import each, thread_count

Array = npt.NDArray[Any]

_BATCH = 1 << 20


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
    return rank_by_counting(chosen, pieces, unit) or rank_by_sorting(chosen, pieces, unit)


def rank_by_sorting(chosen: Array, pieces: Pieces, unit: Unit) -> Ranks:
    """Do what `rank_pieces` does by sorting the scores from the lowest positive to the highest: for few."""
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
            # scores below every positive are counted by no threshold that matters, and those above by every one: leave
            # them out of the sort
            if count:
                found += np.count_nonzero(scores > distinct[-1])
                waiting.append(scores[(scores >= distinct[0]) & (scores <= distinct[-1])])
            else:
                waiting.append(scores[:0])
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
