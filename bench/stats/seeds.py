"""Spread over seeds: how far a score moves when nothing but the random numbers of the training changes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite, sqrt
from statistics import fmean

from bench.errors import UsageError


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean and standard deviation of a score over seeds."""

    mean: float
    std: float | None
    """With n - 1 in the denominator; None for one seed, which says nothing of others."""
    count: int

    def interval(self, level: float = 0.95) -> tuple[float, float] | None:
        """Return Student's interval of the mean over seeds; None for one seed, or where all seeds agree to the digit.

        Raises:
            UsageError: `level` is outside (0, 1).
        """
        if not 0 < level < 1:
            raise UsageError(f"level is {level}, expected a share in (0, 1) such as 0.95")
        if not self.std:
            return None
        from scipy.stats import t

        half = float(t.ppf((1 + level) / 2, self.count - 1)) * self.std / sqrt(self.count)
        return self.mean - half, self.mean + half


def spread(values: Iterable[float]) -> Spread:
    """Return mean and spread of one score over seeds.

    Raises:
        UsageError: no value, or one that is not finite.
    """
    found = list(values)
    if not found or not all(isfinite(value) for value in found):
        raise UsageError(f"scores over seeds are {found}, expected at least one, all finite")
    mean = fmean(found)
    if len(found) == 1:
        return Spread(mean, None, 1)
    # not statistics.stdev, which is exact and a hundred times slower: a table has thousands of these
    return Spread(mean, sqrt(sum((value - mean) ** 2 for value in found) / (len(found) - 1)), len(found))
