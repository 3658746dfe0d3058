"""Thresholds from the scores of normal images: quantiles, the highest, mean + 3 standard deviations.

A quantile is the lowest score that at least such a share of the scores does not exceed (NumPy's `inverted_cdf`), so
that a threshold is a score and no interpolation; what is above it is called anomalous.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

QUANTILES = {"q0.95": Fraction(95, 100), "q0.99": Fraction(99, 100), "q0.999": Fraction(999, 1000)}
HIGHEST, SPREAD = "max", "mean+3sd"
RULES = (*QUANTILES, HIGHEST, SPREAD)
WORDS = {
    "q0.95": "95 % quantile of the normal scores",
    "q0.99": "99 % quantile of the normal scores",
    "q0.999": "99.9 % quantile of the normal scores",
    HIGHEST: "highest of the normal scores",
    SPREAD: "mean of the normal scores + 3 standard deviations",
}


class Normals:
    """Scores of normal images or pixels that come in parts; only the highest twentieth of them is kept."""

    def __init__(self, total: int) -> None:
        """Take none yet; `total` will come."""
        self._total = total
        # what the lowest quantile needs, at most
        self._room = total - _place(min(QUANTILES.values()), total) + 1 if total else 0
        self._highest: npt.NDArray[np.float64] = np.empty(0)
        self._count, self._mean, self._squares = 0, 0.0, 0.0

    def add(self, scores: npt.NDArray[Any]) -> None:
        """Take some scores, of any shape and real type, finite."""
        found = scores.ravel()
        if not len(found):
            return
        # moments of two samples joined (Chan, Golub and LeVeque, 1979)
        mean = float(found.mean(dtype=np.float64))
        squares = float(np.square(found - mean, dtype=np.float64).sum())
        count, apart = self._count + len(found), mean - self._mean
        self._squares += squares + apart * apart * self._count * len(found) / count
        self._mean += apart * len(found) / count
        self._count = count
        own = _highest(found, self._room)
        self._highest = _highest(np.concatenate([self._highest, own.astype(np.float64)]), self._room)

    def thresholds(self) -> dict[str, float]:
        """Return rule -> threshold; mean + 3 standard deviations (of a sample) needs two scores.

        Raises:
            ValueError: not all scores have come, or none.
        """
        if self._count != self._total or not self._total:
            raise ValueError(f"{self._count} scores, expected {self._total}, at least one")
        ascending = np.sort(self._highest)
        found = {
            rule: float(ascending[len(ascending) - 1 - (self._total - _place(share, self._total))])
            for rule, share in QUANTILES.items()
        }
        found[HIGHEST] = float(ascending[-1])
        if self._count > 1:
            found[SPREAD] = self._mean + 3 * math.sqrt(self._squares / (self._count - 1))
        return found


def at_false_alarms(scores: Sequence[float], share: float) -> float | None:
    """Return the lowest of the calibration scores above which at most such a share of new normal images is expected.

    With k of n scores above a threshold, a new image that could as well have been one of the n is above it with a
    probability of at most (k + 1) / (n + 1) (Vovk, Gammerman and Shafer 2005, conformal prediction); None where n is
    too small for any.

    Args:
        scores: of normal images that were not trained on, ascending.
        share: in (0, 1).
    """
    above = math.floor(Fraction(share).limit_denominator(10**6) * (len(scores) + 1)) - 1
    return scores[len(scores) - 1 - min(above, len(scores) - 1)] if above >= 0 else None


def expected(scores: Sequence[float], threshold: float) -> float:
    """Return the share of new normal images that is expected above a threshold at most: (k + 1) / (n + 1)."""
    return (sum(score > threshold for score in scores) + 1) / (len(scores) + 1)


def _place(share: Fraction, total: int) -> int:
    """Return the place of a quantile among so many ascending scores, from 1; in integers, since floats round."""
    return max(1, -(-share.numerator * total // share.denominator))


def _highest(values: npt.NDArray[Any], count: int) -> npt.NDArray[Any]:
    if len(values) <= count:
        return values
    return np.partition(values, len(values) - count)[len(values) - count :]
